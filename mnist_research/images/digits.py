"""Finds the digits in a picture."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from mnist_research.images import cutting, mnist_style
from mnist_research.images.boxes import Box, find_boxes, group_rows, hull
from mnist_research.images.ink import Ink, find_ink
from mnist_research.images.prepared import Prepared


def find_digits(picture: np.ndarray) -> list[Prepared]:
  """Finds the digits in a picture and prepares each the way MNIST was.

  Handles dark ink on light paper and the reverse, uneven light, and any size and position; ignores
  specks and marks such as a period. Touching digits are returned as one, which can be cut. A
  picture in MNIST's style, or its negative, is returned unchanged.

  Args:
    picture: gray values, float [height, width] in [0, 1].

  Returns:
    The digits, row by row, from left to right; empty if the picture is blank.
  """
  image = mnist_style.already_mnist(picture)
  if image is not None:
    (box,) = find_boxes((image > 0).astype(int))
    return [Prepared(image, box)]
  ink = find_ink(picture)
  return [
    _prepared(ink, digit, picture.shape, row)
    for row, digits in enumerate(group_rows(ink.boxes))
    for digit in digits
  ]


def tallest(digits: Sequence[Prepared]) -> Prepared:
  """Returns the tallest digit; in a picture of a single digit, the rest are stray marks."""
  return max(digits, key=lambda digit: digit.box.height)


def _prepared(ink: Ink, components: Sequence[int], shape: tuple[int, ...], row: int) -> Prepared:
  """Prepares the digit that consists of the given components of the ink."""
  left, top, right, bottom = hull([ink.boxes[index] for index in components])
  window = np.s_[top:bottom, left:right]
  is_digit = np.isin(ink.labels[window], np.add(components, 1))
  # Includes the paler edges of the strokes, which are below the threshold.
  is_digit = ndimage.binary_dilation(is_digit, np.ones((3, 3), bool))
  values = np.where(is_digit, ink.values[window], 0)
  image = mnist_style.draw(values)
  height, width = shape
  factor = ink.factor
  box = Box(left * factor, top * factor, min(right * factor, width), min(bottom * factor, height))
  return Prepared(image, box, row, values if cutting.is_wide(values) else None)
