"""Tests of the input pipeline: the order of examples, and the blocks of batches."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_research.config import Config
from mnist_research.data import input_pipeline, splits
from mnist_research.training.blocks import cut_blocks

_SEEDS = st.integers(0, 2**31 - 1)


def _strategy(replicas: int) -> tf.distribute.Strategy:
  if replicas == 1:
    return tf.distribute.OneDeviceStrategy("CPU:0")
  return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])


_STRATEGIES = {replicas: _strategy(replicas) for replicas in (1, 2, 4)}


def _split(num_examples: int) -> splits.Split:
  """Examples that identify themselves: the label is the index, and the image encodes it."""
  labels = np.arange(num_examples, dtype=np.int32)
  images = np.zeros((num_examples, 28, 28, 1), np.uint8)
  images[:, 0, 0, 0], images[:, 27, 27, 0] = labels % 256, labels // 256
  return splits.Split(images, labels)


def _indices(positions, *, num_examples: int, seed: int = 0) -> np.ndarray:
  positions = tf.constant(np.asarray(positions, np.int64))
  return input_pipeline.example_indices(positions, num_examples=num_examples, seed=seed).numpy()


def _blocks(
  split: splits.Split, config: Config, first_steps, *, steps_per_block: int, replicas: int = 1
):
  """Returns the images and labels of each block, with the replicas' parts concatenated."""
  strategy = _STRATEGIES[replicas]
  blocks = input_pipeline.train_blocks(
    split,
    config,
    first_steps=first_steps,
    steps_per_block=steps_per_block,
    strategy=strategy,
    num_classes=10,
  )
  return [
    tuple(
      np.concatenate([part.numpy() for part in strategy.experimental_local_results(values)], axis=1)
      for values in block
    )
    for block in blocks
  ]


# ---- The order of examples ----


@given(num_examples=st.integers(1, 300), seed=_SEEDS, epoch=st.integers(0, 10**6))
def test_each_epoch_is_a_permutation(num_examples, seed, epoch):
  positions = epoch * num_examples + np.arange(num_examples)
  indices = _indices(positions, num_examples=num_examples, seed=seed)
  assert sorted(indices) == list(range(num_examples))


# 256: the cipher uses only this many values of each number of its key.
@pytest.mark.parametrize("distance", [1, 2, 256, 65_536])
@given(seed=st.integers(0, 2**31 - 65_537), epoch=st.integers(0, 10**6))
@settings(max_examples=10)
def test_orders_differ_by_epoch_and_seed(distance, seed, epoch):
  def order(seed: int, epoch: int) -> np.ndarray:
    return _indices(epoch * 300 + np.arange(300), num_examples=300, seed=seed)

  # By chance, one example stays in place.
  assert (order(seed, epoch) == order(seed, epoch + distance)).sum() < 10
  assert (order(seed, epoch) == order(seed + distance, epoch)).sum() < 10


def test_seeds_do_not_share_epochs():
  epochs = [
    _indices(epoch * 100 + np.arange(100), num_examples=100, seed=seed).tobytes()
    for seed in range(5)
    for epoch in range(5)
  ]
  assert len(set(epochs)) == 25


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=50), st.integers(50, 300), _SEEDS)
def test_index_depends_only_on_position(positions, num_examples, seed):
  stream = _indices(np.arange(2001), num_examples=num_examples, seed=seed)
  indices = _indices(positions, num_examples=num_examples, seed=seed)
  np.testing.assert_array_equal(indices, stream[positions])


def test_every_example_is_equally_likely_to_be_first():
  firsts = _indices(np.arange(4000) * 10, num_examples=10)
  counts = np.bincount(firsts, minlength=10)
  # Binomial with 4,000 and 1/10: the standard deviation is 19.
  assert np.abs(counts - 400).max() < 5 * 19


@pytest.mark.parametrize("num_examples", [2000, 60_000])
def test_epoch_order_has_no_stride(num_examples):
  indices = _indices(np.arange(num_examples), num_examples=num_examples)
  strides = np.bincount(np.diff(indices) % num_examples)
  # By chance the most frequent of 60,000 occurs eight times.
  assert strides.max() <= 12
  assert abs(np.corrcoef(np.arange(num_examples), indices)[0, 1]) < 4 / np.sqrt(num_examples)


def test_first_batch_matches_the_stream():
  split = _split(50)
  first = input_pipeline.first_batch(split, Config(seed=4), 8)
  np.testing.assert_array_equal(first.labels, _indices(range(8), num_examples=50, seed=4))
  np.testing.assert_array_equal(first.images, split.images[first.labels])


def test_first_batch_is_limited_to_the_split():
  assert sorted(input_pipeline.first_batch(_split(5), Config(), 40).labels) == [0, 1, 2, 3, 4]


# ---- Blocks ----


@settings(max_examples=5)
@given(
  num_examples=st.integers(8, 400),
  replica_batch=st.integers(1, 5),
  first_steps=st.lists(st.integers(0, 1000), min_size=1, max_size=3),
  steps_per_block=st.integers(1, 6),
  seed=_SEEDS,
)
def test_batches_are_the_same_for_any_number_of_replicas(
  num_examples, replica_batch, first_steps, steps_per_block, seed
):
  split, config = _split(num_examples), Config(batch_size=4 * replica_batch, seed=seed)
  for replicas in _STRATEGIES:
    blocks = _blocks(split, config, first_steps, steps_per_block=steps_per_block, replicas=replicas)
    for first, (images, labels) in zip(first_steps, blocks, strict=True):
      positions = (first * config.optimization.batch_size) + np.arange(
        steps_per_block * config.optimization.batch_size
      )
      expected = _indices(positions, num_examples=num_examples, seed=seed)
      np.testing.assert_array_equal(labels, expected.reshape(steps_per_block, -1))
      np.testing.assert_array_equal(images, split.images[labels])


def test_batch_may_span_two_epochs():
  ((_, labels),) = _blocks(_split(10), Config(batch_size=4), [2], steps_per_block=1)
  first, second = (_indices(epoch * 10 + np.arange(10), num_examples=10) for epoch in (0, 1))
  np.testing.assert_array_equal(labels, [[*first[8:], *second[:2]]])


@pytest.mark.parametrize(("epochs", "times"), [(1.0, {1}), (2.0, {2}), (1.5, {1, 2})])
def test_run_sees_each_example_once_per_epoch(epochs, times):
  split, config = _split(96), Config(batch_size=8, epochs=epochs, steps_per_loop=5)
  total_steps = config.optimization.total_steps(96)
  epoch = config.optimization.epoch_steps(96)
  cut = cut_blocks(0, total_steps, steps_per_block=5, evaluate_every=epoch, checkpoint_every=epoch)
  blocks = _blocks(split, config, [block.start for block in cut], steps_per_block=5)
  seen = np.concatenate(
    [labels[: done.num_steps].ravel() for done, (_, labels) in zip(cut, blocks, strict=True)]
  )
  assert len(seen) == total_steps * 8
  assert set(np.bincount(seen, minlength=96)) == times


_MIXING = {"augment": ("cutmix",), "loss": "categorical_crossentropy"}


@pytest.mark.parametrize(
  "settings", [{"augment": ("shift", "rotation", "elastic", "erasing")}, _MIXING]
)
def test_augmented_batches_do_not_depend_on_block_boundaries(settings):
  config, split = Config(batch_size=8, seed=2, **settings), _split(50)
  split.images[:] = np.random.default_rng(0).integers(0, 256, split.images.shape)
  batches = _blocks(split, config, [0], steps_per_block=12)[0]
  for replicas in (1, 2, 4):
    parts = _blocks(split, config, [3, 6], steps_per_block=3, replicas=replicas)
    for expected, *values in zip(batches, *parts, strict=True):
      np.testing.assert_array_equal(np.concatenate(values), expected[3:9])


def test_first_examples_are_shown_as_trained():
  config, split = Config(batch_size=8, augment=("shift", "scale")), _split(50)
  split.images[:] = np.random.default_rng(0).integers(0, 256, split.images.shape)
  shown = input_pipeline.first_batch(split, config, 16)
  images, labels = _blocks(split, config, [0], steps_per_block=2)[0]
  np.testing.assert_array_equal(shown.images, images.reshape(16, 28, 28, 1))
  np.testing.assert_array_equal(shown.labels, labels.reshape(16))
  assert (shown.images != split.images[shown.labels]).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("settings", [{}, _MIXING])
def test_empty_block_has_the_usual_spec(settings):
  config = Config(batch_size=8, **settings)
  for strategy in _STRATEGIES.values():
    blocks = input_pipeline.train_blocks(
      _split(20), config, first_steps=[0], steps_per_block=3, strategy=strategy, num_classes=10
    )
    empty_block = input_pipeline.empty_block(
      config, steps_per_block=3, strategy=strategy, image_shape=(28, 28, 1), num_classes=10
    )
    for full, empty in zip(next(iter(blocks)), empty_block, strict=True):
      parts = [strategy.experimental_local_results(values) for values in (full, empty)]
      for one, other in zip(*parts, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        assert not np.any(other.numpy())
