"""Finds what isn't writing at the edges of a picture: a desk, a shadow, a frame, an object."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from mnist_research.images.boxes import Box

# The fraction of its box that a table edge or a shadow in the corner of the picture fills.
_SOLID_SHARE = 0.35
# A component that touches the picture's edge may be an object if this fraction of its longer side
# lies along the edge, or if it is longer than this fraction of the picture's shorter side.
_ALONG_SHARE = 0.5
_LONG_SHARE = 1 / 3
# The least side of the largest digit beside such an object, as a fraction of the picture's longer
# side. Anything smaller is dirt beside a digit that touches the edge.
_LEAST_SHARE = 1 / 25
# The largest part of the picture that objects cover; tightly cropped digits cover more.
_LARGEST_SHARE = 1 / 4
# How far the blurred border of an object reaches, as a fraction of the picture's longer side.
_BLUR_SHARE = 1 / 60


def in_corners(labels: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
  """Marks components that are a table edge, a shadow, or a frame around the paper.

  Such a component covers a corner of the picture, which a digit rarely does unless it fills the
  picture, and it is solid or covers at least three corners.

  Args:
    labels: int32 [h, w], i + 1 for the component of box i.
    boxes: the boxes of the components.

  Returns:
    Whether each component is one, bool [boxes].
  """
  result = np.zeros(len(boxes), bool)
  corners = labels[[0, 0, -1, -1], [0, -1, 0, -1]]
  for label in np.unique(corners[corners > 0]):
    left, top, right, bottom = boxes[label - 1]
    is_solid = (labels[top:bottom, left:right] == label).mean() >= _SOLID_SHARE
    result[label - 1] = is_solid or np.count_nonzero(corners == label) >= 3
  return result


def at_edges(labels: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
  """Returns the components that may be objects at the picture's edges, and their blurred borders.

  A tightly cropped digit looks like one of them; see `is_writing`.

  Args:
    labels: int32 [h, w], i + 1 for the component of box i.
    boxes: the boxes of the components.

  Returns:
    bool [h, w].
  """
  edges = labels[0], labels[-1], labels[:, 0], labels[:, -1]
  contacts = np.max([np.bincount(edge, minlength=len(boxes) + 1) for edge in edges], axis=0)[1:]
  sides = np.array([box.side for box in boxes], int)
  lies_along = contacts >= _ALONG_SHARE * sides
  is_long = sides >= _LONG_SHARE * min(labels.shape)
  is_object = (contacts > 0) & (lies_along | is_long)
  if not is_object.any():
    return np.zeros(labels.shape, bool)
  reach = 1 + round(_BLUR_SHARE * max(labels.shape))
  marked = np.concatenate([[False], is_object])[labels]
  return ndimage.binary_dilation(marked, np.ones((3, 3), bool), reach)


def is_writing(boxes: Sequence[Box], objects: np.ndarray) -> bool:
  """Whether ink is writing in a picture that isn't cropped tightly.

  Args:
    boxes: the boxes of the ink's components, without possible objects at the edges. Those that
      touch an edge may be remnants of such an object.
    objects: the possible objects, bool [h, w].
  """
  height, width = objects.shape
  is_small = all(box.side < _LONG_SHARE * min(height, width) for box in boxes)
  has_digit = any(
    box.side > _LEAST_SHARE * max(height, width)
    for box in boxes
    if min(box.left, box.top) > 0 and box.right < width and box.bottom < height
  )
  return is_small and has_digit and bool(objects.mean() < _LARGEST_SHARE)
