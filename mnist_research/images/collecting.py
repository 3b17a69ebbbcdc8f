"""Loads the pictures that a user names: files, folders, standard input."""

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
from mnist_research.runtime import user_data
from mnist_research.runtime.errors import UserError

STANDARD_INPUT = "-"
# The maximum number of pictures and of pixel values (32 MB) in memory at once.
_BATCH = 64
_BATCH_PIXELS = 8_000_000


class Picture(NamedTuple):
  """A picture that isn't blank.

  Attributes:
    file: its name, as given by the user.
    pixels: float32 in [0, 1]: gray values [height, width], or colors [height, width, 3].
    prepared: the model's inputs: at least one digit, in reading order.
  """

  file: str
  pixels: np.ndarray
  prepared: list[Prepared]


def in_batches(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
  """Yields lists of pictures, limited in number and memory, so large pictures make short lists."""
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
  """Returns a dataset image, uint8 [height, width, 1 or 3], as a picture that needs no preparation.

  Args:
    name: the name of the picture.
    image: the image.
  """
  height, width, channels = image.shape
  values = image[..., 0] if channels == 1 else image
  return Picture(
    name, values.astype(np.float32) / 255, [Prepared(values, Box(0, 0, width, height))]
  )


def list_files(names: Sequence[str]) -> tuple[list[str], list[str]]:
  """Replaces each folder with the pictures in it, sorted by name.

  Skips subfolders and names that start with a dot.

  Args:
    names: paths of files and folders; `-` for standard input.

  Returns:
    The files, and a message for each folder that can't be read or has no pictures.
  """
  files, problems = [], []
  for name in names:
    if name == STANDARD_INPUT or not Path(name).is_dir():
      files.append(name)
      continue
    try:
      pictures = sorted(path for path in Path(name).iterdir() if user_data.is_picture(path))
    except OSError as error:
      problems.append(f"{name} can't be read: {error.strerror}; name another folder")
      continue
    if not pictures:
      problems.append(f"{name} has no pictures; name a folder with {', '.join(FORMATS)} files")
    files.extend(map(str, pictures))
  return files, problems


def read_files(
  files: Sequence[str],
  problems: list[str],
  *,
  image_shape: tuple[int, int, int] = MNIST_SHAPE,
  several_digits: bool = False,
) -> Iterator[Picture]:
  """Reads pictures and prepares them for a model, one at a time.

  For a model with MNIST's image shape, finds and prepares the digits; for any other, crops and
  scales the picture.

  Args:
    files: paths, or `-` for standard input.
    problems: a list to which a message is appended for each file that is skipped.
    image_shape: the height, width and channels of the model's input.
    several_digits: whether a picture may show more than one digit.

  Yields:
    The pictures that could be read, in order.
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


def _digits(file: str, gray: np.ndarray, *, several: bool) -> list[Prepared]:
  digits = find_digits(gray)
  if not digits:
    raise UserError(f"{file} is blank; give a picture of a digit")
  if len(digits) > 1 and not several:
    raise UserError(several_digits_message(file, len(digits), digits[-1].row + 1))
  return digits


def several_digits_message(file: str, count: int, rows: int = 1) -> str:
  """Returns the error message for a picture of several digits where one is expected."""
  if rows == 1:
    return f"{file} shows {count} digits; --digits reads them as a number"
  return f"{file} shows {count} digits in {rows} rows; --digits reads a number in each"


def _standard_input() -> BinaryIO:
  if sys.stdin is None:
    raise UserError(f"{STANDARD_INPUT}: standard input is closed; give the path of a picture")
  return sys.stdin.buffer
