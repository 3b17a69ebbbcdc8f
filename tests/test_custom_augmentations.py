"""Tests of a user's augmentations: their inputs, and the use of their outputs."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from mnist_research.config import Config
from mnist_research.data import augment, input_pipeline, randomness
from mnist_research.data.splits import Split
from mnist_research.runtime.errors import UserError

_USER_FILE = Path(__file__).parent / "user_code" / "my_augmentations.py"


def _images(count: int = 6, shape: tuple[int, ...] = (20, 24, 3)) -> np.ndarray:
  return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def _augmented(images: np.ndarray, *kinds: str, start: int = 0, seed: int = 0, settings: str = ""):
  named = [kind if kind in ("shift", "erasing") else f"{_USER_FILE}:{kind}" for kind in kinds]
  config = Config(augment=tuple(named), augment_settings=settings)
  positions = tf.range(start, start + len(images), dtype=tf.int64)
  return augment.augment_images(tf.constant(images), positions, config.augmentation, seed).numpy()


def _drawn(count: int, place: int, seed: int = 0) -> np.ndarray:
  positions = tf.range(count, dtype=tf.int64)
  name = randomness.CUSTOM_AUGMENTATION + place
  return randomness.uniform(positions, 3, seed=seed, stream=name).numpy()


def test_floats_are_rounded_and_clipped():
  images = _images()
  factor = 1 + 2 * _drawn(6, 0)[:, :1, None, None]
  expected = np.minimum(np.rint(images * factor), 255)
  brightened = _augmented(images, "brighten", settings="strength=2.0")
  assert brightened.dtype == np.uint8
  np.testing.assert_allclose(brightened, expected, atol=1)
  assert (brightened == 255).any()


def test_each_list_position_has_its_own_random_stream():
  images = _images()
  for kinds, place in ((["show_draws"], 0), (["shift", "invert", "show_draws"], 1)):
    shown = _augmented(images, *kinds)[:, 0, :3, 0]
    np.testing.assert_allclose(shown, 255 * _drawn(6, place), atol=0.51)


def test_user_and_built_in_augmentations_run_in_list_order():
  images = _images()
  both = _augmented(images, "invert", "shift")
  shifted = _augmented(images, "shift")
  np.testing.assert_array_equal(both, _augmented(shifted, "invert"))
  assert (both != shifted).any()


def test_augmentation_depends_only_on_seed_and_position():
  images = np.repeat(_images(1), 6, axis=0)
  expected = _augmented(images, "brighten", seed=5)
  np.testing.assert_array_equal(_augmented(images[:2], "brighten", start=4, seed=5), expected[4:])
  assert len({image.tobytes() for image in expected}) == 6
  assert (_augmented(images, "brighten", seed=6) != expected).any()


@pytest.mark.parametrize(
  ("kind", "settings", "problem"),
  [
    ("crop", "", r"returned uint8 \(6, 19, 23, 3\); it must return images in the shape"),
    ("fail", "", r"RuntimeError: no paint left \(line \d+ of .*\)"),
    ("invert", "strength=2", "TypeError: .*strength"),
    ("missing", "", "defines no missing"),
  ],
)
def test_failure_is_reported(kind, settings, problem):
  with pytest.raises(UserError, match=f"--augment=.*my_augmentations.py:{kind}.* {problem}"):
    _augmented(_images(), kind, settings=settings)


def _blocks(*kinds: str, steps_per_block: int, first_steps: list[int]):
  config = Config(augment=tuple(f"{_USER_FILE}:{kind}" for kind in kinds), batch_size=4)
  return input_pipeline.train_blocks(
    Split(_images(12), np.zeros(12, np.int32)), config, first_steps=first_steps,
    steps_per_block=steps_per_block, strategy=tf.distribute.OneDeviceStrategy("CPU:0"),
    num_classes=3,
  )  # fmt: skip


def test_pipeline_does_not_depend_on_block_boundaries():
  kinds = ("brighten", "invert")
  ((expected, _),) = _blocks(*kinds, steps_per_block=4, first_steps=[0])
  parts = [images for images, _ in _blocks(*kinds, steps_per_block=2, first_steps=[0, 2])]
  assert expected.shape == (4, 4, 20, 24, 3)
  np.testing.assert_array_equal(np.concatenate(parts), expected)


@pytest.mark.parametrize(
  ("kind", "problem"),
  [
    ("crop", "returned uint8"),
    ("fail", "RuntimeError: no paint left"),
    ("fail_later", "InvalidArgumentError: .*too bright"),
  ],
)
def test_failure_in_the_pipeline_is_reported_in_one_line(kind, problem):
  with pytest.raises(UserError, match=f"^--augment=.*{kind}.*{problem}") as raised:
    next(_blocks(kind, steps_per_block=1, first_steps=[0]))
  assert len(str(raised.value).splitlines()) == 1
