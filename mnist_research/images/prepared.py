"""A digit, prepared as input for a model."""

from typing import NamedTuple

import numpy as np

from mnist_research.images.boxes import Box


class Prepared(NamedTuple):
  """A digit in MNIST's style.

  Attributes:
    image: uint8 [28, 28], white on black.
    box: the digit's bounding box, in pixels of the picture.
    row: the index of its row of digits, counted from the top.
    ink: the ink that the image was made from, float [h, w] from 0 (paper) to 1 (ink), if it is wide
      enough for two touching digits; otherwise None.
  """

  image: np.ndarray
  box: Box
  row: int = 0
  ink: np.ndarray | None = None
