"""The ink of a picture: even light, little noise, a threshold, connected components."""

from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from mnist_research.images.boxes import Box, find_boxes
from mnist_research.images.rules import without_rules

# The longest side on which ink is looked for: a digit of a twentieth of the picture still has 20
# pixels, a line of one pixel in a picture of 4,000 still a ninth of its contrast, and a camera's
# 640 x 480 pixels take a quarter of the time.
_WORKING_SIDE = 480
# The longest side on which the light is estimated: strokes are a few pixels, noise averages out.
_LIGHT_SIDE = 64
# The window that no stroke fills, and of which most is paper, in shares of the longest side.
_LIGHT_WINDOW = 0.4
# The noise above which a picture was photographed. Drawings have none, and often thick strokes,
# which may be most of a window.
_PHOTO_NOISE = 1 / 3000
# The standard deviation of the filter against noise, in shares of the longest side.
_SMOOTHING_SHARE = 1 / 400
# Contrasts, of 1 between black and white, below which there is no ink but paper and shadow.
_MIN_CONTRAST = 0.06
# The same in a drawing, which has neither noise nor shadows.
_MIN_DRAWN_CONTRAST = 0.03
# Standard deviations of the noise above which a pixel may be ink; noise alone gets 3 in 100,000
# pixels there.
_NOISE_DEVIATIONS = 4.0
# The share of the ink's level above which a pixel is ink: holds weak pressure, leaves rules out.
# Of a photograph, whose light is known better, the weaker strokes are held as well.
_INK_SHARE = 0.45
_PHOTO_INK_SHARE = 0.33
# The same share for lines that are printed on the paper.
_PALE_SHARE = 0.15
# The least side of a digit, in shares of the picture's and in pixels.
_MIN_DIGIT_SHARE = 1 / 40
_MIN_DIGIT_PIXELS = 3
# The largest side of a speck, in shares of the largest component's side.
_SPECK_SHARE = 0.1
# The share of its box that a table's edge or a shadow in the picture's corner fills.
_SOLID_SHARE = 0.35


class Ink(NamedTuple):
  """The ink of a picture, on a copy reduced by a whole factor.

  Attributes:
    values: float32 [h, w], 0 for paper and 1 for ink.
    labels: int32 [h, w], the component of each pixel: i + 1 for that of box i.
    boxes: of each component, in pixels of the copy.
    factor: pixels of the picture to one of the copy.
  """

  values: np.ndarray
  labels: np.ndarray
  boxes: list[Box]
  factor: int


def find_ink(picture: np.ndarray) -> Ink:
  """Finds the ink: threshold after Otsu, in components without specks.

  Args:
    picture: grey values, float [height, width] in [0, 1].

  Returns:
    The ink; without any box if the picture is blank.
  """
  copy, factor = reduce(picture, _WORKING_SIDE)
  is_photo = _noise(copy) > _PHOTO_NOISE
  flat, noise = _smooth(_even_photo(copy) if is_photo else _even_drawing(copy))
  share, least = (
    (_PHOTO_INK_SHARE, _MIN_CONTRAST) if is_photo else (_INK_SHARE, _MIN_DRAWN_CONTRAST)
  )
  level, threshold, pale = _ink_level(flat, noise, share, least)
  if level < least:
    labels, boxes = _components(np.zeros(flat.shape, bool))
  else:
    labels, boxes = _components(without_rules(flat > threshold, flat > pale))
  values = np.clip(flat / max(level, least), 0, 1)
  return Ink(values, labels, boxes, factor)


def reduce(picture: np.ndarray, side: int) -> tuple[np.ndarray, int]:
  """Averages blocks of pixels so that no side is longer than `side`.

  Args:
    picture: float [height, width], or [height, width, 3].
    side: the most pixels of a side.

  Returns:
    float32 [h, w] or [h, w, 3], and the side of a block in pixels of the picture.
  """
  if picture.ndim == 3:
    channels = [reduce(channel, side) for channel in np.moveaxis(picture, -1, 0)]
    return np.stack([reduced for reduced, _ in channels], axis=-1), channels[0][1]
  factor = -(-max(picture.shape) // side)
  image = Image.fromarray(np.ascontiguousarray(picture, np.float32))
  return np.asarray(image.reduce(factor) if factor > 1 else image), factor


def _even_photo(picture: np.ndarray) -> np.ndarray:
  """Returns how much each pixel of a photograph differs from its paper, positive for ink.

  The paper is the median about each pixel, which follows shadows and darker corners as no plane
  does.
  """
  small, _ = reduce(picture, _LIGHT_SIDE)
  reach = _light_window(small) // 2
  windows = np.lib.stride_tricks.sliding_window_view(
    np.pad(small, reach, mode="edge"), (2 * reach + 1, 2 * reach + 1)
  )
  # Light changes slowly: half of the rows and columns tell as much.
  medians = np.median(windows[::2, ::2, ::2, ::2], axis=(2, 3))
  light = ndimage.gaussian_filter(_enlarged(medians, small.shape), 2.0, mode="nearest")
  rest = picture - _enlarged(light, picture.shape)
  return _ink_sign(rest) * rest


def _even_drawing(picture: np.ndarray) -> np.ndarray:
  """Returns how much each pixel of a drawing differs from its paper, positive for ink.

  Most of the border is paper, and most of the inside, which gives a plane. The differences from it
  are skewed towards the ink, which tells dark ink from light. What the plane leaves of the light is
  found by a morphological opening with a window that no stroke fills.
  """
  small, _ = reduce(picture, _LIGHT_SIDE)
  small_plane, plane = _paper_plane(small, picture.shape)
  rest = small - small_plane
  sign = _ink_sign(picture - plane)
  window = _light_window(small)
  light = ndimage.grey_opening(sign * rest, [min(window, size) for size in small.shape])
  light = ndimage.gaussian_filter(light, 2.0, mode="nearest")
  return sign * (picture - plane) - _enlarged(light, picture.shape)


def _light_window(small: np.ndarray) -> int:
  return max(1, round(_LIGHT_WINDOW * max(small.shape)))


def _ink_sign(rest: np.ndarray) -> np.float32:
  """Returns -1 for dark ink, 1 for light ink: differences from the paper lean to its side."""
  return np.float32(1 if (rest * rest * rest).sum() > 0 else -1)


def _enlarged(small: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  height, width = shape
  return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))


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


def _ink_level(
  flat: np.ndarray, noise: float, share: float, least: float
) -> tuple[float, float, float]:
  """Returns the level of the ink, 0 if there is none, and thresholds between paper and ink.

  The first is that of the ink, the second that of paler lines on the paper.

  Args:
    flat: floats [h, w], how much each pixel differs from its paper.
    noise: the standard deviation of that.
    share: of the level, above which a pixel is ink.
    least: the least level of ink.
  """
  # Paper is the majority in most pictures, but not in those that are cut closely. Every other
  # pixel tells as much, and sorting is what takes the time.
  paper = float(np.quantile(flat[::2, ::2], 0.25))
  floor = paper + max((_NOISE_DEVIATIONS + 0.67) * noise, least / 2)
  candidates = flat[flat > floor]
  if not candidates.size:
    return 0.0, floor, floor
  level = float(candidates[candidates >= _otsu(candidates)].mean())
  return level, max(floor, share * level), max(floor, _PALE_SHARE * level)


def _noise(picture: np.ndarray) -> float:
  """Estimates the noise's standard deviation from the smaller differences of neighbours."""
  if picture.shape[1] < 2:
    return 0.0
  differences = np.abs(np.diff(picture[::4], axis=1))
  # 40 % of a normal variable's absolute values are below 0.524 deviations; differences of two
  # have sqrt(2) times theirs. Edges of strokes are hardly ever as many as the other 60 %.
  return float(np.quantile(differences, 0.4)) / (0.524 * 2**0.5)


def _otsu(values: np.ndarray) -> float:
  """Returns the least value of the upper of the two classes that part best (Otsu 1979)."""
  values = np.sort(values).astype(np.float64)
  # Of each value, how many are below it, and their sum.
  below = np.arange(values.size)
  sums = np.cumsum(values) - values
  means_below = sums / np.maximum(below, 1)
  means_above = (values.sum() - sums) / (values.size - below)
  variance = below * (values.size - below) * (means_above - means_below) ** 2
  return float(values[variance.argmax()])


def _components(mask: np.ndarray) -> tuple[np.ndarray, list[Box]]:
  """Labels the connected components of ink and drops specks.

  Returns:
    int32 labels, i + 1 for the component of box i, and the boxes.
  """
  labels, _ = ndimage.label(mask, np.ones((3, 3), int))
  boxes = find_boxes(labels)
  sides = np.array([box.side for box in boxes], int)
  least = max(_MIN_DIGIT_PIXELS, _MIN_DIGIT_SHARE * max(mask.shape))
  if not boxes or sides.max() < least:
    return np.zeros_like(labels), []
  inner = ~_surroundings(labels, boxes)
  if not inner.any():
    inner[:] = True
  kept = inner & (sides >= _SPECK_SHARE * sides[inner].max())
  renumbered = np.concatenate([[0], np.where(kept, np.cumsum(kept), 0)]).astype(np.int32)
  return renumbered[labels], [box for box, keep in zip(boxes, kept, strict=True) if keep]


def _surroundings(labels: np.ndarray, boxes: list[Box]) -> np.ndarray:
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
