"""A client of the page that `python -m mnist_research.demo` serves."""

import http.client
import io
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import commands
from PIL import Image, ImageDraw

_SEVEN = [(180, 140), (330, 136), (250, 360)]
_FRAME_SIZE = (640, 480)


class Response(NamedTuple):
  """A response of the page.

  Attributes:
    status: the HTTP status.
    headers: by name, in lower case.
    body: the content.
  """

  status: int
  headers: dict[str, str]
  body: bytes

  @property
  def json(self) -> Any:
    """The body, which must be JSON."""
    assert self.headers["content-type"] == "application/json"
    return json.loads(self.body)


class Served(NamedTuple):
  """A command that serves the page.

  Attributes:
    process: the command.
    link: the link that it prints, with the token if there is one.
  """

  process: subprocess.Popen
  link: str

  @property
  def url(self) -> str:
    """The URL of the page."""
    return self.link.partition("/?")[0]

  @property
  def address(self) -> tuple[str, int]:
    """The listening address."""
    parts = urlsplit(self.url)
    assert parts.hostname and parts.port
    return parts.hostname, parts.port

  def request(
    self, method: str, path: str, body: Any = None, headers: dict[str, str | None] | None = None
  ) -> Response:
    """Sends a request like the page's own; `headers` overrides its headers, None removes one."""
    given = {"Origin": self.url, "Content-Type": "application/octet-stream"}
    given.update(headers or {})
    connection = http.client.HTTPConnection(*self.address, timeout=60)
    try:
      sent = {name: text for name, text in given.items() if text is not None}
      connection.request(method, path, body, sent)
      return _response(connection.getresponse())
    finally:
      connection.close()

  def get(self, path: str = "/", **headers: str | None) -> Response:
    """Requests a file of the page, as a browser does."""
    return self.request("GET", path, headers={"Origin": None, "Content-Type": None, **headers})

  @contextmanager
  def started_upload(self, *lines: str, body: bytes = b"") -> Iterator[socket.socket]:
    """Starts to send a picture like the page, with extra header lines; yields the socket.

    Only `body` is sent of the body.
    """
    host = f"Host: {self.url.removeprefix('http://')}"
    head = ["POST /read HTTP/1.1", host, f"Origin: {self.url}", *lines]
    if not any(line.startswith("Content-Type") for line in lines):
      head.append("Content-Type: image/png")
    with socket.create_connection(self.address, timeout=60) as connection:
      connection.sendall("\r\n".join([*head, "", ""]).encode() + body)
      yield connection

  def resident_megabytes(self) -> float:
    """Returns the peak memory of the process."""
    with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
      (line,) = (line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000


def start(*arguments: str, **options: Any) -> Served:
  """Starts the command and waits until the page is up; `options` are those of `commands.start`."""
  process = commands.start("--port=0", *arguments, module="demo", **options)
  line = process.stdout.readline()
  assert line, process.stderr.read()
  return Served(process, json.loads(line)["url"])


@contextmanager
def running(*arguments: str, **options: Any) -> Iterator[Served]:
  """Serves the page; asserts that the command exits on SIGTERM without errors."""
  served = start(*arguments, **options)
  try:
    yield served
    served.process.send_signal(signal.SIGTERM)
    finished = commands.finish(served.process)
  finally:
    served.process.kill()
  assert finished.returncode == 128 + signal.SIGTERM
  assert "Traceback" not in finished.stderr


def read_response(stream: Any) -> Response:
  """Reads a response from a socket."""
  response = http.client.HTTPResponse(stream)
  response.begin()
  return _response(response)


def _response(response: http.client.HTTPResponse) -> Response:
  headers = {name.lower(): value for name, value in response.getheaders()}
  return Response(response.status, headers, response.read())


def draw_seven() -> Image.Image:
  """A 7 in the left half of a gray frame."""
  frame = Image.new("L", _FRAME_SIZE, 200)
  ImageDraw.Draw(frame).line(_SEVEN, fill=40, width=22, joint="curve")
  return frame


def encoded(picture: Image.Image, format_name: str = "PNG") -> bytes:
  """Returns the file of a picture."""
  buffer = io.BytesIO()
  picture.save(buffer, format_name)
  return buffer.getvalue()
