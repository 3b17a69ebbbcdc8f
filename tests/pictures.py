"""Pictures of digits that vary as users' pictures do, rendered from MNIST.

`draw` renders a file with another pen, paper, light, position, size or format.
Kind, digit and seed determine the picture.
"""

import io
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

# The size at which strokes are traced, enough for smooth edges: MNIST's digits have 28 pixels.
_TRACED_SIDE = 224
_ORIENTATION = 0x0112
# The transposition from an upright picture to what a camera stores for each EXIF orientation.
_STORED = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_90,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_270,
}


class Drawn(NamedTuple):
  """A picture as a file.

  Attributes:
    suffix: the file name extension.
    data: the content of the file.
  """

  suffix: str
  data: bytes


def draw(kind: str, digit: np.ndarray, generator: np.random.Generator) -> Drawn:
  """Draws an MNIST digit, uint8 [28, 28], as a picture of one of `KINDS`."""
  return KINDS[kind](digit, generator)


def number(digits: Sequence[np.ndarray], generator: np.random.Generator) -> Drawn:
  """Draws digits side by side, as a number, in ink on light paper."""
  height = int(generator.integers(60, 300))
  gap = generator.uniform(0.15, 0.5)
  parts = []
  for digit in digits:
    ink = _cropped(_ink(digit, round(height * generator.uniform(1.1, 1.4))))
    room = round(height * 1.6) - ink.shape[0]
    above = int(generator.uniform(0.35, 0.65) * room)
    parts.append(np.pad(ink, ((above, room - above), (0, round(gap * height)))))
  line = np.pad(np.concatenate(parts, 1), ((height // 4,) * 2, (height // 2,) * 2))
  gray = _on_paper(line, paper=generator.uniform(0.75, 1), pen=generator.uniform(0, 0.3))
  return _encoded(Image.fromarray(_bytes(_noisy(gray, 0.01, generator))), "PNG")


def _inverted(digit: np.ndarray, generator: np.random.Generator) -> Drawn:
  return _encoded(Image.fromarray(_bytes(1 - _placed(digit, generator))), "PNG")


def _as_mnist(digit: np.ndarray, generator: np.random.Generator) -> Drawn:
  return _encoded(Image.fromarray(_bytes(_placed(digit, generator))), "BMP")


def _gray_paper(digit: np.ndarray, generator: np.random.Generator) -> Drawn:
  ink = _placed(digit, generator)
  light = _light(ink.shape, generator)
  gray = light * (1 - generator.uniform(0.6, 0.9) * ink)
  return _encoded(Image.fromarray(_bytes(_noisy(gray, 0.02, generator))), "JPEG", quality=85)


def _thin_pen(digit: np.ndarray, generator: np.random.Generator) -> Drawn:
  return _other_pen(digit, generator, generator.uniform(0.01, 0.04))


def _thick_pen(digit: np.ndarray, generator: np.random.Generator) -> Drawn:
  return _other_pen(digit, generator, generator.uniform(0.15, 0.2))


def _other_pen(digit: np.ndarray, generator: np.random.Generator, width: float) -> Drawn:
  ink = _placed(digit, generator, pen=width)
  return _encoded(Image.fromarray(_bytes(_on_paper(ink, paper=0.95, pen=0.1))), "PNG")


def _off_center(digit: np.ndarray, generator: np.random.Generator) -> Drawn:
  ink = _placed(digit, generator, share=generator.uniform(0.2, 0.35), reach=0.95)
  return _encoded(Image.fromarray(_bytes(_on_paper(ink, paper=0.9, pen=0.15))), "PNG")


def _turned_by_exif(digit: np.ndarray, generator: np.random.Generator) -> Drawn:
  gray = _on_paper(_placed(digit, generator), paper=0.85, pen=0.2)
  orientation = int(generator.integers(2, 9))
  exif = Image.Exif()
  exif[_ORIENTATION] = orientation
  stored = Image.fromarray(_bytes(gray)).transpose(_STORED[orientation])
  return _encoded(stored, "JPEG", quality=90, exif=exif)


def _jpeg_artifacts(digit: np.ndarray, generator: np.random.Generator) -> Drawn:
  ink = _placed(digit, generator, side=int(generator.integers(60, 400)))
  gray = _noisy(_on_paper(ink, paper=0.9, pen=0.2), 0.03, generator)
  quality = int(generator.integers(5, 20))
  return _encoded(Image.fromarray(_bytes(gray)), "JPEG", quality=quality)


def _twenty_pixels(digit: np.ndarray, generator: np.random.Generator) -> Drawn:
  ink = _placed(digit, generator, side=20, share=generator.uniform(0.75, 0.9))
  return _encoded(Image.fromarray(_bytes(_on_paper(ink, paper=1, pen=0))), "GIF")


def _any_width(digit: np.ndarray, generator: np.random.Generator) -> Drawn:
  side = round(math.exp(generator.uniform(math.log(20), math.log(4000))))
  ink = _placed(digit, generator, side=side, share=generator.uniform(0.7, 0.9))
  return _encoded(Image.fromarray(_bytes(_on_paper(ink, paper=0.95, pen=0.1))), "PNG")


def _four_thousand_pixels(digit: np.ndarray, generator: np.random.Generator) -> Drawn:
  ink = _placed(digit, generator, side=4000, share=generator.uniform(0.1, 0.6))
  return _encoded(Image.fromarray(_bytes(_on_paper(ink, paper=0.9, pen=0.2))), "JPEG")


def _transparent(digit: np.ndarray, generator: np.random.Generator) -> Drawn:
  ink = _placed(digit, generator)
  color = generator.integers(0, 90, 3) + (0 if generator.random() < 0.5 else 165)
  layers = np.empty((*ink.shape, 4), np.uint8)
  layers[..., :3] = color
  layers[..., 3] = _bytes(ink)
  return _encoded(Image.fromarray(layers), "PNG")


def _palette(digit: np.ndarray, generator: np.random.Generator) -> Drawn:
  ink = _placed(digit, generator, side=int(generator.integers(60, 400)))
  colors = int(generator.integers(2, 17))
  image = _colored(ink, generator).quantize(colors, dither=Image.Dither.NONE)
  return _encoded(image, "GIF" if generator.random() < 0.5 else "PNG")


def _sixteen_bits(digit: np.ndarray, generator: np.random.Generator) -> Drawn:
  paper = generator.uniform(0.5, 1)
  ink = _placed(digit, generator)
  gray = _on_paper(ink, paper=paper, pen=paper * generator.uniform(0.1, 0.5))
  image = Image.fromarray(np.rint(gray * 65535).astype(np.uint16))
  return _encoded(image, "TIFF" if generator.random() < 0.5 else "PNG")


def _colors(digit: np.ndarray, generator: np.random.Generator) -> Drawn:
  return _encoded(_colored(_placed(digit, generator), generator), "WEBP", quality=80)


KINDS: dict[str, Callable[[np.ndarray, np.random.Generator], Drawn]] = {
  "dark on white": _inverted,
  "white on black": _as_mnist,
  "gray paper, uneven light": _gray_paper,
  "thin pen": _thin_pen,
  "thick pen": _thick_pen,
  "off-center": _off_center,
  "turned by EXIF": _turned_by_exif,
  "JPEG artifacts": _jpeg_artifacts,
  "20 pixels wide": _twenty_pixels,
  "20 to 4,000 pixels wide": _any_width,
  "4,000 pixels wide": _four_thousand_pixels,
  "transparent background": _transparent,
  "palette": _palette,
  "16 bits": _sixteen_bits,
  "colors": _colors,
}


def _placed(
  digit: np.ndarray,
  generator: np.random.Generator,
  *,
  side: int | None = None,
  share: float | None = None,
  reach: float = 0.5,
  pen: float | None = None,
) -> np.ndarray:
  """Places a digit on an empty picture.

  Args:
    digit: uint8 [28, 28].
    generator: draws whatever isn't given.
    side: the picture's width in pixels; by default 120 to 640.
    share: the digit's longer side as a fraction of the picture's shorter one; by default 0.35-0.8.
    reach: the largest offset as a fraction of the free space.
    pen: the stroke width as a fraction of the digit's longer side; by default unchanged.

  Returns:
    Ink, float32 [height, side] between 0 and 1.
  """
  width = side or int(generator.integers(120, 641))
  height = max(20, round(width * generator.uniform(0.7, 1)))
  size = (share or generator.uniform(0.35, 0.8)) * min(width, height)
  # The digit's longer side is 20 of MNIST's 28 pixels.
  ink = _cropped(_ink(digit, max(1, round(size * 28 / 20)), pen))
  picture = np.zeros((height, width), np.float32)
  top, left = (
    max(0, round((free - taken) / 2 * (1 + reach * generator.uniform(-1, 1))))
    for free, taken in zip(picture.shape, ink.shape, strict=True)
  )
  part = ink[: height - top, : width - left]
  picture[top : top + part.shape[0], left : left + part.shape[1]] = part
  return picture


def _ink(digit: np.ndarray, side: int, pen: float | None = None) -> np.ndarray:
  """Draws a digit's strokes with sharp edges: float32 [side, side], 1 for ink.

  `pen` is the stroke width as a fraction of the digit's longer side; None keeps it.
  """
  large = Image.fromarray(digit.astype(np.float32) / 255)
  large = large.resize((_TRACED_SIDE, _TRACED_SIDE), Image.Resampling.BICUBIC)
  mask = np.asarray(large) > 0.5
  if pen is None:
    outside, inside = (ndimage.distance_transform_edt(part) for part in (~mask, mask))
    depth = inside - outside
  else:
    radius = pen * _TRACED_SIDE * 20 / 28 / 2
    depth = radius - ndimage.distance_transform_edt(~_skeleton(mask))
  scale = side / _TRACED_SIDE
  field = Image.fromarray(depth.astype(np.float32))
  field = field.resize(
    (side, side), Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
  )
  # An edge one pixel wide.
  return np.clip(np.asarray(field) * scale + 0.5, 0, 1)


def _skeleton(mask: np.ndarray) -> np.ndarray:
  """Thins strokes to lines of one pixel (Zhang and Suen 1984, doi:10.1145/357994.358023)."""
  mask = np.pad(mask, 1)
  while True:
    before = mask.copy()
    for first in (True, False):
      # From the pixel above, clockwise.
      shifts = [(1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1)]
      p = np.stack([np.roll(mask, shift, (0, 1)) for shift in shifts])
      count = p.sum(0)
      turns = (~p & np.roll(p, -1, 0)).sum(0)
      up, right, down, left = p[::2]
      if first:
        edge = ~(up & right & down) & ~(right & down & left)
      else:
        edge = ~(up & right & left) & ~(up & down & left)
      mask = mask & ~((count >= 2) & (count <= 6) & (turns == 1) & edge)
    if (mask == before).all():
      return mask[1:-1, 1:-1]


def _cropped(ink: np.ndarray) -> np.ndarray:
  rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
  return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _light(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
  """Paper lit from one side, with darker corners; gray values in [0.3, 0.85]."""
  rows, columns = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
  angle = generator.uniform(0, 2 * math.pi)
  slope = math.cos(angle) * columns + math.sin(angle) * rows
  light = 0.6 + generator.uniform(0.05, 0.15) * slope - 0.04 * (rows**2 + columns**2)
  return light.astype(np.float32)


def _colored(ink: np.ndarray, generator: np.random.Generator) -> Image.Image:
  """Dark colored ink on light colored paper."""
  paper, pen = generator.uniform(0.7, 1, 3), generator.uniform(0, 0.4, 3)
  return Image.fromarray(_bytes(_on_paper(ink[..., None], paper=paper, pen=pen)))


def _on_paper(ink: np.ndarray, *, paper: Any, pen: Any) -> np.ndarray:
  return paper + (pen - paper) * ink


def _noisy(gray: np.ndarray, deviation: float, generator: np.random.Generator) -> np.ndarray:
  return gray + generator.normal(0, deviation, gray.shape)


def _bytes(gray: np.ndarray) -> np.ndarray:
  return np.rint(np.clip(gray, 0, 1) * 255).astype(np.uint8)


def _encoded(image: Image.Image, format_name: str, **options: Any) -> Drawn:
  stream = io.BytesIO()
  image.save(stream, format_name, **options)
  return Drawn(f".{format_name.lower()}", stream.getvalue())
