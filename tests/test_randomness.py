"""Tests of random numbers by position: SplitMix64's own values, evenness, independence."""

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
