"""Segments ink from paper: even out the light, denoise, threshold, label connected components."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from mnist_research.images import surroundings
from mnist_research.images.boxes import Box, find_boxes
from mnist_research.images.rules import without_rules

# Pictures are reduced to this longest side before segmentation. A digit one twentieth as large as
# the picture still has 20 pixels, a one-pixel line in a picture of 4,000 pixels keeps a ninth of
# its contrast, and a camera's 640 x 480 frame takes a quarter of the time.
_WORKING_SIDE = 480
# The longest side at which the light is estimated, where strokes are a few pixels wide and noise
# averages out.
_LIGHT_SIDE = 64
# The side of a window that is mostly paper and that no stroke fills, as a fraction of the longest
# side.
_LIGHT_WINDOW = 0.4
# Above this noise level a picture is treated as a photograph. Drawings have no noise, and often
# strokes so thick that they fill most of a window.
_PHOTO_NOISE = 1 / 3000
# The standard deviation of the denoising filter, as a fraction of the longest side.
_SMOOTHING_SHARE = 1 / 400
# With less contrast (black to white is 1), a photograph has only paper and shadows, and no ink.
_MIN_CONTRAST = 0.06
# The same for a drawing, which has neither noise nor shadows.
_MIN_DRAWN_CONTRAST = 0.03
# How many standard deviations of the noise a pixel must exceed to be ink. Noise does so in 3 of
# 100,000 pixels.
_NOISE_DEVIATIONS = 4.0
# The fraction of the ink level above which a pixel is ink: low enough for light pressure, high
# enough to exclude ruled lines. Lower for photographs, where the light is estimated better.
_INK_SHARE = 0.45
_PHOTO_INK_SHARE = 0.33
# The same fraction for lines printed on the paper.
_PALE_SHARE = 0.15
# The palest writing beside an object at the edge of the picture, as a fraction of its darkness.
# Anything paler is the texture of the paper.
_PALEST_SHARE = 1 / 6
# The smallest digit, as a fraction of the picture's side and in pixels.
_MIN_DIGIT_SHARE = 1 / 40
_MIN_DIGIT_PIXELS = 3
# The largest speck, as a fraction of the largest component's side.
_SPECK_SHARE = 0.1


class Ink(NamedTuple):
  """The ink of a picture, at a resolution reduced by an integer factor.

  Attributes:
    values: float32 [h, w], from 0 (paper) to 1 (ink).
    labels: int32 [h, w], the component of each pixel: i + 1 for box i, 0 for paper.
    boxes: the bounding box of each component, in pixels of the reduced copy.
    factor: the reduction factor.
  """

  values: np.ndarray
  labels: np.ndarray
  boxes: list[Box]
  factor: int


class _Segmented(NamedTuple):
  """The ink pixels, bool [h, w], and the ink level."""

  mask: np.ndarray
  level: float


def find_ink(picture: np.ndarray) -> Ink:
  """Finds the ink by Otsu's threshold and labels its components, without specks.

  Args:
    picture: gray values, float [height, width] in [0, 1].

  Returns:
    The ink; it has no boxes if the picture is blank.
  """
  copy, factor = reduce(picture, _WORKING_SIDE)
  is_photo = _noise(copy) > _PHOTO_NOISE
  flat, noise = _smooth(_even_photo(copy) if is_photo else _even_drawing(copy))
  shares = (_PHOTO_INK_SHARE, _MIN_CONTRAST) if is_photo else (_INK_SHARE, _MIN_DRAWN_CONTRAST)
  segmented = _segmented(flat, noise, *shares)
  components = _components(segmented.mask)
  labels, boxes = _without_specks(*components)
  if (objects := surroundings.at_edges(*components)).any():
    # A dark object hides paler strokes.
    inner = _segmented(np.where(objects, 0, flat), noise, *shares)
    inner_labels, inner_boxes = _without_specks(*_components(inner.mask))
    is_paper = inner.level < _PALEST_SHARE * segmented.level
    if not is_paper and surroundings.is_writing(inner_boxes, objects):
      segmented, labels, boxes = inner, inner_labels, inner_boxes
  return Ink(np.clip(flat / max(segmented.level, shares[1]), 0, 1), labels, boxes, factor)


def _segmented(flat: np.ndarray, noise: float, share: float, min_level: float) -> _Segmented:
  """Separates ink from paper; the arguments are those of `_ink_level`."""
  level, threshold, pale = _ink_level(flat, noise, share, min_level)
  if level < min_level:
    return _Segmented(np.zeros(flat.shape, bool), level)
  return _Segmented(without_rules(flat > threshold, flat > pale), level)


def reduce(picture: np.ndarray, side: int) -> tuple[np.ndarray, int]:
  """Downscales a picture by an integer factor, so that no side is longer than `side`.

  Args:
    picture: float [height, width], or [height, width, 3].
    side: the longest allowed side, in pixels.

  Returns:
    The reduced picture, float32 [h, w] or [h, w, 3], and the reduction factor.
  """
  if picture.ndim == 3:
    channels = [reduce(channel, side) for channel in np.moveaxis(picture, -1, 0)]
    return np.stack([reduced for reduced, _ in channels], axis=-1), channels[0][1]
  factor = -(-max(picture.shape) // side)
  image = Image.fromarray(np.ascontiguousarray(picture, np.float32))
  return np.asarray(image.reduce(factor) if factor > 1 else image), factor


def _even_photo(picture: np.ndarray) -> np.ndarray:
  """Subtracts the paper from a photograph, so that ink is positive.

  The paper is the local median, which follows shadows and vignetting where a plane can't.
  """
  small, _ = reduce(picture, _LIGHT_SIDE)
  reach = _light_window(small) // 2
  windows = np.lib.stride_tricks.sliding_window_view(
    np.pad(small, reach, mode="edge"), (2 * reach + 1, 2 * reach + 1)
  )
  # Light changes slowly, so every second row and column is enough.
  medians = np.median(windows[::2, ::2, ::2, ::2], axis=(2, 3))
  light = ndimage.gaussian_filter(_enlarged(medians, small.shape), 2.0, mode="nearest")
  residuals = picture - _enlarged(light, picture.shape)
  return _ink_sign(residuals) * residuals


def _even_drawing(picture: np.ndarray) -> np.ndarray:
  """Subtracts the paper from a drawing, so that ink is positive.

  Most of the border and most of the interior are paper, so a plane is fitted to both. The skew of
  the residuals shows whether the ink is dark or light. A morphological opening, with a window that
  no stroke fills, estimates what the plane misses.
  """
  small, _ = reduce(picture, _LIGHT_SIDE)
  small_plane, plane = _paper_plane(small, picture.shape)
  residuals = small - small_plane
  sign = _ink_sign(picture - plane)
  window = _light_window(small)
  light = ndimage.grey_opening(sign * residuals, [min(window, size) for size in small.shape])
  light = ndimage.gaussian_filter(light, 2.0, mode="nearest")
  return sign * (picture - plane) - _enlarged(light, picture.shape)


def _light_window(small: np.ndarray) -> int:
  return max(1, round(_LIGHT_WINDOW * max(small.shape)))


def _ink_sign(residuals: np.ndarray) -> np.float32:
  """Returns -1 for dark ink and 1 for light ink, from the skew of the residuals."""
  return np.float32(1 if (residuals * residuals * residuals).sum() > 0 else -1)


def _enlarged(small: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  height, width = shape
  return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))


def _paper_plane(small: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
  """Fits a plane to the paper of `small`.

  Border and interior have equal weight, because around a tightly cropped thick digit only the
  border is paper, and with a table edge in the picture only the interior is.

  Returns:
    The plane at the resolution of `small`, and at the given shape.
  """
  rows, columns = _coordinates(small.shape)
  grid = np.stack([np.ones(small.shape), *np.broadcast_arrays(rows, columns)], -1).reshape(-1, 3)
  border = np.ones(small.shape, bool)
  border[1:-1, 1:-1] = False
  shares = np.where(border, 1 / border.sum(), 1 / max(1, (~border).sum())).ravel()
  values = small.ravel().astype(np.float64)
  weights = shares
  # Least absolute deviations, by iteratively reweighted least squares, are as robust as a median.
  for _ in range(10):
    weighted = grid.T * weights
    plane = np.linalg.pinv(weighted @ grid) @ (weighted @ values)
    weights = shares / np.maximum(np.abs(grid @ plane - values), 1e-3)
  rows, columns = _coordinates(shape)
  large = np.float32(plane[0]) + np.float32(plane[1]) * rows + np.float32(plane[2]) * columns
  return (grid @ plane).reshape(small.shape).astype(np.float32), large


def _coordinates(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
  """Returns row [height, 1] and column [1, width] coordinates, normalized to (-1, 1)."""
  rows, columns = (
    ((2 * np.arange(size) + 1) / size - 1).astype(np.float32) for size in (shape[0], shape[1])
  )
  return rows[:, None], columns[None, :]


def _smooth(picture: np.ndarray) -> tuple[np.ndarray, float]:
  """Denoises a picture; returns it and the standard deviation of the remaining noise."""
  noise = _noise(picture)
  radius = _SMOOTHING_SHARE * max(picture.shape)
  # The output of a drawing program has no noise, and may have one-pixel lines.
  if noise < 1 / 255:
    return picture, noise
  smooth = ndimage.gaussian_filter(picture, radius, mode="nearest")
  return smooth, noise / max(1.0, 2 * np.pi**0.5 * radius)


def _ink_level(
  flat: np.ndarray, noise: float, share: float, min_level: float
) -> tuple[float, float, float]:
  """Returns the ink level, and the thresholds for ink and for paler lines on the paper.

  Args:
    flat: float [h, w], the difference of each pixel from its paper.
    noise: the standard deviation of the noise in `flat`.
    share: the fraction of the ink level above which a pixel is ink.
    min_level: the lowest ink level.

  Returns:
    The level, which is 0 if there is no ink; the threshold for ink; the threshold for paler lines.
  """
  # Paper is the majority in most pictures, but not in tightly cropped ones. Every second pixel is
  # enough; sorting dominates the time.
  paper = float(np.quantile(flat[::2, ::2], 0.25))
  floor = paper + max((_NOISE_DEVIATIONS + 0.67) * noise, min_level / 2)
  candidates = flat[flat > floor]
  if not candidates.size:
    return 0.0, floor, floor
  level = float(candidates[candidates >= _otsu(candidates)].mean())
  return level, max(floor, share * level), max(floor, _PALE_SHARE * level)


def _noise(picture: np.ndarray) -> float:
  """Estimates the standard deviation of the noise from small differences of adjacent pixels."""
  if picture.shape[1] < 2:
    return 0.0
  differences = np.abs(np.diff(picture[::4], axis=1))
  # 40% of a normal variable's absolute values are below 0.524 standard deviations, and a difference
  # of two has sqrt(2) times the deviation. Stroke edges rarely make up the other 60%.
  return float(np.quantile(differences, 0.4)) / (0.524 * 2**0.5)


def _otsu(values: np.ndarray) -> float:
  """Returns the lowest value of the upper class in Otsu's split into two classes (1979)."""
  values = np.sort(values).astype(np.float64)
  # For each value, the number of values below it, and their sum.
  below = np.arange(values.size)
  sums = np.cumsum(values) - values
  means_below = sums / np.maximum(below, 1)
  means_above = (values.sum() - sums) / (values.size - below)
  variance = below * (values.size - below) * (means_above - means_below) ** 2
  return float(values[variance.argmax()])


def _components(mask: np.ndarray) -> tuple[np.ndarray, list[Box]]:
  """Labels the connected components of ink.

  Returns:
    Labels, int32 [h, w], i + 1 for the component of box i; and the boxes.
  """
  labels, _ = ndimage.label(mask, np.ones((3, 3), int))
  return labels, find_boxes(labels)


def _without_specks(labels: np.ndarray, boxes: Sequence[Box]) -> tuple[np.ndarray, list[Box]]:
  """Drops specks and what lies in the picture's corners, and renumbers the other components."""
  sides = np.array([box.side for box in boxes], int)
  min_side = max(_MIN_DIGIT_PIXELS, _MIN_DIGIT_SHARE * max(labels.shape))
  if not boxes or sides.max() < min_side:
    return np.zeros_like(labels), []
  inner = ~surroundings.in_corners(labels, boxes)
  if not inner.any():
    inner[:] = True
  is_kept = inner & (sides >= _SPECK_SHARE * sides[inner].max())
  renumbered = np.concatenate([[0], np.where(is_kept, np.cumsum(is_kept), 0)]).astype(np.int32)
  return renumbered[labels], [box for box, keeps in zip(boxes, is_kept, strict=True) if keeps]
