"""The digit that a network reads in a frame of a camera, or in any other picture."""

from typing import NamedTuple

import numpy as np

from mnist_research import images
from mnist_research.recognition import Recognizer

# The outline's distance from the ink, in shares of the digit's longer side.
_MARGIN = 0.15


class Reading(NamedTuple):
  """The digit that was read.

  Attributes:
    label: its most probable class.
    probabilities: of each class, float64 [classes].
    image: uint8 [28, 28], what the network saw.
    box: where the digit stands, in pixels of the picture.
    num_digits: how many digits the picture shows; the tallest is read.
  """

  label: int
  probabilities: np.ndarray
  image: np.ndarray
  box: images.Box
  num_digits: int

  @property
  def probability(self) -> float:
    """That of the label."""
    return float(self.probabilities[self.label])


def read_digit(recognizer: Recognizer, picture: np.ndarray) -> Reading | None:
  """Finds the tallest digit of a picture, prepares it as MNIST was, and reads it.

  Args:
    recognizer: a trained network.
    picture: grey values, float32 [height, width] between 0, black, and 1, white.

  Returns:
    What was read; None if there is nothing on the picture.
  """
  digits = images.find_digits(picture)
  if not digits:
    return None
  tallest = max(digits, key=lambda digit: digit.box.height)
  (probabilities,) = recognizer.probabilities(tallest.image[None, ..., None])
  return Reading(
    label=int(probabilities.argmax()),
    probabilities=probabilities,
    image=tallest.image,
    box=tallest.box,
    num_digits=len(digits),
  )


def outline(reading: Reading) -> images.Box:
  """Returns the rectangle that shows which digit was read: its box with a margin.

  It may reach beyond the picture.
  """
  left, top, right, bottom = reading.box
  margin = max(2, round(_MARGIN * reading.box.side))
  return images.Box(left - margin, top - margin, right + margin, bottom + margin)
