"""Which examples a network gets wrong while it is sure, and right while it is not."""

import numpy as np


def confident_mistakes(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Returns the indices of wrong predictions, the most confident first.

  Args:
    probabilities: [N, classes].
    labels: integers [N].

  Returns:
    Integers [mistakes]; of two that are as confident, the earlier example comes first.
  """
  wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
  return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]


def doubtful_hits(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Returns the indices of right predictions, the least confident first.

  Args:
    probabilities: [N, classes].
    labels: integers [N].
  """
  right = np.flatnonzero(probabilities.argmax(axis=1) == labels)
  return right[np.argsort(probabilities[right].max(axis=1), kind="stable")]
