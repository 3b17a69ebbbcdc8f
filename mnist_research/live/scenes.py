"""Reads the digits in a scene, and gives one steady answer while the scene doesn't change."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from mnist_research.inference import readings
from mnist_research.inference.readings import Reading
from mnist_research.inference.recognizer import Recognizer
from mnist_research.live.voting import Vote

if TYPE_CHECKING:  # It loads OpenCV.
  from mnist_research.live.video import Frame

# The least height of a digit, as a fraction of the tallest one's; anything smaller is a mark.
_LEAST_HEIGHT = 0.4


def read_scene(
  recognizer: Recognizer, frames: "Iterable[Frame]"
) -> "Iterator[tuple[Frame, list[Reading]]]":
  """Reads the number in each frame, and yields the answer on which the latest frames agree.

  Args:
    recognizer: a trained model for MNIST's image shape.
    frames: the frames, in temporal order.

  Yields:
    Each frame with the readings of the current answer, row by row, from left to right; none if
    there is no digit. Their boxes are those in the latest frame that gave this answer.
  """
  latest: list[Reading] = []
  vote: Vote[str] = Vote("")
  for frame in frames:
    results = digits_of(readings.read_picture(recognizer, frame.gray))
    number = readings.number(results, recognizer.label_names)["number"]
    if vote.add(frame.seconds, number) == number:
      latest = results
    yield frame, latest


def digits_of(results: list[Reading]) -> list[Reading]:
  """Returns the readings of a picture, without non-digits and marks beside the digits."""
  digits = [reading for reading in results if reading.is_digit]
  tallest = max((reading.box.height for reading in digits), default=0)
  return [reading for reading in digits if reading.box.height >= _LEAST_HEIGHT * tallest]
