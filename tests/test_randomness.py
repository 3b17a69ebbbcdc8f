"""Tests of random numbers by position: others' own values, evenness, independence."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from mnist_research import randomness

_GAMMA = 0x9E3779B97F4A7C15


def _uniform(positions, count: int = 1, *, seed: int = 0, name: int = 1) -> np.ndarray:
  positions = tf.constant(np.asarray(positions, np.int64))
  return randomness.uniform(positions, count, seed=seed, name=name).numpy()


def test_mixing_is_that_of_splitmix64():
  # The first numbers of the reference generator from the seed 1234567.
  states = [(1234567 + i * _GAMMA) % 2**64 for i in (1, 2, 3)]
  mixed = randomness.mix(tf.constant(states, tf.uint64)).numpy()
  assert mixed.tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_numbers_are_spread_evenly():
  assert stats.kstest(_uniform(range(50_000))[:, 0], "uniform").pvalue > 0.001


def test_numbers_lie_from_zero_to_below_one():
  numbers = _uniform(range(200_000), 5)
  assert numbers.min() >= 0
  assert numbers.max() < 1


@pytest.mark.parametrize("other", [{"seed": 1}, {"name": 2}, {"seed": 256}])
def test_another_seed_or_name_gives_unrelated_numbers(other):
  first, second = _uniform(range(20_000))[:, 0], _uniform(range(20_000), **other)[:, 0]
  assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
  assert not np.isin(first[:100], second).all()


def test_neighbouring_positions_and_columns_are_unrelated():
  numbers = _uniform(range(20_000), 3)
  for a, b in ((numbers[:-1, 0], numbers[1:, 0]), (numbers[:, 0], numbers[:, 1])):
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.03


def test_a_number_depends_on_its_position_alone():
  np.testing.assert_array_equal(_uniform([7, 3])[0], _uniform([7])[0])
  np.testing.assert_array_equal(_uniform([7], 5)[:, :2], _uniform([7], 2))


# ---- Whole numbers ----


def _bits(positions, count: int = 1, *, seed: int = 0, name: int = 1) -> np.ndarray:
  positions = tf.constant(np.asarray(positions, np.int64))
  return randomness.bits(positions, count, seed=seed, name=name).numpy()


def _mixed(value: int) -> int:
  """Wellons's function, in Python's numbers."""
  value = (value ^ value >> 16) * 0x7FEB352D % 2**32
  value = (value ^ value >> 15) * 0x846CA68B % 2**32
  return value ^ value >> 16


def test_bits_are_those_of_their_definition():
  first = int(
    randomness.mix(tf.constant([(_GAMMA + randomness.stream(3, 7)) % 2**64], tf.uint64))[0]
  )
  step = _GAMMA >> 33
  expected = [_mixed((first + _mixed(step * column % 2**32)) % 2**32) for column in (1, 2, 3)]
  assert _bits([1], 3, seed=3, name=7).tolist() == [expected]


def test_every_bit_is_set_half_the_time_whatever_the_others_are():
  bits = np.unpackbits(_bits(range(500), 500).view(np.uint8).reshape(-1, 4), axis=1)
  # 250,000 draws: five deviations of each share and each correlation.
  assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.005
  correlations = np.corrcoef(bits.T) - np.eye(32)
  assert np.abs(correlations).max() < 0.01


def test_bits_fill_their_range_evenly():
  counts, _ = np.histogram(_bits(range(500), 500), bins=1000, range=(0, 2**32))
  assert stats.chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize("axis", [0, 1])
def test_bits_of_neighbours_are_unrelated(axis):
  shares = _bits(range(500), 500) / 2**32
  here, next_ = np.delete(shares, -1, axis), np.delete(shares, 0, axis)
  assert abs(np.corrcoef(here.ravel(), next_.ravel())[0, 1]) < 0.01


@pytest.mark.parametrize("other", [{"seed": 1}, {"name": 2}, {"seed": 256}])
def test_another_seed_or_name_gives_unrelated_bits(other):
  first, second = _bits(range(500), 100) / 2**32, _bits(range(500), 100, **other) / 2**32
  assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02


def test_bits_depend_on_their_position_alone():
  np.testing.assert_array_equal(_bits([7, 3])[0], _bits([7])[0])
  np.testing.assert_array_equal(_bits([7], 5)[:, :2], _bits([7], 2))
