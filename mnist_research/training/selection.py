"""Selects the best step on the validation examples, and decides when to stop early."""

from collections.abc import Sequence
from typing import Any, NamedTuple

# The fields in a line of metrics.jsonl that aren't metrics.
_OTHER_FIELDS = ("step", "split", "sha256")
# One line of metrics.jsonl.
Record = dict[str, Any]


class Scoring(NamedTuple):
  """One scoring of the validation examples.

  Attributes:
    step: the step of the weights.
    accuracy: from 0 to 1.
  """

  step: int
  accuracy: float


def scorings(metrics: Sequence[Record]) -> list[Scoring]:
  """Returns the scorings of the validation examples in `metrics`, in order."""
  return [Scoring(r["step"], r["accuracy"]) for r in metrics if r["split"] == "validation"]


def best_step(scored: Sequence[Scoring]) -> int:
  """Returns the step with the highest accuracy; the first one in a tie."""
  return max(scored, key=lambda scoring: scoring.accuracy).step


def is_exhausted(scored: Sequence[Scoring], patience: int) -> bool:
  """Returns whether the last `patience` scorings brought no improvement; never if it is 0."""
  if not patience or not scored:
    return False
  best = best_step(scored)
  return sum(scoring.step > best for scoring in scored) >= patience


def selected(metrics: Sequence[Record], select: str) -> dict[str, float]:
  """Returns the validation entries of a result; empty without validation examples.

  Args:
    metrics: all metrics of a run.
    select: `--select`: whether the last step or the best provides the weights.
  """
  records = {record["step"]: record for record in metrics if record["split"] == "validation"}
  if not records:
    return {}
  step = best_step(scorings(metrics)) if select == "best" else max(records)
  scored = {key: value for key, value in records[step].items() if key not in _OTHER_FIELDS}
  entries = {f"validation_{key}": value for key, value in scored.items()}
  return {"best_step": step, **entries} if select == "best" else entries
