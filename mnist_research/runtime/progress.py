"""How far a command is: a bar on a terminal, a plain line every so often in a log."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

from absl import logging
from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0
# What is over sooner needs no bar.
_SECONDS_BEFORE_BAR = 1.0


def shows_bars() -> bool:
  """Whether stderr is a terminal whose reader wants notes (`--verbosity`)."""
  return sys.stderr.isatty() and logging.level_info()


class Progress:
  """Shows how many of something are done, with the latest figures beside them."""

  def __init__(
    self, *, total: int, first: int = 0, unit: str = "step", task: str = "", brief: bool = False
  ):
    """Starts to show.

    Args:
      total: how many there are.
      first: how many are done already.
      unit: what is counted, in the singular.
      task: what is done with them, written in front of a bar.
      brief: part of something greater: its bar comes after a second, and goes in the end.
    """
    self._total, self._unit = total, unit
    self._line_time = time.monotonic()
    self._lines = not shows_bars()
    self._bar = tqdm(
      total=total, initial=first, unit=unit, desc=task or None, disable=self._lines,
      dynamic_ncols=True, delay=_SECONDS_BEFORE_BAR if brief else 0.0, leave=not brief,
    )  # fmt: skip

  def __enter__(self) -> "Progress":
    return self

  def __exit__(self, *exception: object) -> None:
    self._bar.close()

  def update(self, done: int, text: str) -> None:
    """Moves to `done`; `text` is shown at once on a terminal, every ten seconds in a log."""
    if not self._lines:
      self._bar.set_postfix_str(text, refresh=False)
      self._bar.update(done - self._bar.n)
    elif time.monotonic() - self._line_time >= _SECONDS_BETWEEN_LINES:
      self.line(done, text)

  def line(self, done: int, text: str) -> None:
    """Writes a line that stays."""
    self._line_time = time.monotonic()
    message = f"{self._unit} {done:>{len(str(self._total))}}/{self._total}  {text}"
    if self._lines:
      logging.info("%s", message)
    else:
      self._bar.write(message, file=sys.stderr)


@contextlib.contextmanager
def waiting(task: str) -> Iterator[None]:
  """Writes every ten seconds to a log how long `task` has taken; its end is unknown."""
  ended = threading.Event()
  began = time.monotonic()

  def tell() -> None:
    while not ended.wait(_SECONDS_BETWEEN_LINES):
      logging.info("%s: %.0f s so far", task, time.monotonic() - began)

  thread = threading.Thread(target=tell, daemon=True)
  if not shows_bars():
    thread.start()
  try:
    yield
  finally:
    ended.set()
    if thread.is_alive():
      thread.join()
