"""Shows the progress of a command: a bar on a terminal, or a line every ten seconds in a log."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from absl import logging
from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0
# Shorter tasks don't need a bar.
_SECONDS_BEFORE_BAR = 1.0
_BAR = "{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} eta {remaining}"
_BAR_CELLS = 3  # The minimum width of the bar itself, when fields are chosen.
_COLUMNS = 80  # For a terminal of unknown width.


def shows_bars() -> bool:
  """Whether stderr is a terminal and `--verbosity` allows messages."""
  return sys.stderr.isatty() and logging.level_info()


def columns() -> int | None:
  """Returns the width of the terminal; None if stderr isn't a terminal."""
  try:
    return os.get_terminal_size(sys.stderr.fileno()).columns if shows_bars() else None
  except OSError:
    return None


class _Bar(tqdm):
  """A bar with as many fields as fit; a narrow terminal drops the last ones."""

  fields: Sequence[str] = ()

  def __str__(self) -> str:
    shown = self.format_dict | {"bar_format": _BAR}
    columns = shown["ncols"] or _COLUMNS
    for count in range(len(self.fields), -1, -1):
      # Not with tqdm's `postfix`, which adds a comma.
      bar_format = _BAR + "".join(f"  {field}" for field in self.fields[:count])
      without_bar = self.format_meter(**shown | {"bar_format": bar_format.replace("{bar}", "")})
      if len(without_bar) + _BAR_CELLS <= columns:
        break
    return self.format_meter(**shown | {"bar_format": bar_format})


class Progress:
  """Shows the number of items done, with the latest figures."""

  def __init__(
    self, *, total: int, first: int = 0, unit: str = "step", task: str = "", brief: bool = False
  ):
    """Starts to show progress.

    Args:
      total: the number of items.
      first: the number of items that are already done.
      unit: the name of an item, in the singular.
      task: the name of the task, shown before the bar.
      brief: whether this is part of a longer task, so that its bar appears only after a second and
        vanishes at the end.
    """
    self._total, self._unit = total, unit
    self._line_time = time.monotonic()
    self._lines = not shows_bars()
    self._bar = _Bar(
      total=total, initial=first, unit=unit, desc=f"{task}: " if task else None,
      disable=self._lines, dynamic_ncols=True,
      delay=_SECONDS_BEFORE_BAR if brief else 0.0, leave=not brief,
    )  # fmt: skip

  def __enter__(self) -> "Progress":
    return self

  def __exit__(self, *exception: object) -> None:
    self._bar.close()

  def update(self, done: int, *fields: str) -> None:
    """Updates a terminal at once, and a log at most every ten seconds.

    Args:
      done: the number of items done so far.
      *fields: the latest figures, most important first.
    """
    if not self._lines:
      self._bar.fields = fields
      self._bar.update(done - self._bar.n)
    elif time.monotonic() - self._line_time >= _SECONDS_BETWEEN_LINES:
      count = f"{self._unit} {done:>{len(str(self._total))}}/{self._total}"
      self.line("  ".join([count, *fields]))

  def line(self, text: str) -> None:
    """Writes a permanent line."""
    self._line_time = time.monotonic()
    if self._lines:
      logging.info("%s", text)
    else:
      self._bar.write(text, file=sys.stderr)


@contextlib.contextmanager
def waiting(task: str) -> Iterator[None]:
  """Logs every ten seconds how long `task` has taken so far; for tasks of unknown length."""
  done = threading.Event()
  start = time.monotonic()

  def log() -> None:
    while not done.wait(_SECONDS_BETWEEN_LINES):
      logging.info("%s: %.0f s so far", task, time.monotonic() - start)

  thread = threading.Thread(target=log, daemon=True)
  if not shows_bars():
    thread.start()
  try:
    yield
  finally:
    done.set()
    if thread.is_alive():
      thread.join()


@contextlib.contextmanager
def loading(name: str) -> Iterator[None]:
  """Shows on a terminal, while it takes seconds, that `name` is being imported."""
  shown = shows_bars()
  text = f"loading {name} ..."
  if shown:
    print(text, end="", file=sys.stderr, flush=True)
  try:
    yield
  finally:
    if shown:
      print(f"\r{' ' * len(text)}\r", end="", file=sys.stderr, flush=True)
