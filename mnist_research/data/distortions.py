"""Augmentations that change the look of ink and paper: pen, light, blur, noise, lines.

Each kind independently changes a random share of the images by a random amount. As with the other
augmentations, the draws are functions of seed and position.
"""

import math
from collections.abc import Callable

import tensorflow as tf

from mnist_research.config import AugmentationConfig
from mnist_research.data import randomness

# Random numbers per image, besides those per pixel.
_DRAWS = 12
_CORNERS = 4
# Control points of light along each side.
_LIGHTS = 4


def distort(
  images: tf.Tensor, positions: tf.Tensor, config: AugmentationConfig, seed: int
) -> tf.Tensor:
  """Changes the look of images, by the kinds that `config` names, in the order of `KINDS`.

  Args:
    images: uint8 [N, height, width, channels], of static size.
    positions: int64 [N], the positions of the examples in the run's stream.
    config: the kinds, and the share of images that each changes.
    seed: the run's seed.

  Returns:
    uint8 [N, height, width, channels].
  """
  for index, (kind, change) in enumerate(KINDS.items()):
    if kind in config.augment:
      draws = randomness.uniform(
        positions, 1 + _DRAWS, seed=seed, stream=randomness.DISTORTIONS + 2 * index
      )
      # Computes only the chosen images, because most stay unchanged.
      chosen = tf.where(draws[:, 0] < config.distortion_probability)
      chosen_images = tf.gather_nd(images, chosen)
      noise = _Noise(tf.gather_nd(positions, chosen), seed, randomness.DISTORTIONS + 2 * index + 1)
      changed = change(
        tf.cast(chosen_images, tf.float32) / 255, tf.gather_nd(draws, chosen)[:, 1:], noise
      )
      changed = tf.cast(tf.round(tf.clip_by_value(changed, 0, 1) * 255), tf.uint8)
      images = tf.tensor_scatter_nd_update(images, chosen, changed)
  return images


class _Noise:
  """A source of random numbers for a kind, by the position of each image."""

  def __init__(self, positions: tf.Tensor, seed: int, stream: int):
    self._positions, self._seed, self._stream = positions, seed, stream

  def __call__(self, *shape: int) -> tf.Tensor:
    """Returns numbers in [0, 1), float32 [N, *shape]."""
    count = math.prod(shape)
    bits = randomness.bits(self._positions, count, seed=self._seed, stream=self._stream)
    # 24 bits, which a float32 holds exactly. Signed integers convert faster.
    high = tf.cast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.int32)
    return tf.reshape(tf.cast(high, tf.float32) / 2.0**24, [-1, *shape])


def _column(draws: tf.Tensor, index: int) -> tf.Tensor:
  """Returns one draw per image, to broadcast over it: float32 [N, 1, 1, 1]."""
  return draws[:, index, None, None, None]


def _widened(images: tf.Tensor) -> tf.Tensor:
  """Returns images with strokes a pixel wider on each side."""
  return tf.nn.max_pool2d(images, 3, 1, "SAME")


def _narrowed(images: tf.Tensor) -> tf.Tensor:
  """Returns images with strokes a pixel narrower on each side."""
  return -tf.nn.max_pool2d(-images, 3, 1, "SAME")


def _pen(images: tf.Tensor, draws: tf.Tensor, noise: _Noise) -> tf.Tensor:
  """Makes strokes up to 0.7 pixels narrower or up to 1.5 pixels wider on each side."""
  del noise
  wider = _column(draws, 0) * 2.2 - 0.7
  wide = _widened(images)
  result = images + tf.clip_by_value(wider, 0, 1) * (wide - images)
  result += tf.clip_by_value(wider - 1, 0, 1) * (_widened(wide) - wide)
  return result + tf.clip_by_value(-wider, 0, 1) * (_narrowed(images) - images)


def _hollow(images: tf.Tensor, draws: tf.Tensor, noise: _Noise) -> tf.Tensor:
  """Replaces strokes by outlines: the inner edge, the outer edge, or both."""
  del noise
  choice = _column(draws, 0)
  outer = tf.where(choice < 2 / 3, _widened(images), images)
  inner = tf.where(choice < 1 / 3, images, _narrowed(images))
  rim = outer - inner
  return rim / tf.maximum(tf.reduce_max(rim, axis=[1, 2], keepdims=True), 1e-3)


def _lines(images: tf.Tensor, draws: tf.Tensor, noise: _Noise) -> tf.Tensor:
  """Draws a curve across the image, solid or dashed, as bright as ink, paper or in between."""
  del noise
  height, width = images.shape[1:3]
  y, x = _grid(images)
  corners = tf.reshape(draws[:, : 2 * _CORNERS], [-1, 2, _CORNERS]) * 1.4 - 0.2
  period = 2.0 + 6.0 * _column(draws, 8)
  half_width = 0.3 + 1.2 * _column(draws, 9)
  line = tf.zeros_like(x + period)
  for first in range(_CORNERS - 1):
    start_y, start_x = (
      _column(corners[:, i], first) * side for i, side in ((0, height), (1, width))
    )
    end_y, end_x = (
      _column(corners[:, i], first + 1) * side for i, side in ((0, height), (1, width))
    )
    length = tf.maximum(tf.sqrt((end_y - start_y) ** 2 + (end_x - start_x) ** 2), 1e-3)
    unit_y, unit_x = (end_y - start_y) / length, (end_x - start_x) / length
    along = tf.clip_by_value((y - start_y) * unit_y + (x - start_x) * unit_x, 0.0, length)
    distance = tf.sqrt((y - start_y - along * unit_y) ** 2 + (x - start_x - along * unit_x) ** 2)
    gap = (_column(draws, 10) < 0.5) & (tf.math.floormod(along, period) > period / 2)
    stroke = tf.clip_by_value(half_width + 0.5 - distance, 0.0, 1.0)
    line = tf.maximum(line, tf.where(gap, 0.0, stroke))
  return tf.where(_column(draws, 11) < 0.8, tf.maximum(images, line), images * (1 - line))


def _bands(images: tf.Tensor, draws: tf.Tensor, noise: _Noise) -> tf.Tensor:
  """Inverts bands in any direction: half of the image, or several narrow ones."""
  del noise
  height, width = images.shape[1:3]
  y, x = _grid(images)
  # Horizontal and vertical together are as frequent as slanted.
  angle = _column(draws, 0) * (2 * math.pi)
  angle = tf.where(_column(draws, 1) < 0.5, tf.round(angle / (math.pi / 2)) * (math.pi / 2), angle)
  along = (y / height - 0.5) * tf.sin(angle) + (x / width - 0.5) * tf.cos(angle)
  waves = 0.5 + 2.0 * _column(draws, 2)
  wave = tf.cos(2 * math.pi * (waves * along + _column(draws, 3)))
  inside = wave > 1.4 * _column(draws, 4) - 0.7
  return tf.where(inside, 1 - images, images)


def _contrast(images: tf.Tensor, draws: tf.Tensor, noise: _Noise) -> tf.Tensor:
  """Makes ink paler and paper brighter, up to white; inverts a third of the images."""
  del noise
  images = tf.where(_column(draws, 0) < 1 / 3, 1 - images, images)
  paper = 0.7 * _column(draws, 1)
  return paper + images * (0.25 + 0.75 * _column(draws, 2))


def _light(images: tf.Tensor, draws: tf.Tensor, noise: _Noise) -> tf.Tensor:
  """Adds uneven light, up to one and a half times as bright as the ink."""
  height, width = images.shape[1:3]
  field = tf.image.resize(noise(_LIGHTS, _LIGHTS, 1), [height, width], "bicubic")
  strength = 1.5 * _column(draws, 0)
  return (images + strength * tf.clip_by_value(field, 0, 1)) / (1 + strength * _column(draws, 1))


def _blur(images: tf.Tensor, draws: tf.Tensor, noise: _Noise) -> tf.Tensor:
  """Blurs by defocus or by motion along a side, then dims."""
  del noise
  choice = _column(draws, 0)

  def mean(size: tuple[int, int]) -> tf.Tensor:
    return tf.nn.avg_pool2d(tf.nn.avg_pool2d(images, size, 1, "SAME"), size, 1, "SAME")

  blurred = tf.where(
    choice < 1 / 2, mean((3, 3)), tf.where(choice < 3 / 4, mean((1, 4)), mean((4, 1)))
  )
  return images + (0.3 + 0.7 * _column(draws, 1)) * (blurred - images)


def _noise(images: tf.Tensor, draws: tf.Tensor, noise: _Noise) -> tf.Tensor:
  """Adds specks, noise everywhere, or noise only in the ink."""
  height, width = images.shape[1:3]
  first, second = tf.unstack(noise(2, height, width, 1), axis=1)
  choice, strength = _column(draws, 0), _column(draws, 1)
  specks = tf.where(first < 0.25 * strength, tf.round(second), images)
  # The standard deviation of the sum of two uniform numbers is 1 / sqrt(6).
  grain = (first + second - 1) * strength
  everywhere, in_ink = images + 0.7 * grain, images + 1.5 * grain * tf.sqrt(images)
  return tf.where(choice < 0.4, specks, tf.where(choice < 0.7, everywhere, in_ink))


def _grid(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns the coordinates of the pixels, y [1, height, 1, 1] and x [1, 1, width, 1]."""
  height, width = images.shape[1:3]
  y, x = tf.range(height, dtype=tf.float32), tf.range(width, dtype=tf.float32)
  return y[None, :, None, None], x[None, None, :, None]


_Change = Callable[[tf.Tensor, tf.Tensor, _Noise], tf.Tensor]
# In physical order: strokes, marks over them, light, camera.
KINDS: dict[str, _Change] = {
  "pen": _pen,
  "hollow": _hollow,
  "lines": _lines,
  "bands": _bands,
  "contrast": _contrast,
  "light": _light,
  "blur": _blur,
  "noise": _noise,
}
