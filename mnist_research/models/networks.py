"""This package's models: subclasses of `tf.keras.Model` from raw images to logits.

A model class is called with `num_classes`, its settings, and `seed` if it takes one; its instance
is called with images, uint8, and `training`. Three optional class attributes describe how to train
it best:

  xla_pays: whether --xla=auto compiles its steps on one device.
  half_precision_pays: a static method of the batch size and the settings: whether --precision=auto
    uses 16 bits if the device multiplies them faster.
  multiplications: a static method of the image's shape, the number of classes and the settings:
    approximately how many multiplications an image takes, which decides the size of a block.

To add one to the package, write its class and name it in `MODELS` of `config/subjects.py`.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from mnist_research.data import randomness
from mnist_research.models.layers import ConvolutionBlock, DenseBlock, Dropout, Noise, layer_seed
from mnist_research.runtime.errors import UserError

layers = tf.keras.layers

# In narrower layers the conversion to 16 bits costs more than it saves.
_WIDE_UNITS = 1000
_WIDE_BATCH = 128
# Their hundred thousand patches are a sufficient sample, and take about 10 ms.
_WHITENED_IMAGES = 200
# A component with a lower variance is noise, and isn't amplified.
_WHITENING_FLOOR = 1e-3


class _Network(tf.keras.Model):
  """The parts that both models share: scaling of pixels, noise, hidden layers and logits.

  Layers are created in the order of the data flow, because Keras lists them and their weights in
  the order of creation.
  """

  def __init__(self, *, input_dropout_rate: float, noise: float):
    super().__init__()
    # Layers without an effect are omitted.
    self.pixel_layers = []
    if input_dropout_rate:
      stream = randomness.INPUT_DROPOUT
      self.pixel_layers.append(Dropout(input_dropout_rate, stream=stream, name="input_dropout"))
    if noise:
      self.pixel_layers.append(Noise(noise, stream=randomness.INPUT_NOISE, name="input_noise"))

  def _add_head(
    self,
    num_classes: int,
    *,
    hidden_units: Sequence[int],
    activation: str,
    batch_norm: bool,
    dropout_rate: float,
    noise: float,
    seed: int,
    first_layer: int,
  ) -> None:
    """Creates the hidden layers and the last layer; `first_layer` is the index of the first."""
    self.hidden = [
      DenseBlock(
        units,
        index=index,
        seed=layer_seed(seed, first_layer + index),
        activation=activation,
        batch_norm=batch_norm,
        noise=noise,
        dropout_rate=dropout_rate,
      )
      for index, units in enumerate(hidden_units)
    ]
    last_seed = layer_seed(seed, first_layer + len(hidden_units))
    self.logits = layers.Dense(
      num_classes,
      kernel_initializer=tf.keras.initializers.GlorotUniform(last_seed),
      dtype="float32",
      name="logits",
    )

  def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
    """Returns the logits, float32 [batch, classes].

    Args:
      images: [batch, height, width, channels], uint8, or floats from 0 to 255.
      training: whether dropout, noise and batch normalization are active; this needs
        `layers.step_randomness` around the call.
    """
    return self.layer_outputs(images, training=training)["logits"]

  def layer_outputs(self, images: tf.Tensor, training: bool = False) -> dict[str, tf.Tensor]:
    """Returns the output of each layer with weights, [batch, ...], by name; `logits` is last.

    Takes the arguments of `call`.
    """
    x = tf.cast(images, self.compute_dtype) / 255
    for layer in self.pixel_layers:
      x = layer(x, training=training)
    x, outputs = self._features(x, training)
    for block in self.hidden:
      x = outputs[block.name] = block(x, training=training)
    outputs["logits"] = self.logits(x)
    return outputs

  def _features(self, x: tf.Tensor, training: bool) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Returns the features [batch, ...] for the hidden layers, and the layers' outputs."""
    raise NotImplementedError


class DenseNetwork(_Network):
  """Fully connected layers over the flattened image."""

  # XLA fuses the many small operations of a step, which is three times as fast on a CPU.
  xla_pays = True

  def __init__(
    self,
    num_classes: int,
    *,
    hidden_units: Sequence[int] = (128, 128),
    activation: str = "relu",
    batch_norm: bool = False,
    dropout_rate: float = 0.0,
    input_dropout_rate: float = 0.0,
    noise: float = 0.0,
    seed: int = 0,
  ):
    """Creates the layers; the first call creates their weights. See `ModelConfig` for settings."""
    super().__init__(input_dropout_rate=input_dropout_rate, noise=noise)
    self.flatten = layers.Flatten(data_format="channels_last")
    self._add_head(
      num_classes,
      hidden_units=hidden_units,
      activation=activation,
      batch_norm=batch_norm,
      dropout_rate=dropout_rate,
      noise=noise,
      seed=seed,
      first_layer=0,
    )

  def _features(self, x: tf.Tensor, training: bool) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    del training
    return self.flatten(x), {}

  @staticmethod
  def half_precision_pays(batch_size: int, *, hidden_units: Sequence[int], **_: Any) -> bool:
    """Whether the layers are wide enough and the batches large enough."""
    return max(hidden_units, default=0) >= _WIDE_UNITS and batch_size >= _WIDE_BATCH

  @staticmethod
  def multiplications(
    image_shape: tuple[int, ...], num_classes: int, *, hidden_units: Sequence[int], **_: Any
  ) -> int:
    """Returns the number of multiplications for an image."""
    return _hidden_multiplications(math.prod(image_shape), hidden_units, num_classes)


class ConvolutionalNetwork(_Network):
  """Convolutions, then dense layers over their features."""

  # On a CPU, XLA's convolutions take dozens of times as long as oneDNN's.
  xla_pays = False

  def __init__(
    self,
    num_classes: int,
    *,
    filters: Sequence[int] = (24, 32),
    kernel_sizes: Sequence[int] = (5, 3),
    pool_sizes: Sequence[int] = (2, 2),
    padding: str = "valid",
    global_pooling: bool = False,
    whitening: bool = False,
    hidden_units: Sequence[int] = (128, 128),
    activation: str = "relu",
    batch_norm: bool = False,
    dropout_rate: float = 0.0,
    input_dropout_rate: float = 0.0,
    noise: float = 0.0,
    seed: int = 0,
  ):
    """Creates the layers; the first call creates their weights. See `ModelConfig` for settings."""
    super().__init__(input_dropout_rate=input_dropout_rate, noise=noise)
    self.convolutions = [
      ConvolutionBlock(
        index=index,
        filters=count,
        kernel_size=kernel_sizes[index],
        pool_size=pool_sizes[index],
        padding=padding,
        seed=layer_seed(seed, index),
        activation=activation,
        batch_norm=batch_norm,
        fixed=whitening and index == 0,
      )
      for index, count in enumerate(filters)
    ]
    pooling = layers.GlobalAveragePooling2D if global_pooling else layers.Flatten
    self.pooling = pooling(data_format="channels_last")
    stream = randomness.FEATURES_DROPOUT
    # Layers without an effect are omitted.
    self.dropout = (
      Dropout(dropout_rate, stream=stream, name="features_dropout") if dropout_rate else None
    )
    self._add_head(
      num_classes,
      hidden_units=hidden_units,
      activation=activation,
      batch_norm=batch_norm,
      dropout_rate=dropout_rate,
      noise=noise,
      seed=seed,
      first_layer=len(filters),
    )

  def build(self, input_shape: tuple[int, ...]) -> None:
    """Checks that the convolutions and poolings leave at least a pixel of the image.

    Raises:
      UserError: they leave nothing.
    """
    height, width = input_shape[1:3]
    for block in self.convolutions:
      kernel_size, pool_size = block.convolution.kernel_size[0], _pool_size(block)
      removed = kernel_size - 1 if block.convolution.padding == "valid" else 0
      height, width = (height - removed) // pool_size, (width - removed) // pool_size
    if min(height, width) < 1:
      raise UserError(
        f"--kernel_sizes={_listed(b.convolution.kernel_size[0] for b in self.convolutions)} with "
        f"--pool_sizes={_listed(map(_pool_size, self.convolutions))} leave nothing of "
        f"{input_shape[1]}x{input_shape[2]} pixels: use smaller ones, or --padding=same"
      )

  def _features(self, x: tf.Tensor, training: bool) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    outputs = {}
    for block in self.convolutions:
      x = outputs[block.name] = block(x, training=training)
    x = self.pooling(x)
    return x if self.dropout is None else self.dropout(x, training=training), outputs

  @staticmethod
  def half_precision_pays(batch_size: int, **_: Any) -> bool:
    """Returns True, because 16 bits always pay off for convolutions."""
    del batch_size
    return True

  @staticmethod
  def multiplications(
    image_shape: tuple[int, ...],
    num_classes: int,
    *,
    filters: Sequence[int],
    kernel_sizes: Sequence[int],
    pool_sizes: Sequence[int],
    padding: str,
    global_pooling: bool,
    hidden_units: Sequence[int],
    **_: Any,
  ) -> int:
    """Returns the number of multiplications for an image."""
    total, (height, width, channels) = 0, image_shape
    for count, kernel_size, pool_size in zip(filters, kernel_sizes, pool_sizes, strict=True):
      removed = kernel_size - 1 if padding == "valid" else 0
      height, width = height - removed, width - removed
      total += height * width * kernel_size**2 * channels * count
      height, width, channels = height // pool_size, width // pool_size, count
    features = channels if global_pooling else height * width * channels
    return total + _hidden_multiplications(features, hidden_units, num_classes)


def whiten(model: ConvolutionalNetwork, images: np.ndarray) -> None:
  """Sets the fixed kernels of the first convolution, for `--whitening`.

  They are the principal components of patches from some of the `images`, scaled to unit variance,
  strongest first, followed by their negatives (Jordan 2024, arXiv:2404.00498, after Page 2018).

  Args:
    model: the model.
    images: uint8 [N, height, width, channels], in the same order for every run.
  """
  kernel = model.convolutions[0].convolution.kernel
  side, _, channels, filters = kernel.shape
  scaled = images[:_WHITENED_IMAGES].astype(np.float32) / 255
  patches = np.lib.stride_tricks.sliding_window_view(scaled, (side, side), axis=(1, 2))
  patches = np.moveaxis(patches, 3, -1).reshape(-1, side * side * channels)
  variances, components = np.linalg.eigh(np.cov(patches, rowvar=False))
  strongest = slice(None, -(filters // 2) - 1, -1)
  kernels = components[:, strongest] / np.sqrt(variances[strongest] + _WHITENING_FLOOR)
  # The sign of a component is arbitrary; its largest entry decides which kernel comes first.
  kernels *= np.sign(np.take_along_axis(kernels, np.abs(kernels).argmax(0)[None], axis=0))
  kernel.assign(np.concatenate([kernels, -kernels], axis=1).reshape(kernel.shape))


def _hidden_multiplications(features: int, hidden_units: Sequence[int], num_classes: int) -> int:
  widths = [features, *hidden_units, num_classes]
  return sum(inputs * units for inputs, units in itertools.pairwise(widths))


def _pool_size(block: ConvolutionBlock) -> int:
  return block.pool.pool_size[0] if block.pool is not None else 1


def _listed(numbers: Any) -> str:
  return ",".join(map(str, numbers))
