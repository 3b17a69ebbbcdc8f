"""What a network is to see of a digit."""

from typing import NamedTuple

import numpy as np

from mnist_research.images.boxes import Box


class Prepared(NamedTuple):
  """A digit as MNIST would have it.

  Attributes:
    image: uint8 [28, 28], white on black.
    box: where the digit stands, in pixels of the picture.
    row: which of the picture's rows of digits it stands in, from the top, from 0.
    ink: what the image was made of if that is wide enough for two digits that touch, float [h, w]
      between 0 for paper and 1 for ink; None otherwise.
  """

  image: np.ndarray
  box: Box
  row: int = 0
  ink: np.ndarray | None = None
