"""Scores a trained network on pictures of digits as people have them, and on numbers.

  python scripts/score_pictures.py --manual_dir=path/to/mnist

The pictures are drawn from MNIST's test digits as tests/pictures.py tells: other pens, papers,
light, places, sizes and files. Each is answered twice: prepared as `predict` does it (`accuracy`),
and read with Pillow in grey and scaled to 28x28 without more ado (`accuracy_resized`).

Prints one JSON object for each kind of picture and one for all of them, then one for the numbers,
whose accuracy is the share of those read whole. What a change to the preparation does is looked up
with --split=train.
"""

import argparse
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from mnist_research import app, config, images
from mnist_research.errors import UserError
from mnist_research.workdir import trained_workdir

# What draws the pictures belongs to the tests.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
import pictures

if TYPE_CHECKING:  # They load TensorFlow.
  from mnist_research import data, recognition

_FRAME = (28, 28)


class Right(NamedTuple):
  """Which of N pictures were answered rightly, bool [N], by the way in which they were read."""

  prepared: np.ndarray
  resized: np.ndarray


def main() -> None:
  """Draws the pictures, has them answered, and prints how many were right."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--workdir", default="", help="a trained run; else the one of the package")
  parser.add_argument("--data_dir", default="", help="where TFDS has prepared MNIST")
  parser.add_argument("--manual_dir", default="", help="else: the four original files of MNIST")
  parser.add_argument("--split", choices=("train", "test"), default="test")
  parser.add_argument("--pictures", type=int, default=40, help="of each kind")
  parser.add_argument("--numbers", type=int, default=100)
  parser.add_argument("--seed", type=int, default=0)
  arguments = parser.parse_args()
  try:
    score(arguments)
  except UserError as error:
    sys.exit(app.fail(str(error)))


def score(arguments: argparse.Namespace) -> None:
  """Scores what the command line asks for, and prints it."""
  app.load_tensorflow()
  from mnist_research import data, recognition

  workdir = trained_workdir(arguments.workdir)
  recognizer = recognition.load(workdir, workdir.trained_config())
  mnist = config.Config(data_dir=arguments.data_dir, manual_dir=arguments.manual_dir)
  digits = data.read(data.prepare(mnist), arguments.split)
  # Every picture has a digit of its own.
  order = np.random.default_rng(arguments.seed).permutation(digits.num_examples)
  by_kind = {}
  for place, kind in enumerate(pictures.KINDS):
    chosen = order[place * arguments.pictures : (place + 1) * arguments.pictures]
    by_kind[kind] = answer(recognizer, digits[chosen], kind, [arguments.seed, place])
    print_row(kind, by_kind[kind])
  print_row("all", Right(*map(np.concatenate, zip(*by_kind.values(), strict=True))))
  rest = digits[order[len(pictures.KINDS) * arguments.pictures :]]
  print(json.dumps(score_numbers(recognizer, rest, arguments.numbers, arguments.seed)))


def answer(
  recognizer: "recognition.Recognizer", digits: "data.Split", kind: str, seed: list[int]
) -> Right:
  """Draws one kind of picture of each of `digits` and has it answered."""
  generator = np.random.default_rng(seed)
  nothing = np.zeros(_FRAME, np.uint8)
  prepared, resized, found = [], [], []
  for digit in digits.images[..., 0]:
    drawn = pictures.draw(kind, digit, generator).data
    shown = images.find_digits(images.read(io.BytesIO(drawn)))
    # `predict` refuses what is blank or shows several.
    found.append(len(shown) == 1)
    prepared.append(shown[0].image if found[-1] else nothing)
    resized.append(np.asarray(Image.open(io.BytesIO(drawn)).convert("L").resize(_FRAME)))
  hits = [
    recognizer.score(np.stack(seen)[..., None]).argmax(1) == digits.labels
    for seen in (prepared, resized)
  ]
  return Right(hits[0] & np.array(found), hits[1])


def print_row(kind: str, right: Right) -> None:
  """Prints one JSON object."""
  row = {
    "kind": kind,
    "pictures": len(right.prepared),
    "accuracy": round(float(right.prepared.mean()), 4),
    "accuracy_resized": round(float(right.resized.mean()), 4),
  }
  print(json.dumps(row), flush=True)


def score_numbers(
  recognizer: "recognition.Recognizer", digits: "data.Split", count: int, seed: int
) -> dict:
  """Draws numbers of two to five digits and returns how many were read whole."""
  generator = np.random.default_rng(seed)
  right = miscounted = first = 0
  for _ in range(count):
    length = int(generator.integers(2, 6))
    chosen = digits[first : first + length]
    first += length
    drawn = pictures.number(chosen.images[..., 0], generator).data
    found = images.find_digits(images.read(io.BytesIO(drawn)))
    seen = np.stack([digit.image for digit in found])
    labels = recognizer.score(seen[..., None]).argmax(1)
    right += np.array_equal(labels, chosen.labels)
    miscounted += len(found) != length
  return {
    "kind": "numbers",
    "pictures": count,
    "accuracy": round(right / count, 4),
    "miscounted": miscounted,
  }


if __name__ == "__main__":
  main()
