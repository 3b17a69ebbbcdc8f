"""Augmentation inside the input pipeline: each example changed anew every time that it comes.

What happens to an example is a function of the run's seed and of its position in the stream of
examples, so it is the same for any batch, block, replica, and after a restart.
"""

import math

import numpy as np
import tensorflow as tf
from scipy import stats

from mnist_research import randomness
from mnist_research.config import Config

_SIZE = 28
# Control points of an elastic deformation along each side: a bump is about 28 / 7 = 4 pixels wide,
# as the smoothing of 4 pixels in Simard et al. 2003 (doi:10.1109/ICDAR.2003.1227801).
_ELASTIC_POINTS = 7
_ELASTIC_SIGMA = 4.0
_AFFINE = {"shift", "rotation", "scale", "shear"}
# Names of the streams of random numbers.


def augment_images(images: tf.Tensor, positions: tf.Tensor, config: Config) -> tf.Tensor:
  """Moves, bends and erases as `config.augment` says; mixing is `mix_examples`.

  Args:
    images: uint8 [N, 28, 28, 1].
    positions: int64 [N], of the examples in the run's stream.
    config: gives the seed, the kinds and how strong each is.

  Returns:
    uint8 [N, 28, 28, 1].
  """
  kinds = set(config.augment)
  if kinds & (_AFFINE | {"elastic"}):
    matrices = _affine_matrices(positions, config)
    if "elastic" in kinds:
      moved = _sample(images, _source_points(matrices) + _displacements(positions, config))
    else:
      moved = _transform(images, matrices)
    images = tf.cast(tf.round(moved), tf.uint8)
  if "erasing" in kinds:
    images = _erase(images, positions, config)
  return images


def _affine_matrices(positions: tf.Tensor, config: Config) -> tf.Tensor:
  """Draws the map from a pixel of the new image to a point of the old one, float32 [N, 2, 3].

  In coordinates (x, y) from the image's centre.
  """
  draws = 2 * randomness.uniform(positions, 6, seed=config.seed, name=randomness.AFFINE) - 1

  def drawn(kind: str, index: int, limit: float) -> tf.Tensor:
    return draws[:, index] * (limit if kind in config.augment else 0.0)

  angle = drawn("rotation", 0, math.radians(config.rotation_degrees))
  shear = drawn("shear", 1, math.radians(config.shear_degrees))
  # As much smaller as larger: the logarithm is what is drawn evenly.
  scale_x, scale_y = (tf.exp(drawn("scale", i, math.log1p(config.scale_range))) for i in (2, 3))
  shift_x, shift_y = (drawn("shift", i, config.shift_pixels) for i in (4, 5))
  cos, sin, slant = tf.cos(angle), tf.sin(angle), tf.tan(shear)
  rows = [
    [cos * scale_x, (cos * slant - sin) * scale_y, shift_x],
    [sin * scale_x, (sin * slant + cos) * scale_y, shift_y],
  ]
  return tf.stack([tf.stack(row, axis=-1) for row in rows], axis=1)


def _transform(images: tf.Tensor, matrices: tf.Tensor) -> tf.Tensor:
  """Samples images at the points that affine maps give, float32 [N, 28, 28, 1]; outside is 0."""
  # The operation counts from the corner: a point p there is p - c from the centre c.
  centre = tf.constant([(_SIZE - 1) / 2] * 2)
  linear, shift = matrices[:, :, :2], matrices[:, :, 2]
  offset = shift + centre - tf.linalg.matvec(linear, centre)
  rows = tf.concat([linear, offset[:, :, None]], axis=2)
  return tf.raw_ops.ImageProjectiveTransformV3(
    images=tf.cast(images, tf.float32),
    transforms=tf.pad(tf.reshape(rows, [-1, 6]), [[0, 0], [0, 2]]),
    output_shape=[_SIZE, _SIZE],
    fill_value=0.0,
    interpolation="BILINEAR",
    fill_mode="CONSTANT",
  )


def _source_points(matrices: tf.Tensor) -> tf.Tensor:
  """Returns where each pixel of the new images is in the old ones, float32 [N, 28, 28, 2]: x, y."""
  side = np.arange(_SIZE, dtype=np.float32) - (_SIZE - 1) / 2
  x, y = np.meshgrid(side, side)
  homogeneous = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)
  points = tf.einsum("nij,pj->npi", matrices, homogeneous) + (_SIZE - 1) / 2
  return tf.reshape(points, [-1, _SIZE, _SIZE, 2])


def _displacements(positions: tf.Tensor, config: Config) -> tf.Tensor:
  """Draws a smooth field of displacements in pixels, float32 [N, 28, 28, 2].

  As in Simard et al. 2003, with random numbers on a coarse grid in place of one a pixel: after the
  smoothing the fine ones are gone. The deviation of a displacement is `elastic_pixels`.
  """
  count = _ELASTIC_POINTS**2 * 2
  draws = 2 * randomness.uniform(positions, count, seed=config.seed, name=randomness.ELASTIC) - 1
  field = tf.reshape(draws, [-1, _ELASTIC_POINTS, _ELASTIC_POINTS, 2])
  basis = _smoothing_basis()
  smooth = tf.einsum("pi,nijc,qj->npqc", basis, field, basis, optimize="optimal")
  # The deviation of numbers drawn evenly from -1 to 1 is 1 / sqrt(3).
  return smooth * (config.elastic_pixels * math.sqrt(3))


def _smoothing_basis() -> np.ndarray:
  """The share of each control point in each row of pixels, float32 [28, 7], its squares sum to 1.

  So a smoothed random number deviates as much as the ones that it is made of.
  """
  points = np.linspace(0, _SIZE - 1, _ELASTIC_POINTS)
  distances = np.arange(_SIZE)[:, None] - points
  basis = np.exp(-0.5 * (distances / _ELASTIC_SIGMA) ** 2)
  return (basis / np.linalg.norm(basis, axis=1, keepdims=True)).astype(np.float32)


def _sample(images: tf.Tensor, points: tf.Tensor) -> tf.Tensor:
  """Samples images at any points (x, y), bilinearly, float32 [N, 28, 28, 1]; outside is 0."""
  # A frame of zeros: every point outside the image falls on it.
  framed = tf.pad(tf.cast(images[..., 0], tf.float32), [[0, 0], [1, 1], [1, 1]])
  side = _SIZE + 2
  points = tf.clip_by_value(points + 1, 0.0, side - 1.0)
  corner = tf.minimum(tf.floor(points), side - 2.0)
  right, down = tf.unstack(points - corner, axis=-1)
  column, row = tf.unstack(tf.cast(corner, tf.int32), axis=-1)
  first = tf.range(tf.shape(images)[0])[:, None, None] * side**2
  index = first + row * side + column
  pixels = tf.reshape(framed, [-1])

  def at(step: int) -> tf.Tensor:
    return tf.gather(pixels, index + step)

  top = at(0) * (1 - right) + at(1) * right
  bottom = at(side) * (1 - right) + at(side + 1) * right
  return (top * (1 - down) + bottom * down)[..., None]


def _erase(images: tf.Tensor, positions: tf.Tensor, config: Config) -> tf.Tensor:
  """Blackens a rectangle of some images: random erasing (Zhong et al. 2017, arXiv:1708.04896).

  With the published sizes: 2% to 40% of the image, sides 0.3 to 1 / 0.3 of each other.
  """
  chance, area, aspect, left, top = tf.unstack(
    randomness.uniform(positions, 5, seed=config.seed, name=randomness.ERASING), axis=1
  )
  area = (0.02 + 0.38 * area) * _SIZE**2
  aspect = tf.exp((2 * aspect - 1) * math.log(1 / 0.3))
  width, height = (tf.minimum(tf.sqrt(area * a), float(_SIZE)) for a in (aspect, 1 / aspect))
  pixels = tf.range(_SIZE, dtype=tf.float32) + 0.5

  def inside(start: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    start = (start * (_SIZE - length))[:, None]
    return (pixels >= start) & (pixels < start + length[:, None])

  erased = inside(top, height)[:, :, None] & inside(left, width)[:, None, :]
  erased &= (chance < config.erasing_probability)[:, None, None]
  return tf.where(erased[..., None], tf.zeros_like(images), images)


def mix_examples(
  images: tf.Tensor, targets: tf.Tensor, positions: tf.Tensor, config: Config
) -> tuple[tf.Tensor, tf.Tensor]:
  """Mixes each example with the next of its batch, as `config.augment` says.

  `mixup` (Zhang et al. 2017, arXiv:1710.09412) adds the two images in shares of a and 1 - a;
  `cutmix` (Yun et al. 2019, arXiv:1905.04899) puts a rectangle of one, 1 - a of the area, into the
  other. The targets are mixed in the same shares. With both, one half of the batches get each. One
  share is drawn for each batch, as in the published code.

  Args:
    images: uint8 [steps, batch, 28, 28, 1].
    targets: float32 [steps, batch, classes], that sum to 1.
    positions: int64 [steps, batch].
    config: gives the seed, the kinds and their alpha.

  Returns:
    images and targets, mixed.
  """
  draws = randomness.uniform(positions[:, 0], 4, seed=config.seed, name=randomness.MIXING)
  choice, share, left, top = tf.unstack(draws, axis=1)
  others, other_targets = tf.roll(images, 1, axis=1), tf.roll(targets, 1, axis=1)
  share = _symmetric_beta(share, config.mixing_alpha)
  cut = tf.zeros_like(choice, tf.bool)
  if "cutmix" in config.augment:
    cut = choice < 0.5 if "mixup" in config.augment else tf.ones_like(cut)
  side = tf.round(tf.sqrt(1 - share) * _SIZE)
  pixels = tf.range(_SIZE, dtype=tf.float32)

  def inside(start: tf.Tensor) -> tf.Tensor:
    start = tf.floor(start * (_SIZE - side + 1))[:, None]
    return (pixels >= start) & (pixels < start + side[:, None])

  window = (inside(top)[:, :, None] & inside(left)[:, None, :])[:, None, :, :, None]
  cut_images = tf.where(window, others, images)
  weight = share[:, None, None, None, None]
  added = weight * tf.cast(images, tf.float32) + (1 - weight) * tf.cast(others, tf.float32)
  mixed = tf.where(cut[:, None, None, None, None], cut_images, tf.cast(tf.round(added), tf.uint8))
  share = tf.where(cut, 1 - (side / _SIZE) ** 2, share)[:, None, None]
  return mixed, share * targets + (1 - share) * other_targets


def _symmetric_beta(uniform: tf.Tensor, alpha: float) -> tf.Tensor:
  """Makes numbers drawn evenly from [0, 1) ones drawn from Beta(alpha, alpha), to 1 in 4,096."""
  table = stats.beta.ppf((np.arange(4096) + 0.5) / 4096, alpha, alpha).astype(np.float32)
  return tf.gather(table, tf.cast(uniform * len(table), tf.int32))
