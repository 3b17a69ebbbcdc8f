"""The answer to a picture, as JSON takes it."""

import base64
import io
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from mnist_research import images
from mnist_research.inference import readings
from mnist_research.inference.readings import Reading
from mnist_research.inference.recognizer import Recognizer

# A less certain answer is called not sure. Of MNIST's test digits the shipped network is that
# uncertain about one in a hundred.
_SURE = 0.8


def read_picture(recognizer: Recognizer, file: bytes) -> dict[str, Any]:
  """Reads the picture in a file.

  Args:
    recognizer: the network that reads.
    file: what is in the file.

  Returns:
    state: "digit", "unsure", "refused" where what was found is no digit, or "blank" where nothing
    was found. width, height: of the picture, in pixels. digits: what was read, each with
    label_name, probability and probabilities (of being a digit, and that one, so that they may sum
    to less than 1), image (what the network saw, a data URL) and box (x, y, width, height of its
    outline in the picture, which may reach beyond it). num_digits: how many the picture shows; the
    tallest is read. note: a sentence.

  Raises:
    UserError: it isn't a picture that can be read.
  """
  picture = images.read(io.BytesIO(file))
  start = time.perf_counter()
  reading = readings.read_digit(recognizer, picture)
  seconds = time.perf_counter() - start
  height, width = picture.shape
  return {
    "state": _state(reading),
    "width": width,
    "height": height,
    "digits": [_digit(reading, recognizer)] if reading else [],
    "num_digits": reading.num_digits if reading else 0,
    "note": _note(reading, recognizer.label_names, seconds),
  }


def _state(reading: Reading | None) -> str:
  if reading is None:
    return "blank"
  if not reading.is_digit:
    return "refused"
  return "digit" if reading.certainty >= _SURE else "unsure"


def _digit(reading: Reading, recognizer: Recognizer) -> dict[str, Any]:
  return {
    "label_name": recognizer.label_names[reading.label],
    "probability": reading.certainty,
    "probabilities": [reading.digit_certainty * share for share in reading.probabilities.tolist()],
    "image": _data_url(reading.image),
    "box": readings.outline(reading).place(),
  }


def _note(reading: Reading | None, label_names: Sequence[str], seconds: float) -> str:
  if reading is None:
    return "There is no digit yet."
  if reading.num_digits > 1:
    return f"There are {reading.num_digits} digits; the tallest is read."
  state = _state(reading)
  if state == "refused":
    return "This doesn't look like a digit."
  if state == "unsure":
    name = label_names[reading.label]
    return f"Not sure: the probability of a {name} is {reading.certainty:.1%}."
  return f"Found, prepared and read in {1000 * seconds:.0f} ms."


def _data_url(image: np.ndarray) -> str:
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, "PNG")
  return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
