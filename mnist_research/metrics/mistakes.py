"""A model's most confident mistakes and least confident correct predictions."""

import numpy as np


def confident_mistakes(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Returns the indices of wrong predictions, most confident first.

  Args:
    probabilities: [N, classes].
    labels: integers [N].

  Returns:
    Integers [mistakes]; with equal confidence, the earlier example comes first.
  """
  wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
  return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]


def least_confident_hits(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Returns the indices of correct predictions, least confident first.

  Args:
    probabilities: [N, classes].
    labels: integers [N].
  """
  correct = np.flatnonzero(probabilities.argmax(axis=1) == labels)
  return correct[np.argsort(probabilities[correct].max(axis=1), kind="stable")]
