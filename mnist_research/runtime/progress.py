"""How far a command is: a bar on a terminal, a plain line every so often in a log."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from absl import logging
from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0
# What is over sooner needs no bar.
_SECONDS_BEFORE_BAR = 1.0
_BAR = "{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} eta {remaining}"
_BAR_CELLS = 3  # The bar's own width at least, when fields are chosen.
_COLUMNS = 80  # Of a terminal that doesn't say.


def shows_bars() -> bool:
  """Whether stderr is a terminal whose reader wants notes (`--verbosity`)."""
  return sys.stderr.isatty() and logging.level_info()


class _Bar(tqdm):
  """A bar with the fields beside it that fit: on a narrow terminal the last ones drop out."""

  fields: Sequence[str] = ()

  def __str__(self) -> str:
    shown = self.format_dict | {"bar_format": _BAR}
    columns = shown["ncols"] or _COLUMNS
    for count in range(len(self.fields), -1, -1):
      # tqdm puts a comma in front of a `postfix` of its own.
      bar_format = _BAR + "".join(f"  {field}" for field in self.fields[:count])
      beside = self.format_meter(**shown | {"bar_format": bar_format.replace("{bar}", "")})
      if len(beside) + _BAR_CELLS <= columns:
        break
    return self.format_meter(**shown | {"bar_format": bar_format})


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
      brief: part of something longer: its bar appears after a second, and vanishes at the end.
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
    """Moves to `done`, at once on a terminal; a log gets a line if its last is ten seconds old.

    Args:
      done: how many are done by now.
      *fields: the latest figures, the most important first.
    """
    if not self._lines:
      self._bar.fields = fields
      self._bar.update(done - self._bar.n)
    elif time.monotonic() - self._line_time >= _SECONDS_BETWEEN_LINES:
      count = f"{self._unit} {done:>{len(str(self._total))}}/{self._total}"
      self.line("  ".join([count, *fields]))

  def line(self, text: str) -> None:
    """Writes a line that stays."""
    self._line_time = time.monotonic()
    if self._lines:
      logging.info("%s", text)
    else:
      self._bar.write(text, file=sys.stderr)


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


@contextlib.contextmanager
def loading(name: str) -> Iterator[None]:
  """Says on a terminal that `name` is imported, which takes seconds; afterwards it is wiped out."""
  shown = shows_bars()
  text = f"loading {name} ..."
  if shown:
    print(text, end="", file=sys.stderr, flush=True)
  try:
    yield
  finally:
    if shown:
      print(f"\r{' ' * len(text)}\r", end="", file=sys.stderr, flush=True)
