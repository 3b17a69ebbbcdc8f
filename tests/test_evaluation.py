"""Tests of the metrics of a whole split against values computed by hand."""

import math

import numpy as np
import pytest

from mnist_research.metrics.evaluation import evaluate_logits, log_softmax, wilson_interval

# The probabilities of a row are its weights divided by their sum.
_WEIGHTS = np.array([[1, 2, 5], [6, 1, 1], [1, 6, 1], [3, 3, 2]], float)
_LABELS = np.array([2, 1, 1, 1])


def _evaluation():
  return evaluate_logits(np.log(_WEIGHTS).astype(np.float32), _LABELS)


def test_loss_is_mean_in_nats():
  nats = [math.log(8 / 5), math.log(8), math.log(8 / 6), math.log(8 / 3)]
  assert _evaluation().loss == pytest.approx(sum(nats) / 4, rel=1e-6)


def test_accuracy_is_share_of_correct_predictions():
  # The first class wins a tie, so the last prediction is wrong.
  assert _evaluation().accuracy == 0.5
  assert _evaluation().num_examples == 4


def test_confusion_matrix_has_a_row_per_label():
  np.testing.assert_array_equal(_evaluation().confusion, [[0, 0, 0], [2, 1, 0], [0, 0, 1]])


def test_class_without_examples_has_no_accuracy():
  assert _evaluation().accuracy_per_class == [None, pytest.approx(1 / 3), 1.0]


def test_probabilities_are_the_softmax_of_logits():
  np.testing.assert_allclose(_evaluation().probabilities, _WEIGHTS / 8, rtol=1e-6)


def test_extreme_logits_give_finite_metrics():
  logits = np.array([[1e4, -1e4], [1e4, -1e4]], np.float32)
  evaluation = evaluate_logits(logits, np.array([0, 1]))
  assert evaluation.loss == 1e4
  assert evaluation.accuracy == 0.5
  np.testing.assert_array_equal(evaluation.probabilities, [[1, 0], [1, 0]])


def test_log_softmax_is_shift_invariant():
  logits = np.random.default_rng(0).normal(size=(5, 10))
  np.testing.assert_allclose(log_softmax(logits + 1e4), log_softmax(logits), atol=1e-9)


def test_mean_of_a_million_equal_losses_is_exact():
  # A sum in float32 would be off in the third digit.
  logits = np.zeros((1_000_000, 10), np.float32)
  loss = evaluate_logits(logits, np.zeros(1_000_000, int)).loss
  assert loss == pytest.approx(math.log(10), rel=1e-12)


@pytest.mark.parametrize(("rows", "labels"), [(3, 2), (2, 3), (0, 0)])
def test_mismatched_logits_and_labels_are_rejected(rows, labels):
  with pytest.raises(ValueError, match=f"{rows} rows of predictions for {labels} labels"):
    evaluate_logits(np.zeros((rows, 10)), np.zeros(labels, int))


def test_wilson_interval_matches_its_formula():
  # 8 of 10, by hand: z^2 = 3.8415; (0.8 + 0.19207 -+ 1.96 sqrt(0.016 + 0.0096036)) / 1.38415.
  low, high = wilson_interval(np.array([8, 10, 0]), np.array([10, 10, 10]))
  np.testing.assert_allclose(low[0], 0.4902, atol=5e-5)
  np.testing.assert_allclose(high[0], 0.9433, atol=5e-5)
  # 10 of 10: 1 / (1 + z^2 / 10), and 0 of 10 is its mirror image.
  np.testing.assert_allclose([low[1], high[1]], [1 / 1.38415, 1], atol=1e-5)
  np.testing.assert_allclose([low[2], high[2]], [0, 1 - 1 / 1.38415], atol=1e-5)
