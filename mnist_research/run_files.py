"""What the files of a run may contain; `workdir.py` reads and writes them."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from mnist_research.config.setting import INTEGER_LIMIT
from mnist_research.runtime import records
from mnist_research.runtime.flagfiles import shortened

# How corrupted images reach a model: unchanged, or prepared like users' pictures.
CORRUPTION_MODES = ("raw", "prepared")
SPLITS = ("train", "validation", "test")
# Optional entries of a result.
_RESULT_NUMBERS = {
  "test_accuracy": 1.0, "test_loss": 1e39, "validation_accuracy": 1.0, "validation_loss": 1e39,
  "best_step": INTEGER_LIMIT, "train_examples": 1e12, "parameters": 1e15, "train_seconds": 1e12,
}  # fmt: skip


class Predictions(NamedTuple):
  """The predictions for the test examples, in their order.

  Attributes:
    labels: int32 [N], the true classes.
    probabilities: float32 [N, classes].
    label_names: the name of each class.
  """

  labels: np.ndarray
  probabilities: np.ndarray
  label_names: tuple[str, ...]


def check_result(result: Mapping[str, Any]) -> None:
  """Raises ValueError if a result contains something that no run writes."""
  if not records.is_integer(result.get("step"), most=INTEGER_LIMIT):
    raise ValueError(f"its step is {shortened(repr(result.get('step')))}")
  for name, most in _RESULT_NUMBERS.items():
    if name in result and not records.is_number(result[name], least=0, most=most):
      raise ValueError(f"its {name} is {shortened(repr(result[name]))}")
  for name in ("dataset", "predictions_sha256"):
    if not isinstance(result.get(name, ""), str):
      raise ValueError(f"its {name} is {shortened(repr(result[name]))}")


def check_corruptions(record: Mapping[str, Any]) -> None:
  """Raises ValueError if a record of corruptions isn't from `evaluate`."""
  if not records.is_integer(record.get("step"), most=INTEGER_LIMIT):
    raise ValueError(f"its step is {shortened(repr(record.get('step')))}")
  if not isinstance(record.get("dataset"), str):
    raise ValueError(f"its dataset is {shortened(repr(record.get('dataset')))}")
  for mode in CORRUPTION_MODES:
    if mode not in record:
      continue
    try:
      shares = [record[mode][name] for name in ("error", "calibration_error")]
      for name in ("error_per_kind", "calibration_error_per_kind"):
        shares += record[mode][name].values()
    except (KeyError, TypeError, AttributeError):
      raise ValueError(f"its {mode} isn't that of evaluate") from None
    if not all(records.is_number(share, least=0, most=1) for share in shares):
      raise ValueError(f"its {mode} has invalid shares")


def checked_metrics(record: dict[str, Any]) -> dict[str, Any]:
  """Returns a line of metrics; raises ValueError if it isn't one."""
  step, split = record.get("step"), record.get("split")
  if not records.is_integer(step, most=INTEGER_LIMIT) or split not in SPLITS:
    raise ValueError(f"its step is {shortened(repr(step))}, its split {shortened(repr(split))}")
  for name, value in record.items():
    is_no_number = isinstance(value, float) and not math.isfinite(value)
    if name != "split" and not records.is_number(value) and not is_no_number:
      raise ValueError(f"its {shortened(name)} is {shortened(repr(value))}")
  if split == "validation" and "accuracy" not in record:
    raise ValueError("it has no accuracy")
  return record


def check_predictions(predictions: Predictions) -> None:
  """Raises ValueError if the shapes of the arrays don't match."""
  labels, probabilities, names = predictions
  if (
    labels.dtype != np.int32
    or probabilities.dtype != np.float32
    or labels.ndim != 1
    or probabilities.shape != (len(labels), len(names))
    or not np.isin(labels, range(len(names))).all()
    or not np.isfinite(probabilities).all()
    or not labels.size
  ):
    raise ValueError("its arrays don't match")
