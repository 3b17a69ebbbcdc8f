"""Serves the page until a signal arrives."""

import socket
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from mnist_research.live.page.address import Address
from mnist_research.live.page.guard import Guard, Limits
from mnist_research.runtime.errors import Interrupted


def serve(app: ASGIApp, listener: socket.socket, address: Address, limits: Limits) -> None:
  """Serves an application behind a guard until a signal arrives.

  Args:
    app: the page.
    listener: a listening socket.
    address: the address of the socket.
    limits: the limits on requests.

  Raises:
    Interrupted: a signal arrived.
  """
  settings = uvicorn.Config(
    Guard(app, address, limits),
    # The defaults depend on which other packages are installed.
    loop="asyncio",
    http="h11",
    ws="none",
    lifespan="off",
    # There is no proxy, so its headers can't be trusted.
    proxy_headers=False,
    server_header=False,
    access_log=False,
    log_level="warning",
    timeout_graceful_shutdown=1,
  )
  server = _Server(settings)
  server.run(sockets=[listener])
  if server.received is not None:
    raise Interrupted(server.received)


class _Server(uvicorn.Server):
  """A server that remembers which signal stopped it.

  Attributes:
    received: the number of the signal, or None.
  """

  def __init__(self, settings: uvicorn.Config):
    super().__init__(settings)
    self.received: int | None = None

  def handle_exit(self, sig: int, frame: FrameType | None) -> None:
    """Handles a signal; Uvicorn's handler would raise it again, as if a second one had arrived."""
    del frame
    self.received = sig
    self.should_exit = True
