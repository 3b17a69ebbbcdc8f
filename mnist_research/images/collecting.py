"""The pictures that a user names: files, folders, standard input."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from mnist_research.images.boxes import Box
from mnist_research.images.digits import find_digits
from mnist_research.images.mnist_style import MNIST_SHAPE
from mnist_research.images.prepared import Prepared
from mnist_research.images.reading import FORMATS, read
from mnist_research.images.resizing import crop_and_scale
from mnist_research.runtime import own_data
from mnist_research.runtime.errors import UserError

STANDARD_INPUT = "-"
# The most pictures that are held at once, and of how many values: 32 MB of them.
_BATCH = 64
_BATCH_PIXELS = 8_000_000


class Picture(NamedTuple):
  """A picture with something on it.

  Attributes:
    file: as it is named.
    pixels: float32 in [0, 1]: grey values [height, width], or colors [height, width, 3].
    prepared: what a network is to see of it: the digits, row by row, one at least.
  """

  file: str
  pixels: np.ndarray
  prepared: list[Prepared]


def in_batches(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
  """Yields pictures in lists, of which each takes little memory: of large pictures few at once."""
  batch: list[Picture] = []
  pixels = 0
  for picture in pictures:
    batch.append(picture)
    pixels += picture.pixels.size
    if len(batch) == _BATCH or pixels >= _BATCH_PIXELS:
      yield batch
      batch, pixels = [], 0
  if batch:
    yield batch


def as_picture(name: str, image: np.ndarray) -> Picture:
  """Returns an image, uint8 [height, width, 1 or 3], as a picture that is prepared as it is."""
  height, width, channels = image.shape
  seen = image[..., 0] if channels == 1 else image
  return Picture(name, seen.astype(np.float32) / 255, [Prepared(seen, Box(0, 0, width, height))])


def list_files(names: Sequence[str]) -> tuple[list[str], list[str]]:
  """Puts the pictures in a folder, sorted by name, in the folder's place.

  Folders within it, and names that begin with a full stop, are skipped.

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
      found = sorted(path for path in Path(name).iterdir() if own_data.is_picture(path))
    except OSError as error:
      problems.append(f"{name} can't be read: {error.strerror}; name another folder")
      continue
    if not found:
      problems.append(f"{name} holds no picture; name a folder with files of {', '.join(FORMATS)}")
    files.extend(map(str, found))
  return files, problems


def read_files(
  files: Sequence[str],
  problems: list[str],
  *,
  image_shape: tuple[int, int, int] = MNIST_SHAPE,
  several_digits: bool = False,
) -> Iterator[Picture]:
  """Reads pictures and prepares each for a network, one after the other.

  For images as MNIST's the digits are found and prepared; for others the picture is cropped and
  scaled.

  Args:
    files: paths, or `-` for standard input.
    problems: what is wrong with a file that is skipped is added here.
    image_shape: height, width and channels of the images that the network takes.
    several_digits: whether a picture may hold several.
  """
  for file in files:
    try:
      source = _standard_input() if file == STANDARD_INPUT else file
      pixels = read(source, colors=image_shape[2] == 3)
      if image_shape == MNIST_SHAPE:
        prepared = _digits(file, pixels, several=several_digits)
      else:
        prepared = [crop_and_scale(pixels, image_shape)]
    except UserError as error:
      problems.append(str(error))
    else:
      yield Picture(file, pixels, prepared)


def _digits(file: str, grey: np.ndarray, *, several: bool) -> list[Prepared]:
  digits = find_digits(grey)
  if not digits:
    raise UserError(f"{file} is blank; give a picture of a digit")
  if len(digits) > 1 and not several:
    raise UserError(refuse_several(file, len(digits), digits[-1].row + 1))
  return digits


def refuse_several(file: str, count: int, rows: int = 1) -> str:
  """Says what is wrong with a picture of several digits where one is asked for."""
  if rows == 1:
    return f"{file} shows {count} digits; --digits reads them as a number"
  return f"{file} shows {count} digits in {rows} rows; --digits reads a number in each"


def _standard_input() -> BinaryIO:
  if sys.stdin is None:
    raise UserError(f"{STANDARD_INPUT}: standard input is closed; give the path of a picture")
  return sys.stdin.buffer
