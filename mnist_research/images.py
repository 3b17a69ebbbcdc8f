"""People's pictures of digits: read from files, and prepared as the pictures of MNIST were.

`read` turns a file into grey values, `prepare` and `find_digits` turn grey values into what a
network trained on MNIST expects. The preparation follows LeCun, Cortes and Burges's account of the
data (http://yann.lecun.com/exdb/mnist): the digit fitted into 20 x 20 pixels with its proportions
kept, grey from anti-aliasing alone, its centre of mass at the centre of 28 x 28 pixels.
"""

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

from mnist_research.errors import UserError

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
# The size of the largest cameras' pictures. In colour they take half a gigabyte while they are
# read, and a whole one with transparency.
_MAX_PIXELS = 50_000_000
# Pillow's modes of 32 bits for a grey value: there is no agreement on which of them is white.
_WIDE_MODES = ("I", "F")
# Opaque content whose grey values spread by more than this is a drawing on its own paper.
_OWN_PAPER_SPREAD = 0.1

# MNIST: the frame, the box within it that the digit fills, and the pixel of its centre of mass.
# Rounded, that pixel is 14 in both directions throughout MNIST: its shifts were whole pixels.
_FRAME = 28
_BOX = 20
_CENTRE = 14

# The longest side on which ink is looked for: a digit of a twentieth of the picture still has 20
# pixels, a line of one pixel in a picture of 4,000 still a ninth of its contrast, and a camera's
# 640 x 480 pixels take a quarter of the time.
_WORKING_SIDE = 480
# The longest side on which the light is estimated: strokes are a few pixels, noise averages out.
_LIGHT_SIDE = 64
# The window that no stroke fills, in shares of the longest side.
_LIGHT_WINDOW = 0.4
# The standard deviation of the filter against noise, in shares of the longest side.
_SMOOTHING_SHARE = 1 / 400
# Contrasts, of 1 between black and white, below which there is no ink but paper and shadow.
_MIN_CONTRAST = 0.06
# Standard deviations of the noise above which a pixel may be ink; noise alone gets 3 in 100,000
# pixels there.
_NOISE_DEVIATIONS = 4.0
# The share of the ink's level above which a pixel is ink: holds weak pressure, leaves rules out.
_INK_SHARE = 0.45
# The least side of a digit, in shares of the picture's and in pixels.
_MIN_DIGIT_SHARE = 1 / 40
_MIN_DIGIT_PIXELS = 3
# The largest side of a speck, in shares of the largest component's side.
_SPECK_SHARE = 0.1
# The share of the narrower component's width that overlaps if both are parts of one digit.
_OVERLAP_SHARE = 1 / 3
# Parts beside a digit, in shares of the tallest one's height: what is smaller than the first in
# both directions is a mark, such as a full stop; what is lower than the second and closer than the
# third is a piece of the digit, such as the bar of a 5.
_MARK_SHARE = 1 / 4
_PIECE_SHARE = 1 / 2
_PIECE_GAP_SHARE = 1 / 4
# The share of its box that a table's edge or a shadow in the picture's corner fills.
_SOLID_SHARE = 0.35

# Pixels of the canvas on which strokes are thickened for each of the 20 x 20.
_OVERSAMPLING = 5
# In pixels of the 20 x 20: 4 in 5 of MNIST's digits have wider strokes than this.
_MIN_STROKE = 2.0

# Left, top, right and bottom in pixels; right and bottom are exclusive.
_Box = tuple[int, int, int, int]


class Prepared(NamedTuple):
  """A digit as MNIST would have it.

  Attributes:
    image: uint8 [28, 28], white on black.
    box: where the digit stands: left, top, right, bottom in pixels of the picture; right and bottom
      are exclusive.
  """

  image: np.ndarray
  box: tuple[int, int, int, int]


def read(source: str | os.PathLike[str] | BinaryIO) -> np.ndarray:
  """Reads a picture: PNG, JPEG, BMP, GIF, TIFF or WebP, the first frame if there are several.

  The EXIF orientation is applied. A transparent drawing is laid on whichever of black and white
  paper it stands out from.

  Args:
    source: the path of a file, or a binary stream.

  Returns:
    Grey values as photographed: float32 [height, width] between 0, black, and 1, white.

  Raises:
    UserError: the file can't be read, holds no picture, or one of more than 50 million pixels.
  """
  name = _name(source)
  try:
    with warnings.catch_warnings():
      # What Pillow warns of, such as odd metadata, is either of no matter here or an error below.
      warnings.simplefilter("ignore")
      with Image.open(source, formats=_FORMATS) as image:
        _check_size(name, image.size)
        with _silent_stderr() if image.format == "TIFF" else contextlib.nullcontext():
          ImageOps.exif_transpose(image, in_place=True)
          return _to_grey(name, image)
  except UserError:
    raise
  except Image.DecompressionBombError:
    raise UserError(_too_large(name)) from None
  except Image.UnidentifiedImageError:
    raise UserError(f"{name} is not a picture; give a file of {', '.join(_FORMATS)}") from None
  except Exception as error:
    # Only the system's own errors have a number. On broken data the decoders raise nearly anything:
    # OSError without one, SyntaxError, struct.error, IndexError...
    if isinstance(error, OSError) and error.errno is not None:
      reason = f"{name} can't be read: {error.strerror}; give the path of a picture"
      raise UserError(reason) from error
    raise UserError(f"{name} is damaged or cut short; get it afresh") from error


def prepare(picture: np.ndarray) -> Prepared | None:
  """Prepares a picture that holds one digit as MNIST was.

  Dark ink on light paper and the reverse, uneven light, any size and place are taken; specks are
  left out. A picture that already is as MNIST's are, or its negative, comes back unchanged.

  Args:
    picture: grey values, float [height, width] in [0, 1].

  Returns:
    The digit, all ink taken together; None if the picture is blank.
  """
  already = _as_mnist(picture)
  if already:
    return already
  ink = _find_ink(picture)
  return ink.prepared(range(len(ink.boxes))) if ink.boxes else None


def find_digits(picture: np.ndarray) -> list[Prepared]:
  """Finds the digits of a line of them and prepares each as MNIST was.

  Strokes above one another are parts of one digit; digits that touch are taken for one.

  Args:
    picture: grey values, float [height, width] in [0, 1].

  Returns:
    The digits from left to right; empty if the picture is blank.
  """
  already = _as_mnist(picture)
  if already:
    return [already]
  ink = _find_ink(picture)
  return [ink.prepared(group) for group in _group(ink.boxes)]


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
  saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
  try:
    os.dup2(nowhere, 2)
    yield
  finally:
    os.dup2(saved, 2)
    os.close(saved)
    os.close(nowhere)


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


def _as_mnist(picture: np.ndarray) -> Prepared | None:
  """Returns a picture, or its negative, as it is if that already is in MNIST's style.

  That is: 28 x 28, black but for a minority of pixels, the others in a box of which the longer side
  is 20, their centre of mass where MNIST has it, and white among them. It holds for all but 18 of
  MNIST's 70,000.
  """
  if picture.shape != (_FRAME, _FRAME):
    return None
  image = np.rint(picture * 255).astype(np.uint8)
  if np.median(image) == 255:
    image = 255 - image
  if np.median(image) > 0 or image.max() < 254:
    return None
  box = _bounding_box(image > 0)
  centre = ndimage.center_of_mass(image.astype(np.float64))
  if _side(box) != _BOX or np.abs(np.subtract(centre, _CENTRE)).max() > 0.5:
    return None
  return Prepared(image, box)


def _bounding_box(mask: np.ndarray) -> _Box:
  rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
  return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


class _Ink(NamedTuple):
  """The ink of a picture, on a copy reduced by a whole factor.

  Attributes:
    values: float32 [h, w], 0 for paper and 1 for ink.
    labels: int32 [h, w], the component of each pixel: i + 1 for that of box i.
    boxes: left, top, right, bottom of each component, in pixels of the copy.
    factor: pixels of the picture to one of the copy.
    size: width and height of the picture.
  """

  values: np.ndarray
  labels: np.ndarray
  boxes: list[_Box]
  factor: int
  size: tuple[int, int]

  def prepared(self, components: Sequence[int]) -> Prepared:
    """Prepares the digit made of some components."""
    left, top, right, bottom = _hull([self.boxes[index] for index in components])
    window = np.s_[top:bottom, left:right]
    own = np.isin(self.labels[window], np.add(components, 1))
    # With the paler rims of the strokes, which the threshold cut off.
    own = ndimage.binary_dilation(own, np.ones((3, 3), bool))
    image = _frame(_fit(np.where(own, self.values[window], 0)))
    box = (
      left * self.factor,
      top * self.factor,
      min(right * self.factor, self.size[0]),
      min(bottom * self.factor, self.size[1]),
    )
    return Prepared(image, box)


def _hull(boxes: Sequence[_Box]) -> _Box:
  lefts, tops, rights, bottoms = zip(*boxes, strict=True)
  return min(lefts), min(tops), max(rights), max(bottoms)


def _side(box: _Box) -> int:
  """The longer side of a box."""
  return max(box[2] - box[0], box[3] - box[1])


def _reduce(picture: np.ndarray, side: int) -> tuple[np.ndarray, int]:
  """Averages blocks so that no side is longer than `side`; returns the blocks' size as well."""
  factor = -(-max(picture.shape) // side)
  image = Image.fromarray(np.ascontiguousarray(picture, np.float32))
  return np.asarray(image.reduce(factor) if factor > 1 else image), factor


def _find_ink(picture: np.ndarray) -> _Ink:
  """Finds the ink: threshold after Otsu, in components without specks."""
  copy, factor = _reduce(picture, _WORKING_SIDE)
  flat = _even_light(copy)
  flat, noise = _smooth(flat)
  level, threshold = _ink_level(flat, noise)
  if level < _MIN_CONTRAST:
    labels, boxes = _components(np.zeros(flat.shape, bool))
  else:
    labels, boxes = _components(flat > threshold)
  values = np.clip(flat / max(level, _MIN_CONTRAST), 0, 1)
  return _Ink(values, labels, boxes, factor, (picture.shape[1], picture.shape[0]))


def _even_light(picture: np.ndarray) -> np.ndarray:
  """Returns how much each pixel differs from its paper, positive for ink.

  Most of the border is paper, and most of the inside, which gives a plane. The differences from it
  are skewed towards the ink, which tells dark ink from light. What the plane leaves of the light is
  found by a morphological opening with a window that no stroke fills.
  """
  small, _ = _reduce(picture, _LIGHT_SIDE)
  small_plane, plane = _paper_plane(small, picture.shape)
  rest = small - small_plane
  sign = np.float32(1 if (rest**3).sum() > 0 else -1)
  window = max(1, round(_LIGHT_WINDOW * max(small.shape)))
  light = ndimage.grey_opening(sign * rest, [min(window, size) for size in small.shape])
  light = ndimage.gaussian_filter(light, 2.0, mode="nearest")
  smooth = Image.fromarray(light).resize(picture.shape[::-1], Image.Resampling.BILINEAR)
  return sign * (picture - plane) - np.asarray(smooth)


def _paper_plane(small: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
  """Fits a plane to the paper of `small`.

  The border counts for half: it alone is paper about a thick digit that is cut closely, and the
  inside alone where a table's edge is in the picture.

  Returns:
    The plane over `small`, and over a picture of the given shape.
  """
  rows, columns = _coordinates(small.shape)
  grid = np.stack([np.ones(small.shape), *np.broadcast_arrays(rows, columns)], -1).reshape(-1, 3)
  border = np.ones(small.shape, bool)
  border[1:-1, 1:-1] = False
  shares = np.where(border, 1 / border.sum(), 1 / max(1, (~border).sum())).ravel()
  values = small.ravel().astype(np.float64)
  weights = shares
  # Least absolute differences by reweighted least squares: as robust as a median.
  for _ in range(10):
    weighted = grid.T * weights
    plane = np.linalg.pinv(weighted @ grid) @ (weighted @ values)
    weights = shares / np.maximum(np.abs(grid @ plane - values), 1e-3)
  rows, columns = _coordinates(shape)
  large = np.float32(plane[0]) + np.float32(plane[1]) * rows + np.float32(plane[2]) * columns
  return (grid @ plane).reshape(small.shape).astype(np.float32), large


def _coordinates(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
  """Returns rows [height, 1] and columns [1, width], both in (-1, 1) whatever the size."""
  rows, columns = (
    ((2 * np.arange(size) + 1) / size - 1).astype(np.float32) for size in (shape[0], shape[1])
  )
  return rows[:, None], columns[None, :]


def _smooth(picture: np.ndarray) -> tuple[np.ndarray, float]:
  """Takes most noise from a picture; returns the standard deviation of the rest as well."""
  noise = _noise(picture)
  radius = _SMOOTHING_SHARE * max(picture.shape)
  # What a drawing program made has no noise, and may have lines of one pixel.
  if noise < 1 / 255:
    return picture, noise
  smooth = ndimage.gaussian_filter(picture, radius, mode="nearest")
  return smooth, noise / max(1.0, 2 * np.pi**0.5 * radius)


def _ink_level(flat: np.ndarray, noise: float) -> tuple[float, float]:
  """Returns the level of the ink, 0 if there is none, and the threshold between paper and ink."""
  # Paper is the majority in most pictures, but not in those that are cut closely. Every other
  # pixel tells as much, and sorting is what takes the time.
  paper = float(np.quantile(flat[::2, ::2], 0.25))
  floor = paper + max((_NOISE_DEVIATIONS + 0.67) * noise, _MIN_CONTRAST / 2)
  candidates = flat[flat > floor]
  if not candidates.size:
    return 0.0, floor
  level = float(candidates[candidates >= _otsu(candidates)].mean())
  return level, max(floor, _INK_SHARE * level)


def _noise(picture: np.ndarray) -> float:
  """Estimates the noise's standard deviation from the smaller differences of neighbours."""
  if picture.shape[1] < 2:
    return 0.0
  differences = np.abs(np.diff(picture[::4], axis=1))
  # 40 % of a normal variable's absolute values are below 0.524 deviations; differences of two
  # have sqrt(2) times theirs. Edges of strokes are hardly ever as many as the other 60 %.
  return float(np.quantile(differences, 0.4)) / (0.524 * 2**0.5)


def _otsu(values: np.ndarray) -> float:
  """Returns the threshold that best parts the values in two classes (Otsu 1979)."""
  # With something added, as bins between values that are all but equal can't be told apart.
  span = (float(values.min()), float(values.max()) + 1e-3)
  counts, edges = np.histogram(values, 128, span)
  centres = (edges[:-1] + edges[1:]) / 2
  below = np.cumsum(counts)[:-1]
  above = values.size - below
  sums = np.cumsum(counts * centres)
  means_below = sums[:-1] / np.maximum(below, 1)
  means_above = (sums[-1] - sums[:-1]) / np.maximum(above, 1)
  variance = below * above * (means_above - means_below) ** 2
  # All but equal values share the first bin, whose end none of them reaches.
  return min(float(edges[1 + int(np.argmax(variance))]), float(values.max()))


def _components(mask: np.ndarray) -> tuple[np.ndarray, list[_Box]]:
  """Labels the connected components of ink and drops specks.

  Returns:
    int32 labels, i + 1 for the component of box i, and the boxes.
  """
  labels, _ = ndimage.label(mask, np.ones((3, 3), int))
  boxes = [(c.start, r.start, c.stop, r.stop) for r, c in ndimage.find_objects(labels)]
  sides = np.array([_side(box) for box in boxes], int)
  least = max(_MIN_DIGIT_PIXELS, _MIN_DIGIT_SHARE * max(mask.shape))
  if not boxes or sides.max() < least:
    return np.zeros_like(labels), []
  inner = ~_surroundings(labels, boxes)
  if not inner.any():
    inner[:] = True
  kept = inner & (sides >= _SPECK_SHARE * sides[inner].max())
  renumbered = np.concatenate([[0], np.where(kept, np.cumsum(kept), 0)]).astype(np.int32)
  return renumbered[labels], [box for box, keep in zip(boxes, kept, strict=True) if keep]


def _surroundings(labels: np.ndarray, boxes: list[_Box]) -> np.ndarray:
  """Tells components that are a table's edge, a shadow or a frame about the paper.

  Those hold a corner of the picture, which a digit hardly does unless it is all there is, and are
  solid or hold another corner but one.
  """
  result = np.zeros(len(boxes), bool)
  corners = labels[[0, 0, -1, -1], [0, -1, 0, -1]]
  for label in np.unique(corners[corners > 0]):
    left, top, right, bottom = boxes[label - 1]
    solid = (labels[top:bottom, left:right] == label).mean() >= _SOLID_SHARE
    result[label - 1] = solid or np.count_nonzero(corners == label) >= 3
  return result


def _group(boxes: list[_Box]) -> list[list[int]]:
  """Groups components to digits, from left to right."""
  digits = _merge_overlapping(boxes)
  if len(digits) < 2:
    return digits
  hulls = [_hull([boxes[index] for index in digit]) for digit in digits]
  tallest = max(bottom - top for _, top, _, bottom in hulls)
  whole = [i for i, hull in enumerate(hulls) if hull[3] - hull[1] >= _PIECE_SHARE * tallest]
  alone = list(whole)
  for part in sorted(set(range(len(digits))) - set(whole)):
    if _side(hulls[part]) < _MARK_SHARE * tallest:
      continue
    nearest = min(whole, key=lambda i: _gap(hulls[i], hulls[part]))
    if _gap(hulls[nearest], hulls[part]) < _PIECE_GAP_SHARE * tallest:
      digits[nearest].extend(digits[part])
    else:
      alone.append(part)
  return sorted((digits[i] for i in alone), key=lambda digit: min(boxes[i][0] for i in digit))


def _merge_overlapping(boxes: list[_Box]) -> list[list[int]]:
  """Groups boxes of which one is above the other, as far as that goes."""
  groups: list[list[int]] = []
  for index in sorted(range(len(boxes)), key=lambda i: boxes[i][0]):
    group, others = [index], []
    for other in groups:
      if _overlap(_hull([boxes[i] for i in other]), _hull([boxes[i] for i in group])):
        group = other + group
      else:
        others.append(other)
    groups = [*others, group]
  return groups


def _gap(one: _Box, other: _Box) -> int:
  """The columns between two boxes, negative where they overlap."""
  return max(one[0], other[0]) - min(one[2], other[2])


def _overlap(one: _Box, other: _Box) -> bool:
  return -_gap(one, other) > _OVERLAP_SHARE * min(one[2] - one[0], other[2] - other[0])


def _fit(ink: np.ndarray) -> np.ndarray:
  """Fits ink, float [h, w] in [0, 1], into 20 x 20; returns float32 with one side of 20."""
  canvas = _canvas(ink)
  # Of two digits one may be paler, and scaling pales fine lines.
  canvas = canvas / np.median(canvas[canvas > canvas.max() / 2])
  # A quarter and three quarters: the edge stays where it was, and soft rims become as narrow as
  # those of the black and white scans that MNIST was made of.
  canvas = np.clip(2 * canvas - 0.5, 0, 1)
  missing = _OVERSAMPLING * _MIN_STROKE - _stroke(canvas > 0.5)
  if missing > 0:
    canvas = _thicken(canvas, missing / 2)
  return np.clip(_resize(canvas, _BOX, Image.Resampling.BOX), 0, 1)


def _canvas(ink: np.ndarray) -> np.ndarray:
  """Scales ink to a longest side of 100; hairlines keep their darkness, and so widen."""
  side = _BOX * _OVERSAMPLING
  factor = max(ink.shape) // side
  if factor > 1:
    height, width = (-(-size // factor) * factor for size in ink.shape)
    padded = np.pad(ink, ((0, height - ink.shape[0]), (0, width - ink.shape[1])))
    blocks = padded.reshape(height // factor, factor, width // factor, factor)
    ink = blocks.max((1, 3))
  return _resize(ink, side, Image.Resampling.BICUBIC)


def _resize(image: np.ndarray, side: int, method: Image.Resampling) -> np.ndarray:
  """Scales the longer side to `side` and keeps the proportions."""
  height, width = (max(1, round(size * side / max(image.shape))) for size in image.shape)
  return np.asarray(Image.fromarray(image.astype(np.float32)).resize((width, height), method))


def _stroke(mask: np.ndarray) -> float:
  """Estimates the width of strokes: in one w pixels wide, distances to its edge average w / 4."""
  distances = ndimage.distance_transform_edt(np.pad(mask, 1))
  # Distances are to the next pixel's centre, half a pixel beyond the edge.
  return 4 * (float(distances[distances > 0].mean()) - 0.5) if mask.any() else 0.0


def _thicken(image: np.ndarray, radius: float) -> np.ndarray:
  reach = max(1, round(radius))
  rows, columns = np.ogrid[-reach : reach + 1, -reach : reach + 1]
  disc = rows**2 + columns**2 <= (radius + 0.25) ** 2
  disc[reach, reach] = True
  return ndimage.grey_dilation(np.pad(image, reach), footprint=disc)


def _frame(digit: np.ndarray) -> np.ndarray:
  """Puts a digit's centre of mass at MNIST's, and its darkest ink at white."""
  image = np.zeros((_FRAME, _FRAME), np.uint8)
  centre = ndimage.center_of_mass(digit)
  # A whole shift, as in MNIST: the grey values stay those of the anti-aliasing.
  top, left = (
    int(np.clip(round(_CENTRE - middle), 0, _FRAME - size))
    for middle, size in zip(centre, digit.shape, strict=True)
  )
  window = np.s_[top : top + digit.shape[0], left : left + digit.shape[1]]
  image[window] = np.rint(digit * (255 / digit.max()))
  return image
