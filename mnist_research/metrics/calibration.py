"""Calibration: whether probabilities match frequencies, and the temperature that corrects them.

Of 100 predictions with a probability of 0.8, 80 should be correct. The definitions are those of Guo
et al. 2017, "On Calibration of Modern Neural Networks" (arXiv:1706.04599).
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

from mnist_research.metrics.evaluation import log_softmax

# As in the paper.
NUM_BINS = 15
# If all examples are predicted correctly, there is no best temperature: the loss falls with the
# temperature until it rounds to 0.
_TEMPERATURES = (0.01, 100.0)


class Reliability(NamedTuple):
  """Predictions in bins of equal width by confidence, the probability of the predicted class.

  Bin i holds the confidences above i / bins and up to (i + 1) / bins, inclusive.

  Attributes:
    counts: int64 [bins], the number of predictions in each bin.
    confidence: float64 [bins], their mean confidence; NaN in an empty bin.
    accuracy: float64 [bins], the share of them that is correct; NaN in an empty bin.
  """

  counts: np.ndarray
  confidence: np.ndarray
  accuracy: np.ndarray

  @property
  def expected_calibration_error(self) -> float:
    """The mean distance between accuracy and confidence over the bins, weighted by their counts."""
    is_filled = self.counts > 0
    gaps = np.abs(self.accuracy[is_filled] - self.confidence[is_filled])
    return float(np.average(gaps, weights=self.counts[is_filled]))


def reliability(
  probabilities: np.ndarray, labels: np.ndarray, *, bins: int = NUM_BINS
) -> Reliability:
  """Sorts predictions into bins by confidence.

  Args:
    probabilities: [N, classes].
    labels: integers [N].
    bins: the number of bins.

  Raises:
    ValueError: the lengths differ, or there are no examples.
  """
  if len(probabilities) != len(labels) or not len(labels):
    raise ValueError(f"{len(probabilities)} rows of probabilities for {len(labels)} labels")
  confidences = probabilities.max(axis=1).astype(np.float64)
  correct = probabilities.argmax(axis=1) == labels
  # The upper edge belongs to the bin. Rounding may push a probability above 1.
  indices = np.clip(np.ceil(confidences * bins).astype(np.int64) - 1, 0, bins - 1)
  counts = np.bincount(indices, minlength=bins)
  empty = np.where(counts, 1.0, np.nan) / np.maximum(counts, 1)
  return Reliability(
    counts=counts,
    confidence=np.bincount(indices, confidences, minlength=bins) * empty,
    accuracy=np.bincount(indices, correct, minlength=bins) * empty,
  )


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
  """Returns the temperature T for which softmax(logits / T) has the least cross-entropy.

  Temperature scaling (section 4.2 of the paper) changes no prediction, only its probability. Fit it
  on validation examples: training examples would make the model look better, and test examples
  are reserved for the final score.

  Args:
    logits: [N, classes].
    labels: integers [N].

  Returns:
    T, from 0.01 to 100; above 1 if the model is overconfident.

  Raises:
    ValueError: the lengths differ, or there are no examples.
  """
  if len(logits) != len(labels) or not len(labels):
    raise ValueError(f"{len(logits)} rows of logits for {len(labels)} labels")
  rows = np.arange(len(labels))

  def cross_entropy(log_temperature: float) -> float:
    scaled = logits.astype(np.float64) / math.exp(log_temperature)
    return float(-log_softmax(scaled)[rows, labels].mean())

  # It is convex in 1 / T, so a bounded search finds the one minimum.
  low, high = map(math.log, _TEMPERATURES)
  optimum = minimize_scalar(cross_entropy, bounds=(low, high), method="bounded")
  return math.exp(optimum.x)
