"""Measures predict on many pictures, or on large ones: pictures per second, and peak memory.

  python scripts/many_pictures.py
  python scripts/many_pictures.py --pictures=20 --megapixels=50

Draws pictures of digits into a temporary folder, runs `predict` on the folder in a separate
process, and on one of the pictures to measure the startup time. Prints a JSON
object on stdout: pictures, megapixels (of each), seconds, pictures_per_second (without startup),
peak_bytes (resident memory of the process), peak_bytes_of_one (with a single picture).
"""

import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags
from PIL import Image

from mnist_research.runtime import app
from mnist_research.runtime.errors import UserError

# The number of different pictures; the others are links to them.
_DIFFERENT = 10


class _Run(NamedTuple):
  """The cost of a run of predict.

  Attributes:
    seconds: the wall time.
    peak_bytes: the peak resident memory.
  """

  seconds: float
  peak_bytes: int


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the number of pictures and their size."""
  flags.DEFINE_integer(
    "pictures", 10_000, "number of pictures", lower_bound=2, flag_values=flag_values
  )
  flags.DEFINE_float(
    "megapixels", 0.05, "size of each", lower_bound=0.001, upper_bound=50, flag_values=flag_values
  )


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Measures predict on a folder of pictures."""
  app.refuse_arguments(arguments)
  count, megapixels = flag_values.pictures, flag_values.megapixels
  with tempfile.TemporaryDirectory(prefix="many_pictures_") as name:
    folder = Path(name)
    draw_pictures(folder, count, megapixels)
    one = _predict(next(folder.iterdir()))
    many = _predict(folder)
  app.print_json(
    {
      "pictures": count,
      "megapixels": megapixels,
      "seconds": many.seconds,
      "pictures_per_second": (count - 1) / max(many.seconds - one.seconds, 1e-3),
      "peak_bytes": many.peak_bytes,
      "peak_bytes_of_one": one.peak_bytes,
    }
  )


def draw_pictures(folder: Path, count: int, megapixels: float) -> None:
  """Draws pictures of a digit on gray paper, as JPEG files."""
  from mnist_research.data.synthetic_digits import drawing

  digits, _ = next(drawing.draw_examples("test", _DIFFERENT))
  side = round((megapixels * 1e6) ** 0.5)
  for index in range(count):
    path = folder / f"{index:06}.jpg"
    if index < _DIFFERENT:
      path.write_bytes(_picture(digits[index, ..., 0], side))
    else:
      os.link(folder / f"{index % _DIFFERENT:06}.jpg", path)


def _picture(digit: np.ndarray, side: int) -> bytes:
  paper = Image.fromarray((230 - 0.8 * digit).astype(np.uint8))
  file = io.BytesIO()
  large = paper.resize((side, side), Image.Resampling.BICUBIC).convert("RGB")
  large.save(file, "JPEG", quality=90)
  return file.getvalue()


def _predict(path: Path) -> _Run:
  start = time.perf_counter()
  with tempfile.TemporaryFile() as log:
    process = subprocess.Popen(
      [sys.executable, "-m", "mnist_research.predict", path], stdout=subprocess.DEVNULL, stderr=log
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
      log.seek(0)
      raise UserError(f"predict failed: {log.read().decode(errors='replace')[-500:]!r}")
  # ru_maxrss is in KiB on Linux.
  return _Run(time.perf_counter() - start, usage.ru_maxrss * 1024)


if __name__ == "__main__":
  app.run(main, define_flags)
