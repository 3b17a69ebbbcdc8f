"""The answer to a picture, as JSON takes it."""

import base64
import io
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from mnist_research import images
from mnist_research.inference import occlusion, readings
from mnist_research.inference.readings import Reading
from mnist_research.inference.recognizer import Recognizer

# A less certain answer is called not sure. Of MNIST's test digits the shipped network is that
# uncertain about one in a hundred.
_SURE = 0.8


def read_picture(recognizer: Recognizer, file: bytes, *, why: bool = False) -> dict[str, Any]:
  """Reads the picture in a file.

  Args:
    recognizer: the network that reads.
    file: what is in the file.
    why: whether to say which ink spoke for the answer.

  Returns:
    state: "digit", "unsure", "refused" where what was found is no digit, or "blank" where nothing
    was found; of several, that of the least certain. width, height: of the picture, in pixels.
    number: what all digits together read, a text of a line for each row; what is no digit is a
    question mark. digits: from
    left to right, each with label_name, probability and probabilities (of being a digit, and that
    one, so that they may sum to less than 1), image (what the network saw, a data URL) and box (x,
    y, width, height of its outline in the picture, which may reach beyond it). tallest: the index
    of the one that is shown. num_digits: how many there are. note: a sentence. With `why`, the
    tallest has `evidence` too: its ink, blue where it spoke for the answer, and red where against.

  Raises:
    UserError: it isn't a picture that can be read.
  """
  picture = images.read(io.BytesIO(file))
  start = time.perf_counter()
  found = images.find_digits(picture)
  read = readings.read(recognizer, found) if found else []
  seconds = time.perf_counter() - start
  height, width = picture.shape
  names = recognizer.label_names
  tallest = max(range(len(read)), key=lambda index: read[index].box.height, default=0)
  digits = [_digit(reading, recognizer) for reading in read]
  if why and read:
    shown = read[tallest]
    spoke = occlusion.evidence(recognizer, shown.image, shown.label)
    digits[tallest]["evidence"] = _data_url(occlusion.colored(shown.image, spoke))
  return {
    "state": _state(read),
    "width": width,
    "height": height,
    "number": readings.number(read, names)["number"] if read else "",
    "digits": digits,
    "tallest": tallest,
    "num_digits": len(read),
    "note": _note(read, names, seconds),
  }


def _state(read: Sequence[Reading]) -> str:
  if not read:
    return "blank"
  if not any(reading.is_digit for reading in read):
    return "refused"
  return "digit" if min(reading.certainty for reading in read) >= _SURE else "unsure"


def _digit(reading: Reading, recognizer: Recognizer) -> dict[str, Any]:
  return {
    "label_name": recognizer.label_names[reading.label],
    "probability": reading.certainty,
    "probabilities": [reading.digit_certainty * share for share in reading.probabilities.tolist()],
    "image": _data_url(reading.image),
    "box": readings.outline(reading).place(),
  }


def _note(read: Sequence[Reading], label_names: Sequence[str], seconds: float) -> str:
  if not read:
    return "There is no digit yet."
  state = _state(read)
  if state == "refused":
    several = len(read) > 1
    return "These don't look like digits." if several else "This doesn't look like a digit."
  worst = min(read, key=lambda reading: reading.certainty)
  if state == "unsure" and len(read) > 1:
    return "Not sure: what is not a digit, or not clearly one, is among them."
  if state == "unsure":
    name = label_names[worst.label]
    return f"Not sure: the probability of a {name} is {worst.certainty:.1%}."
  if len(read) > 1:
    return f"A number of {len(read)} digits; the bars are those of the tallest."
  return f"Found, prepared and read in {1000 * seconds:.0f} ms."


def _data_url(image: np.ndarray) -> str:
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, "PNG")
  return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
