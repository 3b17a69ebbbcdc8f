"""Boxes about ink, and which of them make one digit."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

# The share of the narrower component's width that overlaps if both are parts of one digit.
_OVERLAP_SHARE = 1 / 3
# Parts beside a digit, in shares of the tallest one's height: what is smaller than the first in
# both directions is a mark, such as a full stop; what is lower than the second and closer than the
# third is a piece of the digit, such as the bar of a 5.
_MARK_SHARE = 1 / 4
_PIECE_SHARE = 1 / 2
_PIECE_GAP_SHARE = 1 / 4


class Box(NamedTuple):
  """A rectangle of pixels; right and bottom are exclusive."""

  left: int
  top: int
  right: int
  bottom: int

  def place(self) -> dict[str, int]:
    """Returns the box as JSON takes it."""
    return {"x": self.left, "y": self.top, "width": self.width, "height": self.height}

  @property
  def width(self) -> int:
    """The number of columns."""
    return self.right - self.left

  @property
  def height(self) -> int:
    """The number of rows."""
    return self.bottom - self.top

  @property
  def side(self) -> int:
    """The longer side."""
    return max(self.width, self.height)


def find_boxes(labels: np.ndarray) -> list[Box]:
  """Returns the box of each of the labels 1, 2, ... in an integer array [h, w]."""
  slices = ndimage.find_objects(labels)
  return [Box(x.start, y.start, x.stop, y.stop) for y, x in slices]


def hull(boxes: Sequence[Box]) -> Box:
  """Returns the smallest box about all of `boxes`, of which there is one at least."""
  lefts, tops, rights, bottoms = zip(*boxes, strict=True)
  return Box(min(lefts), min(tops), max(rights), max(bottoms))


def group_digits(boxes: Sequence[Box]) -> list[list[int]]:
  """Groups the boxes of connected ink to digits.

  Returns:
    The indices of each digit's boxes, from left to right.
  """
  digits = _merge_overlapping(boxes)
  if len(digits) < 2:
    return digits
  hulls = [hull([boxes[index] for index in digit]) for digit in digits]
  tallest = max(box.height for box in hulls)
  whole = [i for i, box in enumerate(hulls) if box.height >= _PIECE_SHARE * tallest]
  alone = list(whole)
  for part in sorted(set(range(len(digits))) - set(whole)):
    if hulls[part].side < _MARK_SHARE * tallest:
      continue
    nearest = min(whole, key=lambda i: _gap(hulls[i], hulls[part]))
    if _gap(hulls[nearest], hulls[part]) < _PIECE_GAP_SHARE * tallest:
      digits[nearest].extend(digits[part])
    else:
      alone.append(part)
  return sorted((digits[i] for i in alone), key=lambda digit: min(boxes[i].left for i in digit))


def _merge_overlapping(boxes: Sequence[Box]) -> list[list[int]]:
  """Groups boxes of which one is above the other, as far as that goes."""
  groups: list[list[int]] = []
  for index in sorted(range(len(boxes)), key=lambda i: boxes[i].left):
    group, others = [index], []
    for other in groups:
      if _overlap(hull([boxes[i] for i in other]), hull([boxes[i] for i in group])):
        group = other + group
      else:
        others.append(other)
    groups = [*others, group]
  return groups


def _gap(one: Box, other: Box) -> int:
  """The columns between two boxes, negative where they overlap."""
  return max(one.left, other.left) - min(one.right, other.right)


def _overlap(one: Box, other: Box) -> bool:
  return -_gap(one, other) > _OVERLAP_SHARE * min(one.width, other.width)
