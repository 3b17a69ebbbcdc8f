"""Keras's `fit` on the same model, as a baseline for the training loop."""

import time
from collections.abc import Iterator

import tensorflow as tf

from mnist_research.benchmarks.training import Bench
from mnist_research.models.creation import create_model
from mnist_research.models.layers import step_randomness
from mnist_research.models.networks import whiten
from mnist_research.runtime.errors import UserError
from mnist_research.training import losses, optimizers

# Steps per execution of a tuned `fit`.
_TUNED_STEPS = 125


class _FittedModel(tf.keras.Model):
  """Adapts a model of this package to `fit`, which calls it with only `training`."""

  def __init__(self, model: tf.keras.Model, batch_size: int):
    super().__init__(dtype=model.dtype_policy, name="fitted")
    self.model = model
    self._batch_size = batch_size

  def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
    if not training:
      return self.model(images, training=False)
    first = tf.cast(self.optimizer.iterations, tf.int64) * self._batch_size
    positions = first + tf.range(tf.shape(images)[0], dtype=tf.int64)
    with step_randomness(seed=0, positions=positions):
      return self.model(images, training=True)


class _EpochClock(tf.keras.callbacks.Callback):
  """Times an epoch from its first to its last step, without what `fit` does around it."""

  seconds: float

  def on_epoch_begin(self, epoch, logs=None):  # noqa: ARG002 - as Keras calls it.
    self._start = time.perf_counter()

  def on_epoch_end(self, epoch, logs=None):  # noqa: ARG002
    self.seconds = time.perf_counter() - self._start


def create_fitted(bench: Bench, *, tuned: bool) -> tf.keras.Model:
  """Returns the model, compiled in the usual Keras way.

  Model, initial weights, optimizer, schedule and loss are those of the config. Averages of the
  weights and gradient clipping are left out, which favors `fit`.

  Args:
    bench: provides config and examples.
    tuned: whether to use 125 steps per execution, and XLA if training uses it; otherwise the
      defaults, as in tutorials.

  Raises:
    UserError: the config uses something that `fit` doesn't support.
  """
  config = bench.config
  if bench.replicas > 1:
    raise UserError("--baseline runs on one device: remove --device_count and --strategy")
  if config.augmentation.augment:
    raise UserError("--baseline has no augmentation: remove --augment")
  if config.optimization.teacher:
    raise UserError("--baseline has no teacher: remove --teacher")
  # Deterministic operations require a seed for the generator that orders the examples.
  tf.random.set_seed(config.run.seed)
  model = create_model(
    config, image_shape=bench.plan.image_shape, num_classes=len(bench.plan.label_names)
  )
  if config.model.whitens:
    whiten(model, bench.train.images)
  fitted = _FittedModel(model, config.optimization.batch_size)
  loss_function = losses.loss_of(config)
  tuning = {"steps_per_execution": _TUNED_STEPS, "jit_compile": bench.xla} if tuned else {}
  fitted.compile(
    optimizer=optimizers.create_optimizer(config, bench.plan.total_steps),
    # Keras passes integers as floats.
    loss=lambda labels, logits: loss_function(tf.cast(labels, tf.int32), logits),
    metrics=["accuracy"],
    **tuning,
  )
  return fitted


def keras_turns(bench: Bench, *, tuned: bool) -> Iterator[float]:
  """Yields the examples per second of `fit`, an epoch per turn, after an untimed first epoch.

  Raises:
    UserError: the config uses something that `fit` doesn't support.
  """
  batch_size = bench.config.optimization.batch_size
  model = create_fitted(bench, tuned=tuned)
  # Full batches only, because another shape would be compiled in the middle of an epoch.
  num_batches = min(bench.turn_steps, bench.train.num_examples // batch_size)
  examples = bench.train[: num_batches * batch_size]
  clock = _EpochClock()

  def epoch() -> float:
    model.fit(examples.images, examples.labels, batch_size=batch_size, verbose=0, callbacks=[clock])
    return examples.num_examples / clock.seconds

  epoch()
  while True:
    yield epoch()
