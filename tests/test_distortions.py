"""Tests of the augmentations that change the look of images: values computed by hand."""

import numpy as np
import pytest
import tensorflow as tf

from mnist_research.config import Config
from mnist_research.data import distortions
from mnist_research.data.distortions import KINDS


def _square() -> np.ndarray:
  """A white square of 6 pixels on black, float32 [1, 16, 16, 1]."""
  images = np.zeros((1, 16, 16, 1), np.float32)
  images[:, 5:11, 5:11] = 1
  return images


def _changed(kind: str, images: np.ndarray, *draws: float, pixels: float = 0.5) -> np.ndarray:
  """Applies a kind with the given draws; all other draws are `pixels`."""
  rows = np.full((len(images), 12), pixels, np.float32)
  rows[:, : len(draws)] = draws
  noise = lambda *shape: tf.fill([len(images), *shape], pixels)  # noqa: E731
  return KINDS[kind](tf.constant(images), tf.constant(rows), noise).numpy()


def _distorted(images: np.ndarray, kind: str, probability: float) -> np.ndarray:
  config = Config(augment=(kind,), distortion_probability=probability).augmentation
  positions = tf.range(len(images), dtype=tf.int64)
  return distortions.distort(tf.constant(images), positions, config, 3).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_probability_sets_share_of_changed_images(kind):
  images = np.repeat((_square() * 200).astype(np.uint8), 2000, axis=0)
  np.testing.assert_array_equal(_distorted(images, kind, 0.0), images)
  changed = (_distorted(images, kind, 0.25) != images).any(axis=(1, 2, 3))
  # Some draws leave an image unchanged: a line outside it, no noise.
  assert 0.2 < changed.mean() < 0.28
  always = _distorted(images, kind, 1.0)
  # The chosen images change independently of the others.
  np.testing.assert_array_equal(_distorted(images, kind, 0.25)[changed], always[changed])


def test_kinds_choose_images_independently():
  images = np.repeat((_square() * 200).astype(np.uint8), 4000, axis=0)
  changed = [
    (_distorted(images, kind, 0.5) != images).any(axis=(1, 2, 3)) for kind in ("pen", "bands")
  ]
  assert np.corrcoef(changed)[0, 1] == pytest.approx(0, abs=0.05)


def test_pen_widens_or_narrows_strokes():
  square = _square()
  # The draw is 2.2 times, less 0.7: 1 and 0.
  wide, same = (_changed("pen", square, (pixels + 0.7) / 2.2) for pixels in (1.0, 0.0))
  expected = np.zeros_like(square)
  expected[:, 4:12, 4:12] = 1
  np.testing.assert_allclose(wide, expected, atol=1e-5)
  np.testing.assert_allclose(same, square, atol=1e-5)
  narrow = _changed("pen", square, 0.0)
  assert narrow[0, 5, 5, 0] == pytest.approx(0.3)
  assert narrow[0, 6, 6, 0] == 1


def test_hollow_keeps_stroke_outlines():
  square = _square()[0, :, :, 0]
  inner, outer = np.zeros_like(square), np.zeros_like(square)
  inner[6:10, 6:10] = outer[4:12, 4:12] = 1
  for draw, expected in ((0.2, outer - square), (0.5, outer - inner), (0.9, square - inner)):
    np.testing.assert_array_equal(_changed("hollow", _square(), draw)[0, :, :, 0], expected)


def test_line_joins_its_corners():
  blank = np.zeros((1, 16, 16, 1), np.float32)
  # Corners at the height of row 8, from the left edge to the right; not dashed, of half-width 0.9.
  level = (8 / 16 + 0.2) / 1.4
  across = [(share + 0.2) / 1.4 for share in (0.0, 1 / 3, 2 / 3, 1.0)]
  draws = [*[level] * 4, *across, 0.0, 0.5, 0.9]
  line = _changed("lines", blank, *draws, 0.1)
  assert (line[0, 8] == 1).all()
  np.testing.assert_allclose(line[0, [7, 9]], 0.4, atol=1e-5)
  assert not line[0, :7].any() and not line[0, 10:].any()
  np.testing.assert_allclose(_changed("lines", _square(), *draws, 0.9), _square() * (1 - line))
  dashed = _changed("lines", blank, *draws[:8], 0.5, 0.1, 0.1, 0.1)
  # A period of 5 pixels: the fourth and the fifth of each are bare.
  assert (dashed[0, 8, :6, 0] == 0).tolist() == [False, False, False, True, True, False]


def test_bands_invert_the_image():
  images = np.full((1, 20, 20, 1), 0.25, np.float32)
  # Vertical; one wave with its crest in the middle, symmetric.
  bands = _changed("bands", images, 0.0, 0.1, 0.25, 0.0, 0.5)[0, :, :, 0]
  assert set(np.unique(bands)) == {0.25, 0.75}
  assert (bands == bands[0]).all()
  assert (bands[0, 6:15] == 0.75).all() and (bands[0, [0, 1, 2, 17, 18, 19]] == 0.25).all()


def test_contrast_matches_hand_computation():
  square = _square()
  ends = [0.35, 0.35 + 0.625]  # 0.7 / 2, and 0.25 + 0.75 / 2 above.
  changed = _changed("contrast", square, 0.5, 0.5, 0.5)
  np.testing.assert_allclose(changed[0, [0, 7], [0, 7], 0], ends, rtol=1e-6)
  negative = _changed("contrast", square, 0.2, 0.5, 0.5)
  np.testing.assert_allclose(negative[0, [7, 0], [7, 0], 0], ends, rtol=1e-6)


def test_even_light_matches_hand_computation():
  # One half everywhere, at a strength of 1.5 * 0.4, and dimmed by 0.6 * 0.5.
  lit = _changed("light", _square(), 0.4, 0.5)
  np.testing.assert_allclose(lit, (_square() + 0.6 * 0.5) / 1.3, rtol=1e-5)


def test_blur_preserves_total_brightness():
  for choice in (0.2, 0.6, 0.9):
    blurred = _changed("blur", _square(), choice, 1.0)
    assert blurred.sum() == pytest.approx(36, rel=1e-4)
    assert blurred.max() <= 1 and (blurred > 0).sum() > 36


def test_noise_matches_hand_computation():
  square = _square()
  specks = _changed("noise", square, 0.1, 1.0, pixels=0.2)
  assert not specks.any()  # 0.2 < 0.25: every pixel is a speck, and 0.2 rounds to black.
  np.testing.assert_array_equal(_changed("noise", square, 0.1, 0.5, pixels=0.2), square)
  everywhere = _changed("noise", square, 0.5, 0.5, pixels=0.8)
  np.testing.assert_allclose(everywhere, square + 0.7 * 0.5 * 0.6, rtol=1e-5)
  in_ink = _changed("noise", square, 0.9, 0.5, pixels=0.8)
  np.testing.assert_allclose(in_ink, square * (1 + 1.5 * 0.5 * 0.6), rtol=1e-5)
