"""Turns examples in memory into blocks of batches, each a function of (seed, step)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from mnist_research import distribution
from mnist_research.config import Config
from mnist_research.data import augment, custom_augmentations, randomness
from mnist_research.data.datasets import ImageShape
from mnist_research.data.splits import Split
from mnist_research.runtime.errors import UserError

# For each replica: images, uint8 [steps, replica batch, height, width, channels], and labels, int32
# [steps, replica batch], or, where examples are mixed, targets, float32 [steps, replica batch,
# classes].
Batches = tuple[Any, Any]


def example_indices(positions: tf.Tensor, *, num_examples: int, seed: int) -> tf.Tensor:
  """Returns the example at each position of the run's endless stream of examples.

  The stream is a sequence of permutations of the training examples. With batch size B, step s takes
  the B positions from s * B on. Any position can be computed directly, so a resumed run needs no
  iterator state.

  Args:
    positions: int64 [N], from 0.
    num_examples: the length of an epoch.
    seed: the run's seed.

  Returns:
    int64 [N], each in [0, num_examples).
  """
  return tf.raw_ops.RandomIndexShuffle(
    index=positions % num_examples,
    seed=_shuffle_keys(positions // num_examples, seed),
    max_index=tf.constant(num_examples - 1, tf.int64),
    # With the default of 4 rounds, an order has strides: up to 89 of 2,000 examples follow their
    # predecessor at the same distance, against eight by chance.
    rounds=16,
  )


def _shuffle_keys(epochs: tf.Tensor, seed: int) -> tf.Tensor:
  """Returns the key of each epoch's permutation: three numbers, uint64 [N, 3].

  The key doesn't contain the seed and the epoch directly, because the cipher of
  `tf.random.experimental.index_shuffle` uses only the low bits of each number, eight for 60,000
  examples: seeds 0 and 256 would share an order, as would epochs 0 and 256. Here every bit depends
  on both.
  """
  bits = randomness.epoch_keys(epochs, seed=seed)
  shift = tf.bitwise.right_shift
  thirds = [shift(bits, tf.constant(places, tf.uint64)) for places in (0, 21, 42)]
  return tf.stack(thirds, axis=1)


def first_batch(split: Split, config: Config, count: int) -> Split:
  """Returns the first `count` examples of a run, augmented, but without `mixup` and `cutmix`."""
  positions = tf.range(min(count, split.num_examples), dtype=tf.int64)
  indices = example_indices(
    positions, num_examples=split.num_examples, seed=config.run.seed
  ).numpy()
  images = augment.augment_images(
    tf.constant(split.images[indices]), positions, config.augmentation, config.run.seed
  )
  return Split(images.numpy(), split.labels[indices])


def empty_block(
  config: Config,
  *,
  steps_per_block: int,
  strategy: tf.distribute.Strategy,
  image_shape: ImageShape,
  num_classes: int,
) -> Batches:
  """Returns a block of zeros, for compiling the steps while the examples are read."""

  def zeros(examples: slice) -> tuple[tf.Tensor, tf.Tensor]:
    shape = [steps_per_block, examples.stop - examples.start]
    labels = (
      tf.zeros([*shape, num_classes])
      if config.augmentation.mixes_examples
      else tf.zeros(shape, tf.int32)
    )
    return tf.zeros([*shape, *image_shape], tf.uint8), labels

  slices = distribution.replica_slices(strategy, config.optimization.batch_size)
  return _distribute([zeros(examples) for examples in slices], strategy)


def train_blocks(
  split: Split,
  config: Config,
  *,
  first_steps: Sequence[int],
  steps_per_block: int,
  strategy: tf.distribute.Strategy,
  num_classes: int,
) -> Iterator[Batches]:
  """Returns the blocks of batches that start at each of `first_steps`, two of them prefetched.

  The pipeline is built here, and starts when the first block is requested.

  Args:
    split: the training examples.
    config: the settings: seed, batch size and augmentation.
    first_steps: the step of each block's first batch.
    steps_per_block: the number of batches per block, constant so that the steps compile once.
    strategy: the distribution strategy; each replica gets its part of every batch, in order.
    num_classes: the length of the targets that replace the labels of mixed examples.
  """
  slices = distribution.replica_slices(strategy, config.optimization.batch_size)
  gather = _create_gather(split, config, slices, steps_per_block, num_classes)
  options = tf.data.Options()
  # There is nothing to tune, and the tuning thread that
  # `strategy.distribute_datasets_from_function` starts could delay the end of a run by 30 s.
  options.autotune.enabled = False
  with tf.device("CPU"):
    dataset = tf.data.Dataset.from_tensor_slices(np.asarray(first_steps, np.int64))
    dataset = dataset.map(gather).prefetch(2).with_options(options)
  return (_distribute(parts, strategy) for parts in _with_attributed_errors(dataset, config))


def _create_gather(
  split: Split, config: Config, slices: Sequence[slice], steps_per_block: int, num_classes: int
) -> Callable[[tf.Tensor], tuple[tuple[tf.Tensor, tf.Tensor], ...]]:
  """Returns a function from a block's first step to the parts of this process's replicas.

  Args:
    split: the training examples.
    config: the settings: seed, batch size and augmentation.
    slices: the examples of a batch that each replica gets, in order.
    steps_per_block: the number of batches per block.
    num_classes: the length of the targets of mixed examples.
  """
  augmentation, seed = config.augmentation, config.run.seed
  batch_size, mixes = config.optimization.batch_size, config.augmentation.mixes_examples
  # Mixing combines examples of the whole batch; otherwise a process needs only its replicas' parts.
  first, stop = (0, batch_size) if mixes else (slices[0].start, slices[-1].stop)
  shape = [steps_per_block, stop - first]
  images, labels = tf.constant(split.images), tf.constant(split.labels)

  @tf.autograph.experimental.do_not_convert  # It has no control flow, and rewriting takes time.
  def gather(first_step: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], ...]:
    steps = first_step + tf.range(steps_per_block, dtype=tf.int64)
    positions = (steps * batch_size)[:, None] + tf.range(first, stop, dtype=tf.int64)
    flat = tf.reshape(positions, [-1])
    indices = example_indices(flat, num_examples=split.num_examples, seed=seed)
    changed = augment.augment_images(tf.gather(images, indices), flat, augmentation, seed)
    block_images = tf.reshape(changed, [*shape, *split.images.shape[1:]])
    block_labels = tf.reshape(tf.gather(labels, indices), shape)
    if mixes:
      targets = tf.one_hot(block_labels, num_classes)
      block_images, block_labels = augment.mix_examples(
        block_images, targets, positions, augmentation, seed
      )
    local_slices = [slice(examples.start - first, examples.stop - first) for examples in slices]
    return tuple(
      (block_images[:, examples], block_labels[:, examples]) for examples in local_slices
    )

  return gather


def _with_attributed_errors(dataset: tf.data.Dataset, config: Config) -> Iterator[Any]:
  """Yields the elements of a dataset; turns an error in a custom augmentation into a UserError."""
  try:
    yield from dataset
  except tf.errors.OpError as error:
    references = custom_augmentations.references(config.augmentation)
    if not references:
      raise
    message = (error.message.splitlines() or [""])[0][:500]
    raise UserError(
      f"--augment={','.join(references)}: {type(error).__name__}: {message}"
    ) from error


def _distribute(parts: Sequence[Any], strategy: tf.distribute.Strategy) -> Batches:
  """Gives each replica of this process its part of a block."""

  def column(index: int) -> Any:
    in_order = iter(parts)  # The strategy requests the values in the order of the replicas.
    return strategy.experimental_distribute_values_from_function(lambda _: next(in_order)[index])

  return column(0), column(1)
