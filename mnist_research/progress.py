"""How far a run is: a bar on a terminal, a plain line every so often in a log."""

import sys
import time

from absl import logging
from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
  """Shows steps done, with the latest metrics beside them."""

  def __init__(self, *, first_step: int, total_steps: int):
    self._total_steps = total_steps
    self._line_time = time.monotonic()
    quiet = not sys.stderr.isatty() or not logging.level_info()
    self._bar = tqdm(
      total=total_steps, initial=first_step, unit="step", disable=quiet, dynamic_ncols=True
    )
    self._lines = quiet

  def __enter__(self) -> "Progress":
    return self

  def __exit__(self, *exception: object) -> None:
    self._bar.close()

  def update(self, step: int, text: str) -> None:
    """Moves to `step`; `text` is shown at once on a terminal, every ten seconds in a log."""
    if not self._lines:
      self._bar.set_postfix_str(text, refresh=False)
      self._bar.update(step - self._bar.n)
    elif time.monotonic() - self._line_time >= _SECONDS_BETWEEN_LINES:
      self.line(step, text)

  def line(self, step: int, text: str) -> None:
    """Writes a line that stays."""
    self._line_time = time.monotonic()
    message = f"step {step:>{len(str(self._total_steps))}}/{self._total_steps}  {text}"
    if self._lines:
      logging.info("%s", message)
    else:
      self._bar.write(message, file=sys.stderr)
