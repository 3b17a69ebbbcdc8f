"""Metrics of a whole split, from the predictions for every example, in float64."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp


class Evaluation(NamedTuple):
  """The metrics of a split.

  Attributes:
    num_examples: the number of examples, each counted once.
    loss: the mean cross-entropy in nats, without label smoothing.
    accuracy: the share of correct predictions.
    confusion: int64 [classes, classes], with labels as rows and predictions as columns.
    probabilities: float64 [num_examples, classes].
  """

  num_examples: int
  loss: float
  accuracy: float
  confusion: np.ndarray
  probabilities: np.ndarray

  @property
  def metrics(self) -> dict[str, float]:
    """The metrics for metrics.jsonl, TensorBoard, result.json and the report."""
    return {"loss": self.loss, "accuracy": self.accuracy}

  @property
  def accuracy_per_class(self) -> list[float | None]:
    """The accuracy on each label's examples; None for a label without examples."""
    totals = self.confusion.sum(axis=1)
    return [
      float(hits / total) if total else None
      for hits, total in zip(np.diag(self.confusion), totals, strict=True)
    ]


def log_softmax(logits: np.ndarray) -> np.ndarray:
  """Returns the log probabilities of `logits`, float64 [N, classes]."""
  shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
  return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def mean_probabilities(log_probabilities: Sequence[np.ndarray]) -> np.ndarray:
  """Returns the log of the mean probabilities of several predictions.

  Args:
    log_probabilities: those of each prediction, float64 [N, classes].
  """
  return logsumexp(log_probabilities, axis=0) - np.log(len(log_probabilities))


def evaluate(log_probabilities: np.ndarray, labels: np.ndarray) -> Evaluation:
  """Returns the metrics of predictions, float64 [N, classes], against `labels`, integers [N].

  Raises:
    ValueError: the lengths differ, or there are no examples.
  """
  if len(log_probabilities) != len(labels) or not len(labels):
    raise ValueError(f"{len(log_probabilities)} rows of predictions for {len(labels)} labels")
  num_examples = len(labels)
  predictions = log_probabilities.argmax(axis=1)
  return Evaluation(
    num_examples=num_examples,
    loss=float(-log_probabilities[np.arange(num_examples), labels].mean()),
    accuracy=float((predictions == labels).mean()),
    confusion=confusion_matrix(log_probabilities, labels),
    probabilities=np.exp(log_probabilities),
  )


def confusion_matrix(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Counts the examples by label and prediction.

  Args:
    probabilities: the probability of each class, or its logarithm, [N, classes].
    labels: integers [N].

  Returns:
    int64 [classes, classes], with labels as rows and predictions as columns.
  """
  num_classes = probabilities.shape[1]
  confusion = np.zeros((num_classes, num_classes), np.int64)
  np.add.at(confusion, (labels, probabilities.argmax(axis=1)), 1)
  return confusion


def evaluate_logits(logits: np.ndarray, labels: np.ndarray) -> Evaluation:
  """Returns the metrics of `logits` [N, classes], as `evaluate` does."""
  return evaluate(log_softmax(logits), labels)


def wilson_interval(successes: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the 95% confidence interval of a proportion, from `successes` in `trials`.

  Wilson's interval (1927, doi:10.1080/01621459.1927.10502953) is valid near 0 and 1 and for few
  trials, where mean +- 1.96 standard deviations isn't.

  Args:
    successes: counts, of any shape.
    trials: counts of that shape, each at least 1.
  """
  z = 1.959963984540054  # The 97.5th percentile of the normal distribution.
  share = np.asarray(successes) / trials
  scale = 1 + z**2 / trials
  center = (share + z**2 / (2 * trials)) / scale
  margin = z / scale * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
  return np.maximum(center - margin, 0.0), np.minimum(center + margin, 1.0)
