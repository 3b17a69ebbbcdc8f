"""The layers of this package's models, and their random numbers."""

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from mnist_research.data import randomness
from mnist_research.models.batch_norm import BatchNorm


@dataclasses.dataclass(frozen=True)
class StepRandomness:
  """The source of a training step's random numbers, so that layers need no generators.

  Attributes:
    seed: the run's seed.
    positions: int64 [batch], the position of each example in the run's stream.
  """

  seed: int
  positions: tf.Tensor

  def bits(self, inputs: tf.Tensor, stream: int) -> tf.Tensor:
    """Returns a uint32 number for each of `inputs` [batch, ...], different for each `stream`.

    An example's numbers don't depend on the number of replicas, and are the same in a resumed run.
    """
    count = math.prod(inputs.shape[1:])
    numbers = randomness.bits(self.positions, count, seed=self.seed, stream=stream)
    return tf.reshape(numbers, tf.shape(inputs))


# A context variable, because each replica is traced in a separate thread, and because a model is
# called with only `training`, like any Keras model.
_STEP: contextvars.ContextVar[StepRandomness] = contextvars.ContextVar("step_randomness")


@contextlib.contextmanager
def step_randomness(*, seed: int, positions: tf.Tensor) -> Iterator[None]:
  """Provides random numbers to layers called with `training=True` inside the context.

  Args:
    seed: the run's seed.
    positions: int64 [batch], the position of each example in the run's stream.
  """
  token = _STEP.set(StepRandomness(seed, positions))
  try:
    yield
  finally:
    _STEP.reset(token)


def _current_step() -> StepRandomness:
  try:
    return _STEP.get()
  except LookupError:
    raise ValueError(
      "a model with dropout or noise was called with training=True outside of step_randomness, "
      "from which these layers draw"
    ) from None


class Dropout(tf.keras.layers.Layer):
  """Dropout (Srivastava et al. 2014) with a mask that is a function of seed, example and layer.

  `tf.keras.layers.Dropout` advances a generator, so its masks depend on the number of
  replicas.
  """

  def __init__(self, rate: float, *, stream: int, name: str):
    """Creates the layer.

    Args:
      rate: the share of units to drop.
      stream: its stream of random numbers, from `data.randomness`.
      name: the name of the layer.
    """
    super().__init__(name=name)
    self.rate = rate
    self._stream = stream

  def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape unchanged."""
    return input_shape

  def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
    """Drops units of `inputs` [batch, ...] in training; otherwise returns them unchanged."""
    if not training or not self.rate:
      return inputs
    dropped = tf.constant(int(self.rate * 2**32), tf.uint32)
    is_kept = _current_step().bits(inputs, self._stream) >= dropped
    # In float32, because in bfloat16 a scale of 1 / 0.9 would be 0.16% too large.
    scaled = tf.cast(tf.cast(inputs, tf.float32) / (1 - self.rate), inputs.dtype)
    return tf.where(is_kept, scaled, tf.zeros_like(inputs))


class Noise(tf.keras.layers.Layer):
  """Adds normal noise in training (Sietsma and Dow 1991, doi:10.1016/0893-6080(91)90033-2).

  It differs from `tf.keras.layers.GaussianNoise` in that the noise is a function of seed, example
  and layer, as in `Dropout`.
  """

  def __init__(self, deviation: float, *, stream: int, name: str):
    """Creates the layer.

    Args:
      deviation: the standard deviation of the noise.
      stream: its stream of random numbers, from `data.randomness`.
      name: the name of the layer.
    """
    super().__init__(name=name)
    self.deviation = deviation
    self._stream = stream

  def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape unchanged."""
    return input_shape

  def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
    """Adds noise to `inputs` [batch, ...] in training; otherwise returns them unchanged."""
    if not training or not self.deviation:
      return inputs
    # As many bits as keep the fractions exact, and between 0 and 1, exclusive.
    drawn = _current_step().bits(inputs, self._stream)
    bits = tf.bitwise.right_shift(drawn, tf.constant(9, tf.uint32))
    shares = (tf.cast(tf.cast(bits, tf.int32), tf.float32) + 0.5) / 2.0**23
    return inputs + tf.cast(self.deviation * tf.math.ndtri(shares), inputs.dtype)


class DenseBlock(tf.keras.layers.Layer):
  """A dense layer, with optional batch normalization, noise, activation and dropout."""

  def __init__(
    self,
    units: int,
    *,
    index: int,
    seed: int,
    activation: str,
    batch_norm: bool,
    noise: float,
    dropout_rate: float,
  ):
    """Creates the layers.

    Args:
      units: the number of outputs.
      index: the position among the hidden layers, which have different masks.
      seed: the seed of the initial weights.
      activation: the name of a Keras activation.
      batch_norm: whether to normalize before the activation.
      noise: the standard deviation of the noise before the activation.
      dropout_rate: the share of outputs to drop in training.
    """
    super().__init__(name=f"hidden_{index}")
    self.dense = tf.keras.layers.Dense(
      units,
      use_bias=not batch_norm,
      kernel_initializer=_hidden_initializer(activation, seed),
      name="dense",
    )
    self.norm = BatchNorm() if batch_norm else None
    self.noise = Noise(noise, stream=randomness.HIDDEN_NOISE + index, name="noise")
    self.activation = tf.keras.activations.get(activation)
    self.dropout = Dropout(dropout_rate, stream=randomness.HIDDEN_DROPOUT + index, name="dropout")

  def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns (batch, units) for (batch, features)."""
    return (*input_shape[:-1], self.dense.units)

  def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
    """Returns [batch, units] for `inputs` [batch, features]."""
    x = self.dense(inputs)
    if self.norm is not None:
      x = self.norm(x, training=training)
    x = self.noise(x, training=training)
    return self.dropout(self.activation(x), training=training)


class ConvolutionBlock(tf.keras.layers.Layer):
  """A convolution, optional max pooling, a bias or batch normalization, and an activation.

  The pooling comes first, so that the rest processes a quarter of the values. A bias before it
  would give the same maps, but its gradient took as long as that of a convolution. A nondecreasing
  activation commutes with max pooling; gelu and silu decrease for some negative inputs, so for them
  the order matters.

  A fixed convolution has untrained kernels, and neither bias nor normalization.
  """

  def __init__(
    self,
    *,
    index: int,
    filters: int,
    kernel_size: int,
    pool_size: int,
    padding: str,
    seed: int,
    activation: str,
    batch_norm: bool,
    fixed: bool = False,
  ):
    """Creates the layers.

    Args:
      index: the position among the convolutions.
      filters: the number of output maps.
      kernel_size: the side of the kernel.
      pool_size: the side of the max pooling; 1 for none.
      padding: the padding of the convolution, valid or same.
      seed: the seed of the initial weights.
      activation: the name of a Keras activation.
      batch_norm: whether to normalize before the activation.
      fixed: whether the kernels are untrained.
    """
    super().__init__(name=f"convolution_{index}")
    self.convolution = tf.keras.layers.Conv2D(
      filters,
      kernel_size,
      padding=padding,
      data_format="channels_last",
      use_bias=False,
      kernel_initializer=_hidden_initializer(activation, seed),
      name="convolution",
    )
    self.pool = (
      tf.keras.layers.MaxPooling2D(pool_size, data_format="channels_last")
      if pool_size > 1
      else None
    )
    self.is_fixed = fixed
    # No layer before it needs gradients, which would take a third of a small model's step.
    self.convolution.trainable = not fixed
    self.norm = BatchNorm() if batch_norm and not fixed else None
    self.activation = tf.keras.activations.get(activation)

  def build(self, input_shape: tuple[int, ...]) -> None:
    """Creates the bias."""
    if self.norm is None and not self.is_fixed:
      self.bias = self.add_weight(
        shape=[self.convolution.filters], initializer="zeros", name="bias"
      )
    super().build(input_shape)

  def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the output shape (batch, height, width, filters)."""
    shape = self.convolution.compute_output_shape(input_shape)
    return self.pool.compute_output_shape(shape) if self.pool is not None else shape

  def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
    """Returns the maps [batch, height, width, filters] for `inputs`, maps of the same rank."""
    x = self.convolution(inputs)
    if self.pool is not None:
      x = self.pool(x)
    if self.norm is not None:
      x = self.norm(x, training=training)
    elif not self.is_fixed:
      x = x + self.bias
    return self.activation(x)


def layer_seed(seed: int, layer: int) -> int:
  """Returns a seed for a layer of a run; runs with neighboring seeds share no weights."""
  return int(np.random.SeedSequence([seed, layer]).generate_state(1)[0] >> 1)


def _hidden_initializer(activation: str, seed: int) -> tf.keras.Initializer:
  """Returns the initializer that preserves the variance of activations across layers.

  That is Glorot and Bengio 2010 for symmetric activations, Klambauer et al. 2017 (arXiv:1706.02515)
  for selu, and He et al. 2015 (arXiv:1502.01852) for relu and similar ones.
  """
  if activation in ("tanh", "sigmoid"):
    return tf.keras.initializers.GlorotUniform(seed)
  if activation == "selu":
    return tf.keras.initializers.LecunNormal(seed)
  return tf.keras.initializers.HeNormal(seed)
