"""Validates requests and limits the load: the part of the page that faces the network.

Any site that is open in the user's browser can send requests to a local port, and can point its own
host name at this machine (DNS rebinding); any local program can send anything. Therefore a request
is refused before its body is read unless its `Host` is this page and, if it could change or cost
something, its origin is this page. If the page is open to a network, a request also needs the token
(see `address`). The size of a body is checked while it arrives.
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

# The page loads only its own files, and no other page may frame, embed or read it.
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
  """Limits on requests.

  Attributes:
    body: the maximum number of bytes in a request's body. A photograph of 50 megapixels, the
      largest that can be read, has about 20 megabytes.
    in_flight: the maximum total number of bytes in the bodies of all pending requests.
    requests: the maximum number of pending requests.
    seconds: how long a body may take to arrive.
  """

  body: int = 20_000_000
  in_flight: int = 40_000_000
  requests: int = 16
  seconds: float = 10.0


class Guard:
  """ASGI middleware that passes on only valid requests."""

  def __init__(self, app: ASGIApp, address: Address, limits: Limits):
    """Creates the guard.

    Args:
      app: the application to protect.
      address: the address of the page.
      limits: the limits on requests.
    """
    self._app = app
    self._address = address
    self._limits = limits
    self._load = _Load(limits)

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    """Validates a request, then passes it on or refuses it."""
    assert scope["type"] == "http", "the server accepts only HTTP"
    send = _with_headers(send)
    try:
      self._check_sender(scope)
      if self._is_opening(scope):
        await self._redirect()(scope, receive, send)
        return
      self._check_token(scope)
      self._check_declared_length(scope)
      with self._load.request() as share:
        body = _Body(receive, self._limits, share)
        await self._app(scope, body.receive, send)
    except Refused as refused:
      await refusal_response(refused)(scope, receive, send)

  def _check_sender(self, scope: Scope) -> None:
    """Refuses requests for another host or from another origin."""
    hosts = _values(scope, b"host")
    if len(hosts) != 1 or hosts[0] not in self._address.names:
      # A page at another name of this machine could read this response, but no other.
      raise Refused(HTTPStatus.MISDIRECTED_REQUEST, f"The page is only at {self._address.url}.")
    origins = _values(scope, b"origin")
    is_same_origin = origins == [f"http://{hosts[0]}"]
    if not is_same_origin and (origins or scope["method"] not in _WITHOUT_BODY):
      raise Refused(HTTPStatus.FORBIDDEN, "Only the page itself may send this request.")
    if _is_embedded_elsewhere(scope):
      raise Refused(HTTPStatus.FORBIDDEN, "Another site can't use this page.")
    if scope["method"] not in _METHODS:
      headers = {"Allow": ", ".join(_METHODS)}
      raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "This method is not allowed.", headers)

  def _is_opening(self, scope: Scope) -> bool:
    """Whether the request opens the link with the token."""
    opens = scope["method"] in _WITHOUT_BODY and scope["path"] == "/"
    return opens and self._address.has_token(scope["query_string"])

  def _redirect(self) -> RedirectResponse:
    """Returns a redirect to the page's URL without the token, which it stores in a cookie."""
    headers = {"Set-Cookie": self._address.cookie}
    return RedirectResponse("/", HTTPStatus.SEE_OTHER, headers)

  def _check_token(self, scope: Scope) -> None:
    """Refuses a client without the token, if there is a token."""
    if not self._address.is_authorized(_values(scope, b"cookie")):
      sentence = "Open the page with the complete link that its command printed."
      raise Refused(HTTPStatus.FORBIDDEN, sentence)

  def _check_declared_length(self, scope: Scope) -> None:
    """Refuses a body whose declared length is too long."""
    # The server has already checked that it is a single number.
    declared = sum(map(int, _values(scope, b"content-length")))
    if declared > self._limits.body:
      raise _too_large(self._limits.body)
    if declared and scope["method"] in _WITHOUT_BODY:
      raise Refused(HTTPStatus.BAD_REQUEST, "Only a POST request may have a body.")


class _Load:
  """Counts the pending requests and the bytes of their bodies."""

  def __init__(self, limits: Limits):
    self._limits = limits
    self._num_requests = 0
    self._num_bytes = 0

  @contextlib.contextmanager
  def request(self) -> Iterator["_Share"]:
    """Counts a request and its bytes until it is answered."""
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
    """Counts bytes, or refuses them if the total would exceed the limit."""
    if self._num_bytes + num_bytes > self._limits.in_flight:
      raise _busy()
    self._num_bytes += num_bytes


class _Share:
  """The share of one request in the load.

  Attributes:
    num_bytes: the number of bytes of its body that have arrived.
  """

  def __init__(self, load: _Load):
    self._load = load
    self.num_bytes = 0

  def hold(self, num_bytes: int) -> None:
    """Counts bytes of this request, or refuses them if all requests would exceed the limit."""
    self._load.hold(num_bytes)
    self.num_bytes += num_bytes


class _Body:
  """A request's body, measured and timed while it arrives."""

  def __init__(self, receive: Receive, limits: Limits, share: _Share):
    self._receive = receive
    self._limits = limits
    self._share = share
    self._deadline = asyncio.get_running_loop().time() + limits.seconds
    self._is_complete = False

  async def receive(self) -> Message:
    """Returns the next ASGI message, like the server's `receive`."""
    if self._is_complete:
      return await self._receive()
    message = await self._next()
    if message["type"] == "http.disconnect":
      raise Refused(HTTPStatus.BAD_REQUEST, "The request was truncated.")
    self._count(len(message.get("body", b"")))
    self._is_complete = not message.get("more_body", False)
    return message

  async def _next(self) -> Message:
    remaining = self._deadline - asyncio.get_running_loop().time()
    try:
      return await asyncio.wait_for(self._receive(), max(0.0, remaining))
    except asyncio.TimeoutError:
      seconds = self._limits.seconds
      sentence = f"The picture took longer than {seconds:g} seconds to arrive."
      raise Refused(HTTPStatus.REQUEST_TIMEOUT, sentence) from None

  def _count(self, num_bytes: int) -> None:
    if self._share.num_bytes + num_bytes > self._limits.body:
      raise _too_large(self._limits.body)
    self._share.hold(num_bytes)


def _is_embedded_elsewhere(scope: Scope) -> bool:
  """Whether another site sent the request, by `Sec-Fetch` headers; following a link is allowed."""
  sites = _values(scope, b"sec-fetch-site")
  if not sites or sites in (["same-origin"], ["none"]):
    return False
  is_link = _values(scope, b"sec-fetch-dest") == ["document"]
  return not (is_link and scope["method"] in _WITHOUT_BODY)


def _values(scope: Scope, name: bytes) -> list[str]:
  """Returns the values of all headers with a name, given in lower case."""
  return [value.decode("latin-1") for header, value in scope["headers"] if header == name]


def _with_headers(send: Send) -> Send:
  async def send_with_headers(message: Message) -> None:
    if message["type"] == "http.response.start":
      message = {**message, "headers": [*message.get("headers", []), *_RAW_HEADERS]}
    await send(message)

  return send_with_headers


def _too_large(limit: int) -> Refused:
  sentence = f"The file is larger than {limit / 1e6:g} MB; scale the picture down."
  return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, sentence)


def _busy() -> Refused:
  return Refused(HTTPStatus.SERVICE_UNAVAILABLE, "The page is busy; try again.", _RETRY)
