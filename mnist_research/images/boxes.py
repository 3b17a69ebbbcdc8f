"""Bounding boxes of ink, grouped into digits and rows of digits."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

# Two components belong to one digit if they overlap by more than this fraction of the narrower
# one's width.
_OVERLAP_SHARE = 1 / 3
# Limits for parts next to a digit, as fractions of the tallest digit's height. A part smaller than
# the first in both directions is a mark, such as a period. A part shorter than the second and
# closer than the third is a piece of the digit, such as the bar of a 5.
_MARK_SHARE = 1 / 4
_PIECE_SHARE = 1 / 2
_PIECE_GAP_SHARE = 1 / 4
# The largest gap in a stroke, as a fraction of the total height.
_BREAK_SHARE = 1 / 4
# Two stacked parts are two digits if their height exceeds their width by more than this factor.
_TOWER = 1.9
# Neighbors in a row overlap vertically by more than this fraction of the shorter one's height.
_ROW_OVERLAP_SHARE = 0.4


class Box(NamedTuple):
  """A rectangle of pixels; right and bottom are exclusive."""

  left: int
  top: int
  right: int
  bottom: int

  def to_dict(self) -> dict[str, int]:
    """Returns the box as a dictionary for JSON."""
    return {"x": self.left, "y": self.top, "width": self.width, "height": self.height}

  @property
  def width(self) -> int:
    """Width in pixels."""
    return self.right - self.left

  @property
  def height(self) -> int:
    """Height in pixels."""
    return self.bottom - self.top

  @property
  def side(self) -> int:
    """Length of the longer side in pixels."""
    return max(self.width, self.height)


def find_boxes(labels: np.ndarray) -> list[Box]:
  """Returns the bounding boxes of labels 1, 2, ... in an integer array [h, w]."""
  slices = ndimage.find_objects(labels)
  return [Box(x.start, y.start, x.stop, y.stop) for y, x in slices]


def hull(boxes: Sequence[Box]) -> Box:
  """Returns the smallest box that contains all `boxes`; there must be at least one."""
  lefts, tops, rights, bottoms = zip(*boxes, strict=True)
  return Box(min(lefts), min(tops), max(rights), max(bottoms))


def group_rows(boxes: Sequence[Box]) -> list[list[list[int]]]:
  """Groups the boxes of connected ink into digits, and the digits into rows.

  Returns:
    Rows from top to bottom, each with its digits from left to right; a digit is a list of the
    indices of its boxes.
  """
  digits = _merge_above(boxes)
  hulls = [_hull_of(boxes, digit) for digit in digits]
  tallest = max((box.height for box in hulls), default=0)
  full_size = [i for i, box in enumerate(hulls) if box.height >= _PIECE_SHARE * tallest]
  for part in sorted(set(range(len(digits))) - set(full_size)):
    if hulls[part].side < _MARK_SHARE * tallest:
      continue
    nearest = min(full_size, key=lambda i: _distance(hulls[i], hulls[part]))
    if _distance(hulls[nearest], hulls[part]) < _PIECE_GAP_SHARE * tallest:
      digits[nearest].extend(digits[part])
    else:
      full_size.append(part)
  rows = _rows([_hull_of(boxes, digits[i]) for i in full_size])
  return [[digits[full_size[position]] for position in row] for row in rows]


def _hull_of(boxes: Sequence[Box], indices: Sequence[int]) -> Box:
  return hull([boxes[index] for index in indices])


def _merge_above(boxes: Sequence[Box]) -> list[list[int]]:
  """Groups stacked boxes that are close together, which are parts of one digit."""
  # Groups that end to the left of the current box, and so are complete.
  finished: list[list[int]] = []
  groups: list[tuple[Box, list[int]]] = []
  for index in sorted(range(len(boxes)), key=lambda i: boxes[i].left):
    merged, members = boxes[index], [index]
    others = []
    for other, other_members in groups:
      if other.right <= boxes[index].left:
        finished.append(other_members)
      elif _is_one_digit(other, merged):
        merged, members = hull([other, merged]), other_members + members
      else:
        others.append((other, other_members))
    groups = [*others, (merged, members)]
  return finished + [members for _, members in groups]


def _is_one_digit(one: Box, other: Box) -> bool:
  """Whether two boxes are parts of one digit, rather than digits in two rows.

  Digits in two rows are far apart, or together too tall for their width.
  """
  if -_gap(one, other) <= _OVERLAP_SHARE * min(one.width, other.width):
    return False
  low, high = sorted([one.height, other.height])
  both = hull([one, other])
  gap = max(0, _gap_down(one, other))
  if gap <= _BREAK_SHARE * both.height and low < _PIECE_SHARE * high:
    return True
  return gap < _PIECE_GAP_SHARE * high and both.height <= _TOWER * both.width


def _rows(boxes: Sequence[Box]) -> list[list[int]]:
  """Groups the boxes of digits into rows, each a chain of neighbors at about the same height."""
  row_of = list(range(len(boxes)))
  order = sorted(row_of, key=lambda i: boxes[i].left)
  for position, index in enumerate(order):
    beside = [other for other in order[position + 1 :] if _is_beside(boxes[index], boxes[other])]
    if beside:
      nearest = min(beside, key=lambda other: _gap(boxes[index], boxes[other]))
      row_of = [row_of[index] if row == row_of[nearest] else row for row in row_of]
  rows = [[i for i in order if row_of[i] == number] for number in set(row_of)]
  middles = [boxes[i].top + boxes[i].bottom for i in range(len(boxes))]
  return sorted(rows, key=lambda members: np.mean([middles[i] for i in members]))


def _is_beside(one: Box, other: Box) -> bool:
  return -_gap_down(one, other) > _ROW_OVERLAP_SHARE * min(one.height, other.height)


def _gap(one: Box, other: Box) -> int:
  """Returns the number of columns between two boxes, negative if they overlap."""
  return max(one.left, other.left) - min(one.right, other.right)


def _gap_down(one: Box, other: Box) -> int:
  """Returns the number of pixel rows between two boxes, negative if they overlap."""
  return max(one.top, other.top) - min(one.bottom, other.bottom)


def _distance(one: Box, other: Box) -> int:
  return max(_gap(one, other), _gap_down(one, other))
