"""Reads a picture and returns the answer as JSON data."""

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

# Below this probability the page says "Not sure". The shipped model is that uncertain about 1.5%
# of MNIST's test digits, and rejects a quarter of those.
_SURE = 0.8


def read_picture(recognizer: Recognizer, file: bytes, *, why: bool = False) -> dict[str, Any]:
  """Reads the picture in a file.

  Args:
    recognizer: the model.
    file: the content of the file.
    why: whether to show which ink supports the answer.

  Returns:
    A dictionary with these keys:
      state: "digit"; "unsure"; "refused" if nothing in the picture is a digit; "blank" if nothing
        was found. Of several digits, the least certain one decides.
      width, height: the size of the picture in pixels.
      number: all digits as text, one line per row, with a question mark for each non-digit.
      digits: from left to right, each with `label_name`; `probability`; `probabilities` (of each
        class and of being a digit, so the sum may be less than 1); `image` (the model's input, a
        data URL); `box` (x, y, width, height of its outline, which may extend beyond the picture);
        with `why`, the tallest also has `evidence` (its ink, blue where it supports the answer and
        red where it contradicts it, a data URL).
      tallest: the index of the digit that the page shows.
      num_digits: the number of digits.
      note: a sentence for the user.

  Raises:
    UserError: the file isn't a readable picture.
  """
  picture = images.read(io.BytesIO(file))
  start = time.perf_counter()
  results = readings.read_picture(recognizer, picture)
  seconds = time.perf_counter() - start
  height, width = picture.shape
  names = recognizer.label_names
  tallest = max(range(len(results)), key=lambda index: results[index].box.height, default=0)
  digits = [_digit(reading, recognizer) for reading in results]
  if why and results:
    shown = results[tallest]
    support = occlusion.evidence(recognizer, shown.image, shown.label)
    digits[tallest]["evidence"] = _data_url(occlusion.colored(shown.image, support))
  return {
    "state": _state(results),
    "width": width,
    "height": height,
    "number": readings.number(results, names)["number"],
    "digits": digits,
    "tallest": tallest,
    "num_digits": len(results),
    "note": _note(results, names, seconds),
  }


def _state(results: Sequence[Reading]) -> str:
  if not results:
    return "blank"
  if not any(reading.is_digit for reading in results):
    return "refused"
  return "digit" if min(reading.certainty for reading in results) >= _SURE else "unsure"


def _digit(reading: Reading, recognizer: Recognizer) -> dict[str, Any]:
  return {
    "label_name": recognizer.label_names[reading.label],
    "probability": reading.certainty,
    "probabilities": [reading.digit_certainty * share for share in reading.probabilities.tolist()],
    "image": _data_url(reading.image),
    "box": readings.outline(reading).to_dict(),
  }


def _note(results: Sequence[Reading], label_names: Sequence[str], seconds: float) -> str:
  if not results:
    return "No digit yet."
  state = _state(results)
  if state == "refused":
    if len(results) > 1:
      return "These don't look like digits."
    share = results[0].digit_certainty
    shown = "less than 0.1%" if share < 0.0005 else f"{share:.1%}"
    return f"This doesn't look like a digit: the probability that it is one is {shown}."
  worst = min(results, key=lambda reading: reading.certainty)
  if state == "unsure" and len(results) > 1:
    return "Not sure: at least one of them may not be a digit, or is hard to read."
  if state == "unsure":
    name = label_names[worst.label]
    return f"Not sure: the probability of a {name} is {worst.certainty:.1%}."
  if len(results) > 1:
    return f"A number with {len(results)} digits; the bars show the tallest."
  return f"Found, prepared and read in {1000 * seconds:.0f} ms."


def _data_url(image: np.ndarray) -> str:
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, "PNG")
  return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
