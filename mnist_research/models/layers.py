"""The layers of this package's networks, and their random numbers."""

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from mnist_research.data import randomness

# Keras's 0.99 averages over hundreds of steps, in which these networks change much.
_NORM_MOMENTUM = 0.9
# For other numbers of channels the fused operation takes longer than Keras's.
_FUSED_CHANNELS = 16


@dataclasses.dataclass(frozen=True)
class StepRandomness:
  """The source of random numbers of a training step: no layer keeps a generator of its own.

  Attributes:
    seed: of the run.
    positions: int64 [batch], place of each example in the run's stream of examples.
  """

  seed: int
  positions: tf.Tensor

  def bits(self, inputs: tf.Tensor, name: int) -> tf.Tensor:
    """Returns a uint32 number for each of `inputs` [batch, ...], different for another `name`.

    An example's numbers are the same with any number of replicas, and in a resumed run.
    """
    count = math.prod(inputs.shape[1:])
    drawn = randomness.bits(self.positions, count, seed=self.seed, name=name)
    return tf.reshape(drawn, tf.shape(inputs))


# A Python context variable, so that replicas, each traced in a thread, have their own, and a
# network is called with `training` alone, like any Keras network.
_STEP: contextvars.ContextVar[StepRandomness] = contextvars.ContextVar("step_randomness")


@contextlib.contextmanager
def step_randomness(*, seed: int, positions: tf.Tensor) -> Iterator[None]:
  """Provides the layers that are called inside, with `training=True`, with random numbers.

  Args:
    seed: of the run.
    positions: int64 [batch], place of each example in the run's stream of examples.
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
      "a network with dropout or noise was called with training=True outside of step_randomness, "
      "from which these layers draw"
    ) from None


class Dropout(tf.keras.layers.Layer):
  """Dropout (Srivastava et al. 2014) whose mask is a function of seed, example and layer.

  `tf.keras.layers.Dropout` advances a generator, so its masks depend on the number of
  replicas.
  """

  def __init__(self, rate: float, *, stream: int, name: str):
    """Makes the layer.

    Args:
      rate: share of the units that is dropped.
      stream: its stream of random numbers, of `data.randomness`.
      name: of the layer.
    """
    super().__init__(name=name)
    self.rate = rate
    self._stream = stream

  def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape is unchanged."""
    return input_shape

  def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
    """Drops units of `inputs` [batch, ...] in training, else returns them."""
    if not training or not self.rate:
      return inputs
    dropped = tf.constant(int(self.rate * 2**32), tf.uint32)
    kept = _current_step().bits(inputs, self._stream) >= dropped
    # In float32: a scale of 1 / 0.9 would be 0.16% too large in bfloat16.
    scaled = tf.cast(tf.cast(inputs, tf.float32) / (1 - self.rate), inputs.dtype)
    return tf.where(kept, scaled, tf.zeros_like(inputs))


class Noise(tf.keras.layers.Layer):
  """Adds normal noise in training (Sietsma and Dow 1991, doi:10.1016/0893-6080(91)90033-2).

  Like `tf.keras.layers.GaussianNoise`, but a function of seed, example and layer, as `Dropout` is.
  """

  def __init__(self, deviation: float, *, stream: int, name: str):
    """Makes the layer.

    Args:
      deviation: standard deviation of the noise.
      stream: its stream of random numbers, of `data.randomness`.
      name: of the layer.
    """
    super().__init__(name=name)
    self.deviation = deviation
    self._stream = stream

  def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape is unchanged."""
    return input_shape

  def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
    """Adds noise to `inputs` [batch, ...] in training, else returns them."""
    if not training or not self.deviation:
      return inputs
    # As many bits as keep the fractions exact, above 0 and below 1.
    drawn = _current_step().bits(inputs, self._stream)
    bits = tf.bitwise.right_shift(drawn, tf.constant(9, tf.uint32))
    shares = (tf.cast(tf.cast(bits, tf.int32), tf.float32) + 0.5) / 2.0**23
    return inputs + tf.cast(self.deviation * tf.math.ndtri(shares), inputs.dtype)


class BatchNorm(tf.keras.layers.BatchNormalization):
  """Batch normalization (Ioffe and Szegedy 2015, arXiv:1502.03167) over the global batch.

  It is Keras's, with TensorFlow's fused operation where that takes a third of the time: for a
  multiple of 16 channels, and for training on one replica or on several CPUs.
  """

  def __init__(self) -> None:
    strategy = tf.distribute.get_strategy()
    several = strategy.num_replicas_in_sync > 1
    super().__init__(momentum=_NORM_MOMENTUM, synchronized=several, name="norm")
    # On GPUs the operation has no deterministic gradient for given statistics.
    self._trains_fused = not several or all(
      "CPU" in device for device in strategy.extended.worker_devices
    )

  def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
    """Returns `inputs` [batch, ..., channels] normalized; in training by their own statistics."""
    if inputs.shape[-1] % _FUSED_CHANNELS or (training and not self._trains_fused):
      return super().call(inputs, training=training)
    is_flat = inputs.shape.rank == 2
    maps = inputs[:, None, None] if is_flat else inputs
    scale, offset = self.gamma.value, self.beta.value
    if training:
      normalize = _normalize_by_all_replicas if self.synchronized else _normalize
      outputs, mean, variance = normalize(maps, scale, offset, self.epsilon)
      self._move(self.moving_mean, mean)
      self._move(self.moving_variance, variance)
    else:
      outputs, *_ = tf.raw_ops.FusedBatchNormV3(
        x=maps, scale=scale, offset=offset, mean=self.moving_mean.value,
        variance=self.moving_variance.value, epsilon=self.epsilon, is_training=False,
      )  # fmt: skip
    return outputs[:, 0, 0] if is_flat else outputs

  def _move(self, average: tf.keras.Variable, value: tf.Tensor) -> None:
    average.assign(self.momentum * average.value + (1 - self.momentum) * value)


def _normalize(
  maps: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Returns `maps` normalized by their own mean and variance [channels], and these two."""
  outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
    x=maps, scale=scale, offset=offset, mean=[], variance=[], epsilon=epsilon
  )
  # The operation returns the variance of the population that the batch is a sample of.
  count = _values_per_channel(maps)
  return outputs, mean, variance * (count - 1) / count


def _normalize_by_all_replicas(
  maps: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Returns `maps` normalized by the mean and variance over all replicas, and these two.

  Forward and backward pass send one message each. The gradients of `scale` and `offset` are those
  of this replica's examples, which the optimizer sums.
  """

  @tf.custom_gradient
  def normalize(maps, scale, offset):
    _, mean, variance = _normalize(maps, scale, offset, epsilon)
    local = _values_per_channel(maps)
    sums = tf.stack([tf.ones_like(mean), mean, variance + mean**2]) * local
    count, total, total_of_squares = tf.unstack(_sum_over_replicas(sums))
    mean = total / count
    variance = tf.maximum(total_of_squares / count - mean**2, 0.0)

    def gradient(upstream, *_):
      inputs, scales, offsets, *_ = tf.raw_ops.FusedBatchNormGradV3(
        y_backprop=upstream, x=maps, scale=scale, reserve_space_1=mean, reserve_space_2=variance,
        reserve_space_3=[], epsilon=epsilon, is_training=False,
      )  # fmt: skip
      # It takes the statistics for constants; what comes through them is linear in the maps.
      all_scales, all_offsets = tf.unstack(_sum_over_replicas(tf.stack([scales, offsets])))
      inverse = tf.math.rsqrt(variance + epsilon)
      slope = -scale * inverse**2 * all_scales / count
      through_statistics = _affine(
        maps, slope, -scale * inverse * all_offsets / count - slope * mean
      )
      return inputs + through_statistics, scales, offsets

    normalized = _affine(
      maps,
      scale * tf.math.rsqrt(variance + epsilon),
      offset - scale * tf.math.rsqrt(variance + epsilon) * mean,
    )
    return (normalized, mean, variance), gradient

  return normalize(maps, scale, offset)


def _affine(maps: tf.Tensor, slope: tf.Tensor, intercept: tf.Tensor) -> tf.Tensor:
  """Returns `slope * maps + intercept`, [channels] both, calculated in float32."""
  outputs, *_ = tf.raw_ops.FusedBatchNormV3(
    x=maps, scale=slope, offset=intercept, mean=tf.zeros_like(slope),
    variance=tf.ones_like(slope), epsilon=0.0, is_training=False,
  )  # fmt: skip
  return outputs


def _values_per_channel(maps: tf.Tensor) -> tf.Tensor:
  return tf.cast(tf.size(maps) // maps.shape[-1], tf.float32)


def _sum_over_replicas(values: tf.Tensor) -> tf.Tensor:
  return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


class DenseBlock(tf.keras.layers.Layer):
  """A dense layer with optional batch normalization, noise, activation, dropout."""

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
    """Makes the tf.keras.layers.

    Args:
      units: outputs.
      index: position among the hidden layers: masks differ between them.
      seed: of the initial weights.
      activation: name of Keras's function.
      batch_norm: whether to normalize before the activation.
      noise: standard deviation of the noise before the activation.
      dropout_rate: share of the outputs dropped in training.
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
  """A convolution, optional max pooling, a bias or batch normalization, activation.

  The pooling comes first, so that the rest has a quarter of the values. A bias before it would give
  the same maps, but its gradient alone took as long as that of a convolution. An activation
  commutes with max pooling if it never decreases; gelu and silu decrease for some negative inputs,
  so with them the order matters.

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
    """Makes the tf.keras.layers.

    Args:
      index: position among the convolutions.
      filters: number of output maps.
      kernel_size: side of the kernel.
      pool_size: side of the max pooling; 1: none.
      padding: of the convolution, valid or same.
      seed: of the initial weights.
      activation: name of Keras's function.
      batch_norm: whether to normalize before the activation.
      fixed: whether the kernels are not trained.
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
    # Nothing before it needs gradients, which would take a third of a small network's step.
    self.convolution.trainable = not fixed
    self.norm = BatchNorm() if batch_norm and not fixed else None
    self.activation = tf.keras.activations.get(activation)

  def build(self, input_shape: tuple[int, ...]) -> None:
    """Makes the bias."""
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
    """Returns maps [batch, height, width, filters] of maps `inputs`."""
    x = self.convolution(inputs)
    if self.pool is not None:
      x = self.pool(x)
    if self.norm is not None:
      x = self.norm(x, training=training)
    elif not self.is_fixed:
      x = x + self.bias
    return self.activation(x)


def layer_seed(seed: int, layer: int) -> int:
  """Returns a seed for each layer of each run; neighboring seeds share no weights."""
  return int(np.random.SeedSequence([seed, layer]).generate_state(1)[0] >> 1)


def _hidden_initializer(activation: str, seed: int) -> tf.keras.Initializer:
  """Returns the initializer that keeps the variance of activations from layer to layer.

  Glorot and Bengio 2010 for the symmetric ones, Klambauer et al. 2017 (arXiv:1706.02515) for selu,
  He et al. 2015 (arXiv:1502.01852) for relu and similar ones.
  """
  if activation in ("tanh", "sigmoid"):
    return tf.keras.initializers.GlorotUniform(seed)
  if activation == "selu":
    return tf.keras.initializers.LecunNormal(seed)
  return tf.keras.initializers.HeNormal(seed)
