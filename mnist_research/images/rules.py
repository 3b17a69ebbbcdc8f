"""Ruled and squared paper, tables and frames: straight lines that are no ink of a digit."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

# How far lines lean at most, in rows to a column, and the steps in which that is looked for: the
# ends of a line that leans by half a step more are a pixel off in a picture of 480.
_SLOPES = np.arange(-16, 17) / 100
# In shares of the picture's width: a piece that counts as straight; a gap in a line; a line that
# goes from border to border; one of several that are parallel; one side of a frame.
_PIECE = 0.12
_GAP = 0.06
_WHOLE = 0.93
_PARALLEL = 0.5
_SIDE = 0.3
# The least share of a line that is ink.
_UNBROKEN = 0.85
# The largest piece that is left of lines, in widths of them.
_CRUMB = 4
# How many parallel lines make a pattern.
_PATTERN = 3
# The widest line, in shares of its length and in pixels: strokes of digits are wider.
_WIDEST_SHARE = 0.04
_WIDEST_PIXELS = 2
# How far a line bends, in shares of its length.
_BEND = 0.03
# The least length of parallel lines, in shares of the picture's longer side and in pixels: digits
# in a low picture have parallel strokes as well.
_PATTERN_SHARE = 0.4
_PATTERN_PIXELS = 40


class _Lines(NamedTuple):
  """Straight lines in one direction.

  Attributes:
    pixels: bool [h, w], of all of them.
    lengths: of each, in pixels.
    across: the picture's side in their direction, in pixels.
    width: of the widest, in pixels.
  """

  pixels: np.ndarray
  lengths: np.ndarray
  across: int
  width: int


def without_rules(mask: np.ndarray, weaker: np.ndarray) -> np.ndarray:
  """Takes the lines of ruled or squared paper, of tables and of frames out of ink.

  A rule is thin, straight and nearly level or upright. It goes from border to border, or is one
  of several that are parallel, or one side of a frame about other ink. Where a stroke crosses it,
  the stroke stays.

  Args:
    mask: bool [h, w].
    weaker: bool [h, w], true for paler pixels as well: a rule is often paler than ink, and whole
      only there.

  Returns:
    bool [h, w].
  """
  if not _has_long_ink(weaker):
    return mask
  level = _lines(weaker, _PARALLEL)
  upright = _turned(_lines(weaker.T, _PARALLEL))
  result, width = mask, 0
  for lines, turned in ((level, False), (upright, True)):
    if _are_rules(lines, max(mask.shape)):
      result, width = _erased(result, lines, turned=turned), max(width, lines.width)
  return _without_crumbs(result, width) if width else _without_frame(mask, weaker)


def _has_long_ink(mask: np.ndarray) -> bool:
  """Whether some connected ink is as long as a line would be."""
  labels, _ = ndimage.label(mask, np.ones((3, 3), int))
  height, width = mask.shape
  return any(
    y.stop - y.start >= _SIDE * height or x.stop - x.start >= _SIDE * width
    for y, x in ndimage.find_objects(labels)
  )


def _are_rules(lines: _Lines, longer: int) -> bool:
  if any(lines.lengths >= _WHOLE * lines.across):
    return True
  least = max(_PATTERN_PIXELS, _PATTERN_SHARE * longer)
  return bool(np.count_nonzero(lines.lengths >= least) >= _PATTERN)


def _without_frame(mask: np.ndarray, weaker: np.ndarray) -> np.ndarray:
  """Takes out a frame: four sides about other ink."""
  level, upright = _lines(weaker, _SIDE), _turned(_lines(weaker.T, _SIDE))
  if len(level.lengths) < 2 or len(upright.lengths) < 2:
    return mask
  rows = np.flatnonzero(level.pixels.any(1))
  columns = np.flatnonzero(upright.pixels.any(0))
  margin = 1 + max(level.width, upright.width)
  inside = np.s_[rows[0] + margin : rows[-1] - margin, columns[0] + margin : columns[-1] - margin]
  result = _erased(_erased(mask, level, turned=False), upright, turned=True)
  return result if result[inside].any() else mask


def _without_crumbs(mask: np.ndarray, width: int) -> np.ndarray:
  """Drops what was left of lines of a width: components of hardly more than that."""
  labels, _ = ndimage.label(mask, np.ones((3, 3), int))
  sides = [max(y.stop - y.start, x.stop - x.start) for y, x in ndimage.find_objects(labels)]
  return np.array([False, *(side > _CRUMB * width for side in sides)])[labels]


def _turned(lines: _Lines) -> _Lines:
  return lines._replace(pixels=lines.pixels.T)


def _lines(mask: np.ndarray, least: float) -> _Lines:
  """Finds lines that are nearly level, at least as long as a share of the width."""
  height, width = mask.shape
  rows, columns = np.nonzero(mask)
  reach = int(np.ceil(np.abs(_SLOPES).max() * width / 2)) + 1
  level = _leveled(rows, columns, mask.shape, reach)
  straight = np.zeros((height + 2 * reach, width), np.uint8)
  straight[level, columns] = 1
  # A line that leans by less than a step climbs a row now and then.
  joined = ndimage.maximum_filter1d(straight, 3, axis=0)
  joined = _opened(joined, max(3, round(_PIECE * width)), axis=1)
  joined = _closed(joined, max(1, round(_GAP * width)), axis=1)
  labels, _ = ndimage.label(joined, np.ones((3, 3), int))
  kept = np.zeros(straight.shape, bool)
  lengths, widths = [], [0]
  at_edge = _edge_labels(labels[level, columns], rows, height)
  for label, (y, x) in enumerate(ndimage.find_objects(labels), start=1):
    length = x.stop - x.start
    own = (labels[y, x] == label) & (straight[y, x] > 0)
    # Its half of the columns that hold least: where strokes cross, it seems wider.
    thickness = own.sum(0)
    line_width = int(np.quantile(thickness, 0.5))
    # A line that is cut by a corner of the picture is shorter, and only known by the others.
    is_cut = label in at_edge and (x.start <= 2 or x.stop >= width - 2)
    is_thin = line_width <= max(
      2 * _WIDEST_PIXELS if is_cut else _WIDEST_PIXELS, _WIDEST_SHARE * length
    )
    # Filtering made it two rows higher.
    is_straight = y.stop - y.start - 2 <= line_width + max(2, _BEND * length)
    is_unbroken = np.count_nonzero(thickness) >= _UNBROKEN * length
    if not (is_thin and is_straight and is_unbroken):
      continue
    if is_cut or length >= least * width:
      # Where it is wider, a stroke goes along it.
      kept[y, x] |= own & (thickness <= line_width + 1)
    if length >= least * width:
      lengths.append(length)
      widths.append(line_width)
  pixels = np.zeros_like(mask)
  on_line = kept[level, columns]
  pixels[rows[on_line], columns[on_line]] = True
  return _Lines(pixels, np.array(lengths), width, max(widths))


def _edge_labels(labels: np.ndarray, rows: np.ndarray, height: int) -> set[int]:
  """Returns the labels that pixels have in the first or the last rows of a picture."""
  return set(np.unique(labels[(rows <= 2) | (rows >= height - 3)]).tolist())


def _leveled(
  rows: np.ndarray, columns: np.ndarray, shape: tuple[int, ...], reach: int
) -> np.ndarray:
  """Returns the rows of pixels once the slope is taken out in which most share a row."""
  offsets = columns - shape[1] / 2
  best, best_score = rows, -1
  for slope in _SLOPES:
    level = np.rint(rows - slope * offsets).astype(np.int64) + reach
    counts = np.bincount(level, minlength=1)
    score = int((counts * counts).sum())
    if score > best_score:
      best, best_score = level, score
  return best


def _closed(image: np.ndarray, size: int, axis: int) -> np.ndarray:
  wide = ndimage.maximum_filter1d(image, size, axis=axis, mode="constant")
  return ndimage.minimum_filter1d(wide, size, axis=axis, mode="nearest")


def _opened(image: np.ndarray, size: int, axis: int) -> np.ndarray:
  narrow = ndimage.minimum_filter1d(image, size, axis=axis, mode="constant")
  return ndimage.maximum_filter1d(narrow, size, axis=axis, mode="constant")


def _erased(mask: np.ndarray, lines: _Lines, *, turned: bool) -> np.ndarray:
  """Takes lines out of ink, but for the strokes that cross them."""
  beside = ndimage.binary_dilation(lines.pixels, np.ones((3, 1) if not turned else (1, 3), bool))
  rest = mask & ~beside
  across = (lines.width + 5, 3) if not turned else (3, lines.width + 5)
  crossing = ndimage.binary_closing(np.pad(rest, 12), np.ones(across, bool))[12:-12, 12:-12]
  return rest | (crossing & beside & mask)
