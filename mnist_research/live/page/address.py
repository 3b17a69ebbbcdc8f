"""The address of the page, and the token that protects it on a network.

At 127.0.0.1 any user of this machine may open the page. At any other address a network can reach
it, so it requires a random token, which is part of the link that the command prints. Opening the
link stores the token in a cookie. Any other request without the token is rejected.
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
  """The address of the page.

  Attributes:
    host: an IP address of this machine.
    port: the TCP port.
    token: the secret that clients need; None if anyone may open the page.
  """

  host: str
  port: int
  token: str | None = None

  @property
  def name(self) -> str:
    """Host and port, as in a `Host` header."""
    return f"{_bracketed(self.host)}:{self.port}"

  @property
  def url(self) -> str:
    """The URL of the page, without the token."""
    return f"http://{self.name}"

  @property
  def link(self) -> str:
    """The URL that the user opens first, with the token if there is one."""
    return self.url if self.token is None else f"{self.url}/?{_PARAMETER}={self.token}"

  @property
  def names(self) -> frozenset[str]:
    """All values of the `Host` header that name this page."""
    hosts = {self.host, "localhost"} if self.host == LOCAL else {self.host}
    names = {f"{_bracketed(host)}:{self.port}" for host in hosts}
    # Browsers omit the default port of HTTP.
    return frozenset(names | set(map(_bracketed, hosts)) if self.port == 80 else names)

  @property
  def cookie(self) -> str:
    """The `Set-Cookie` value that stores the token.

    The cookie's name includes the port, because browsers share cookies between ports.
    """
    # Lax: links from other sites open the page; other cross-site requests don't carry the cookie.
    return f"{self._cookie_name}={self.token}; Path=/; HttpOnly; SameSite=Lax"

  def has_token(self, query: bytes) -> bool:
    """Whether a query string has the token."""
    values = [value for name, value in parse_qsl(query.decode("latin-1")) if name == _PARAMETER]
    return self._is_among(values)

  def is_authorized(self, cookies: Sequence[str]) -> bool:
    """Whether a client with these `Cookie` headers has the token or doesn't need one."""
    if self.token is None:
      return True
    pairs = [pair.strip().partition("=") for header in cookies for pair in header.split(";")]
    return self._is_among([value for name, _, value in pairs if name == self._cookie_name])

  @property
  def _cookie_name(self) -> str:
    return f"digits-{self.port}"

  def _is_among(self, values: Sequence[str]) -> bool:
    """Whether the token is among `values`, in constant time."""
    if self.token is None:
      return False
    token = self.token.encode()
    return any([hmac.compare_digest(value.encode(), token) for value in values])


def address_of(listener: socket.socket) -> Address:
  """Returns the address of a listening socket, with a new token unless it is 127.0.0.1."""
  host, port, *_ = listener.getsockname()
  return Address(host, port, None if host == LOCAL else secrets.token_urlsafe(16))


def family_of(host: str) -> socket.AddressFamily:
  """Returns the address family of an IP address where the page can be served.

  Raises:
    ValueError: it isn't an IP address, or not of a single machine; the message continues
      `--host=ADDRESS`.
  """
  try:
    address = ipaddress.ip_address(host)
  except ValueError:
    raise ValueError("is not an IP address, such as 192.168.1.7") from None
  # ::ffff:0.0.0.0 is an IPv4-mapped 0.0.0.0.
  plain = getattr(address, "ipv4_mapped", None) or address
  if plain.is_unspecified or plain.is_multicast or str(plain) == "255.255.255.255":
    raise ValueError("is not the address of a single machine")
  if getattr(address, "scope_id", None):
    raise ValueError("has a scope ID, which browsers don't accept")
  return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _bracketed(host: str) -> str:
  return f"[{host}]" if ":" in host else host
