"""Stop signals: the training loop handles them between blocks; elsewhere they end the command.

Python's handlers wait for the main thread, which may be inside a compiled block for seconds, so the
signal's number also goes through a pair of sockets to a thread. (Windows can wait for sockets, not
for pipes.)
"""

import _thread
import contextlib
import functools
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from mnist_research.runtime.errors import Interrupted

# SIGHUP is a closed terminal, SIGQUIT Ctrl-\\; not every system has them.
_SIGNALS = tuple(
  getattr(signal, name)
  for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
  if hasattr(signal, name)
)
# Cleanup is faster than this, unless the main thread is inside a long call.
_SECONDS_TO_END = 3.0


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
  """Makes signals end a whole command, with exit code 128 plus the signal's number.

  The first signal raises `Interrupted` in the main thread, so that unfinished work is cleaned up:
  TFDS removes its partial files. If that takes longer than three seconds, as during a compilation,
  or if a second signal arrives, the process exits at once. That is as safe as SIGKILL, because
  every file is written under a temporary name and renamed.
  """
  reader, writer = _sockets()
  _raise_at_signals()
  previous_hook = sys.unraisablehook
  sys.unraisablehook = functools.partial(_raise_again, previous_hook)
  # Never closed: the thread listens until the process ends.
  signal.set_wakeup_fd(writer.detach())
  threading.Thread(target=_exit_if_late, args=(reader,), daemon=True).start()
  try:
    yield
  finally:
    _stop_raising()  # From here on the interpreter only exits.
    sys.unraisablehook = previous_hook


def _raise_at_signals() -> None:
  for number in handled_signals():
    signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
  del frame
  _stop_raising()
  raise Interrupted(number)


def _stop_raising() -> None:
  """Leaves signals to the thread, because another exception would disturb the exit."""
  for number in handled_signals():
    signal.signal(number, lambda *_: None)


def _raise_again(
  report: Callable[["sys.UnraisableHookArgs"], object], unraisable: "sys.UnraisableHookArgs"
) -> None:
  """Re-raises an `Interrupted` that Python dropped; an `unraisablehook`.

  Python drops exceptions in finalizers and in callbacks of the garbage collector (JAX has one), so
  a signal that arrives there would have no effect.
  """
  if not isinstance(unraisable.exc_value, Interrupted):
    report(unraisable)
    return
  # Otherwise the thread would take the re-raised signal for a second one from the user.
  signal.set_wakeup_fd(-1)
  _raise_at_signals()
  # Python would drop it here, too.
  arguments = (unraisable.exc_value.signal_number,)
  threading.Timer(0.01, _thread.interrupt_main, arguments).start()


def handled_signals() -> list[int]:
  """Returns the signals that are handled; under nohup, a process ignores SIGHUP."""
  return [
    number
    for number in _SIGNALS
    if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) != signal.SIG_IGN
  ]


def _exit_if_late(reader: socket.socket) -> None:
  number = next(_received(reader))
  select.select([reader], [], [], _SECONDS_TO_END)
  os._exit(128 + number)


class StopSignals:
  """Inside this context, the first signal requests a stop and a second SIGINT stops at once.

  Attributes:
    received: the number of the first signal; None before it arrives.
  """

  def __init__(self) -> None:
    self.received: int | None = None

  def __enter__(self) -> "StopSignals":
    # Only the main thread receives signals; a run in another thread, as in a notebook, gets none.
    self._active = threading.current_thread() is threading.main_thread()
    if self._active:
      self._reader, self._writer = _sockets()
      self._previous = {
        number: signal.signal(number, lambda *_: None) for number in handled_signals()
      }
      self._previous_fd = signal.set_wakeup_fd(self._writer.fileno())
      self._thread = threading.Thread(target=self._listen, daemon=True)
      self._thread.start()
    return self

  def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
    if self._active:
      signal.set_wakeup_fd(self._previous_fd)
      for number, handler in self._previous.items():
        signal.signal(number, handler)
      self._writer.close()
      self._thread.join()
      self._reader.close()
    if self.received and kind is None:  # The signal came after the last block.
      raise Interrupted(self.received)

  def _listen(self) -> None:
    for number in _received(self._reader):
      if self.received is None:
        self.received = number
        print("\nstopping after this block of steps; Ctrl-C again stops at once", file=sys.stderr)
      elif number == signal.SIGINT:
        # This is safe because every file is written under a temporary name and renamed.
        os._exit(128 + number)


def _sockets() -> tuple[socket.socket, socket.socket]:
  """Returns the ends to read from and to write to, for `signal.set_wakeup_fd`."""
  reader, writer = socket.socketpair()
  writer.setblocking(False)
  return reader, writer


def _received(reader: socket.socket) -> Iterator[int]:
  """Yields each of `_SIGNALS` as it arrives, until the other end closes."""
  while received := reader.recv(1):
    if received[0] in _SIGNALS:
      yield received[0]
