"""A picture whose digits a network has read, as programs and as people are told of it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mnist_research import figures, images

# The longest side of a picture in a figure: twice the pixels that it takes there.
_SHOWN_SIDE = 480


class Answer(NamedTuple):
  """What a network made of a picture.

  Attributes:
    picture: with the digits that were found on it.
    probabilities: float64 [digits, classes].
    label_names: one for each class.
  """

  picture: images.Picture
  probabilities: np.ndarray
  label_names: Sequence[str]

  def digit(self) -> dict[str, Any]:
    """Returns the file and its one digit, as JSON takes it."""
    (probabilities,) = self.probabilities
    return {"file": self.picture.file, **self._prediction(probabilities)}

  def number(self) -> dict[str, Any]:
    """Returns the file, its number, and each digit with its box, as JSON takes it."""
    digits = []
    for (_, box), row in zip(self.picture.digits, self.probabilities, strict=True):
      digits.append({**self._prediction(row), "box": box.place()})
    # A text: the zeros of 007 count.
    number = "".join(digit["label_name"] for digit in digits)
    return {"file": self.picture.file, "number": number, "digits": digits}

  def _prediction(self, probabilities: np.ndarray) -> dict[str, Any]:
    label = int(probabilities.argmax())
    return {
      "label": label,
      "label_name": self.label_names[label],
      "probability": float(probabilities[label]),
      "probabilities": probabilities.tolist(),
    }

  def panels(self) -> list[figures.Panel]:
    """Returns what is drawn of the picture, a panel for each digit."""
    file, grey, digits = self.picture
    small, factor = images.reduce(grey, _SHOWN_SIDE)
    result = []
    for place, (digit, row) in enumerate(zip(digits, self.probabilities, strict=True), start=1):
      caption = f"{file}: {place} of {len(digits)}" if len(digits) > 1 else file
      left, top, right, bottom = (edge / factor for edge in digit.box)
      result.append(figures.Panel(caption, small, (left, top, right, bottom), digit.image, row))
    return result
