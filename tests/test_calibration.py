"""Tests of calibration against values computed by hand."""

import math

import numpy as np
import pytest

from mnist_research.metrics.calibration import fit_temperature, reliability


def _rows(*confidences):
  """Two classes; predicts the first one with each of the given confidences."""
  return np.array([[confidence, 1 - confidence] for confidence in confidences])


def test_bins_and_error_match_hand_computation():
  # Bins of 5: 0.7 and 0.8 fall in (0.6, 0.8], 0.9 and 1.0 in (0.8, 1].
  found = reliability(_rows(0.7, 0.8, 0.9, 1.0), np.array([0, 1, 0, 0]), bins=5)
  np.testing.assert_array_equal(found.counts, [0, 0, 0, 2, 2])
  np.testing.assert_allclose(found.confidence, [np.nan, np.nan, np.nan, 0.75, 0.95])
  np.testing.assert_allclose(found.accuracy, [np.nan, np.nan, np.nan, 0.5, 1.0])
  # (2 |0.5 - 0.75| + 2 |1 - 0.95|) / 4
  assert found.expected_calibration_error == pytest.approx(0.15)


def test_fifteen_bins_include_their_upper_edges():
  found = reliability(_rows(0.8, 0.8000001), np.array([0, 0]))
  assert len(found.counts) == 15
  assert np.flatnonzero(found.counts).tolist() == [11, 12]  # (11/15, 12/15] and (12/15, 13/15]


def test_probability_rounded_above_one_is_in_last_bin():
  found = reliability(np.array([[1.0000001, 0.0]], np.float32), np.array([0]))
  assert found.counts[14] == 1


def test_calibrated_probabilities_have_zero_error():
  # Of five predictions at 0.8, four are correct.
  found = reliability(_rows(*[0.8] * 5), np.array([0, 0, 0, 0, 1]))
  assert found.expected_calibration_error == pytest.approx(0.0, abs=1e-12)


def test_temperature_matches_hand_computation():
  # All have logits (2, 0), and three of four are correct. The best probability is 3/4, for
  # which the logits must differ by ln 3: 2 / T = ln 3.
  logits = np.array([[2.0, 0.0]] * 4, np.float32)
  temperature = fit_temperature(logits, np.array([0, 0, 0, 1]))
  assert temperature == pytest.approx(2 / math.log(3), rel=1e-4)


def test_underconfident_network_has_temperature_below_one():
  logits = np.array([[0.5, 0.0]] * 10)
  labels = np.array([0] * 9 + [1])
  assert fit_temperature(logits, labels) == pytest.approx(0.5 / math.log(9), rel=1e-4)


def test_temperature_removes_calibration_error():
  generator = np.random.default_rng(0)
  logits = generator.normal(size=(4000, 10)) * 2
  cumulative = np.exp(logits).cumsum(axis=1)
  draws = generator.random(4000)[:, None] * cumulative[:, -1:]
  labels = (draws > cumulative).sum(axis=1)  # Drawn from softmax(logits).
  overconfident = 3 * logits
  assert fit_temperature(overconfident, labels) == pytest.approx(3, rel=0.05)


def test_temperature_stays_within_its_bounds():
  logits = np.array([[3.0, 0.0]] * 4)
  assert 0.01 <= fit_temperature(logits, np.zeros(4, int)) < 0.1  # e^(-3 / 0.1) vanishes next to 1.
  assert 99 < fit_temperature(logits, np.ones(4, int)) <= 100


@pytest.mark.parametrize("function", [reliability, fit_temperature])
def test_mismatched_lengths_are_rejected(function):
  with pytest.raises(ValueError, match=r"2 rows of .* for 1 labels"):
    function(np.zeros((2, 10)), np.zeros(1, int))
  with pytest.raises(ValueError, match="0 rows"):
    function(np.zeros((0, 10)), np.zeros(0, int))
