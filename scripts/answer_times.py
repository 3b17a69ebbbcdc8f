"""Times the answers to a camera's frames.

  python scripts/answer_times.py

The frames are JPEGs of 640 x 480 pixels: digits on paper that is grainy and unevenly lit. The time
is that from the file to the probabilities: decoding, finding the digit, preparing it, the network.
The first frames, which warm the network up, don't count. Prints one JSON object on stdout:
num_frames, milliseconds_median, milliseconds_95th_percentile, milliseconds_highest.
"""

import io
import time

import numpy as np
from absl import flags
from PIL import Image

from mnist_research.config import flags as config_flags
from mnist_research.runtime import app
from mnist_research.workdir import trained_workdir

_WIDTH, _HEIGHT = 640, 480
_SIDE = 250
_WARM_UP = 20


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: which network, and how many frames."""
  config_flags.define(flag_values, ["workdir", "device"])
  flags.DEFINE_integer(
    "frames", 500, "how many frames to time", lower_bound=1, flag_values=flag_values
  )


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Times the answers of a workdir's network."""
  app.refuse_arguments(arguments)
  workdir = trained_workdir(flag_values.workdir)
  settings = config_flags.from_flags_over(workdir.trained_config(), flag_values)
  app.load_tensorflow()
  from mnist_research import images
  from mnist_research.inference import readings
  from mnist_research.inference.recognizer import load_recognizer

  recognizer = load_recognizer(workdir, settings)
  files = draw_frames(_WARM_UP + flag_values.frames)
  milliseconds = []
  for file in files:
    start = time.perf_counter()
    readings.read_digit(recognizer, images.read(file))
    milliseconds.append(1000 * (time.perf_counter() - start))
  timed = np.array(milliseconds[_WARM_UP:])
  app.print_json(
    {
      "num_frames": len(timed),
      "milliseconds_median": float(np.median(timed)),
      "milliseconds_95th_percentile": float(np.quantile(timed, 0.95)),
      "milliseconds_highest": float(timed.max()),
    }
  )


def draw_frames(num_frames: int) -> list[io.BytesIO]:
  """Draws frames, each a JPEG file."""
  from mnist_research.data.synthetic_digits import drawing

  rng = np.random.default_rng(0)
  digits = [image for block, _ in drawing.draw_examples("test", num_frames) for image in block]
  return [_draw_frame(digit[..., 0], rng) for digit in digits]


def _draw_frame(digit: np.ndarray, rng: np.random.Generator) -> io.BytesIO:
  """Lays a digit, uint8 [28, 28], as dark ink on a sheet of paper."""
  ink = Image.new("L", (_WIDTH, _HEIGHT))
  place = int(rng.integers(_WIDTH - _SIDE)), int(rng.integers(_HEIGHT - _SIDE))
  ink.paste(Image.fromarray(digit).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC), place)
  light = np.linspace(rng.uniform(120, 220), rng.uniform(120, 220), _WIDTH)
  frame = light * (1 - 0.7 * np.asarray(ink) / 255) + rng.normal(0, 4, (_HEIGHT, _WIDTH))
  file = io.BytesIO()
  Image.fromarray(frame.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
  file.seek(0)
  return file


if __name__ == "__main__":
  app.run(main, define_flags, config_flags.OF_TRAINING)
