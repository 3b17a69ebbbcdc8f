"""Scores a trained model on pictures of digits as users take them, and on pictures of numbers.

  python scripts/score_pictures.py --manual_dir=path/to/mnist

The pictures are rendered from MNIST's test digits by tests/pictures.py: various pens, papers,
light, positions, sizes and formats. Each is read twice: prepared as by `predict` (`accuracy`),
and only converted to gray and scaled to 28x28 by Pillow (`accuracy_resized`).

Prints one JSON object for each kind of picture and one for all of them, then one for the numbers,
whose accuracy is the share that is read completely. Use --split=train to examine changes of the
preparation.
"""

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from absl import flags
from PIL import Image

from mnist_research import config, images
from mnist_research.config import flags as config_flags
from mnist_research.runtime import app
from mnist_research.workdir import trained_workdir

# The code that renders the pictures belongs to the tests.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
import pictures

if TYPE_CHECKING:  # They load TensorFlow.
  from mnist_research.data import splits
  from mnist_research.inference.recognizer import Recognizer

_FRAME = (28, 28)


class Correct(NamedTuple):
  """Which of N pictures were read correctly, bool [N], by the way they were prepared."""

  prepared: np.ndarray
  resized: np.ndarray


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the model, and the pictures."""
  config_flags.define(flag_values, ["workdir", "data_dir", "manual_dir", "device"])
  flags.DEFINE_enum(
    "split", "test", ["train", "test"], "split of the digits", flag_values=flag_values
  )
  flags.DEFINE_integer(
    "pictures", 40, "pictures of each kind", lower_bound=1, flag_values=flag_values
  )
  flags.DEFINE_integer(
    "numbers", 100, "pictures of numbers", lower_bound=1, flag_values=flag_values
  )
  flags.DEFINE_integer("seed", 0, "seed of the pictures", lower_bound=0, flag_values=flag_values)


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Renders the pictures, and prints how many were read correctly."""
  app.refuse_arguments(arguments)
  app.load_tensorflow()
  from mnist_research.data import datasets, splits
  from mnist_research.inference.recognizer import load_recognizer

  workdir = trained_workdir(flag_values.workdir)
  settings = config_flags.from_flags_over(workdir.trained_config(), flag_values)
  recognizer = load_recognizer(workdir, settings)
  mnist = config.Config(data_dir=flag_values.data_dir, manual_dir=flag_values.manual_dir)
  digits = splits.read(datasets.prepare(mnist), flag_values.split)
  # Every picture shows a different digit.
  order = np.random.default_rng(flag_values.seed).permutation(digits.num_examples)
  by_kind = {}
  for index, kind in enumerate(pictures.KINDS):
    chosen = order[index * flag_values.pictures : (index + 1) * flag_values.pictures]
    by_kind[kind] = read_kind(recognizer, digits[chosen], kind, [flag_values.seed, index])
    print_row(kind, by_kind[kind])
  print_row("all", Correct(*map(np.concatenate, zip(*by_kind.values(), strict=True))))
  unused = digits[order[len(pictures.KINDS) * flag_values.pictures :]]
  app.print_json(score_numbers(recognizer, unused, flag_values.numbers, flag_values.seed))


def read_kind(
  recognizer: "Recognizer", digits: "splits.Split", kind: str, seed: list[int]
) -> Correct:
  """Renders one kind of picture of each of `digits` and reads it."""
  generator = np.random.default_rng(seed)
  nothing = np.zeros(_FRAME, np.uint8)
  prepared, resized, is_single = [], [], []
  for digit in digits.images[..., 0]:
    drawn = pictures.draw(kind, digit, generator).data
    shown = images.find_digits(images.read(io.BytesIO(drawn)))
    # `predict` rejects blank pictures and those with several digits.
    is_single.append(len(shown) == 1)
    prepared.append(shown[0].image if is_single[-1] else nothing)
    resized.append(np.asarray(Image.open(io.BytesIO(drawn)).convert("L").resize(_FRAME)))
  hits = [
    recognizer.score(np.stack(inputs)[..., None]).argmax(1) == digits.labels
    for inputs in (prepared, resized)
  ]
  return Correct(hits[0] & np.array(is_single), hits[1])


def print_row(kind: str, correct: Correct) -> None:
  """Prints one JSON object."""
  row = {
    "kind": kind,
    "pictures": len(correct.prepared),
    "accuracy": round(float(correct.prepared.mean()), 4),
    "accuracy_resized": round(float(correct.resized.mean()), 4),
  }
  app.print_json(row)


def score_numbers(recognizer: "Recognizer", digits: "splits.Split", count: int, seed: int) -> dict:
  """Renders numbers of two to five digits and returns how many were read completely."""
  generator = np.random.default_rng(seed)
  correct = miscounted = first = 0
  for _ in range(count):
    length = int(generator.integers(2, 6))
    chosen = digits[first : first + length]
    first += length
    drawn = pictures.number(chosen.images[..., 0], generator).data
    read = images.find_digits(images.read(io.BytesIO(drawn)))
    inputs = np.stack([digit.image for digit in read])
    labels = recognizer.score(inputs[..., None]).argmax(1)
    correct += np.array_equal(labels, chosen.labels)
    miscounted += len(read) != length
  return {
    "kind": "numbers",
    "pictures": count,
    "accuracy": round(correct / count, 4),
    "miscounted": miscounted,
  }


if __name__ == "__main__":
  app.run(main, define_flags, config_flags.TRAINING_ONLY)
