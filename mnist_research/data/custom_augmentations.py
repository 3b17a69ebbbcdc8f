"""Custom augmentations: `--augment=my_file.py:warp`.

Each is a function `warp(images, draw, **settings)` of TensorFlow operations that returns new images
of the same shape. It is traced once, not called for each batch. `images` are uint8 [N, height,
width, channels], after the preceding augmentations; `draw(count)` returns float32 [N, count],
uniform in [0, 1) and different in each call; `settings` come from `--augment_settings`.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from mnist_research.config import AugmentationConfig
from mnist_research.config.setting import parse_keywords
from mnist_research.data import randomness
from mnist_research.runtime import extensions
from mnist_research.runtime.errors import UserError


def references(config: AugmentationConfig) -> list[str]:
  """Returns the references to custom functions among the augmentations, in order."""
  return [kind for kind in config.augment if extensions.is_reference(kind)]


def apply(
  images: tf.Tensor, positions: tf.Tensor, config: AugmentationConfig, seed: int
) -> tf.Tensor:
  """Applies the custom augmentations in the order of `--augment`.

  Args:
    images: uint8 [N, height, width, channels].
    positions: int64 [N], the positions of the examples in the run's stream.
    config: the references, and the settings that every function receives.
    seed: the run's seed.

  Returns:
    uint8 [N, height, width, channels]; floats are rounded, and values are clipped to [0, 255].

  Raises:
    UserError: a function is missing, fails, or doesn't return such images.
  """
  settings = parse_keywords("augment_settings", config.augment_settings)
  for index, reference in enumerate(references(config)):
    draw = _create_draw(positions, seed, randomness.CUSTOM_AUGMENTATION + index)
    images = _changed(images, reference, draw, settings)
  return images


def _create_draw(positions: tf.Tensor, seed: int, stream: int) -> Callable[[int], tf.Tensor]:
  """Returns a function that returns the next numbers of a stream for each position."""
  taken = 0

  def draw(count: int) -> tf.Tensor:
    nonlocal taken
    first, taken = taken, taken + count
    return randomness.uniform(positions, taken, seed=seed, stream=stream)[:, first:]

  return draw


def _changed(
  images: tf.Tensor,
  reference: str,
  draw: Callable[[int], tf.Tensor],
  settings: dict[str, Any],
) -> tf.Tensor:
  function = extensions.load("augment", reference)
  with extensions.attribute_errors("augment", reference):
    result = tf.convert_to_tensor(function(images, draw, **settings))
  is_number = result.dtype.is_floating or result.dtype.is_integer
  if not is_number or not result.shape.is_compatible_with(images.shape):
    raise UserError(
      f"--augment={reference}: returned {result.dtype.name} {result.shape}; it must return images "
      f"in the shape of those it gets, {images.shape}"
    )
  if result.dtype.is_floating:
    result = tf.round(result)
  if result.dtype != tf.uint8:
    result = tf.cast(tf.clip_by_value(result, 0, 255), tf.uint8)
  return tf.ensure_shape(result, images.shape)
