"""Who is answered, and how much is taken: the part of the page that faces the network.

Any site that is open in the user's browser can send requests to a port of this machine, and may
have its own name point here (DNS rebinding); any program here can send anything. So a request is
refused, before its body is read, unless it names this page as its host and, where it could change
or cost something, comes from this page. Where the page is open to a network, it also has to have
the token (see `address`). Bodies are counted as they come.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import Iterator
from http import HTTPStatus

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mnist_research.live.page.address import Address
from mnist_research.live.page.refusals import Refused, refusal_response

_METHODS = ("GET", "HEAD", "POST")
_WITHOUT_BODY = ("GET", "HEAD")
_RETRY = {"Retry-After": "1"}

# Everything the page loads is its own, and no other page may frame, embed or read it.
_POLICY = "; ".join(
  [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data: blob:",
    "connect-src 'self'",
    "media-src 'self' blob:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ]
)
HEADERS = {
  "Content-Security-Policy": _POLICY,
  "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
  "X-Frame-Options": "DENY",
  "Cache-Control": "no-store",
}
_RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


@dataclasses.dataclass(frozen=True)
class Limits:
  """How much is taken.

  Attributes:
    body: bytes of one request's body. A photograph of 50 megapixels, the most that are read, has
      some 20 megabytes.
    in_flight: bytes of the bodies of all requests that are not answered yet.
    requests: how many requests may wait for an answer.
    seconds: how long a body may take to come.
  """

  body: int = 20_000_000
  in_flight: int = 40_000_000
  requests: int = 16
  seconds: float = 10.0


class Guard:
  """An ASGI application that passes on to another what it may answer."""

  def __init__(self, app: ASGIApp, address: Address, limits: Limits):
    """Makes the guard.

    Args:
      app: what is guarded.
      address: where browsers reach it.
      limits: how much is taken.
    """
    self._app = app
    self._address = address
    self._limits = limits
    self._load = _Load(limits)

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers a request."""
    assert scope["type"] == "http", "the server takes HTTP alone"
    send = _with_headers(send)
    try:
      self._check_sender(scope)
      if self._is_opening(scope):
        await self._opened()(scope, receive, send)
        return
      self._check_token(scope)
      self._check_declared_length(scope)
      with self._load.request() as share:
        body = _Body(receive, self._limits, share)
        await self._app(scope, body.receive, send)
    except Refused as refused:
      await refusal_response(refused)(scope, receive, send)

  def _check_sender(self, scope: Scope) -> None:
    """Refuses what another host was asked for, and what another origin asks for."""
    hosts = _values(scope, b"host")
    if len(hosts) != 1 or hosts[0] not in self._address.names:
      # The one answer that a page under another name of this machine could read.
      raise Refused(HTTPStatus.MISDIRECTED_REQUEST, f"The page is at {self._address.url} alone.")
    origins = _values(scope, b"origin")
    is_own = origins == [f"http://{hosts[0]}"]
    if not is_own and (origins or scope["method"] not in _WITHOUT_BODY):
      raise Refused(HTTPStatus.FORBIDDEN, "Only the page itself may ask for that.")
    if _is_embedded_elsewhere(scope):
      raise Refused(HTTPStatus.FORBIDDEN, "The page can't be used by another one.")
    if scope["method"] not in _METHODS:
      headers = {"Allow": ", ".join(_METHODS)}
      raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "That method is not known.", headers)

  def _is_opening(self, scope: Scope) -> bool:
    """Says whether somebody opens the link that has the token."""
    opens = scope["method"] in _WITHOUT_BODY and scope["path"] == "/"
    return opens and self._address.is_asked_with_token(scope["query_string"])

  def _opened(self) -> RedirectResponse:
    """The answer to that: the token as a cookie, and the page without it in its address."""
    headers = {"Set-Cookie": self._address.cookie}
    return RedirectResponse("/", HTTPStatus.SEE_OTHER, headers)

  def _check_token(self, scope: Scope) -> None:
    """Refuses a client that doesn't have the token, where there is one."""
    if not self._address.is_known_to(_values(scope, b"cookie")):
      sentence = "The page opens by the whole link that its command printed."
      raise Refused(HTTPStatus.FORBIDDEN, sentence)

  def _check_declared_length(self, scope: Scope) -> None:
    """Refuses a body that is too long by its own account."""
    # The server has checked that it is one number.
    declared = sum(map(int, _values(scope, b"content-length")))
    if declared > self._limits.body:
      raise _too_large(self._limits.body)
    if declared and scope["method"] in _WITHOUT_BODY:
      raise Refused(HTTPStatus.BAD_REQUEST, "Only POST has a body.")


class _Load:
  """What all requests that are not answered yet hold."""

  def __init__(self, limits: Limits):
    self._limits = limits
    self._num_requests = 0
    self._num_bytes = 0

  @contextlib.contextmanager
  def request(self) -> Iterator["_Share"]:
    """Counts a request, and what its share holds, until it is answered."""
    if self._num_requests >= self._limits.requests:
      raise _busy()
    share = _Share(self)
    self._num_requests += 1
    try:
      yield share
    finally:
      self._num_requests -= 1
      self._num_bytes -= share.num_bytes

  def hold(self, num_bytes: int) -> None:
    """Counts bytes; refuses where there are too many."""
    if self._num_bytes + num_bytes > self._limits.in_flight:
      raise _busy()
    self._num_bytes += num_bytes


class _Share:
  """What one request holds.

  Attributes:
    num_bytes: of its body, so far.
  """

  def __init__(self, load: _Load):
    self._load = load
    self.num_bytes = 0

  def hold(self, num_bytes: int) -> None:
    """Counts bytes; refuses where all requests together hold too many."""
    self._load.hold(num_bytes)
    self.num_bytes += num_bytes


class _Body:
  """A request's body, counted and timed while it comes."""

  def __init__(self, receive: Receive, limits: Limits, share: _Share):
    self._receive = receive
    self._limits = limits
    self._share = share
    self._deadline = asyncio.get_running_loop().time() + limits.seconds
    self._is_whole = False

  async def receive(self) -> Message:
    """Returns the next message of ASGI, as `receive` of the server does."""
    if self._is_whole:
      return await self._receive()
    message = await self._next()
    if message["type"] == "http.disconnect":
      raise Refused(HTTPStatus.BAD_REQUEST, "The request was cut short.")
    self._count(len(message.get("body", b"")))
    self._is_whole = not message.get("more_body", False)
    return message

  async def _next(self) -> Message:
    left = self._deadline - asyncio.get_running_loop().time()
    try:
      return await asyncio.wait_for(self._receive(), max(0.0, left))
    except asyncio.TimeoutError:
      seconds = self._limits.seconds
      sentence = f"The picture took longer than {seconds:g} seconds to come."
      raise Refused(HTTPStatus.REQUEST_TIMEOUT, sentence) from None

  def _count(self, num_bytes: int) -> None:
    if self._share.num_bytes + num_bytes > self._limits.body:
      raise _too_large(self._limits.body)
    self._share.hold(num_bytes)


def _is_embedded_elsewhere(scope: Scope) -> bool:
  """Says whether another page asks, by what browsers tell. A link that is followed is no such."""
  sites = _values(scope, b"sec-fetch-site")
  if not sites or sites in (["same-origin"], ["none"]):
    return False
  is_link = _values(scope, b"sec-fetch-dest") == ["document"]
  return not (is_link and scope["method"] in _WITHOUT_BODY)


def _values(scope: Scope, name: bytes) -> list[str]:
  """Returns the values of all headers of a name, which is in lower case."""
  return [value.decode("latin-1") for header, value in scope["headers"] if header == name]


def _with_headers(send: Send) -> Send:
  async def send_with_headers(message: Message) -> None:
    if message["type"] == "http.response.start":
      message = {**message, "headers": [*message.get("headers", []), *_RAW_HEADERS]}
    await send(message)

  return send_with_headers


def _too_large(limit: int) -> Refused:
  sentence = f"The file has more than {limit / 1e6:g} MB; scale the picture down."
  return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, sentence)


def _busy() -> Refused:
  return Refused(HTTPStatus.SERVICE_UNAVAILABLE, "Too much is being read; try again.", _RETRY)
