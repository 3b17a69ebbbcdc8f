"""The answer to a picture, as JSON takes it."""

import base64
import io
import time
from typing import Any

import numpy as np
from PIL import Image

from mnist_research import images
from mnist_research.inference import readings
from mnist_research.inference.readings import Reading
from mnist_research.inference.recognizer import Recognizer


def read_picture(recognizer: Recognizer, file: bytes) -> dict[str, Any]:
  """Reads the picture in a file.

  Args:
    recognizer: the network that reads.
    file: what is in the file.

  Returns:
    state: "digit", or "blank" where there is none. width, height: of the picture, in pixels.
    digits: what was read, each with label_name, probability, probabilities, image (what the network
    saw, a data URL) and box (x, y, width, height of its outline in the picture, which may reach
    beyond it). num_digits: how many the picture shows; the tallest is read. note: a sentence.

  Raises:
    UserError: it isn't a picture that can be read.
  """
  picture = images.read(io.BytesIO(file))
  start = time.perf_counter()
  reading = readings.read_digit(recognizer, picture)
  seconds = time.perf_counter() - start
  height, width = picture.shape
  return {
    "state": "digit" if reading else "blank",
    "width": width,
    "height": height,
    "digits": [_digit(reading, recognizer)] if reading else [],
    "num_digits": reading.num_digits if reading else 0,
    "note": _note(reading, seconds),
  }


def _digit(reading: Reading, recognizer: Recognizer) -> dict[str, Any]:
  return {
    "label_name": recognizer.label_names[reading.label],
    "probability": reading.probability,
    "probabilities": reading.probabilities.tolist(),
    "image": _data_url(reading.image),
    "box": readings.outline(reading).place(),
  }


def _note(reading: Reading | None, seconds: float) -> str:
  if reading is None:
    return "There is no digit yet."
  if reading.num_digits > 1:
    return f"There are {reading.num_digits} digits; the tallest is read."
  return f"Found, prepared and read in {1000 * seconds:.0f} ms."


def _data_url(image: np.ndarray) -> str:
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, "PNG")
  return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
