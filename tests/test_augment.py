"""Tests of augmentation: each change computed by hand or by SciPy, and the order of the draws."""

import hashlib
import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage, stats

from mnist_research.config import AUGMENTATIONS, Config
from mnist_research.data import augment, randomness
from mnist_research.runtime.errors import UserError

_MIXED = {"loss": "categorical_crossentropy"}


def _images(count: int) -> np.ndarray:
  """Smooth random pictures, on which sampling between pixels can be compared."""
  noise = np.random.default_rng(0).normal(0, 1, (count, 28, 28))
  smooth = ndimage.gaussian_filter(noise, (0, 2, 2))
  return np.clip(128 + 400 * smooth, 0, 255).astype(np.uint8)[..., None]


def _positions(count: int, start: int = 0) -> tf.Tensor:
  return tf.range(start, start + count, dtype=tf.int64)


def _augmented(images: np.ndarray, *kinds: str, start: int = 0, **settings) -> np.ndarray:
  config = Config(augment=kinds, **settings)
  positions = _positions(len(images), start)
  return _augment(images, positions, config).numpy()


def _augment(images: np.ndarray, positions: tf.Tensor, config: Config) -> tf.Tensor:
  return augment.augment_images(
    tf.constant(images), positions, config.augmentation, config.run.seed
  )


def _matrices(count: int, config: Config) -> tf.Tensor:
  return augment._affine_matrices(_positions(count), config.augmentation, config.run.seed)


def _matrix(linear, shift=(0.0, 0.0)) -> tf.Tensor:
  rows = np.concatenate([np.asarray(linear, float), np.asarray(shift, float)[:, None]], axis=1)
  return tf.constant(rows[None], tf.float32)


# ---- Moving ----


def test_no_augmentation_is_identity():
  images = _images(3)
  np.testing.assert_array_equal(_augmented(images), images)


@pytest.mark.parametrize(
  ("linear", "expected"),
  [
    ([[1, 0], [0, 1]], lambda image: image),
    # The right side of the new image is the lower side of the old one.
    ([[0, -1], [1, 0]], np.rot90),
    ([[-1, 0], [0, 1]], np.fliplr),
  ],
)
def test_integer_pixel_transform_is_exact(linear, expected):
  images = _images(1)
  moved = augment._transform(tf.constant(images), _matrix(linear)).numpy()
  np.testing.assert_allclose(moved[0, ..., 0], expected(images[0, ..., 0]), atol=0.01)


def test_shift_samples_from_right_and_below():
  images = _images(1)
  moved = augment._transform(tf.constant(images), _matrix(np.eye(2), (3, 1))).numpy()[0, ..., 0]
  np.testing.assert_allclose(moved[:27, :25], images[0, 1:, 3:, 0], atol=0.01)
  assert (moved[27:] == 0).all()
  assert (moved[:, 25:] == 0).all()


def test_affine_transform_matches_scipy():
  kinds = ("shift", "rotation", "scale", "shear")
  config, images = Config(augment=kinds, seed=3), _images(4)
  matrices = _matrices(4, config).numpy().astype(np.float64)
  moved = _augmented(images, *kinds, seed=3)
  for image, matrix, actual in zip(images, matrices, moved, strict=True):
    # SciPy counts rows before columns.
    linear, shift = matrix[::-1, 1::-1], matrix[::-1, 2]
    offset = shift + 13.5 - linear @ [13.5, 13.5]
    expected = ndimage.affine_transform(image[..., 0].astype(float), linear, offset, order=1)
    inner = (slice(6, 22),) * 2  # For SciPy, the image ends at the centers of its last pixels.
    np.testing.assert_allclose(actual[..., 0][inner], expected[inner], atol=0.6)


def test_sampling_by_points_matches_sampling_by_matrix():
  config, images = Config(augment=("shift", "rotation", "scale", "shear")), tf.constant(_images(8))
  matrices = _matrices(8, config)
  by_points = augment._sample(images, augment._source_points(matrices, (28, 28)))
  np.testing.assert_allclose(augment._transform(images, matrices), by_points, atol=0.01)


@pytest.mark.parametrize(
  ("kind", "limit", "measure"),
  [
    ("shift", {"shift_pixels": 3.0}, lambda m: m[:, 0, 2] / 3),
    ("rotation", {"rotation_degrees": 20.0}, lambda m: np.degrees(np.arcsin(m[:, 1, 0])) / 20),
    ("scale", {"scale_range": 0.25}, lambda m: np.log(m[:, 0, 0]) / math.log(1.25)),
    ("shear", {"shear_degrees": 15.0}, lambda m: np.degrees(np.arctan(m[:, 0, 1])) / 15),
  ],
)
def test_each_kind_is_uniform_up_to_its_limit(kind, limit, measure):
  config = Config(augment=(kind,), **limit)
  drawn = measure(_matrices(20_000, config).numpy())
  assert stats.kstest(drawn, "uniform", (-1, 2)).pvalue > 0.001


def test_unselected_kinds_have_no_effect():
  matrices = _matrices(5, Config(augment=("shift",))).numpy()
  np.testing.assert_array_equal(matrices[:, :, :2], np.tile(np.eye(2), (5, 1, 1)))


# ---- Bending ----


def test_elastic_field_is_smooth_with_requested_deviation():
  config = Config(augment=("elastic",), elastic_pixels=1.5)
  field = augment._displacements(_positions(2000), (28, 28), config.augmentation, 0).numpy()
  np.testing.assert_allclose(field.std(axis=0), 1.5, rtol=0.1)
  np.testing.assert_allclose(field.mean(axis=0), 0, atol=0.15)
  steps = np.diff(field, axis=1)
  # Neighbors are 1 / (sqrt(2) * 4 pixels) of the deviation apart, for a Gaussian of 4 pixels.
  assert 0.1 < steps.std() / field.std() < 0.25


def test_displacement_moves_the_sampled_pixel():
  images = _images(1)
  points = augment._source_points(_matrix(np.eye(2)), (28, 28)).numpy()
  points[0, 10, 12] += (2.5, -1)
  sampled = augment._sample(tf.constant(images), tf.constant(points)).numpy()
  expected = images.astype(float)
  expected[0, 10, 12, 0] = expected[0, 9, 14:16, 0].mean()
  np.testing.assert_allclose(sampled, expected, atol=0.01)


def test_points_outside_the_image_are_black():
  points = np.full((1, 28, 28, 2), -40.0, np.float32)
  points[0, :14] = 90.0
  assert (augment._sample(tf.constant(_images(1)), tf.constant(points)).numpy() == 0).all()


# ---- Erasing ----


def test_erasing_blanks_rectangles_in_requested_share():
  images = np.full((4000, 28, 28, 1), 255, np.uint8)
  erased = _augmented(images, "erasing", erasing_probability=0.25)[..., 0] == 0
  touched = erased.any(axis=(1, 2))
  assert abs(touched.mean() - 0.25) < 0.02
  areas = erased[touched].sum(axis=(1, 2))
  heights, widths = erased[touched].any(axis=2).sum(1), erased[touched].any(axis=1).sum(1)
  np.testing.assert_array_equal(areas, heights * widths)  # A full rectangle each.
  assert areas.min() >= 0.01 * 784
  assert 0.35 * 784 < areas.max() <= 0.45 * 784


# ---- Mixing ----


def _mixed(kind: str, **settings):
  config = Config(augment=(kind,), **_MIXED, **settings)
  generator = np.random.default_rng(2)
  images = generator.integers(0, 256, (50, 4, 28, 28, 1)).astype(np.uint8)
  labels = np.tile([0, 1, 2, 3], (50, 1))
  positions = tf.reshape(_positions(200), [50, 4])
  mixed = augment.mix_examples(
    tf.constant(images), tf.one_hot(labels, 10), positions, config.augmentation, 0
  )
  return images, *(values.numpy() for values in mixed)


def test_mixup_blends_images_and_targets_alike():
  images, mixed, targets = _mixed("mixup")
  share = targets[:, 1, 1]
  np.testing.assert_allclose(targets[:, 1, 0], 1 - share, atol=1e-6)
  np.testing.assert_allclose(targets[:, 0, 3], 1 - share, atol=1e-6)
  share = share[:, None, None, None, None]
  expected = share * images + (1 - share) * np.roll(images, 1, axis=1)
  np.testing.assert_allclose(mixed, expected, atol=0.51)


def test_cutmix_targets_match_pixel_shares():
  images, mixed, targets = _mixed("cutmix")
  unmixed = (mixed == images).all(axis=-1)
  other = (mixed == np.roll(images, 1, axis=1)).all(axis=-1)
  assert (unmixed | other).all()
  # One pixel in 256 is the same in both images.
  np.testing.assert_allclose(unmixed[:, 1].mean(axis=(1, 2)), targets[:, 1, 1], atol=0.03)
  np.testing.assert_allclose(targets.sum(axis=-1), 1, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_mixing_shares_follow_beta_distribution(alpha):
  evenly = (np.arange(10_000) + 0.5) / 10_000
  shares = augment._symmetric_beta(tf.constant(evenly, tf.float32), alpha).numpy()
  # A small alpha draws many values near 1, where float32 is coarse.
  inner = (shares > 0.01) & (shares < 0.99)
  expected = stats.beta.ppf(evenly, alpha, alpha)
  np.testing.assert_allclose(shares[inner], expected[inner], atol=1e-2)
  np.testing.assert_allclose(np.mean(shares**2), np.mean(expected**2), atol=1e-4)


def test_mixing_requires_a_loss_with_soft_targets():
  with pytest.raises(UserError, match="--augment=mixup mixes labels: use --loss=categorical"):
    Config(augment=("mixup",))


# ---- Of any shape ----


def _digest(*arrays) -> str:
  joined = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
  return hashlib.sha256(joined).hexdigest()[:16]


def _previous_key(seed: int, name: int) -> int:
  """The state of the streams when the digests were computed."""
  return (seed * 0x9E3779B97F4A7C15 + name * 0xD1B54A32D192ED03) % 2**64


# Digests for noise, by the code that supported only 28 x 28 x 1. Kinds that interpolate may round
# differently on other processors: scripts/compare_commits.py compares those on one machine.
_DIGESTS = {
  ("erasing",): "f30e3c2ad439eb73",
  ("cutmix",): "4f1b002ad81127ff",
}


@pytest.mark.parametrize("kinds", _DIGESTS, ids="+".join)
def test_augmented_bits_match_previous_release(kinds, monkeypatch):
  monkeypatch.setattr(randomness, "key", _previous_key)
  images = np.random.default_rng(0).integers(0, 256, (16, 28, 28, 1), np.uint8)
  if kinds[0] in ("mixup", "cutmix"):
    config = Config(augment=kinds, **_MIXED)
    targets = tf.one_hot(np.arange(16).reshape(4, 4) % 10, 10)
    positions = tf.reshape(_positions(16, 100), [4, 4])
    arrays = augment.mix_examples(
      tf.constant(images.reshape(4, 4, 28, 28, 1)), targets, positions, config.augmentation, 3
    )
  else:
    arrays = [_augmented(images, *kinds, start=100, seed=3)]
  assert _digest(*map(np.asarray, arrays)) == _DIGESTS[kinds]


@pytest.mark.parametrize("kind", sorted(set(AUGMENTATIONS) - {"mixup", "cutmix"}))
def test_channels_are_augmented_alike(kind):
  images = np.random.default_rng(0).integers(0, 256, (8, 20, 24, 3), np.uint8)
  changed = _augmented(images, kind, distortion_probability=1)
  assert changed.shape == images.shape
  assert (changed != images).any()
  for channel in range(3):
    alone = _augmented(images[..., channel, None], kind, distortion_probability=1)
    np.testing.assert_array_equal(changed[..., channel], alone[..., 0])


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_channels_are_mixed_alike(kind):
  images = np.random.default_rng(0).integers(0, 256, (3, 4, 20, 24, 3), np.uint8)
  config, positions = Config(augment=(kind,), **_MIXED), tf.reshape(_positions(12), [3, 4])
  targets = tf.one_hot(np.arange(12).reshape(3, 4) % 4, 4)

  def mixed(images: np.ndarray) -> np.ndarray:
    result = augment.mix_examples(
      tf.constant(images), targets, positions, config.augmentation, seed=0
    )
    return result[0].numpy()

  for channel in range(3):
    np.testing.assert_array_equal(
      mixed(images)[..., channel], mixed(images[..., channel, None])[..., 0]
    )


def test_cutmix_window_has_requested_area_and_aspect_ratio():
  area = np.linspace(0, 1, 30, dtype=np.float32)
  middle = tf.fill([30], 0.5)
  window, share = augment._window((20, 40), tf.constant(area), middle, middle)
  np.testing.assert_allclose(window.numpy().mean(axis=(1, 2)), share, atol=1e-6)
  np.testing.assert_allclose(share, area, atol=0.06)
  rows, columns = (window.numpy().any(axis=axis).sum(axis=1) for axis in (2, 1))
  assert np.abs(columns - 2 * rows).max() <= 1


def test_oblong_image_rotates_about_its_center():
  images = np.zeros((1, 9, 15, 1), np.uint8)
  images[0, 4, 4:11] = 200
  rotated = augment._transform(tf.constant(images), _matrix([[0, -1], [1, 0]])).numpy()[0, ..., 0]
  expected = np.zeros((9, 15))
  expected[1:8, 7] = 200
  np.testing.assert_allclose(rotated, expected, atol=0.01)
  points = augment._source_points(_matrix([[0, -1], [1, 0]]), (9, 15))
  by_points = augment._sample(tf.constant(images), points).numpy()[0, ..., 0]
  np.testing.assert_allclose(by_points, expected, atol=0.01)


def test_larger_image_has_more_elastic_control_points():
  assert [augment._smoothing_basis(side).shape for side in (20, 28, 32, 4)] == [
    (20, 5), (28, 7), (32, 8), (4, 2)
  ]  # fmt: skip
  config = Config(augment=("elastic",), elastic_pixels=1.5)
  field = augment._displacements(_positions(2000), (20, 40), config.augmentation, 0).numpy()
  assert field.shape == (2000, 20, 40, 2)
  np.testing.assert_allclose(field.std(axis=0), 1.5, rtol=0.1)


def test_half_the_images_are_flipped_horizontally():
  images = np.repeat(_images(1), 2000, axis=0)
  changed = _augmented(images, "flip")
  flipped = (changed == images[:, :, ::-1]).all(axis=(1, 2, 3))
  np.testing.assert_array_equal(changed[~flipped], images[~flipped])
  assert 0.45 < flipped.mean() < 0.55


# ---- The draws ----


@pytest.mark.parametrize("kind", sorted(set(AUGMENTATIONS) - {"mixup", "cutmix"}))
def test_augmentation_depends_only_on_seed_and_position(kind):
  images = np.repeat(_images(1), 6, axis=0)
  batch = _augmented(images, kind, seed=5, distortion_probability=1)
  np.testing.assert_array_equal(
    _augmented(images[:2], kind, seed=5, start=4, distortion_probability=1), batch[4:]
  )
  assert len({image.tobytes() for image in batch}) > 1  # Erasing skips half.
  assert (_augmented(images, kind, seed=6, distortion_probability=1) != batch).any()


def test_augmentation_varies_by_example_and_epoch():
  kinds = ("shift", "rotation", "scale", "shear", "elastic")
  images = np.repeat(_images(1), 50, axis=0)
  both = [_augmented(images, *kinds, start=start) for start in (0, 60_000)]
  assert len({image.tobytes() for epoch in both for image in epoch}) == 100


def test_unknown_kind_is_rejected():
  with pytest.raises(UserError, match="--augment=shift,smear: choose one of shift, rotation"):
    Config(augment=("shift", "smear"))
