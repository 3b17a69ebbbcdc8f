"""Serving the page until a signal comes."""

import socket
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from mnist_research.live.page.address import Address
from mnist_research.live.page.guard import Guard, Limits
from mnist_research.runtime.errors import Interrupted


def serve(app: ASGIApp, listener: socket.socket, address: Address, limits: Limits) -> None:
  """Serves an application, guarded, until a signal comes.

  Args:
    app: the page.
    listener: a socket that listens.
    address: where it does.
    limits: how much is taken.

  Raises:
    Interrupted: a signal came.
  """
  settings = uvicorn.Config(
    Guard(app, address, limits),
    # What is there by default depends on what else is installed.
    loop="asyncio",
    http="h11",
    ws="none",
    lifespan="off",
    # There is no proxy whose word on the client would count.
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
    """Answers a signal. (Uvicorn's own way raises it again, which would pass for a second one.)"""
    del frame
    self.received = sig
    self.should_exit = True
