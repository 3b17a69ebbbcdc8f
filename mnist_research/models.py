"""The networks: subclassed `tf.keras.Model`s that take raw images and return logits.

To add one: write the class here, name it in `config.MODELS`, and make it in `create_model`.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from mnist_research.config import Config

layers = tf.keras.layers
initializers = tf.keras.initializers

IMAGE_SHAPE = (28, 28, 1)
_MIXED_PRECISION = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


@dataclasses.dataclass(frozen=True)  # No tuple: Keras takes none that mixes tensors and numbers.
class StepRandomness:
  """What a training step's random numbers are made of: no layer keeps a generator of its own.

  Attributes:
    seed: int32 [2], different in each step.
    first_example: int32 [], place of this replica's first example in the global batch.
    batch_size: size of the global batch.
  """

  seed: tf.Tensor
  first_example: tf.Tensor
  batch_size: int


class Dropout(tf.keras.layers.Layer):
  """Dropout (Srivastava et al. 2014) whose mask is a function of seed, layer and example.

  The mask is drawn for the global batch and cut for the replica, so that any number of replicas
  drops the same units. `tf.keras.layers.Dropout` advances a generator instead: its masks would
  depend on where the run was interrupted.
  """

  def __init__(self, rate: float, *, layer_index: int, **kwargs):
    super().__init__(**kwargs)
    self.rate = rate
    self._layer_index = layer_index

  def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape stays."""
    return input_shape

  def call(self, inputs: tf.Tensor, randomness: StepRandomness | None = None) -> tf.Tensor:
    """Drops units of `inputs` [batch, ...] where `randomness` is given, else returns them."""
    if randomness is None or not self.rate:
      return inputs
    seed = tf.random.experimental.stateless_fold_in(
      randomness.seed, self._layer_index, alg="philox"
    )
    shape = [randomness.batch_size, *inputs.shape[1:]]
    # Whole numbers: XLA makes other fractions of the same bits.
    bits = tf.random.stateless_uniform(shape, seed, None, None, tf.uint32, alg="philox")
    bits = tf.cast(bits, tf.float32)[randomness.first_example :][: inputs.shape[0]]
    kept = bits >= self.rate * 2**32
    return tf.where(kept, inputs / (1 - self.rate), tf.zeros_like(inputs))


class DenseNetwork(tf.keras.Model):
  """Fully connected layers over the flattened image."""

  def __init__(
    self,
    *,
    num_classes: int,
    hidden_units: tuple[int, ...],
    activation: str,
    dropout_rate: float,
    seed: int,
    dtype: str = "float32",
  ):
    """Makes the layers; the weights come with the first call.

    Args:
      num_classes: number of logits.
      hidden_units: units of each hidden layer.
      activation: of the hidden layers, as Keras names it.
      dropout_rate: share of each hidden layer's outputs dropped in training.
      seed: of the initial weights.
      dtype: Keras's name of the precision policy.
    """
    super().__init__(dtype=dtype)
    self.flatten = layers.Flatten(dtype=dtype)
    self.hidden = [
      layers.Dense(
        units,
        activation=activation,
        kernel_initializer=_hidden_initializer(activation, _layer_seed(seed, index)),
        dtype=dtype,
        name=f"hidden_{index}",
      )
      for index, units in enumerate(hidden_units)
    ]
    self.dropouts = [
      Dropout(dropout_rate, layer_index=index, dtype=dtype, name=f"dropout_{index}")
      for index in range(len(hidden_units))
    ]
    self.logits = layers.Dense(
      num_classes,
      kernel_initializer=initializers.GlorotUniform(_layer_seed(seed, len(hidden_units))),
      dtype="float32",
      name="logits",
    )

  def call(self, images: tf.Tensor, randomness: StepRandomness | None = None) -> tf.Tensor:
    """Returns the logits, float32 [batch, classes].

    Args:
      images: [batch, 28, 28, 1], uint8, or floats from 0 to 255.
      randomness: what dropout draws from in a training step; None: nothing is dropped.
    """
    x = self.flatten(tf.cast(images, self.compute_dtype) / 255)
    for hidden, dropout in zip(self.hidden, self.dropouts, strict=True):
      x = dropout(hidden(x), randomness=randomness)
    return self.logits(x)


def create_model(config: Config, num_classes: int) -> tf.keras.Model:
  """Returns the network that `config` names, its weights drawn from `config.seed`."""
  model = DenseNetwork(
    num_classes=num_classes,
    hidden_units=config.hidden_units,
    activation=config.activation,
    dropout_rate=config.dropout_rate,
    seed=config.seed,
    dtype=_MIXED_PRECISION[config.precision],
  )
  model(tf.zeros([1, *IMAGE_SHAPE], tf.uint8))
  return model


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
