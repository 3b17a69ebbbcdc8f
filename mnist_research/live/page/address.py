"""Where the page is, who may open it there, and what it says of that.

At 127.0.0.1 whoever uses this machine may open it. At any other address it is open to a network,
so it has a key: a random token in the link that the command prints. Opening the link stores the
token as a cookie, and nothing else is answered without it.
"""

import dataclasses
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Sequence
from urllib.parse import parse_qsl

LOCAL = "127.0.0.1"
_PARAMETER = "token"


@dataclasses.dataclass(frozen=True)
class Address:
  """Where the page is.

  Attributes:
    host: an IP address of this machine.
    port: where browsers reach it there.
    token: what a client has to know; None where each may come.
  """

  host: str
  port: int
  token: str | None = None

  @property
  def name(self) -> str:
    """Host and port, as browsers name them."""
    return f"{_bracketed(self.host)}:{self.port}"

  @property
  def url(self) -> str:
    """Of the page, without the token."""
    return f"http://{self.name}"

  @property
  def link(self) -> str:
    """What a user opens first."""
    return self.url if self.token is None else f"{self.url}/?{_PARAMETER}={self.token}"

  @property
  def names(self) -> frozenset[str]:
    """All that browsers may name as the host of the page."""
    hosts = {self.host, "localhost"} if self.host == LOCAL else {self.host}
    names = {f"{_bracketed(host)}:{self.port}" for host in hosts}
    # The port that http has anyway is left out.
    return frozenset(names | set(map(_bracketed, hosts)) if self.port == 80 else names)

  @property
  def cookie(self) -> str:
    """The header that stores the token. (Cookies of all ports are one jar: it names its port.)"""
    # Lax: a link from elsewhere opens the page, and nothing else that comes from elsewhere does.
    return f"{self._cookie_name}={self.token}; Path=/; HttpOnly; SameSite=Lax"

  def is_asked_with_token(self, query: bytes) -> bool:
    """Says whether a query holds the token."""
    values = [value for name, value in parse_qsl(query.decode("latin-1")) if name == _PARAMETER]
    return self._is_among(values)

  def is_known_to(self, cookies: Sequence[str]) -> bool:
    """Says whether a client with these `Cookie` headers has the token, or needs none."""
    if self.token is None:
      return True
    pairs = [pair.strip().partition("=") for header in cookies for pair in header.split(";")]
    return self._is_among([value for name, _, value in pairs if name == self._cookie_name])

  @property
  def _cookie_name(self) -> str:
    return f"digits-{self.port}"

  def _is_among(self, values: Sequence[str]) -> bool:
    """Says whether the token is among `values`, in a time that tells nothing of it."""
    if self.token is None:
      return False
    token = self.token.encode()
    return any([hmac.compare_digest(value.encode(), token) for value in values])


def address_of(listener: socket.socket) -> Address:
  """Returns where a socket listens, with a new token unless that is 127.0.0.1."""
  host, port, *_ = listener.getsockname()
  return Address(host, port, None if host == LOCAL else secrets.token_urlsafe(16))


def family_of(host: str) -> socket.AddressFamily:
  """Returns the family of an IP address that a page may be at.

  Raises:
    ValueError: it is none, or stands for more than one; the message says so.
  """
  try:
    address = ipaddress.ip_address(host)
  except ValueError:
    raise ValueError("is no IP address, such as 192.168.1.7") from None
  # ::ffff:0.0.0.0 is 0.0.0.0 in other words.
  plain = getattr(address, "ipv4_mapped", None) or address
  if plain.is_unspecified or plain.is_multicast or str(plain) == "255.255.255.255":
    raise ValueError("is not one address of one machine")
  if getattr(address, "scope_id", None):
    raise ValueError("has a scope, which browsers don't take")
  return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _bracketed(host: str) -> str:
  return f"[{host}]" if ":" in host else host
