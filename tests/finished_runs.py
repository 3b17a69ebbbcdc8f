"""Writes workdirs like those of `train`, without training."""

import json
from pathlib import Path

import numpy as np

from mnist_research.config import Config
from mnist_research.run_files import Predictions
from mnist_research.workdir import Workdir

NAMES = tuple(str(digit) for digit in range(10))
# Test examples 0 to 3: correct, correct, wrong with 90%, wrong with 60%.
LABELS = np.array([3, 5, 7, 1], np.int32)
PROBABILITIES = np.full((4, 10), 0.0, np.float32)
PROBABILITIES[0, 3] = 1.0
PROBABILITIES[1, [5, 6]] = 0.7, 0.3
PROBABILITIES[2, [2, 7]] = 0.9, 0.1
PROBABILITIES[3, [8, 1]] = 0.6, 0.4


def write(path: Path, *, accuracy: float | None, validation: float | None = None, **settings):
  """Writes a run of two epochs of 100 steps, unfinished if there is no accuracy."""
  config = Config(**{"dataset": "synthetic_digits/2000_500", "batch_size": 20, **settings})
  workdir = Workdir(path)
  path.mkdir(parents=True)
  workdir.begin(config, devices=["CPU:0"], step=0)
  for step, loss in ((100, 1.5), (200, 0.5)):
    workdir.append_metrics(
      {"step": step, "split": "train", "loss": loss, "accuracy": 0.5, "learning_rate": 0.1}
    )
  if validation is not None:
    workdir.append_metrics(
      {"step": 200, "split": "validation", "loss": 1.0, "accuracy": validation}
    )
  if accuracy is not None:
    workdir.append_metrics({"step": 200, "split": "test", "loss": 0.7, "accuracy": accuracy})
    workdir.write_predictions(Predictions(LABELS, PROBABILITIES, NAMES))
    result = {
      "step": 200, "dataset": config.data.dataset, "test_accuracy": accuracy, "test_loss": 0.7,
      "train_examples": 2000, "parameters": 1234, "seed": config.run.seed,
      "train_seconds": 2.0 + config.run.seed, "examples_per_second": 2000.0,
    }  # fmt: skip
    if validation is not None:
      result |= {"validation_accuracy": validation, "validation_loss": 1.0}
    workdir.write_result(result)
  return workdir


def change_result(workdir: Workdir, **values):
  """Changes values in a result.json."""
  path = workdir.path / "result.json"
  workdir.write_result({**json.loads(path.read_text()), **values})
