"""The pictures that a user names: files, folders, standard input."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from mnist_research.errors import UserError
from mnist_research.images.boxes import Box
from mnist_research.images.digits import Prepared, find_digits
from mnist_research.images.reading import FORMATS, read

STANDARD_INPUT = "-"
# How the names of pictures in a folder end.
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")


class Picture(NamedTuple):
  """A picture with something on it.

  Attributes:
    file: as it is named.
    grey: float32 [height, width] in [0, 1].
    digits: what was found on it, from left to right; one at least.
  """

  file: str
  grey: np.ndarray
  digits: list[Prepared]


def as_picture(name: str, image: np.ndarray) -> Picture:
  """Returns an image, uint8 [height, width, 1], as a picture that is one digit, as it is."""
  height, width, _ = image.shape
  whole = Prepared(image[..., 0], Box(0, 0, width, height))
  return Picture(name, image[..., 0].astype(np.float32) / 255, [whole])


def list_files(names: Sequence[str]) -> tuple[list[str], list[str]]:
  """Puts the pictures in a folder, sorted by name, in the folder's place.

  Folders within it, and names that begin with a full stop, are passed over.

  Args:
    names: paths of files and folders; `-` for standard input.

  Returns:
    The files, and what is wrong with each folder that has none.
  """
  files, problems = [], []
  for name in names:
    if name == STANDARD_INPUT or not Path(name).is_dir():
      files.append(name)
      continue
    try:
      found = sorted(path for path in Path(name).iterdir() if _is_picture(path))
    except OSError as error:
      problems.append(f"{name} can't be read: {error.strerror}; name another folder")
      continue
    if not found:
      problems.append(f"{name} holds no picture; name a folder with files of {', '.join(FORMATS)}")
    files.extend(map(str, found))
  return files, problems


def _is_picture(path: Path) -> bool:
  hidden = path.name.startswith(".")
  return path.suffix.lower() in _SUFFIXES and not hidden and path.is_file()


def read_files(
  files: Sequence[str], problems: list[str], *, several_digits: bool
) -> Iterator[Picture]:
  """Reads pictures and finds what is on each, one after the other.

  Args:
    files: paths, or `-` for standard input.
    problems: what is wrong with a file that is passed over is added here.
    several_digits: whether a picture may hold several.
  """
  for file in files:
    try:
      grey = read(_standard_input() if file == STANDARD_INPUT else file)
    except UserError as error:
      problems.append(str(error))
      continue
    digits = find_digits(grey)
    if not digits:
      problems.append(f"{file} is blank; give a picture of a digit")
    elif len(digits) > 1 and not several_digits:
      problems.append(f"{file} shows {len(digits)} digits; --digits reads them as a number")
    else:
      yield Picture(file, grey, digits)


def _standard_input() -> BinaryIO:
  if sys.stdin is None:
    raise UserError(f"{STANDARD_INPUT}: standard input is closed; give the path of a picture")
  return sys.stdin.buffer
