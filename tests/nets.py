"""Creates and calls networks for the tests: for MNIST's shape, with or without randomness."""

from typing import Any

import tensorflow as tf

from mnist_research.config import Config
from mnist_research.models import creation
from mnist_research.models.layers import step_randomness

IMAGE_SHAPE = (28, 28, 1)


def create_model(config: Config, num_classes: int = 10) -> tf.keras.Model:
  """Returns the network of `config` for images of 28x28x1."""
  return creation.create_model(config, image_shape=IMAGE_SHAPE, num_classes=num_classes)


def in_training(
  layer: tf.keras.layers.Layer,
  inputs: Any,
  *,
  seed: int = 1,
  first: int = 0,
  positions: Any = None,
) -> tf.Tensor:
  """Returns the output of a layer or network in a training step, for examples from `first` on."""
  if positions is None:
    positions = tf.range(first, first + len(inputs), dtype=tf.int64)
  with step_randomness(seed=seed, positions=tf.convert_to_tensor(positions)):
    return layer(inputs, training=True)
