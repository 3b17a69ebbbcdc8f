"""Tests of the selection of notable examples."""

import numpy as np

from mnist_research.metrics.mistakes import confident_mistakes, least_confident_hits

# Predicted: 0, 1, 1, 0, 2.
_PROBABILITIES = np.array(
  [[0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.0, 1.0, 0.0], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]]
)


def test_most_confident_mistakes_come_first():
  labels = np.array([1, 1, 0, 2, 2])
  found = confident_mistakes(_PROBABILITIES, labels)
  np.testing.assert_array_equal(found, [2, 0, 3])


def test_least_confident_hits_come_first():
  labels = np.array([0, 1, 0, 0, 2])
  found = least_confident_hits(_PROBABILITIES, labels)
  np.testing.assert_array_equal(found, [3, 0, 4, 1])
