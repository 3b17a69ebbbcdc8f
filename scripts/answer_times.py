"""Times the answers to camera frames.

  python scripts/answer_times.py

The frames are JPEGs of 640 x 480 pixels: digits on grainy, unevenly lit paper, in four scenes:
white, ruled and squared paper, and squared paper held by hand, rotated and at varying distance. The
time covers decoding the file, finding and preparing the digits, and the model. The first frames
warm up the model and don't count. Prints a JSON object for each scene on stdout: scene, num_frames,
milliseconds_median, milliseconds_95th_percentile, milliseconds_highest.
"""

import io
import itertools
import time
from collections.abc import Iterator

import numpy as np
from absl import flags
from PIL import Image

from mnist_research.config import flags as config_flags
from mnist_research.runtime import app
from mnist_research.workdir import trained_workdir

_WIDTH, _HEIGHT = 640, 480
_SIDE = 250
_WARM_UP = 20
SCENES = ("white", "ruled", "squared", "held")
# The largest rotation of handheld paper, in degrees, and the range of its distance.
_MAX_ANGLE = 8
_SCALES = (0.6, 1.8)
# Pixels between the lines of the paper.
_PITCH = 32


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the model, and the number of frames."""
  config_flags.define(flag_values, ["workdir", "device"])
  flags.DEFINE_integer(
    "frames", 200, "number of frames per scene", lower_bound=1, flag_values=flag_values
  )


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Times the answers of a workdir's model."""
  app.refuse_arguments(arguments)
  workdir = trained_workdir(flag_values.workdir)
  settings = config_flags.from_flags_over(workdir.trained_config(), flag_values)
  app.load_tensorflow()
  from mnist_research import images
  from mnist_research.inference import readings
  from mnist_research.inference.recognizer import load_recognizer

  recognizer = load_recognizer(workdir, settings)
  for scene in SCENES:
    files = itertools.islice(draw_frames(scene), _WARM_UP + flag_values.frames)
    milliseconds = []
    for file in files:
      start = time.perf_counter()
      readings.read_picture(recognizer, images.read(file))
      milliseconds.append(1000 * (time.perf_counter() - start))
    timed = np.array(milliseconds[_WARM_UP:])
    app.print_json(
      {
        "scene": scene,
        "num_frames": len(timed),
        "milliseconds_median": float(np.median(timed)),
        "milliseconds_95th_percentile": float(np.quantile(timed, 0.95)),
        "milliseconds_highest": float(timed.max()),
      }
    )


def draw_frames(scene: str) -> Iterator[io.BytesIO]:
  """Yields endless frames of a scene, each a JPEG file."""
  from mnist_research.data.synthetic_digits import drawing

  rng = np.random.default_rng(0)
  digits, _ = next(drawing.draw_examples("test", 500))
  for digit in itertools.cycle(digits):
    yield _draw_frame(digit[..., 0], scene, rng)


def _draw_frame(digit: np.ndarray, scene: str, rng: np.random.Generator) -> io.BytesIO:
  """Places a digit, uint8 [28, 28], as dark ink on a sheet of paper."""
  angle, scale = (
    (rng.uniform(-_MAX_ANGLE, _MAX_ANGLE), rng.uniform(*_SCALES)) if scene == "held" else (1, 1)
  )
  ink = Image.new("L", (_WIDTH, _HEIGHT))
  side = round(_SIDE * scale)
  position = int(rng.integers(_WIDTH - side)), int(rng.integers(max(1, _HEIGHT - side)))
  ink.paste(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC), position)
  lines = 0 if scene == "white" else _draw_lines(_PITCH * scale, angle, squared=scene != "ruled")
  light = np.linspace(rng.uniform(120, 220), rng.uniform(120, 220), _WIDTH)
  darkness = np.maximum(0.7 * np.asarray(ink) / 255, 0.3 * lines)
  frame = light * (1 - darkness) + rng.normal(0, 4, (_HEIGHT, _WIDTH))
  file = io.BytesIO()
  Image.fromarray(frame.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
  file.seek(0)
  return file


def _draw_lines(pitch: float, angle: float, *, squared: bool) -> np.ndarray:
  """Draws the lines of paper, rotated by degrees: float [480, 640], 1 on a line."""
  rows, columns = np.mgrid[:_HEIGHT, :_WIDTH]
  rotated = (columns + 1j * rows) * np.exp(1j * np.deg2rad(angle))
  coordinates = (rotated.imag, rotated.real) if squared else (rotated.imag,)
  # A line is two pixels wide.
  return np.max(
    [np.clip(1.5 - np.abs(values % pitch - 1.5), 0, 1) for values in coordinates], axis=0
  )


if __name__ == "__main__":
  app.run(main, define_flags, config_flags.TRAINING_ONLY)
