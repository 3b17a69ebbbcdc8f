"""SIGINT and SIGTERM as a request that the loop answers between two blocks of steps."""

import os
import signal
import sys
import threading

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
  """While it is entered, the first signal asks to stop and a second SIGINT stops at once.

  Python's own handlers wait for the main thread, which may be inside a compiled block for seconds:
  the signal's number goes through a pipe to a thread instead.

  Attributes:
    received: the number of the first signal, or None.
  """

  def __init__(self) -> None:
    self.received: int | None = None

  def __enter__(self) -> "StopSignals":
    # Signals belong to the main thread; a run in another (a notebook's, say) has none.
    self._active = threading.current_thread() is threading.main_thread()
    if self._active:
      self._pipe = os.pipe()
      os.set_blocking(self._pipe[1], False)
      self._previous = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
      self._previous_fd = signal.set_wakeup_fd(self._pipe[1])
      self._thread = threading.Thread(target=self._listen, daemon=True)
      self._thread.start()
    return self

  def __exit__(self, *exception: object) -> None:
    if self._active:
      signal.set_wakeup_fd(self._previous_fd)
      for number, handler in self._previous.items():
        signal.signal(number, handler)
      os.close(self._pipe[1])
      self._thread.join()
      os.close(self._pipe[0])

  def _listen(self) -> None:
    while received := os.read(self._pipe[0], 1):
      number = received[0]
      if number not in _SIGNALS:
        continue
      if self.received is None:
        self.received = number
        print("\nstopping after this block of steps; Ctrl-C again stops at once", file=sys.stderr)
      elif number == signal.SIGINT:
        # Every file is written under another name and renamed: what was saved stays whole.
        os._exit(128 + number)
