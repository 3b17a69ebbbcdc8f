"""Times the answers to a camera's frames: `python scripts/answer_times.py`.

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

from mnist_research import app, config
from mnist_research.workdir import trained_workdir

flags.adopt_module_key_flags(config)
_NUM_FRAMES = flags.DEFINE_integer("frames", 500, "how many frames to time", lower_bound=1)

_WIDTH, _HEIGHT = 640, 480
_SIDE = 250
_WARM_UP = 20


def main(arguments: list[str]) -> None:
  """Times the answers of a workdir's network."""
  app.refuse_arguments(arguments)
  workdir = trained_workdir(flags.FLAGS.workdir)
  settings = config.from_flags_over(workdir.trained_config())
  app.load_tensorflow()
  from mnist_research import frames, images, recognition

  recognizer = recognition.load(workdir, settings)
  files = draw_frames(_WARM_UP + _NUM_FRAMES.value)
  milliseconds = []
  for file in files:
    start = time.perf_counter()
    frames.read_digit(recognizer, images.read(file))
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
  from mnist_research.synthetic_digits import drawing

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
  app.run(main)
