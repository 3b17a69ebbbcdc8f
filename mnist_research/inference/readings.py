"""A model's readings of a picture, for programs and people: records, panels, an outline."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from mnist_research import figures, images
from mnist_research.inference.recognizer import Recognizer
from mnist_research.metrics.outliers import ACCEPTED
from mnist_research.runtime.errors import UserError

# The outline's distance from the ink, as a fraction of the digit's longer side.
_MARGIN = 0.15
# The longest side of a picture in a figure, at twice the displayed resolution.
_SHOWN_SIDE = 480
# The cap on log odds, because models are overconfident.
_LOG_ODDS_CAP = 8.0
# The least log odds of the parts of a cut, because parts of a non-digit may slightly resemble
# digits.
_LEAST_LOG_ODDS = 0.0


class Reading(NamedTuple):
  """A reading of a digit, or of the whole picture.

  Attributes:
    label: the most probable class.
    probabilities: float64 [classes], the probability of each class.
    image: the model's input, uint8 [height, width], or [height, width, 3] in color.
    box: its bounding box, in pixels of the picture.
    num_digits: the number of digits in the picture, including this one.
    digit_score: the probability that it is a digit; None if the model doesn't estimate it.
    row: the index of its row of digits, from the top.
  """

  label: int
  probabilities: np.ndarray
  image: np.ndarray
  box: images.Box
  num_digits: int
  digit_score: float | None = None
  row: int = 0

  @property
  def is_digit(self) -> bool:
    """Whether it is a digit, or more precisely, belongs to one of the model's classes."""
    return self.digit_certainty >= ACCEPTED

  @property
  def probability(self) -> float:
    """The probability of the label, given that it is a digit."""
    return float(self.probabilities[self.label])

  @property
  def digit_certainty(self) -> float:
    """The probability that it is a digit; 1 if the model doesn't estimate it."""
    return 1.0 if self.digit_score is None else self.digit_score

  @property
  def certainty(self) -> float:
    """The probability that it is a digit with this label."""
    return self.digit_certainty * self.probability

  def record(self, label_names: Sequence[str]) -> dict[str, Any]:
    """Returns the label, the probabilities, and whether it is a digit, for JSON."""
    rejection = {"digit_score": self.digit_score, "is_digit": self.is_digit}
    return {
      "label": self.label,
      "label_name": label_names[self.label],
      "probability": self.probability,
      "probabilities": self.probabilities.tolist(),
      **({} if self.digit_score is None else rejection),
    }


def read(recognizer: Recognizer, prepared: Sequence[images.Prepared]) -> list[Reading]:
  """Reads the prepared digits of a picture, in order.

  Args:
    recognizer: a trained model.
    prepared: at least one digit, of the model's image shape.
  """
  (result,) = read_each(recognizer, [prepared])
  return result


def read_each(
  recognizer: Recognizer, pictures: Sequence[Sequence[images.Prepared]]
) -> list[list[Reading]]:
  """Reads the prepared digits of several pictures, in one batch.

  Ink is read as several touching digits if the model is more confident of those than of one.

  Args:
    recognizer: a trained model.
    pictures: at least one prepared digit for each picture.

  Returns:
    The readings of each picture, in order.
  """
  remaining = iter(_read_with_cuts(recognizer, [d for prepared in pictures for d in prepared]))
  result = []
  for prepared in pictures:
    readings = [reading for _ in prepared for reading in next(remaining)]
    result.append([reading._replace(num_digits=len(readings)) for reading in readings])
  return result


def _read_with_cuts(
  recognizer: Recognizer, prepared: Sequence[images.Prepared]
) -> list[list[Reading]]:
  """Reads each digit as one, or as several touching digits if those are more certain."""
  uncut = _read_all(recognizer, prepared)
  result = [[reading] for reading in uncut]
  # Readings at the cap are final, because no cut can exceed it.
  undecided = [index for index, reading in enumerate(uncut) if _log_odds(reading) < _LOG_ODDS_CAP]
  cuts = [(index, cut) for index in undecided for cut in images.propose_cuts(prepared[index])]
  if not cuts:
    return result
  # Cuts may share parts.
  parts = {id(part): part for _, cut in cuts for part in cut.parts}
  read_parts = dict(zip(parts, _read_all(recognizer, list(parts.values())), strict=True))
  best = dict.fromkeys(undecided, 0.0)
  for index, cut in cuts:
    cut_readings = [read_parts[id(part)] for part in cut.parts]
    threshold = max(_log_odds(uncut[index]), _LEAST_LOG_ODDS) + cut.doubt
    gain = min(map(_log_odds, cut_readings)) - threshold
    if gain > best[index]:
      best[index], result[index] = gain, cut_readings
  return result


def _log_odds(reading: Reading) -> float:
  certainty = np.clip(reading.certainty, 1e-12, 1 - 1e-12)
  return min(_LOG_ODDS_CAP, float(np.log(certainty / (1 - certainty))))


def _read_all(recognizer: Recognizer, prepared: Sequence[images.Prepared]) -> list[Reading]:
  """Reads each digit without cutting it."""
  inputs = np.stack([digit.image for digit in prepared])
  outputs = recognizer.predict(inputs.reshape(-1, *recognizer.image_shape))
  scores = [None] * len(inputs) if outputs.class_scores is None else outputs.class_scores.tolist()
  return [
    Reading(int(probabilities.argmax()), probabilities, digit.image, digit.box, 1, score, digit.row)
    for digit, probabilities, score in zip(
      prepared, np.exp(outputs.log_probabilities), scores, strict=True
    )
  ]


def read_pictures(
  recognizer: Recognizer, pictures: Iterable[images.Picture]
) -> Iterator[tuple[images.Picture, list[Reading]]]:
  """Reads any number of pictures in batches, and yields each with its readings."""
  for batch in images.in_batches(pictures):
    batch_readings = read_each(recognizer, [picture.prepared for picture in batch])
    yield from zip(batch, batch_readings, strict=True)


def read_picture(recognizer: Recognizer, picture: np.ndarray) -> list[Reading]:
  """Finds the digits in a picture, prepares them like MNIST's, and reads them.

  Args:
    recognizer: a trained model for MNIST's image shape.
    picture: gray values, float32 [height, width] from 0 (black) to 1 (white).

  Returns:
    The readings, row by row, from left to right; empty if the picture is blank.
  """
  digits = images.find_digits(picture)
  return read(recognizer, digits) if digits else []


def check_reads_digits(recognizer: Recognizer, subject: str) -> None:
  """Raises UserError unless the model takes images of MNIST's shape.

  Args:
    recognizer: a trained model.
    subject: what needs such images; the error message starts with it.
  """
  if recognizer.image_shape != images.MNIST_SHAPE:
    raise UserError(
      f"{subject} prepares digits as MNIST's images of {images.MNIST_SHAPE}, but this model takes "
      f"{recognizer.image_shape}; name another --workdir"
    )


def number(readings: Sequence[Reading], label_names: Sequence[str]) -> dict[str, Any]:
  """Returns a number, and each of its digits with its position, for JSON.

  Each row of a picture is a number, on a separate line. A non-digit is a question mark. A blank
  picture has an empty number and no rows.
  """
  rows = [""] * (readings[-1].row + 1 if readings else 0)
  for reading in readings:
    # As text, to keep the zeros of 007.
    rows[reading.row] += label_names[reading.label] if reading.is_digit else "?"
  digits = [
    {**reading.record(label_names), "row": reading.row, "box": reading.box.to_dict()}
    for reading in readings
  ]
  return {"number": "\n".join(rows), "rows": rows, "digits": digits}


def panels(picture: images.Picture, readings: Sequence[Reading]) -> list[figures.Panel]:
  """Returns a panel for each reading of a picture."""
  small, factor = images.reduce(picture.pixels, _SHOWN_SIDE)
  result = []
  for number, reading in enumerate(readings, start=1):
    several = len(readings) > 1
    caption = f"{picture.file}: {number} of {len(readings)}" if several else picture.file
    caption += "" if reading.is_digit else ", not a digit"
    left, top, right, bottom = (edge / factor for edge in reading.box)
    box = (left, top, right, bottom)
    result.append(figures.Panel(caption, small, box, reading.image, reading.probabilities))
  return result


def outline(reading: Reading) -> images.Box:
  """Returns the rectangle that marks a digit: its box with a margin.

  It may extend beyond the picture.
  """
  left, top, right, bottom = reading.box
  margin = max(2, round(_MARGIN * reading.box.side))
  return images.Box(left - margin, top - margin, right + margin, bottom + margin)
