"""From examples in memory to blocks of batches, each a function of (seed, step)."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from mnist_research import augment, distribution, randomness
from mnist_research.config import Config
from mnist_research.data import Split
from mnist_research.models import IMAGE_SHAPE

# For each replica: images, uint8 [steps, replica batch, 28, 28, 1], and labels, int32 [steps,
# replica batch], or, where examples are mixed, targets, float32 [steps, replica batch, classes].
Block = tuple[Any, Any]


def example_indices(positions: tf.Tensor, *, num_examples: int, seed: int) -> tf.Tensor:
  """Returns which example stands at each position of the run's endless stream of examples.

  The stream is one permutation of the training examples after another; step s of a run with batch
  B takes the positions from s * B on. Any position is reached at once, so a resumed run needs no
  iterator's state.

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
    # With the operation's default, 4, an order goes by strides: up to 89 of 2,000 examples come at
    # the same distance from the one before, where chance leaves eight.
    rounds=16,
  )


def _shuffle_keys(epochs: tf.Tensor, seed: int) -> tf.Tensor:
  """Returns the key of each epoch's permutation, three numbers, uint64 [N, 3].

  `tf.random.experimental.index_shuffle` would take the seed and the epoch as they are. Its cipher
  uses only the low bits of each number, eight for 60,000 examples, so that seeds 0 and 256 would
  have one order, and epochs 0 and 256. Here every bit depends on both.
  """
  bits = randomness.mix(
    tf.cast(epochs, tf.uint64) + tf.constant(randomness.stream(seed, randomness.ORDER), tf.uint64)
  )
  shift = tf.bitwise.right_shift
  thirds = [shift(bits, tf.constant(places, tf.uint64)) for places in (0, 21, 42)]
  return tf.stack(thirds, axis=1)


def first_batch(split: Split, config: Config, count: int) -> Split:
  """Returns the first `count` examples as they are trained on, but for `mixup` and `cutmix`."""
  positions = tf.range(min(count, split.num_examples), dtype=tf.int64)
  indices = example_indices(positions, num_examples=split.num_examples, seed=config.seed).numpy()
  images = augment.augment_images(tf.constant(split.images[indices]), positions, config)
  return Split(images.numpy(), split.labels[indices])


def empty_block(
  config: Config, room: int, strategy: tf.distribute.Strategy, *, num_classes: int
) -> Block:
  """Returns a block of zeros: what the steps compile with while the examples are read."""

  def zeros(examples: slice) -> tuple[tf.Tensor, tf.Tensor]:
    shape = [room, examples.stop - examples.start]
    labels = tf.zeros([*shape, num_classes]) if config.mixes_examples else tf.zeros(shape, tf.int32)
    return tf.zeros([*shape, *IMAGE_SHAPE], tf.uint8), labels

  slices = distribution.replica_slices(strategy, config.batch_size)
  return _distribute([zeros(examples) for examples in slices], strategy)


def train_blocks(
  split: Split,
  config: Config,
  *,
  first_steps: Sequence[int],
  room: int,
  strategy: tf.distribute.Strategy,
  num_classes: int,
) -> Iterator[Block]:
  """Returns the blocks of batches that begin at each of `first_steps`, made two of them ahead.

  The pipeline is built here, and begins to work when the first block is asked for.

  Args:
    split: the training examples.
    config: gives seed, batch size and augmentation.
    first_steps: the step of each block's first batch.
    room: batches in a block; one shape for all, so that the steps compile once.
    strategy: its replicas get parts of each batch, in their order.
    num_classes: length of the targets that mixed examples have in place of labels.
  """
  slices = distribution.replica_slices(strategy, config.batch_size)
  # Mixing takes any two examples of a batch; without it a process makes those of its replicas only.
  first, stop = (
    (0, config.batch_size) if config.mixes_examples else (slices[0].start, slices[-1].stop)
  )
  images, labels = tf.constant(split.images), tf.constant(split.labels)

  @tf.autograph.experimental.do_not_convert  # It has no control flow, and rewriting takes time.
  def gather(first_step: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], ...]:
    first_position = (first_step + tf.range(room, dtype=tf.int64)) * config.batch_size
    positions = first_position[:, None] + tf.range(first, stop, dtype=tf.int64)
    flat = tf.reshape(positions, [-1])
    indices = example_indices(flat, num_examples=split.num_examples, seed=config.seed)
    batch_images = augment.augment_images(tf.gather(images, indices), flat, config)
    batch_images = tf.reshape(batch_images, [room, stop - first, *IMAGE_SHAPE])
    batch_labels = tf.reshape(tf.gather(labels, indices), [room, stop - first])
    if config.mixes_examples:
      targets = tf.one_hot(batch_labels, num_classes)
      batch_images, batch_labels = augment.mix_examples(batch_images, targets, positions, config)
    own = [slice(examples.start - first, examples.stop - first) for examples in slices]
    return tuple((batch_images[:, examples], batch_labels[:, examples]) for examples in own)

  options = tf.data.Options()
  # There is nothing to tune; and what `strategy.distribute_datasets_from_function` makes tunes all
  # the same, with a thread that held the end of a run up for as long as 30 s: hence not that.
  options.autotune.enabled = False
  with tf.device("CPU"):
    dataset = tf.data.Dataset.from_tensor_slices(np.asarray(first_steps, np.int64))
    dataset = dataset.map(gather).prefetch(2).with_options(options)
  return (_distribute(parts, strategy) for parts in dataset)


def _distribute(parts: Sequence[Any], strategy: tf.distribute.Strategy) -> Block:
  """Gives each replica of this process its part of a block."""

  def column(index: int) -> Any:
    in_order = iter(parts)  # As the replicas of a process are asked for their values.
    return strategy.experimental_distribute_values_from_function(lambda _: next(in_order)[index])

  return column(0), column(1)
