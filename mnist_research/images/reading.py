"""Decodes picture files to gray values or colors."""

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
# The resolution of the largest cameras. Reading such a picture takes half a gigabyte in color, and
# a gigabyte with transparency.
_MAX_PIXELS = 50_000_000
# The maximum to read from a pipe: 16 bits and four channels, uncompressed.
_MAX_BYTES = 8 * _MAX_PIXELS
# Pillow's modes with 32 bits per gray value, where files disagree on which value is white.
_WIDE_MODES = ("I", "F")
# A color channel replaces the gray values if its values differ more by this factor, because red on
# green of the same lightness would be invisible. Noise reaches 2, yellow on white 8.8, red 1.4.
_COLOR_FACTOR = 2.5
# The number of pixels along a side of the sample that decides it.
_SAMPLED_SIDE = 256
# Opaque content with a larger standard deviation of gray values is a drawing that includes paper.
_INCLUDED_PAPER_SPREAD = 0.1


def read(source: str | os.PathLike[str] | BinaryIO, *, colors: bool = False) -> np.ndarray:
  """Reads a picture: PNG, JPEG, BMP, GIF, TIFF or WebP, the first frame if there are several.

  Applies the EXIF orientation. If ink and paper differ in color but hardly in lightness, the gray
  values are those of one color channel. A transparent drawing gets black or white paper, whichever
  has more contrast; in color, white. (Of CIELAB, only the lightness is used.)

  Args:
    source: the path of a file or a pipe, or a binary stream.
    colors: whether to return red, green and blue instead of gray values.

  Returns:
    Gray values, float32 [height, width] from 0 (black) to 1 (white); with `colors`, float32
    [height, width, 3].

  Raises:
    UserError: the file can't be read, isn't a picture, or has more than 50 million pixels.
  """
  name = _name(source)
  try:
    with warnings.catch_warnings():
      # Pillow's warnings, such as of odd metadata, are either harmless or become errors below.
      warnings.simplefilter("ignore")
      with _opened(source) as file, Image.open(_seekable(name, file), formats=FORMATS) as image:
        _check_size(name, image.size)
        with _silent_stderr() if image.format == "TIFF" else contextlib.nullcontext():
          ImageOps.exif_transpose(image, in_place=True)
          return _to_colors(name, image) if colors else _to_gray(name, image)
  except UserError:
    raise
  except Image.DecompressionBombError:
    raise UserError(_too_large(name)) from None
  except Image.UnidentifiedImageError:
    formats = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
    raise UserError(f"{name} is not a picture; give a {formats} file") from None
  except Exception as error:
    # Only system errors have an errno. On corrupt data the decoders raise almost anything: OSError
    # without an errno, SyntaxError, struct.error, IndexError...
    if isinstance(error, OSError) and error.errno is not None:
      reason = f"{name} can't be read: {error.strerror}; give the path of a picture"
      raise UserError(reason) from error
    raise UserError(f"{name} is corrupt or truncated; get a new copy") from error


@contextlib.contextmanager
def _opened(source: str | os.PathLike[str] | BinaryIO) -> Iterator[BinaryIO]:
  if isinstance(source, str | os.PathLike):
    with open(source, "rb") as file:
      yield file
  else:
    yield source


def _seekable(name: str, file: BinaryIO) -> BinaryIO:
  """Reads a stream that can't be rewound, such as a pipe, into memory."""
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
  # Error messages are one line, so the name must be printable.
  return text if text.isprintable() and text else repr(text)


def _too_large(name: str) -> str:
  return f"{name} has more than {_MAX_PIXELS // 1_000_000} million pixels; scale it down"


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
  """Discards the process's output on stderr.

  libtiff reports corrupt data there, and Pillow can't prevent that. Output of other threads during
  these milliseconds is also lost.
  """
  with open(os.devnull, "wb") as nowhere, stderr_to(nowhere):
    yield


def _check_size(name: str, size: tuple[int, int]) -> None:
  width, height = size
  if width * height > _MAX_PIXELS:
    raise UserError(_too_large(name))
  if width * height == 0:
    raise UserError(f"{name} has no pixels; get a new copy")


def _to_gray(name: str, image: Image.Image) -> np.ndarray:
  """Returns gray values as float32 [height, width] in [0, 1]."""
  if image.mode in _WIDE_MODES:
    raise UserError(f"{name} has 32 bits per pixel; save it with 8 or 16")
  if image.mode.startswith("I;16"):
    return np.asarray(image).astype(np.float32) / 65535
  if image.mode == "LAB":
    return _scaled(image.getchannel("L"))
  if image.has_transparency_data:
    layers = image.convert("RGBA")
    return _on_paper(_scaled(layers.convert("RGB").convert("L")), _scaled(layers.getchannel("A")))
  # Pillow converts some modes to gray only through RGB.
  return _scaled(image if image.mode == "L" else _clearest(image.convert("RGB")))


def _clearest(image: Image.Image) -> Image.Image:
  """Returns the gray values of an RGB picture, or a color channel if only that shows the ink."""
  width, height = (min(size, _SAMPLED_SIDE) for size in image.size)
  sample = image.resize((width, height), Image.Resampling.NEAREST)
  spreads = np.asarray(sample, np.float32).std((0, 1))
  spread_of_gray = np.asarray(sample.convert("L"), np.float32).std()
  if spreads.max() > _COLOR_FACTOR * max(spread_of_gray, 1):
    return image.getchannel(int(spreads.argmax()))
  return image.convert("L")


def _to_colors(name: str, image: Image.Image) -> np.ndarray:
  """Returns red, green and blue as float32 [height, width, 3] in [0, 1]."""
  is_gray = image.mode in ("1", "L", "LA", "LAB") or image.mode.startswith("I;16")
  if is_gray or image.mode in _WIDE_MODES:
    return np.repeat(_to_gray(name, image)[..., None], 3, axis=-1)
  if image.has_transparency_data:
    paper = Image.new("RGBA", image.size, "white")
    image = Image.alpha_composite(paper, image.convert("RGBA"))
  return _scaled(image.convert("RGB"))


def _scaled(image: Image.Image) -> np.ndarray:
  return np.asarray(image, np.float32) / np.float32(255)


def _on_paper(gray: np.ndarray, opacity: np.ndarray) -> np.ndarray:
  """Puts a transparent picture on black or white paper, whichever makes the drawing visible.

  Mostly opaque content with several gray levels includes paper, which is continued; anything else
  is only strokes, which get the contrasting paper.
  """
  total = float(opacity.sum())
  if total == 0:
    return np.zeros_like(gray)
  mean = float((gray * opacity).sum()) / total
  spread = (float(((gray - mean) ** 2 * opacity).sum()) / total) ** 0.5
  has_paper = total > gray.size / 2 and spread > _INCLUDED_PAPER_SPREAD
  paper = float((mean >= 0.5) == has_paper)
  return gray * opacity + np.float32(paper) * (1 - opacity)
