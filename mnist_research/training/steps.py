"""The compiled functions: the block of training steps, with its `GradientTape`, and the scorer."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from mnist_research import distribution
from mnist_research.config import Config
from mnist_research.data import randomness
from mnist_research.data.splits import NO_CLASS
from mnist_research.models.layers import step_randomness
from mnist_research.models.variables import is_generator
from mnist_research.runtime.progress import Progress
from mnist_research.training.losses import Objective, cross_entropy
from mnist_research.training.state import TrainState

# Images per call of the model when it scores a split: large enough to fill the device.
SCORED_BATCH = 2000


class StepMetrics(NamedTuple):
  """The metrics of a block's steps, [steps] each; entries after the last step are 0.

  Attributes:
    losses: float32, the mean loss of the global batch before the step's update.
    correct: int32, the number of its examples that were predicted correctly.
    plain_losses: float32, its mean cross-entropy, comparable with other splits; 0 for outliers.
      None unless the loss differs: with smoothed targets, teachers or a custom loss.
    outliers: int32, the number of outliers among its examples, which never count as correct. None
      without outliers.
  """

  losses: tf.Tensor
  correct: tf.Tensor
  plain_losses: tf.Tensor | None = None
  outliers: tf.Tensor | None = None


# (images [steps, batch, height, width, channels], labels [steps, batch], number of steps to run [])
TrainBlock = Callable[..., StepMetrics]
# images, uint8 [N, height, width, channels] -> logits, float32 [N, classes]
Scorer = Callable[[np.ndarray], np.ndarray]


def create_train_block(
  config: Config,
  state: TrainState,
  objective: Objective,
  strategy: tf.distribute.Strategy,
  *,
  xla: bool,
) -> TrainBlock:
  """Returns the compiled function that runs a block of training steps.

  The function takes a block from `input_pipeline.train_blocks`, with images and labels for the
  maximum number of steps, and the number of steps to run, as a tensor because each Python number
  would be compiled separately. It updates `state`.
  """
  replica_step = _create_replica_step(config, state, objective, strategy)
  dtypes = [tf.float32, tf.int32]
  if not config.trains_on_cross_entropy:
    dtypes.append(tf.float32)
  if config.data.outliers:
    dtypes.append(tf.int32)

  # Without AutoGraph, because rewriting the source takes a quarter of a second at the start.
  # Rarely, Python 3.11's parser also fails if a garbage collection lets another thread parse at the
  # same time, as NumPy seems to do when it reads the header of an array.
  @tf.function(jit_compile=xla, autograph=False)
  def train_block(images, labels, num_steps):
    size = strategy.experimental_local_results(images)[0].shape[0]

    def step(index, totals):
      shares = strategy.run(replica_step, args=(images, labels, index))
      sums = [tf.add_n(strategy.experimental_local_results(share)) for share in shares]
      return index + 1, [
        total.write(index, value) for total, value in zip(totals, sums, strict=True)
      ]

    # The loop is outside `strategy.run`: an optimizer can't reduce gradients in a loop inside it.
    _, totals = tf.while_loop(
      lambda index, _: index < num_steps,
      step,
      (
        tf.constant(0),
        [tf.TensorArray(dtype, size=size, element_shape=[]) for dtype in dtypes],
      ),
    )
    # Once per block, because a message between workers takes longer than a step's arithmetic.
    return StepMetrics(
      *(distribution.sum_over_workers(total.stack(), strategy) for total in totals)
    )

  return train_block


def _create_replica_step(
  config: Config,
  state: TrainState,
  objective: Objective,
  strategy: tf.distribute.Strategy,
) -> Callable[..., tuple[tf.Tensor, ...]]:
  """Returns a replica's step, for its share of the batch at an index in the block.

  The step returns the replica's share of each of `StepMetrics`.
  """
  batch_size, seed = config.optimization.batch_size, config.run.seed
  clip_norm, replicas = config.optimization.clip_norm, strategy.num_replicas_in_sync
  variables = state.model.trainable_variables
  measure = _create_measurement(config)

  def replica_step(images, labels, index):
    images, labels = images[index], labels[index]
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    first = tf.cast(state.step, tf.int64) * batch_size + distribution.first_example(
      tf.cast(replica, tf.int64), batch_size=batch_size, replicas=replicas
    )
    positions = first + tf.range(images.shape[0], dtype=tf.int64)
    _set_generators(state, first, seed=seed)
    with tf.GradientTape() as tape, step_randomness(seed=seed, positions=positions):
      logits = state.model(images, training=True)
      # The optimizer sums the replicas' gradients, so each divides by the global batch size.
      loss = tf.reduce_sum(objective(images, labels, logits)) / batch_size
      scaled_loss = state.optimizer.scale_loss(loss)  # Unchanged, except with float16.
    gradients = tape.gradient(scaled_loss, variables)
    # Clipping and float16 loss scaling, which skips a step if a gradient overflows, must see the
    # gradient of the whole batch.
    if replicas > 1 and (clip_norm or config.devices.precision == "float16"):
      gradients = _mean_of_replicas(gradients)
    if clip_norm:
      norm = state.optimizer.scale_loss(clip_norm) / replicas
      gradients, _ = tf.clip_by_global_norm(gradients, norm)
    state.optimizer.apply(gradients, variables)
    if state.averages is not None:
      _update_averages(state, config.optimization.ema_decay)
    state.step.assign_add(1)
    return (loss, *measure(labels, logits))

  return replica_step


def _create_measurement(config: Config) -> Callable[..., list[tf.Tensor]]:
  """Returns a function from a replica's labels and logits to its share of `StepMetrics`.

  The share doesn't include the differentiated loss.
  """
  batch_size = config.optimization.batch_size

  def measure(labels: tf.Tensor, logits: tf.Tensor) -> list[tf.Tensor]:
    classes = labels
    if config.augmentation.mixes_examples:
      classes = tf.argmax(labels, axis=-1, output_type=tf.int32)
    # An outlier's label never equals a prediction.
    correct = tf.argmax(logits, axis=-1, output_type=tf.int32) == classes
    measured = [tf.math.count_nonzero(correct, dtype=tf.int32)]
    outliers = labels == NO_CLASS if config.data.outliers else None
    if not config.trains_on_cross_entropy:
      if outliers is None:
        plain_losses = cross_entropy(labels, logits)
      else:
        plain_losses = tf.where(outliers, 0.0, cross_entropy(tf.maximum(labels, 0), logits))
      measured.append(tf.reduce_sum(plain_losses) / batch_size)
    if outliers is not None:
      measured.append(tf.math.count_nonzero(outliers, dtype=tf.int32))
    return measured

  return measure


def _set_generators(state: TrainState, first: tf.Tensor, *, seed: int) -> None:
  """Seeds the generators of Keras's layers, such as its Dropout, for a replica's step.

  The seeds depend only on the run's seed and the replica's first example, so they need not be
  saved, and replicas have different masks.
  """
  generators = [v for v in state.model.variables if is_generator(v)]
  for index, generator in enumerate(generators):
    bits = randomness.bits(first[None], 2, seed=seed, stream=randomness.KERAS_GENERATORS + index)
    # Keras interprets the two values as a 31-bit seed and a counter.
    generator.assign(tf.cast(tf.bitwise.right_shift(bits[0], 1), generator.dtype))


def _mean_of_replicas(gradients: list[tf.Tensor]) -> list[tf.Tensor]:
  """Returns gradients whose sum over the replicas, by the optimizer, is the global gradient.

  Otherwise a Keras optimizer would clip (Pascanu et al. 2012, arXiv:1211.5063) and check for
  overflows in each replica's part separately, and replicas could disagree about skipping a step.
  """
  context = tf.distribute.get_replica_context()
  sums = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
  return [gradient / context.num_replicas_in_sync for gradient in sums]


def _update_averages(state: TrainState, decay: float) -> None:
  """Moves the averages toward the weights, and copies untrained variables.

  As in `tf.train.ExponentialMovingAverage`, the decay rises to its value as
  (1 + step) / (10 + step), so that the averages soon forget the initial weights.
  """
  assert state.averages is not None
  step = tf.cast(state.step, tf.float32)
  decay = tf.minimum(decay, (1 + step) / (10 + step))
  trained = {id(variable) for variable in state.model.trainable_variables}
  for average, variable in zip(state.averages.variables, state.model.variables, strict=True):
    if id(variable) in trained:
      average.assign(average.value + (1 - decay) * (variable.value - average.value))
    elif not is_generator(variable):
      average.assign(variable.value)


def create_scorer(model: tf.keras.Model) -> Scorer:
  """Returns a function from images, uint8 [N, height, width, channels], to logits, float32.

  It scores every image exactly once, in order, on one replica: ten thousand images take less time
  than starting a second one.
  """

  @functools.cache
  def compiled(image_shape: tuple[int, ...]) -> Callable[[tf.Tensor], tf.Tensor]:
    signature = [tf.TensorSpec([None, *image_shape], tf.uint8)]

    @tf.function(input_signature=signature, autograph=False)
    def score_batch(images):
      return tf.cast(model(images, training=False), tf.float32)

    return score_batch

  def score(images: np.ndarray) -> np.ndarray:
    batches, score_batch = [], compiled(images.shape[1:])
    with Progress(total=len(images), unit="image", task="scoring", brief=True) as progress:
      for start in range(0, len(images), SCORED_BATCH):
        batches.append(score_batch(tf.constant(images[start : start + SCORED_BATCH])).numpy())
        progress.update(min(start + SCORED_BATCH, len(images)))
    logits = np.concatenate(batches)
    if len(logits) != len(images):
      raise AssertionError(f"{len(images)} images gave {len(logits)} rows of logits")
    return logits

  return score
