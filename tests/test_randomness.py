"""Tests of random numbers by position: reference values, uniformity, independence."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from mnist_research.data import randomness

_GAMMA = 0x9E3779B97F4A7C15


def _uniform(positions, count: int = 1, *, seed: int = 0, name: int = 1) -> np.ndarray:
  positions = tf.constant(np.asarray(positions, np.int64))
  return randomness.uniform(positions, count, seed=seed, stream=name).numpy()


def test_mixing_matches_splitmix64():
  # The first numbers of the reference generator with seed 1234567.
  states = [(1234567 + i * _GAMMA) % 2**64 for i in (1, 2, 3)]
  mixed = randomness.mix(tf.constant(states, tf.uint64)).numpy()
  assert mixed.tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_numbers_are_uniform():
  assert stats.kstest(_uniform(range(50_000))[:, 0], "uniform").pvalue > 0.001


def test_numbers_are_in_the_unit_interval():
  numbers = _uniform(range(200_000), 5)
  assert numbers.min() >= 0
  assert numbers.max() < 1


@pytest.mark.parametrize("other", [{"seed": 1}, {"name": 2}, {"seed": 256}])
def test_numbers_of_other_seeds_and_names_are_uncorrelated(other):
  first, second = _uniform(range(20_000))[:, 0], _uniform(range(20_000), **other)[:, 0]
  assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
  assert not np.isin(first[:100], second).all()


def test_adjacent_positions_and_columns_are_uncorrelated():
  numbers = _uniform(range(20_000), 3)
  for a, b in ((numbers[:-1, 0], numbers[1:, 0]), (numbers[:, 0], numbers[:, 1])):
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.03


def test_number_depends_only_on_position():
  np.testing.assert_array_equal(_uniform([7, 3])[0], _uniform([7])[0])
  np.testing.assert_array_equal(_uniform([7], 5)[:, :2], _uniform([7], 2))


# ---- Integers ----


def _bits(positions, count: int = 1, *, seed: int = 0, name: int = 1) -> np.ndarray:
  positions = tf.constant(np.asarray(positions, np.int64))
  return randomness.bits(positions, count, seed=seed, stream=name).numpy()


def _mixed(value: int, added: int = 0) -> int:
  """Wellons's function in Python integers, with a number added between its rounds."""
  value = ((value ^ value >> 16) * 0x7FEB352D + added) % 2**32
  value = (value ^ value >> 15) * 0x846CA68B % 2**32
  return value ^ value >> 16


def test_bits_match_their_definition():
  start = int(randomness.mix(tf.constant([(_GAMMA + randomness.key(3, 7)) % 2**64], tf.uint64))[0])
  low, high, step = start % 2**32, start >> 32, _GAMMA >> 33
  expected = [_mixed((low + _mixed(step * i % 2**32)) % 2**32, high) for i in (1, 2, 3)]
  assert _bits([1], 3, seed=3, name=7).tolist() == [expected]


def test_bits_are_balanced_and_pairwise_independent():
  bits = np.unpackbits(_bits(range(500), 500).view(np.uint8).reshape(-1, 4), axis=1)
  # 250,000 draws: five standard deviations of each share and each correlation.
  assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.005
  correlations = np.corrcoef(bits.T) - np.eye(32)
  assert np.abs(correlations).max() < 0.01


def test_bits_are_uniform_over_their_range():
  counts, _ = np.histogram(_bits(range(500), 500), bins=1000, range=(0, 2**32))
  assert stats.chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize("axis", [0, 1])
def test_adjacent_bits_are_uncorrelated(axis):
  shares = _bits(range(500), 500) / 2**32
  previous, following = np.delete(shares, -1, axis), np.delete(shares, 0, axis)
  assert abs(np.corrcoef(previous.ravel(), following.ravel())[0, 1]) < 0.01


@pytest.mark.parametrize("other", [{"seed": 1}, {"name": 2}, {"seed": 256}])
def test_bits_of_other_seeds_and_names_are_uncorrelated(other):
  first, second = _bits(range(500), 100) / 2**32, _bits(range(500), 100, **other) / 2**32
  assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02


def test_bits_depend_only_on_position():
  np.testing.assert_array_equal(_bits([7, 3])[0], _bits([7])[0])
  np.testing.assert_array_equal(_bits([7], 5)[:, :2], _bits([7], 2))


# ---- Streams ----

_SEEDS = (0, 1, 2, 3, 255, 256, 2**31, 2**32, 2**63)
_NAMES = (0, 1, 2, 5, 1000, 1001, 2000, 4000)


@pytest.mark.parametrize("draw", [_bits, _uniform], ids=["bits", "uniform"])
@pytest.mark.parametrize("other", [{"seed": 1}, {"seed": 2}, {"name": 2}, {"seed": 2**32}])
def test_no_stream_is_a_shifted_copy_of_another(draw, other):
  first, second = draw(range(3000), 2), draw(range(3000), 2, **other)
  for shift in range(-200, 201):
    here = first[max(0, shift) : 3000 + min(0, shift)]
    there = second[max(0, -shift) : 3000 + min(0, -shift)]
    # By chance, 3,000 numbers of 24 bits agree at one of 5,600 shifts, in one place.
    assert (here == there).sum() <= 2


def test_seeds_and_names_start_far_apart():
  keys = [randomness.key(seed, name) for seed in _SEEDS for name in _NAMES]
  assert len(set(keys)) == len(keys)
  # No two are close: within 2**40 positions with a probability below one in a thousand.
  inverse = pow(_GAMMA, -1, 2**64)
  starts = np.array(sorted(key * inverse % 2**64 for key in keys), np.uint64)
  assert np.diff(starts).min() > 2**40


@pytest.mark.parametrize("bit", range(64))
def test_each_seed_bit_flips_half_the_key_bits(bit):
  changed = [
    (randomness.key(seed, name) ^ randomness.key(seed ^ 1 << bit, name)).bit_count()
    for seed in range(20)
    for name in range(20)
  ]
  assert 31 < np.mean(changed) < 33  # 400 means of 64 coins: the standard deviation is 0.2.


def test_long_run_repeats_no_numbers():
  numbers = _bits(range(300_000), 2).astype(np.uint64)
  joined = numbers[:, 0] << np.uint64(32) | numbers[:, 1]
  assert len(np.unique(joined)) == 300_000


def test_batch_means_are_uncorrelated_across_seeds_and_steps():
  """The mean of each column over a batch of 128, for 400 steps: the shift of a whole batch."""
  means = np.array([_uniform(range(400 * 128), 6, seed=seed).reshape(400, 128, 6).mean(1)
                    for seed in range(4)])  # fmt: skip
  flat = means.transpose(0, 2, 1).reshape(24, 400)
  correlations = np.corrcoef(flat) - np.eye(24)
  assert np.abs(correlations).max() < 0.22  # For 276 pairs, four and a half standard deviations.
  correlations = [np.corrcoef(row[:-1], row[1:])[0, 1] for row in flat]
  assert np.abs(correlations).max() < 0.22


def test_epoch_keys_match_previous_releases():
  # As in all earlier runs: the first epochs of seeds 0 and 3, by SplitMix64.
  keys = randomness.epoch_keys(tf.constant([0, 1], tf.int64), seed=3).numpy().tolist()
  states = [(epoch + 3 * _GAMMA) % 2**64 for epoch in (0, 1)]
  assert keys == randomness.mix(tf.constant(states, tf.uint64)).numpy().tolist()
