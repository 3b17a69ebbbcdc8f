"""The networks: subclassed `tf.keras.Model`s that take raw images and return logits.

To add one: write the class here, name it in `config.MODELS`, and make it in `create_model`.
"""

import dataclasses
import itertools
import math

import numpy as np
import tensorflow as tf

from mnist_research import precision
from mnist_research import randomness as randomness_lib
from mnist_research.config import Config
from mnist_research.errors import UserError

layers = tf.keras.layers
initializers = tf.keras.initializers

IMAGE_SHAPE = (28, 28, 1)
# Keras's 0.99 remembers the statistics of hundreds of steps, in which these networks change much.
_NORM_MOMENTUM = 0.9
# Their patches, a hundred thousand, tell the components of all; it takes some 10 ms.
_WHITENED_IMAGES = 200
# Variance below which a component is noise, not to be made as large as the others.
_WHITENING_FLOOR = 1e-3
# The fused operation takes longer than Keras's for channels in other numbers.
_FUSED_CHANNELS = 16


@dataclasses.dataclass(frozen=True)  # No tuple: Keras takes none that mixes tensors and numbers.
class StepRandomness:
  """What a training step's random numbers are made of: no layer keeps a generator of its own.

  Attributes:
    seed: of the run.
    positions: int64 [batch], place of each example in the run's stream of examples.
  """

  seed: int
  positions: tf.Tensor

  def bits(self, inputs: tf.Tensor, name: int) -> tf.Tensor:
    """Returns a number, uint32, for each of `inputs` [batch, ...], other ones for another `name`.

    Those of an example are the same on any number of replicas, and in a run that was interrupted.
    """
    count = math.prod(inputs.shape[1:])
    drawn = randomness_lib.bits(self.positions, count, seed=self.seed, name=name)
    return tf.reshape(drawn, tf.shape(inputs))


class Dropout(tf.keras.layers.Layer):
  """Dropout (Srivastava et al. 2014) whose mask is a function of seed, example and layer.

  `tf.keras.layers.Dropout` advances a generator instead: its masks would depend on where the run
  was interrupted and on the number of replicas.
  """

  def __init__(self, rate: float, *, stream: int, **kwargs):
    super().__init__(**kwargs)
    self.rate = rate
    self._stream = stream

  def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape stays."""
    return input_shape

  def call(self, inputs: tf.Tensor, randomness: StepRandomness | None = None) -> tf.Tensor:
    """Drops units of `inputs` [batch, ...] where `randomness` is given, else returns them."""
    if randomness is None or not self.rate:
      return inputs
    dropped = tf.constant(int(self.rate * 2**32), tf.uint32)
    kept = randomness.bits(inputs, self._stream) >= dropped
    return tf.where(kept, inputs / (1 - self.rate), tf.zeros_like(inputs))


class Noise(tf.keras.layers.Layer):
  """Adds normal noise in training (Sietsma and Dow 1991, doi:10.1016/0893-6080(91)90033-2).

  It stands to `tf.keras.layers.GaussianNoise` as `Dropout` to Keras's.
  """

  def __init__(self, deviation: float, *, stream: int, **kwargs):
    super().__init__(**kwargs)
    self.deviation = deviation
    self._stream = stream

  def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape stays."""
    return input_shape

  def call(self, inputs: tf.Tensor, randomness: StepRandomness | None = None) -> tf.Tensor:
    """Adds noise to `inputs` [batch, ...] where `randomness` is given, else returns them."""
    if randomness is None or not self.deviation:
      return inputs
    # As many bits as leave the shares exact, above 0 and below 1.
    bits = tf.bitwise.right_shift(randomness.bits(inputs, self._stream), tf.constant(9, tf.uint32))
    shares = (tf.cast(tf.cast(bits, tf.int32), tf.float32) + 0.5) / 2.0**23
    return inputs + tf.cast(self.deviation * tf.math.ndtri(shares), inputs.dtype)


class BatchNorm(tf.keras.layers.BatchNormalization):
  """Batch normalisation (Ioffe and Szegedy 2015, arXiv:1502.03167) over the global batch.

  It is Keras's, but for a training step on one replica: there TensorFlow's own operation does the
  same in a third of the time, unless the channels are few or don't come in sixteens.
  """

  def __init__(self, dtype: str):
    several = tf.distribute.get_strategy().num_replicas_in_sync > 1
    super().__init__(momentum=_NORM_MOMENTUM, synchronized=several, dtype=dtype, name="norm")

  def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
    """Returns `inputs` [batch, ..., channels] normalised; in training by their own statistics."""
    if not training or self.synchronized or inputs.shape[-1] % _FUSED_CHANNELS:
      return super().call(inputs, training=training)
    maps = inputs if inputs.shape.rank == 4 else inputs[:, None, None]
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
      x=maps, scale=self.gamma, offset=self.beta, mean=[], variance=[], epsilon=self.epsilon
    )
    # The operation gives the variance of those that the batch was drawn from.
    count = tf.cast(tf.size(maps) // maps.shape[-1], tf.float32)
    self._move(self.moving_mean, mean)
    self._move(self.moving_variance, variance * (count - 1) / count)
    return tf.reshape(outputs, tf.shape(inputs))

  def _move(self, average: tf.keras.Variable, value: tf.Tensor) -> None:
    average.assign(self.momentum * average.value + (1 - self.momentum) * value)


class DenseBlock(tf.keras.layers.Layer):
  """A fully connected layer, batch normalisation if asked for, noise, activation, dropout."""

  def __init__(self, units: int, *, index: int, seed: int, config: Config, dtype: str):
    """Makes the layers.

    Args:
      units: outputs.
      index: place among the hidden layers: masks and initial weights differ between them.
      seed: of the initial weights.
      config: gives activation, batch normalisation, noise and dropout.
      dtype: Keras's name of the precision policy.
    """
    super().__init__(dtype=dtype, name=f"hidden_{index}")
    self.dense = layers.Dense(
      units,
      use_bias=not config.batch_norm,
      kernel_initializer=_hidden_initializer(config.activation, seed),
      dtype=dtype,
      name="dense",
    )
    self.norm = BatchNorm(dtype) if config.batch_norm else None
    self.noise = Noise(
      config.noise, stream=randomness_lib.HIDDEN_NOISE + index, dtype=dtype, name="noise"
    )
    self.activation = tf.keras.activations.get(config.activation)
    self.dropout = Dropout(
      config.dropout_rate, stream=randomness_lib.HIDDEN_DROPOUT + index, dtype=dtype, name="dropout"
    )

  def call(self, inputs: tf.Tensor, randomness: StepRandomness | None = None) -> tf.Tensor:
    """Returns [batch, units] for `inputs` [batch, features]; a training step has `randomness`."""
    x = self.dense(inputs)
    if self.norm is not None:
      x = self.norm(x, training=randomness is not None)
    x = self.noise(x, randomness=randomness)
    return self.dropout(self.activation(x), randomness=randomness)


class ConvolutionBlock(tf.keras.layers.Layer):
  """A convolution, max pooling if asked for, a bias or batch normalisation, activation.

  With `--whitening` the first has kernels that `whiten` makes, and neither of the two.

  The pooling comes first: what follows has a quarter of the values then. To add a bias, or apply a
  rising activation, before it would give the same; the gradient of such a bias alone took as long
  as that of a convolution.
  """

  def __init__(self, *, index: int, seed: int, config: Config, dtype: str):
    """Makes the layers.

    Args:
      index: which of the convolutions of `config`.
      seed: of the initial weights.
      config: gives filters, kernel and pool sizes, padding, activation, batch normalisation.
      dtype: Keras's name of the precision policy.
    """
    super().__init__(dtype=dtype, name=f"convolution_{index}")
    self.convolution = layers.Conv2D(
      config.filters[index],
      config.kernel_sizes[index],
      padding=config.padding,
      use_bias=False,
      kernel_initializer=_hidden_initializer(config.activation, seed),
      dtype=dtype,
      name="convolution",
    )
    pool_size = config.pool_sizes[index]
    self.pool = layers.MaxPooling2D(pool_size, dtype=dtype) if pool_size > 1 else None
    self.is_fixed = config.whitens and index == 0
    # Gradients, which it would pass on to nobody, end here: a third of a small network's step.
    self.convolution.trainable = not self.is_fixed
    self.norm = BatchNorm(dtype) if config.batch_norm and not self.is_fixed else None
    self.activation = tf.keras.activations.get(config.activation)

  def build(self, input_shape: tuple[int, ...]) -> None:
    """Makes the bias."""
    if self.norm is None and not self.is_fixed:
      self.bias = self.add_weight(
        shape=[self.convolution.filters], initializer="zeros", name="bias"
      )
    super().build(input_shape)

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


class DenseNetwork(tf.keras.Model):
  """Fully connected layers over the flattened image."""

  def __init__(self, config: Config, num_classes: int):
    """Makes the layers that `config` describes; the weights come with the first call."""
    dtype = precision.policy(config.precision)
    super().__init__(dtype=dtype)
    self.input_dropout, self.input_noise = _input_layers(config, dtype)
    self.flatten = layers.Flatten(dtype=dtype)
    self.hidden, self.logits = _head(config, num_classes, first_layer=0, dtype=dtype)

  def call(self, images: tf.Tensor, randomness: StepRandomness | None = None) -> tf.Tensor:
    """Returns the logits, float32 [batch, classes].

    Args:
      images: [batch, 28, 28, 1], uint8, or floats from 0 to 255.
      randomness: what dropout and noise draw from in a training step; None: neither acts.
    """
    return self.layer_outputs(images, randomness)["logits"]

  def layer_outputs(
    self, images: tf.Tensor, randomness: StepRandomness | None = None
  ) -> dict[str, tf.Tensor]:
    """Returns what each layer with weights gives, [batch, ...], by its name; `logits` is last.

    The arguments are those of `call`.
    """
    x = self.flatten(_scaled(images, self.compute_dtype))
    x = self.input_noise(self.input_dropout(x, randomness=randomness), randomness=randomness)
    outputs = {}
    for block in self.hidden:
      x = outputs[block.name] = block(x, randomness=randomness)
    outputs["logits"] = self.logits(x)
    return outputs


class ConvolutionalNetwork(tf.keras.Model):
  """Convolutions, then fully connected layers over what they found."""

  def __init__(self, config: Config, num_classes: int):
    """Makes the layers that `config` describes; the weights come with the first call.

    Raises:
      UserError: the convolutions and poolings leave nothing of the image.
    """
    dtype = precision.policy(config.precision)
    super().__init__(dtype=dtype)
    _check_map_sizes(config)
    self.input_dropout, self.input_noise = _input_layers(config, dtype)
    self.convolutions = [
      ConvolutionBlock(index=i, seed=_layer_seed(config.seed, i), config=config, dtype=dtype)
      for i in range(len(config.filters))
    ]
    pooling = layers.GlobalAveragePooling2D if config.global_pooling else layers.Flatten
    self.pooling = pooling(dtype=dtype)
    self.dropout = Dropout(
      config.dropout_rate,
      stream=randomness_lib.FEATURES_DROPOUT,
      dtype=dtype,
      name="features_dropout",
    )
    self.hidden, self.logits = _head(
      config, num_classes, first_layer=len(config.filters), dtype=dtype
    )

  def call(self, images: tf.Tensor, randomness: StepRandomness | None = None) -> tf.Tensor:
    """Returns the logits, float32 [batch, classes].

    Args:
      images: [batch, 28, 28, 1], uint8, or floats from 0 to 255.
      randomness: what dropout and noise draw from in a training step; None: neither acts.
    """
    return self.layer_outputs(images, randomness)["logits"]

  def layer_outputs(
    self, images: tf.Tensor, randomness: StepRandomness | None = None
  ) -> dict[str, tf.Tensor]:
    """Returns what each layer with weights gives, [batch, ...], by its name; `logits` is last.

    The arguments are those of `call`.
    """
    x = self.input_dropout(_scaled(images, self.compute_dtype), randomness=randomness)
    x = self.input_noise(x, randomness=randomness)
    outputs = {}
    for block in self.convolutions:
      x = outputs[block.name] = block(x, training=randomness is not None)
    x = self.dropout(self.pooling(x), randomness=randomness)
    for block in self.hidden:
      x = outputs[block.name] = block(x, randomness=randomness)
    outputs["logits"] = self.logits(x)
    return outputs


def create_model(config: Config, num_classes: int) -> tf.keras.Model:
  """Returns the network that `config` names, its weights drawn from `config.seed`."""
  networks: dict[str, type[tf.keras.Model]] = {
    "dense": DenseNetwork,
    "cnn": ConvolutionalNetwork,
  }
  model = networks[config.model](config, num_classes)
  model(tf.zeros([1, *IMAGE_SHAPE], tf.uint8))
  return model


def whiten(model: ConvolutionalNetwork, images: np.ndarray) -> None:
  """Gives the first convolution the kernels that it keeps with `--whitening`.

  They are the principal components of the patches of some `images`, each scaled to unit variance,
  the strongest first, and then their negatives (Jordan 2024, arXiv:2404.00498, after Page 2018).

  Args:
    model: the network.
    images: uint8 [N, 28, 28, 1], in the order in which every run has them.
  """
  kernel = model.convolutions[0].convolution.kernel
  side, _, _, filters = kernel.shape
  scaled = images[:_WHITENED_IMAGES, ..., 0].astype(np.float32) / 255
  patches = np.lib.stride_tricks.sliding_window_view(scaled, (side, side), axis=(1, 2))
  variances, components = np.linalg.eigh(np.cov(patches.reshape(-1, side * side), rowvar=False))
  strongest = slice(None, -(filters // 2) - 1, -1)
  chosen = components[:, strongest] / np.sqrt(variances[strongest] + _WHITENING_FLOOR)
  # A component has either sign: which of its two kernels comes first is settled by its largest.
  chosen *= np.sign(np.take_along_axis(chosen, np.abs(chosen).argmax(0)[None], axis=0))
  kernel.assign(np.concatenate([chosen, -chosen], axis=1).reshape(kernel.shape))


def multiplications(config: Config) -> int:
  """Returns about how many numbers are multiplied when the network of `config` sees an image."""
  total, features = 0, math.prod(IMAGE_SHAPE)
  if config.model == "cnn":
    channels = IMAGE_SHAPE[-1]
    sizes = zip(config.filters, config.kernel_sizes, _map_sides(config), strict=True)
    for filters, kernel_size, (convolved, side) in sizes:
      total += convolved**2 * kernel_size**2 * channels * filters
      channels, features = filters, (1 if config.global_pooling else side**2) * filters
  for inputs, units in itertools.pairwise([features, *config.hidden_units]):
    total += inputs * units
  return total


def _scaled(images: tf.Tensor, dtype: str) -> tf.Tensor:
  return tf.cast(images, dtype) / 255


def _input_layers(config: Config, dtype: str) -> tuple[Dropout, Noise]:
  return (
    Dropout(
      config.input_dropout_rate,
      stream=randomness_lib.INPUT_DROPOUT,
      dtype=dtype,
      name="input_dropout",
    ),
    Noise(config.noise, stream=randomness_lib.INPUT_NOISE, dtype=dtype, name="input_noise"),
  )


def _head(
  config: Config, num_classes: int, *, first_layer: int, dtype: str
) -> tuple[list[DenseBlock], tf.keras.layers.Dense]:
  """Returns the hidden layers and the last one, whose weights are those of layer `first_layer`."""
  seeds = [_layer_seed(config.seed, first_layer + i) for i in range(len(config.hidden_units) + 1)]
  hidden = [
    DenseBlock(units, index=index, seed=seeds[index], config=config, dtype=dtype)
    for index, units in enumerate(config.hidden_units)
  ]
  logits = layers.Dense(
    num_classes,
    kernel_initializer=initializers.GlorotUniform(seeds[-1]),
    dtype="float32",
    name="logits",
  )
  return hidden, logits


def _map_sides(config: Config) -> list[tuple[int, int]]:
  """Returns height and width of the maps of each convolution, before and after the pooling."""
  sides, side = [], IMAGE_SHAPE[0]
  for kernel_size, pool_size in zip(config.kernel_sizes, config.pool_sizes, strict=True):
    convolved = side - kernel_size + 1 if config.padding == "valid" else side
    side = convolved // pool_size
    sides.append((convolved, side))
  return sides


def _check_map_sizes(config: Config) -> None:
  """Raises UserError where the maps shrink to nothing."""
  if min(side for _, side in _map_sides(config)) < 1:
    raise UserError(
      f"--kernel_sizes={','.join(map(str, config.kernel_sizes))} with --pool_sizes="
      f"{','.join(map(str, config.pool_sizes))} leave nothing of {IMAGE_SHAPE[0]} pixels: use "
      "smaller ones, or --padding=same"
    )


def _layer_seed(seed: int, layer: int) -> int:
  """An independent seed for each layer of each run; neighbouring seeds must not share weights."""
  return int(np.random.SeedSequence([seed, layer]).generate_state(1)[0] >> 1)


def _hidden_initializer(activation: str, seed: int) -> tf.keras.Initializer:
  """The initialiser that keeps the variance of activations from layer to layer.

  Glorot and Bengio 2010 for the symmetric ones, Klambauer et al. 2017 (arXiv:1706.02515) for selu,
  He et al. 2015 (arXiv:1502.01852) for relu and what resembles it.
  """
  if activation in ("tanh", "sigmoid"):
    return initializers.GlorotUniform(seed)
  if activation == "selu":
    return initializers.LecunNormal(seed)
  return initializers.HeNormal(seed)
