"""From a file to grey values or colors."""

import contextlib
import io
import os
import warnings
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from mnist_research.runtime.errors import UserError
from mnist_research.runtime.files import stderr_to

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
# The size of the largest cameras' pictures. In color they take half a gigabyte while they are
# read, and a whole one with transparency.
_MAX_PIXELS = 50_000_000
# Of 16 bits and four channels, uncompressed: the most that is taken from a pipe.
_MAX_BYTES = 8 * _MAX_PIXELS
# Pillow's modes of 32 bits for a grey value: there is no agreement on which of them is white.
_WIDE_MODES = ("I", "F")
# Opaque content whose grey values spread by more than this is a drawing on its own paper.
_OWN_PAPER_SPREAD = 0.1


def read(source: str | os.PathLike[str] | BinaryIO, *, colors: bool = False) -> np.ndarray:
  """Reads a picture: PNG, JPEG, BMP, GIF, TIFF or WebP, the first frame if there are several.

  The EXIF orientation is applied. A transparent drawing is laid on whichever of black and white
  paper it stands out from; in colors, on white. (Of CIELAB only the lightness is taken.)

  Args:
    source: the path of a file or a pipe, or a binary stream.
    colors: whether to return red, green and blue in place of grey values.

  Returns:
    Grey values as photographed: float32 [height, width] between 0, black, and 1, white. With
    `colors`, float32 [height, width, 3].

  Raises:
    UserError: the file can't be read, holds no picture, or one of more than 50 million pixels.
  """
  name = _name(source)
  try:
    with warnings.catch_warnings():
      # What Pillow warns of, such as odd metadata, is either of no matter here or an error below.
      warnings.simplefilter("ignore")
      with _opened(source) as file, Image.open(_seekable(name, file), formats=FORMATS) as image:
        _check_size(name, image.size)
        with _silent_stderr() if image.format == "TIFF" else contextlib.nullcontext():
          ImageOps.exif_transpose(image, in_place=True)
          return _to_colors(name, image) if colors else _to_grey(name, image)
  except UserError:
    raise
  except Image.DecompressionBombError:
    raise UserError(_too_large(name)) from None
  except Image.UnidentifiedImageError:
    raise UserError(f"{name} is not a picture; give a file of {', '.join(FORMATS)}") from None
  except Exception as error:
    # Only the system's own errors have a number. On broken data the decoders raise nearly anything:
    # OSError without one, SyntaxError, struct.error, IndexError...
    if isinstance(error, OSError) and error.errno is not None:
      reason = f"{name} can't be read: {error.strerror}; give the path of a picture"
      raise UserError(reason) from error
    raise UserError(f"{name} is damaged or cut short; get it afresh") from error


@contextlib.contextmanager
def _opened(source: str | os.PathLike[str] | BinaryIO) -> Iterator[BinaryIO]:
  if isinstance(source, str | os.PathLike):
    with open(source, "rb") as file:
      yield file
  else:
    yield source


def _seekable(name: str, file: BinaryIO) -> BinaryIO:
  """Reads what can't be read twice, such as a pipe, into memory."""
  if file.seekable():
    return file
  data = file.read(_MAX_BYTES + 1)
  if len(data) > _MAX_BYTES:
    raise UserError(_too_large(name))
  return io.BytesIO(data)


def _name(source: str | os.PathLike[str] | BinaryIO) -> str:
  path = getattr(source, "name", None) if hasattr(source, "read") else source
  if not isinstance(path, str | os.PathLike):
    return "the picture"
  text = os.fspath(path)
  # The message is one line, and so has to be the name.
  return text if text.isprintable() and text else repr(text)


def _too_large(name: str) -> str:
  return f"{name} has more than {_MAX_PIXELS // 1_000_000} million pixels; scale it down"


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
  """Drops what the process writes to its standard error.

  libtiff tells of broken data there by itself, and Pillow has no way to stop it. Whatever other
  threads write meanwhile, some milliseconds, is lost as well.
  """
  with open(os.devnull, "wb") as nowhere, stderr_to(nowhere):
    yield


def _check_size(name: str, size: tuple[int, int]) -> None:
  width, height = size
  if width * height > _MAX_PIXELS:
    raise UserError(_too_large(name))
  if width * height == 0:
    raise UserError(f"{name} has no pixels; get it afresh")


def _to_grey(name: str, image: Image.Image) -> np.ndarray:
  """Returns grey values as float32 [height, width] in [0, 1]."""
  if image.mode in _WIDE_MODES:
    raise UserError(f"{name} has 32 bits per pixel; save it with 8 or 16")
  if image.mode.startswith("I;16"):
    return np.asarray(image).astype(np.float32) / 65535
  if image.mode == "LAB":
    return _scaled(image.getchannel("L"))
  if image.has_transparency_data:
    layers = image.convert("RGBA")
    return _on_paper(_scaled(layers.convert("RGB").convert("L")), _scaled(layers.getchannel("A")))
  # Pillow has no way from some modes to grey but through RGB.
  return _scaled(image if image.mode == "L" else image.convert("RGB").convert("L"))


def _to_colors(name: str, image: Image.Image) -> np.ndarray:
  """Returns red, green and blue as float32 [height, width, 3] in [0, 1]."""
  is_grey = image.mode in ("1", "L", "LA", "LAB") or image.mode.startswith("I;16")
  if is_grey or image.mode in _WIDE_MODES:
    return np.repeat(_to_grey(name, image)[..., None], 3, axis=-1)
  if image.has_transparency_data:
    paper = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(paper, image.convert("RGBA"))
  return _scaled(image.convert("RGB"))


def _scaled(image: Image.Image) -> np.ndarray:
  return np.asarray(image, np.float32) / np.float32(255)


def _on_paper(grey: np.ndarray, opacity: np.ndarray) -> np.ndarray:
  """Lays a picture on the paper, black or white, on which its drawing is visible.

  Mostly opaque content of several greys has its own paper, and gets more of the same; anything else
  is strokes alone, and gets the opposite.
  """
  total = float(opacity.sum())
  if total == 0:
    return np.zeros_like(grey)
  mean = float((grey * opacity).sum()) / total
  spread = (float(((grey - mean) ** 2 * opacity).sum()) / total) ** 0.5
  has_paper = total > grey.size / 2 and spread > _OWN_PAPER_SPREAD
  paper = float((mean >= 0.5) == has_paper)
  return grey * opacity + np.float32(paper) * (1 - opacity)
