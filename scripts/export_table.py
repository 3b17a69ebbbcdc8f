"""Prints a Markdown table of the size and the time of a trained model in each exported format.

  python scripts/export_table.py --workdir=runs/dense

Every format is written by `python -m mnist_research.export` and runs on one core: SavedModel in
TensorFlow, TFLite in LiteRT, ONNX in ONNX Runtime. The formats take turns in each round, so that
other load affects all of them; times are medians over the rounds.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import tensorflow as tf
from absl import flags
from ai_edge_litert.interpreter import Interpreter

from mnist_research.config import flags as config_flags
from mnist_research.data import datasets, splits
from mnist_research.runtime import app
from mnist_research.workdir import Workdir

_FORMATS = ("saved_model", "tflite", "tflite_int8", "onnx")
# Images per round for a model, one by one and together.
_ALONE, _BATCH = 100, 1000

# From images, uint8 [N, 28, 28, 1], to probabilities, float32 [N, classes].
_Predictor = Callable[[np.ndarray], np.ndarray]


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the model, and the number of rounds."""
  config_flags.define(flag_values, ["workdir", "data_dir"])
  flags.DEFINE_integer("rounds", 20, "turns of each format", lower_bound=1, flag_values=flag_values)


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Exports, measures and prints."""
  app.refuse_arguments(arguments)
  workdir = app.required(flag_values, "workdir")
  tf.config.set_visible_devices([], "GPU")
  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  settings = config_flags.from_flags_over(Workdir(workdir).trained_config(), flag_values)
  test = splits.read(datasets.prepare(settings), "test")
  with tempfile.TemporaryDirectory() as directory:
    paths = {name: Path(directory) / name for name in _FORMATS}
    sizes = {
      name: export(name, path, workdir, settings.data.data_dir) for name, path in paths.items()
    }
    errors = {name: count_errors(load(name, path), test) for name, path in paths.items()}
    seconds = measure(paths, test.images, flag_values.rounds)
  print(f"| format | kilobytes | errors in {test.num_examples:,} | ms, an image alone | "
        f"ms an image, of {_BATCH:,} together |")  # fmt: skip
  print("|---|---|---|---|---|")
  for name in _FORMATS:
    alone, together = (1000 * median for median in seconds[name])
    print(
      f"| `{name}` | {sizes[name] / 1000:,.0f} | {errors[name]} | {alone:.3f} | {together:.4f} |"
    )


def export(name: str, path: Path, workdir: str, data_dir: str) -> int:
  """Exports the model in a format, and returns the size in bytes."""
  command = [sys.executable, "-m", "mnist_research.export", f"--workdir={workdir}"]
  command += [f"--data_dir={data_dir}", f"--format={name}", f"--output={path}"]
  process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
  if process.returncode:
    sys.exit(process.returncode)
  return json.loads(process.stdout)["bytes"]


def load(name: str, path: Path) -> _Predictor:
  """Returns an exported model that runs on one core."""
  if name == "saved_model":
    signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    return lambda images: signature(images=tf.constant(images))["probabilities"].numpy()
  if name == "onnx":
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options)
    return lambda images: session.run(["probabilities"], {"images": images})[0]
  runner = Interpreter(str(path), num_threads=1).get_signature_runner()
  return lambda images: runner(images=images)["probabilities"]


def count_errors(predict: _Predictor, test: splits.Split) -> int:
  """Returns the number of wrong predictions on the test examples."""
  starts = range(0, test.num_examples, _BATCH)
  labels = [predict(test.images[start : start + _BATCH]).argmax(axis=1) for start in starts]
  return int(np.count_nonzero(np.concatenate(labels) != test.labels))


def measure(
  paths: dict[str, Path], images: np.ndarray, rounds: int
) -> dict[str, tuple[float, float]]:
  """Returns the median seconds per image of each format, alone and in a batch."""
  # Each instance gets only one shape, because LiteRT reallocates when the shape changes.
  alone = {name: load(name, path) for name, path in paths.items()}
  together = {name: load(name, path) for name, path in paths.items()}
  batch = np.resize(images, (_BATCH, *images.shape[1:]))
  seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in paths}
  for turn in range(rounds + 1):
    for name in paths:
      start = time.perf_counter()
      for index in range(_ALONE):
        alone[name](batch[index : index + 1])
      middle = time.perf_counter()
      together[name](batch)
      end = time.perf_counter()
      if turn:  # The first turn is slower, and doesn't count.
        seconds[name].append(((middle - start) / _ALONE, (end - middle) / _BATCH))
  return {
    name: tuple(statistics.median(column) for column in zip(*turns, strict=True))
    for name, turns in seconds.items()
  }


if __name__ == "__main__":
  app.run(main, define_flags, config_flags.TRAINING_ONLY)
