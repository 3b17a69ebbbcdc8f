"""Draws pictures without a digit, which a model can learn to reject.

Each kind is a function from a random generator to ink, float [height, width] from 0 (paper) to 1
(ink). Most are then fitted into MNIST's frame, like users' pictures; some fill the frame, like
pictures that aren't prepared.

An example depends only on its split and its index.
"""

import functools
import string
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from mnist_research.data.synthetic_digits import drawing as digits
from mnist_research.images import mnist_style

IMAGE_SIZE = mnist_style.MNIST_SHAPE[0]

_SEED = 20_261_127
_SPLITS = ("train", "test")

# Pixels per side of the paper, the resolution at which `mnist_style` processes ink.
_PAPER_SIZE = 112
_MARGIN = 16
# The least width of strokes in the images, in pixels. Users' pictures get wider strokes, but
# changing the width here would change the dataset.
_MIN_STROKE = 2.0

# Fonts that ship with matplotlib, so that every machine draws the same images.
_FONTS = (
  "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSerif",
  "DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralItalic", "STIXGeneralBol",
)  # fmt: skip
# Without letters that look like a digit in handwriting.
_LETTERS = "".join(sorted(set(string.ascii_letters) - set("BDIOQSZbgijloqsz")))
# Greek, Cyrillic and signs that all of the fonts have.
_SIGNS = "ΓΔΘΛΞΠΣΦΨΩαβγδεζηθκλμνξπρτυφχψωБДЖИЛФЦЧШЩЪЫЭЮЯдёжийклмнптфцчшщъыэюя#$%&*+=?@<>{}[]~^±÷∂"


def draw_examples(split: str, num_examples: int) -> Iterator[tuple[np.ndarray, int]]:
  """Draws the first examples of a split.

  Args:
    split: "train" or "test".
    num_examples: how many examples to draw; the first ones don't depend on it.

  Yields:
    Pairs of an image, uint8 [28, 28, 1], white ink on black, and the index of its kind in `KINDS`.

  Raises:
    ValueError: there is no such split.
  """
  if split not in _SPLITS:
    raise ValueError(f"split must be one of {_SPLITS}, got {split!r}")
  for index in range(num_examples):
    rng = np.random.default_rng((_SEED, _SPLITS.index(split), index))
    kind = index % len(KINDS)
    yield draw_example(list(KINDS)[kind], rng)[..., None], kind


def draw_example(kind: str, rng: np.random.Generator) -> np.ndarray:
  """Draws a picture of a kind, uint8 [28, 28]."""
  while True:  # By chance, a picture may have no ink.
    image = KINDS[kind](rng)
    if image.max() > 0:
      return image


def _letter(rng: np.random.Generator) -> np.ndarray:
  return _framed(_glyph(_LETTERS, rng), rng)


def _sign(rng: np.random.Generator) -> np.ndarray:
  return _framed(_glyph(_SIGNS, rng), rng)


def _word(rng: np.random.Generator) -> np.ndarray:
  """Draws two or three letters that touch, or almost touch."""
  count = int(rng.integers(2, 4))
  glyphs = [_cropped(_glyph(_LETTERS, rng)) for _ in range(count)]
  return _framed(_side_by_side(glyphs, rng), rng)


def _pair(rng: np.random.Generator) -> np.ndarray:
  """Draws two digits in one box: side by side, stacked, or crossed."""
  layout = rng.integers(3)
  # Not a 1 across another digit, which could leave that digit readable.
  among = range(10) if layout < 2 else (0, 2, 3, 4, 5, 6, 7, 8, 9)
  first, second = (_digit(rng, among) for _ in range(2))
  if layout == 0:
    return _framed(_side_by_side([_cropped(first), _cropped(second)], rng), rng)
  if layout == 1:
    return _framed(_side_by_side([_cropped(first).T, _cropped(second).T], rng).T, rng)
  return _framed(np.maximum(first, np.roll(second, rng.integers(8, 24), axis=1)), rng)


def _strokes(rng: np.random.Generator) -> np.ndarray:
  """Combines random parts of the strokes of two to four digits."""
  ink = np.zeros((_PAPER_SIZE, _PAPER_SIZE))
  for _ in range(rng.integers(2, 5)):
    points = digits.pen_paths(rng.integers(10, size=1), rng)[0]
    length = int(len(points) * rng.uniform(0.3, 0.7))
    start = rng.integers(len(points) - length)
    part = _rotated(points[start : start + length], rng.uniform(0, 2 * np.pi))
    part = (part - part.mean(axis=0)) * rng.uniform(0.5, 1.1) + rng.uniform(0.3, 0.7, 2)
    ink = np.maximum(ink, _pen(part, rng))
  return _framed(ink, rng)


def _scribble(rng: np.random.Generator) -> np.ndarray:
  """Draws a long line that crosses itself, curved or zigzag."""
  count = int(rng.integers(5, 16))
  if rng.random() < 0.3:  # Back and forth, like crossed-out writing.
    points = np.stack([np.arange(count) % 2, np.linspace(0, 1, count)], axis=1)
    points = _rotated(points + rng.normal(0, 0.1, points.shape), rng.uniform(0, 2 * np.pi))
    return _framed(_pen(_curve(points, rng.choice([0, 6])), rng), rng)
  return _framed(_pen(_curve(rng.random((count, 2)), rng.choice([0, 16])), rng), rng)


def _shape(rng: np.random.Generator) -> np.ndarray:
  """Draws a polygon or a star, filled or not, a filled ellipse, or crossing lines."""
  choice = rng.integers(4)
  if choice == 0:
    return _framed(_crossing(rng), rng)
  if choice == 1:
    ellipse = np.stack([np.cos(_CIRCLE), np.sin(_CIRCLE)], axis=1)
    return _framed(_filled(ellipse * rng.uniform(0.4, 1, 2)), rng)
  is_star = rng.random() < 0.4
  # With more corners the outline would look like a zero.
  corners = 2 * int(rng.integers(4, 7)) if is_star else int(rng.integers(3, 5))
  angles = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) / corners + rng.random()
  radii = np.where(np.arange(corners) % 2, rng.uniform(0.3, 0.6), 1) if is_star else 1
  outline = np.stack([np.cos(2 * np.pi * angles), np.sin(2 * np.pi * angles)]) * radii
  outline = outline.T * rng.uniform(0.5, 1, 2)
  if choice == 2:
    return _framed(_filled(outline), rng)
  return _framed(_pen(_curve(np.concatenate([outline, outline[:1]]), 0), rng), rng)


def _crossing(rng: np.random.Generator) -> np.ndarray:
  """Draws crossing lines, as in a plus, a cross or an asterisk."""
  ink = np.zeros((_PAPER_SIZE, _PAPER_SIZE))
  for angle in _CROSSINGS[rng.integers(len(_CROSSINGS))]:
    line = _rotated(np.linspace([-0.5, 0], [0.5, 0], 40), angle + rng.normal(0, 0.1))
    ink = np.maximum(ink, _pen(line, rng))
  return ink


def _piece(rng: np.random.Generator) -> np.ndarray:
  """Draws half of a digit whose halves don't resemble another digit."""
  ink = _cropped(_digit(rng, among=(0, 2, 3, 5)))
  height, width = ink.shape
  rows, columns = np.mgrid[:height, :width]
  angle = rng.uniform(0, 2 * np.pi)
  distance = (rows / height - 0.5) * np.sin(angle) + (columns / width - 0.5) * np.cos(angle)
  return _framed(np.where(distance > rng.uniform(-0.1, 0.1), ink, 0), rng)


def _blot(rng: np.random.Generator) -> np.ndarray:
  """Draws a blot as in photographs: the largest part of a smooth random field above a threshold."""
  field = _field(_PAPER_SIZE, rng)
  mask = field > np.quantile(field, rng.uniform(0.5, 0.9))
  labels, _ = ndimage.label(mask)
  return _framed(labels == np.bincount(labels[mask]).argmax(), rng)


def _texture(rng: np.random.Generator) -> np.ndarray:
  """Draws a random field that fills the frame, from noise to a slow change of light."""
  field = _field(IMAGE_SIZE, rng)
  low, high = np.quantile(field, [0.02, 0.98])
  field = np.clip((field - low) / (high - low), 0, 1)
  if rng.random() < 0.4:
    field = field > rng.uniform(0.3, 0.9)
  darkest, lightest = np.sort(rng.random(2))
  return _bytes(darkest + (lightest - darkest) * field)


def _paper(rng: np.random.Generator) -> np.ndarray:
  """Draws lines, squares, dots, checks or rings, as on blank paper."""
  rows, columns = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE] + rng.uniform(0, 28, (2, 1, 1))
  angle = rng.normal(0, 0.05) if rng.random() < 0.7 else rng.uniform(0, np.pi)
  u, v = (
    columns * np.cos(angle) + rows * np.sin(angle),
    rows * np.cos(angle) - columns * np.sin(angle),
  )
  period, width = rng.uniform(4, 9), rng.uniform(0.5, 1.5)
  along, across = (
    width - np.abs((axis + period / 2) % period - period / 2) + 0.5 for axis in (u, v)
  )
  rings = width - np.abs(np.hypot(u - u.mean(), v - v.mean()) % period - period / 2) + 0.5
  checks = ((u // period + v // period) % 2) * 1.0
  patterns = (across, np.maximum(along, across), np.minimum(along, across), rings, checks)
  return _bytes(np.clip(patterns[rng.integers(len(patterns))], 0, 1) * rng.uniform(0.2, 1))


KINDS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
  "letter": _letter,
  "sign": _sign,
  "word": _word,
  "pair": _pair,
  "strokes": _strokes,
  "scribble": _scribble,
  "shape": _shape,
  "piece": _piece,
  "blot": _blot,
  "texture": _texture,
  "paper": _paper,
}

_CIRCLE = np.linspace(0, 2 * np.pi, 60)
# The angles of the lines of a plus, a cross and an asterisk.
_CROSSINGS = ((0, np.pi / 2), (np.pi / 4, -np.pi / 4), (0, np.pi / 3, -np.pi / 3))


def _framed(ink: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Rotates ink slightly and fits it into MNIST's frame."""
  ink = _cropped(ndimage.rotate(ink.astype(np.float32), rng.normal(0, 8), order=1))
  if not ink.any():
    return np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
  return mnist_style.draw(ink, _MIN_STROKE)


def _cropped(ink: np.ndarray) -> np.ndarray:
  """Crops to the ink."""
  rows, columns = (np.flatnonzero((ink > 0.1).any(axis=axis)) for axis in (1, 0))
  if not len(rows):
    return ink[:1, :1]
  return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _side_by_side(parts: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
  """Places parts side by side, close enough to touch."""
  height = max(part.shape[0] for part in parts)
  columns = []
  for part in parts:
    top = (height - part.shape[0]) // 2
    gap = int(rng.integers(6))
    columns.append(np.pad(part, ((top, height - part.shape[0] - top), (0, gap))))
  return np.concatenate(columns, axis=1)


def _glyph(characters: str, rng: np.random.Generator) -> np.ndarray:
  """Draws a character from a font, distorted like handwriting."""
  character = characters[rng.integers(len(characters))]
  font = _font(_FONTS[rng.integers(len(_FONTS))])
  image = Image.new("L", (2 * _PAPER_SIZE, 2 * _PAPER_SIZE))
  drawing = ImageDraw.Draw(image)
  stroke = int(rng.integers(3))
  drawing.text((_PAPER_SIZE, _PAPER_SIZE), character, 255, font, anchor="mm", stroke_width=stroke)
  ink = np.asarray(image.reduce(2), np.float32) / 255
  shifts = ndimage.gaussian_filter(rng.standard_normal((2, *ink.shape)), (0, 14, 14))
  shifts *= rng.uniform(0, 5) / shifts.std()
  points = np.mgrid[: ink.shape[0], : ink.shape[1]] + shifts
  return ndimage.map_coordinates(ink, points, order=1)


@functools.cache
def _font(name: str) -> ImageFont.FreeTypeFont:
  path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"
  # The basic layout needs no other library, so it draws the same everywhere.
  return ImageFont.truetype(path, 150, layout_engine=ImageFont.Layout.BASIC)


def _digit(rng: np.random.Generator, among: Sequence[int] = range(10)) -> np.ndarray:
  return _pen(digits.pen_paths(rng.choice(among, size=1), rng)[0], rng)


def _pen(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Draws a line along pen positions, float [N, 2] as (x, y), as large as the paper allows."""
  low, high = points.min(axis=0), points.max(axis=0)
  scale = (_PAPER_SIZE - 2 * _MARGIN) / max(high - low)
  places = (points - (low + high) / 2) * scale + _PAPER_SIZE / 2
  radius = rng.uniform(2.5, 9)
  image = Image.new("L", (_PAPER_SIZE, _PAPER_SIZE))
  drawing = ImageDraw.Draw(image)
  for x, y in places:
    drawing.ellipse((x - radius, y - radius, x + radius, y + radius), 255)
  return np.asarray(image, np.float32) / 255


def _curve(corners: np.ndarray, smoothing: float) -> np.ndarray:
  """Returns pen positions along corners, float [40 N, 2].

  Args:
    corners: float [N, 2].
    smoothing: the standard deviation of the Gaussian filter that rounds them, in pen positions; 0
      for none.
  """
  steps = np.linspace(0, len(corners) - 1, 40 * len(corners))
  line = np.stack([np.interp(steps, range(len(corners)), axis) for axis in corners.T], axis=1)
  return ndimage.gaussian_filter1d(line, smoothing, axis=0, mode="nearest") if smoothing else line


def _filled(outline: np.ndarray) -> np.ndarray:
  image = Image.new("L", (_PAPER_SIZE, _PAPER_SIZE))
  places = outline * (_PAPER_SIZE / 2 - _MARGIN) + _PAPER_SIZE / 2
  ImageDraw.Draw(image).polygon([tuple(place) for place in places], 255)
  return np.asarray(image, np.float32) / 255


def _rotated(points: np.ndarray, angle: float) -> np.ndarray:
  cos, sin = np.cos(angle), np.sin(angle)
  return points @ np.array([[cos, sin], [-sin, cos]])


def _field(side: int, rng: np.random.Generator) -> np.ndarray:
  """Draws noise whose power falls with frequency, as in photographs, float [side, side]."""
  rows, columns = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)
  frequency = np.maximum(np.hypot(rows, columns), 1 / side)
  spectrum = np.fft.rfft2(rng.standard_normal((side, side)))
  return np.fft.irfft2(spectrum / frequency ** rng.uniform(0, 3), (side, side))


def _bytes(values: np.ndarray) -> np.ndarray:
  return np.rint(np.asarray(values, np.float64) * 255).astype(np.uint8)
