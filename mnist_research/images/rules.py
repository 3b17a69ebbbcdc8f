"""Removes straight lines that aren't part of a digit: ruled and grid paper, tables, frames."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

# The slopes to try, in rows per column. With a slope half a step off, a line is one pixel off at
# its ends in a picture of 480 pixels.
_SLOPES = np.arange(-16, 17) / 100
# Lengths as fractions of the picture's width: of the shortest straight piece, of the largest gap in
# a line, of a line from border to border, of one of several parallel lines, of a side of a frame.
_PIECE = 0.12
_GAP = 0.06
_WHOLE = 0.93
_PARALLEL = 0.5
_SIDE = 0.3
# The lowest fraction of a line that is ink.
_UNBROKEN = 0.85
# The number of pixels from which the slope is estimated.
_ENOUGH_PIXELS = 4000
# The largest remnant of a removed line, in widths of most lines; little remains of a thick frame.
_LARGEST_REMNANT = 4
# The number of parallel lines that make a pattern.
_PATTERN = 3
# The widest line, as a fraction of its length and in pixels; strokes of digits are wider.
_WIDEST_SHARE = 0.04
_WIDEST_PIXELS = 2
# How far a line may bend, as a fraction of its length.
_BEND = 0.03
# The least length of parallel lines, as a fraction of the picture's longer side and in pixels,
# because digits in a small picture also have parallel strokes.
_PATTERN_SHARE = 0.4
_PATTERN_PIXELS = 40


class _Lines(NamedTuple):
  """Straight lines in one direction.

  Attributes:
    labels: int32 [h, w], i + 2 on line i, 1 on shorter lines cut off by a corner of the picture.
    lengths: the length of each line in pixels, int [lines].
    widths: the width of each line in pixels, int [lines].
    are_cut: whether a corner of the picture cuts off the line, bool [lines].
    across: the size of the picture in the lines' direction, in pixels.
  """

  labels: np.ndarray
  lengths: np.ndarray
  widths: np.ndarray
  are_cut: np.ndarray
  across: int

  @property
  def width(self) -> int:
    """Returns the width of the widest line, in pixels."""
    return int(self.widths.max(initial=0))

  @property
  def pixels(self) -> np.ndarray:
    """Returns the pixels of all lines, bool [h, w]."""
    return self.labels > 0

  @property
  def transposed(self) -> "_Lines":
    """Returns the same lines in the transposed picture."""
    return self._replace(labels=self.labels.T)

  def longer(self, share: float) -> "_Lines":
    """Returns the lines of at least this fraction of the picture's size, and all cut-off ones."""
    is_long = self.lengths >= share * self.across
    new_labels = np.concatenate([[0, 1], np.where(is_long, np.cumsum(is_long) + 1, self.are_cut)])
    return _Lines(
      new_labels[self.labels],
      self.lengths[is_long],
      self.widths[is_long],
      self.are_cut[is_long],
      self.across,
    )


def without_rules(mask: np.ndarray, weaker: np.ndarray) -> np.ndarray:
  """Removes the lines of ruled or grid paper, tables and frames from ink.

  A rule is thin, straight and almost horizontal or vertical. It extends from border to border, is
  one of several parallel lines, or is a side of a frame around other ink. Strokes that cross it are
  kept.

  Args:
    mask: bool [h, w], true for ink.
    weaker: bool [h, w], also true for paler pixels, because rules are often paler than ink, and
      unbroken only here.

  Returns:
    The remaining ink, bool [h, w].
  """
  if not _has_long_ink(weaker):
    return mask
  horizontal, vertical = _lines(weaker), _lines(weaker.T).transposed
  result, widths = mask, np.zeros(0, int)
  for candidates, transposed in ((horizontal, False), (vertical, True)):
    lines = candidates.longer(_PARALLEL)
    if _are_rules(lines, max(mask.shape)):
      result = _erased(result, lines, transposed=transposed)
      widths = np.concatenate([widths, lines.widths])
  if not widths.size:
    return _without_frame(mask, horizontal, vertical)
  return _without_remnants(result, float(np.median(widths)))


def _has_long_ink(mask: np.ndarray) -> bool:
  """Whether any connected ink is long enough to be a line."""
  labels, _ = ndimage.label(mask, np.ones((3, 3), int))
  height, width = mask.shape
  return any(
    y.stop - y.start >= _SIDE * height or x.stop - x.start >= _SIDE * width
    for y, x in ndimage.find_objects(labels)
  )


def _are_rules(lines: _Lines, longer_side: int) -> bool:
  if any(lines.lengths >= _WHOLE * lines.across):
    return True
  min_length = max(_PATTERN_PIXELS, _PATTERN_SHARE * longer_side)
  return bool(np.count_nonzero(lines.lengths >= min_length) >= _PATTERN)


def _without_frame(mask: np.ndarray, horizontal: _Lines, vertical: _Lines) -> np.ndarray:
  """Removes a frame, if its four sides surround other ink."""
  if len(horizontal.lengths) < 2 or len(vertical.lengths) < 2:
    return mask
  rows = np.flatnonzero(horizontal.pixels.any(1))
  columns = np.flatnonzero(vertical.pixels.any(0))
  margin = 1 + max(horizontal.width, vertical.width)
  inside = np.s_[rows[0] + margin : rows[-1] - margin, columns[0] + margin : columns[-1] - margin]
  result = _erased(_erased(mask, horizontal, transposed=False), vertical, transposed=True)
  return result if result[inside].any() else mask


def _without_remnants(mask: np.ndarray, width: float) -> np.ndarray:
  """Drops remnants of removed lines, which are hardly larger than the line width."""
  labels, _ = ndimage.label(mask, np.ones((3, 3), int))
  sides = [max(y.stop - y.start, x.stop - x.start) for y, x in ndimage.find_objects(labels)]
  return np.array([False, *(side > _LARGEST_REMNANT * width for side in sides)])[labels]


def _lines(mask: np.ndarray) -> _Lines:
  """Finds almost horizontal lines, each at least as long as one side of a frame."""
  height, width = mask.shape
  rows, columns = np.nonzero(mask)
  reach = int(np.ceil(np.abs(_SLOPES).max() * width / 2)) + 1
  level = _leveled(rows, columns, mask.shape, reach)
  straight = np.zeros((height + 2 * reach, width), bool)
  straight[level, columns] = True
  joined = _joined(straight)
  labels, _ = ndimage.label(joined, np.ones((3, 3), int))
  line_labels = np.zeros(straight.shape, np.int32)
  lengths, widths, are_cut = [], [], []
  at_edge = _edge_labels(labels[level, columns], rows, height)
  for label, (y, x) in enumerate(ndimage.find_objects(labels), start=1):
    length = x.stop - x.start
    # A line cut off by a corner of the picture is shorter, and only other lines confirm it.
    is_cut = label in at_edge and (x.start <= 2 or x.stop >= width - 2)
    is_long = length >= _SIDE * width
    if not (is_cut or is_long):
      continue
    on_line = (labels[y, x] == label) & straight[y, x]
    # The median, because the line appears wider where strokes cross it.
    thickness = on_line.sum(0)
    line_width = int(np.quantile(thickness, 0.5))
    is_thin = line_width <= max(
      2 * _WIDEST_PIXELS if is_cut else _WIDEST_PIXELS, _WIDEST_SHARE * length
    )
    # Joining added two rows.
    is_straight = y.stop - y.start - 2 <= line_width + max(2, _BEND * length)
    is_unbroken = np.count_nonzero(thickness) >= _UNBROKEN * length
    if not (is_thin and is_straight and is_unbroken):
      continue
    if is_long:
      lengths.append(length)
      widths.append(line_width)
      are_cut.append(is_cut)
    # Where the line is wider, a stroke runs along it.
    line_labels[y, x][on_line & (thickness <= line_width + 1)] = len(lengths) + 1 if is_long else 1
  unleveled = np.zeros(mask.shape, np.int32)
  unleveled[rows, columns] = line_labels[level, columns]
  return _Lines(
    unleveled, np.array(lengths, int), np.array(widths, int), np.array(are_cut, bool), width
  )


def _joined(straight: np.ndarray) -> np.ndarray:
  """Returns long straight pieces, joined across gaps and dilated by one row up and down."""
  # A line with a slope of less than one step moves to the next row now and then.
  joined = straight.copy()
  joined[1:] |= straight[:-1]
  joined[:-1] |= straight[1:]
  width = straight.shape[1]
  pieces = _without_short(joined, round(_PIECE * width))
  gap = round(_GAP * width)
  # At the border, half a gap is closed, because the line continues beyond it.
  behind = max(0, gap - gap // 2 - 1)
  gaps = np.pad(~pieces, ((0, 0), (behind, behind)), constant_values=True)
  return ~_without_short(gaps, gap)[:, behind : behind + width]


def _edge_labels(labels: np.ndarray, rows: np.ndarray, height: int) -> set[int]:
  """Returns the labels found in the first and last rows of a picture."""
  return set(np.unique(labels[(rows <= 2) | (rows >= height - 3)]).tolist())


def _leveled(
  rows: np.ndarray, columns: np.ndarray, shape: tuple[int, ...], reach: int
) -> np.ndarray:
  """Returns the row of each pixel after removing the slope that puts most pixels in common rows."""
  offsets = columns - shape[1] / 2
  # A sample of the pixels is enough. It is random because a regular one could alias with a pattern.
  some_rows, some_offsets = rows, offsets
  if len(rows) > _ENOUGH_PIXELS:
    sample = np.random.default_rng(0).integers(len(rows), size=_ENOUGH_PIXELS)
    some_rows, some_offsets = rows[sample], offsets[sample]
  best, best_score = 0.0, -1
  for slope in _SLOPES:
    counts = np.bincount(np.rint(some_rows - slope * some_offsets).astype(np.int64) + reach)
    score = int((counts * counts).sum())
    if score > best_score:
      best, best_score = slope, score
  return np.rint(rows - best * offsets).astype(np.int64) + reach


def _without_short(mask: np.ndarray, min_length: int) -> np.ndarray:
  """Drops horizontal runs of fewer than `min_length` pixels."""
  height, width = mask.shape
  padded = np.zeros((height, width + 1), bool)
  padded[:, :width] = mask
  flat = np.concatenate([[False], padded.ravel()])
  edges = np.flatnonzero(flat[1:] != flat[:-1])
  starts, ends = edges[::2], edges[1::2]
  is_long = ends - starts >= min_length
  steps = np.zeros(padded.size, np.int8)
  steps[starts[is_long]] = 1
  steps[ends[is_long]] = -1
  return np.cumsum(steps, dtype=np.int8).view(bool).reshape(padded.shape)[:, :width]


def _erased(mask: np.ndarray, lines: _Lines, *, transposed: bool) -> np.ndarray:
  """Removes lines from ink and keeps the strokes that cross them."""
  near_lines = ndimage.binary_dilation(
    lines.pixels, np.ones((3, 1) if not transposed else (1, 3), bool)
  )
  remaining = mask & ~near_lines
  across = (lines.width + 5, 3) if not transposed else (3, lines.width + 5)
  crossing = ndimage.binary_closing(np.pad(remaining, 12), np.ones(across, bool))[12:-12, 12:-12]
  return remaining | (crossing & near_lines & mask)
