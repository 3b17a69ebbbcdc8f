"""Augmentation in the input pipeline: each example changes differently every time.

The changes are a function of the run's seed and the example's position in the stream, so they don't
depend on batches, blocks, replicas or restarts.
"""

import math

import numpy as np
import tensorflow as tf
from scipy import stats

from mnist_research.config import AugmentationConfig
from mnist_research.data import custom_augmentations, distortions, randomness

# Control points of an elastic deformation are about 4 pixels apart, 7 along a side of 28, to match
# the smoothing width of 4 pixels in Simard et al. 2003 (doi:10.1109/ICDAR.2003.1227801).
_ELASTIC_SPACING = 4
_ELASTIC_SIGMA = 4.0
_AFFINE = {"shift", "rotation", "scale", "shear"}


def augment_images(
  images: tf.Tensor, positions: tf.Tensor, config: AugmentationConfig, seed: int
) -> tf.Tensor:
  """Applies every augmentation except mixing, which is in `mix_examples`.

  Args:
    images: uint8 [N, height, width, channels], of static size.
    positions: int64 [N], the positions of the examples in the run's stream.
    config: the kinds and their strengths.
    seed: the run's seed.

  Returns:
    uint8 [N, height, width, channels].

  Raises:
    UserError: a custom augmentation is missing or fails.
  """
  kinds = set(config.augment)
  if kinds & (_AFFINE | {"elastic"}):
    matrices = _affine_matrices(positions, config, seed)
    if "elastic" in kinds:
      size = _size(images)
      displacements = _displacements(positions, size, config, seed)
      moved = _sample(images, _source_points(matrices, size) + displacements)
    else:
      moved = _transform(images, matrices)
    images = tf.cast(tf.round(moved), tf.uint8)
  if "flip" in kinds:
    is_flipped = randomness.uniform(positions, 1, seed=seed, stream=randomness.FLIP) < 0.5
    images = tf.where(is_flipped[:, :, None, None], images[:, :, ::-1], images)
  images = distortions.distort(images, positions, config, seed)
  if "erasing" in kinds:
    images = _erase(images, positions, config, seed)
  return custom_augmentations.apply(images, positions, config, seed)


def _size(images: tf.Tensor) -> tuple[int, int]:
  """Returns height and width of images [..., height, width, channels]."""
  return images.shape[-3], images.shape[-2]


def _affine_matrices(positions: tf.Tensor, config: AugmentationConfig, seed: int) -> tf.Tensor:
  """Draws the maps from pixels of the new image to points of the old one, float32 [N, 2, 3].

  The coordinates (x, y) start at the image's center.
  """
  draws = 2 * randomness.uniform(positions, 6, seed=seed, stream=randomness.AFFINE) - 1

  def drawn(kind: str, index: int, limit: float) -> tf.Tensor:
    return draws[:, index] * (limit if kind in config.augment else 0.0)

  angle = drawn("rotation", 0, math.radians(config.rotation_degrees))
  shear = drawn("shear", 1, math.radians(config.shear_degrees))
  # The logarithm is drawn uniformly, so that shrinking is as likely as growing.
  scale_x, scale_y = (tf.exp(drawn("scale", i, math.log1p(config.scale_range))) for i in (2, 3))
  shift_x, shift_y = (drawn("shift", i, config.shift_pixels) for i in (4, 5))
  cos, sin, slant = tf.cos(angle), tf.sin(angle), tf.tan(shear)
  rows = [
    [cos * scale_x, (cos * slant - sin) * scale_y, shift_x],
    [sin * scale_x, (sin * slant + cos) * scale_y, shift_y],
  ]
  return tf.stack([tf.stack(row, axis=-1) for row in rows], axis=1)


def _transform(images: tf.Tensor, matrices: tf.Tensor) -> tf.Tensor:
  """Samples images at affinely mapped points; outside the image the value is 0.

  Args:
    images: uint8 [N, height, width, channels].
    matrices: from `_affine_matrices`.

  Returns:
    float32, with the shape of `images`.
  """
  height, width = _size(images)
  # The operation counts from the corner: a point p there is p - c from the center c.
  center = tf.constant([(width - 1) / 2, (height - 1) / 2])
  linear, shift = matrices[:, :, :2], matrices[:, :, 2]
  offset = shift + center - tf.linalg.matvec(linear, center)
  rows = tf.concat([linear, offset[:, :, None]], axis=2)
  return tf.raw_ops.ImageProjectiveTransformV3(
    images=tf.cast(images, tf.float32),
    transforms=tf.pad(tf.reshape(rows, [-1, 6]), [[0, 0], [0, 2]]),
    output_shape=[height, width],
    fill_value=0.0,
    interpolation="BILINEAR",
    fill_mode="CONSTANT",
  )


def _source_points(matrices: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
  """Returns the point in the old image of each new pixel, float32 [N, height, width, 2]: x, y."""
  height, width = size
  center = np.array([(width - 1) / 2, (height - 1) / 2], np.float32)
  x, y = np.meshgrid(
    np.arange(width, dtype=np.float32) - center[0], np.arange(height, dtype=np.float32) - center[1]
  )
  homogeneous = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)
  # Expanded here, because TensorFlow is slow at broadcasting a pair of numbers.
  centers = np.broadcast_to(center, (height * width, 2))
  points = tf.einsum("nij,pj->npi", matrices, homogeneous) + centers
  return tf.reshape(points, [-1, height, width, 2])


def _displacements(
  positions: tf.Tensor, size: tuple[int, int], config: AugmentationConfig, seed: int
) -> tf.Tensor:
  """Draws a smooth field of displacements in pixels, float32 [N, height, width, 2]: x, y.

  This follows Simard et al. 2003, but with random numbers on a coarse grid, because smoothing would
  remove finer ones. The standard deviation of a displacement is `elastic_pixels`.
  """
  bases = [_smoothing_basis(side) for side in size]
  rows, columns = (basis.shape[1] for basis in bases)
  count = rows * columns * 2
  draws = 2 * randomness.uniform(positions, count, seed=seed, stream=randomness.ELASTIC) - 1
  field = tf.reshape(draws, [-1, rows, columns, 2])
  smooth = tf.einsum("pi,nijc,qj->npqc", bases[0], field, bases[1], optimize="optimal")
  # The standard deviation of the uniform distribution from -1 to 1 is 1 / sqrt(3).
  return smooth * (config.elastic_pixels * math.sqrt(3))


def _smoothing_basis(side: int) -> np.ndarray:
  """Returns the weight of each control point in each row of pixels.

  The squares of a row's weights sum to 1, so smoothing keeps the variance of random numbers.

  Args:
    side: the number of rows of pixels.

  Returns:
    float32 [side, control points].
  """
  points = np.linspace(0, side - 1, max(2, round(side / _ELASTIC_SPACING)))
  distances = np.arange(side)[:, None] - points
  basis = np.exp(-0.5 * (distances / _ELASTIC_SIGMA) ** 2)
  return (basis / np.linalg.norm(basis, axis=1, keepdims=True)).astype(np.float32)


def _sample(images: tf.Tensor, points: tf.Tensor) -> tf.Tensor:
  """Samples images bilinearly at any points; outside the image the value is 0.

  Args:
    images: uint8 [N, height, width, channels].
    points: float32 [N, height, width, 2]: x, y.

  Returns:
    float32, with the shape of `images`.
  """
  height, width = _size(images)
  framed_width, framed_height = width + 2, height + 2
  x, y = (
    tf.clip_by_value(values + 1, 0.0, side - 1.0)
    for values, side in zip(tf.unstack(points, axis=-1), (framed_width, framed_height), strict=True)
  )
  left, above = (
    tf.minimum(tf.floor(x), framed_width - 2.0),
    tf.minimum(tf.floor(y), framed_height - 2.0),
  )
  right, down = (x - left)[..., None], (y - above)[..., None]
  first = tf.range(tf.shape(images)[0])[:, None, None] * (framed_width * framed_height)
  index = first + tf.cast(above, tf.int32) * framed_width + tf.cast(left, tf.int32)
  # Every point outside the image maps to this frame of zeros.
  framed = tf.pad(tf.cast(images, tf.float32), [[0, 0], [1, 1], [1, 1], [0, 0]])
  pixels = tf.reshape(framed, [-1, images.shape[-1]])

  def at(step: int) -> tf.Tensor:
    return tf.gather(pixels, index + step)

  top = at(0) * (1 - right) + at(1) * right
  bottom = at(framed_width) * (1 - right) + at(framed_width + 1) * right
  return top * (1 - down) + bottom * down


def _erase(
  images: tf.Tensor, positions: tf.Tensor, config: AugmentationConfig, seed: int
) -> tf.Tensor:
  """Blackens a rectangle of some images: random erasing (Zhong et al. 2017, arXiv:1708.04896).

  The sizes are as published: 2% to 40% of the image, with aspect ratios from 0.3 to 1 / 0.3.
  """
  chance, area, aspect, left, top = tf.unstack(
    randomness.uniform(positions, 5, seed=seed, stream=randomness.ERASING), axis=1
  )
  height, width = _size(images)
  area = (0.02 + 0.38 * area) * (height * width)
  aspect = tf.exp((2 * aspect - 1) * math.log(1 / 0.3))

  def inside(start: tf.Tensor, aspect: tf.Tensor, side: int) -> tf.Tensor:
    length = tf.minimum(tf.sqrt(area * aspect), float(side))
    start = (start * (side - length))[:, None]
    pixels = tf.range(side, dtype=tf.float32) + 0.5
    return (pixels >= start) & (pixels < start + length[:, None])

  erased = inside(top, 1 / aspect, height)[:, :, None] & inside(left, aspect, width)[:, None, :]
  erased &= (chance < config.erasing_probability)[:, None, None]
  return tf.where(erased[..., None], tf.zeros_like(images), images)


def mix_examples(
  images: tf.Tensor, targets: tf.Tensor, positions: tf.Tensor, config: AugmentationConfig, seed: int
) -> tuple[tf.Tensor, tf.Tensor]:
  """Mixes each example with the next one in its batch, by the kinds in `config.augment`.

  `mixup` (Zhang et al. 2017, arXiv:1710.09412) adds the two images with weights a and 1 - a;
  `cutmix` (Yun et al. 2019, arXiv:1905.04899) pastes a rectangle of one image, 1 - a of the area,
  into the other. Both mix the targets with the same weights. If both are on, each gets half of the
  batches. The weight is drawn once per batch, as in the published code.

  Args:
    images: uint8 [steps, batch, height, width, channels].
    targets: float32 [steps, batch, classes], with sum 1 over the classes.
    positions: int64 [steps, batch], the positions of the examples in the run's stream.
    config: the kinds and their alpha.
    seed: the run's seed.

  Returns:
    The mixed images and targets.
  """
  draws = randomness.uniform(positions[:, 0], 4, seed=seed, stream=randomness.MIXING)
  choice, share, left, top = tf.unstack(draws, axis=1)
  others, other_targets = tf.roll(images, 1, axis=1), tf.roll(targets, 1, axis=1)
  share = _symmetric_beta(share, config.mixing_alpha)
  cut = tf.zeros_like(choice, tf.bool)
  if "cutmix" in config.augment:
    cut = choice < 0.5 if "mixup" in config.augment else tf.ones_like(cut)
  window, cut_share = _window(_size(images), 1 - share, top, left)
  cut_images = tf.where(window[:, None, :, :, None], others, images)
  weight = share[:, None, None, None, None]
  added = weight * tf.cast(images, tf.float32) + (1 - weight) * tf.cast(others, tf.float32)
  mixed = tf.where(cut[:, None, None, None, None], cut_images, tf.cast(tf.round(added), tf.uint8))
  share = tf.where(cut, 1 - cut_share, share)[:, None, None]
  return mixed, share * targets + (1 - share) * other_targets


def _window(
  size: tuple[int, int], area: tf.Tensor, top: tf.Tensor, left: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns windows of whole pixels, and the share of the image that each covers.

  Args:
    size: the height and width of the image.
    area: float32 [N], the share that each window should cover.
    top: float32 [N], its relative vertical position, in [0, 1).
    left: float32 [N], its relative horizontal position, in [0, 1).

  Returns:
    bool [N, height, width], float32 [N].
  """
  height, width = size
  rows, columns = (tf.round(tf.sqrt(area) * side) for side in size)

  def inside(start: tf.Tensor, length: tf.Tensor, side: int) -> tf.Tensor:
    pixels = tf.range(side, dtype=tf.float32)
    start = tf.floor(start * (side - length + 1))[:, None]
    return (pixels >= start) & (pixels < start + length[:, None])

  window = inside(top, rows, height)[:, :, None] & inside(left, columns, width)[:, None, :]
  # Power and product differ in the last bit, and results on square images must stay the same.
  if height == width:
    return window, (rows / height) ** 2
  return window, (rows / height) * (columns / width)


def _symmetric_beta(uniform: tf.Tensor, alpha: float) -> tf.Tensor:
  """Maps uniform numbers from [0, 1) to Beta(alpha, alpha), to within 1 in 4,096."""
  table = stats.beta.ppf((np.arange(4096) + 0.5) / 4096, alpha, alpha).astype(np.float32)
  return tf.gather(table, tf.cast(uniform * len(table), tf.int32))
