"""Tests of the embedded dataset `synthetic_digits`."""

import hashlib
import os
import pathlib
import pickle
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from mnist_research.data import synthetic_digits
from mnist_research.data.synthetic_digits import drawing

_REPOSITORY = pathlib.Path(__file__).resolve().parents[1]

_HASH_PROGRAM = """
import hashlib
from mnist_research.data.synthetic_digits import drawing
images, labels = next(drawing.draw_examples("train", 200))
print(hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest())
"""


def _draw(split: str, num_examples: int) -> tuple[np.ndarray, np.ndarray]:
  images, labels = zip(*drawing.draw_examples(split, num_examples), strict=True)
  return np.concatenate(images), np.concatenate(labels)


@pytest.fixture(scope="module")
def train() -> tuple[np.ndarray, np.ndarray]:
  return _draw("train", 6000)


@pytest.fixture(scope="module")
def held_out() -> tuple[np.ndarray, np.ndarray]:
  return _draw("test", 2000)


def _nearest_label(train: tuple[np.ndarray, np.ndarray], images: np.ndarray) -> np.ndarray:
  """Labels images by their nearest neighbor in `train`, at half the resolution for speed."""

  def halve(images: np.ndarray) -> np.ndarray:
    pooled = images.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4), dtype=np.float32)
    return pooled.reshape(-1, 196) / 255

  known, queries = halve(train[0]), halve(images)
  # The query's norm is the same for every neighbor, so it is omitted.
  distances = (known**2).sum(axis=1) - 2 * queries @ known.T
  return train[1][distances.argmin(axis=1)]


def test_images_are_white_ink_on_black(train):
  images, labels = train
  assert images.shape == (6000, 28, 28, 1)
  assert images.dtype == np.uint8
  assert labels.dtype == np.int64
  assert images.max() == 255
  # MNIST's mean gray level is 0.1307, and four fifths of its pixels are paper.
  assert 0.11 < images.mean() / 255 < 0.16
  assert 0.7 < (images < 8).mean() < 0.9
  # Anti-aliasing: much of the ink is neither black nor white.
  ink = images[images >= 8]
  assert 0.2 < ((ink > 30) & (ink < 220)).mean() < 0.7


def test_labels_are_balanced(train, held_out):
  for labels in (train[1], held_out[1]):
    shares = np.bincount(labels, minlength=10) / len(labels)
    assert shares.shape == (10,)
    assert np.all(np.abs(shares - 0.1) < 0.025)


def test_images_are_unique_within_and_across_splits(train, held_out):
  images = np.concatenate([train[0], held_out[0]])
  assert len({image.tobytes() for image in images}) == len(images)


def test_drawing_is_deterministic_across_processes():
  images, labels = _draw("train", 200)
  here = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
  path = os.pathsep.join([str(_REPOSITORY), os.environ.get("PYTHONPATH", "")])
  there = subprocess.run(
    [sys.executable, "-c", _HASH_PROGRAM],
    env={**os.environ, "PYTHONPATH": path},
    capture_output=True,
    text=True,
    check=True,
  )
  assert there.stdout.strip() == here


@pytest.mark.parametrize("size", [1, 37, drawing.BLOCK_SIZE, drawing.BLOCK_SIZE + 1])
def test_smaller_split_is_a_prefix_of_a_larger_one(train, size):
  images, labels = _draw("train", size)
  np.testing.assert_array_equal(images, train[0][:size])
  np.testing.assert_array_equal(labels, train[1][:size])


def test_zero_examples_are_allowed_and_bad_arguments_are_not():
  assert list(drawing.draw_examples("train", 0)) == []
  with pytest.raises(ValueError, match="validation"):
    next(drawing.draw_examples("validation", 1))
  with pytest.raises(ValueError, match="-1"):
    next(drawing.draw_examples("train", -1))


def test_ink_is_centered(train):
  images = train[0][..., 0].astype(np.float64)
  total = images.sum(axis=(1, 2))
  index = np.arange(28)
  rows = (images.sum(axis=2) * index).sum(axis=1) / total
  columns = (images.sum(axis=1) * index).sum(axis=1) / total
  # Half a pixel from whole-pixel moves; more where the box reaches the image's border or where the
  # black level trims faint ink.
  for center in (rows, columns):
    assert abs(center.mean() - 14.0) < 0.05
    assert np.mean(np.abs(center - 14.0) <= 0.6) > 0.99
    assert np.abs(center - 14.0).max() < 1.5


def test_digits_fill_the_box(train):
  ink = train[0][..., 0] > 40  # Noise on the paper is far lower.

  def extent(has_ink: np.ndarray) -> np.ndarray:
    return 28 - has_ink.argmax(axis=1) - has_ink[:, ::-1].argmax(axis=1)

  height, width = extent(ink.any(axis=2)), extent(ink.any(axis=1))
  longest = np.maximum(height, width)
  assert longest.max() <= 20
  assert np.mean(longest >= 19) > 0.99
  # The aspect ratio is kept: a "1" is narrow, a "0" isn't.
  labels = train[1]
  assert np.median(width[labels == 1]) < 13
  assert np.median(width[labels == 0]) > 14


def test_off_center_ink_stays_in_the_image():
  box = np.zeros((2, 20, 20), np.float32)
  box[0, 0, 0] = 1.0
  box[1, 9, 10] = 1.0
  images = drawing.center_ink(box)
  assert images.sum() == 2.0
  assert images[0, 8, 8] == 1.0  # The largest possible shift of the box.
  assert images[1, 14, 14] == 1.0


def test_straight_stroke_is_drawn_where_the_pen_went():
  line = np.stack([np.zeros(128), np.linspace(0.0, 1.0, 128)], axis=-1)[np.newaxis]
  box = drawing.ink_box(line, np.random.default_rng(0))[0]
  inked = np.flatnonzero(box.max(axis=0) > 0.0)
  assert 2 <= len(inked) <= 8
  assert abs(inked.mean() - 9.5) <= 1.0
  # From top to bottom, about as wide as the pen everywhere.
  widths = box.sum(axis=1)
  assert widths.min() > 0.5
  assert widths[2:-2].max() / widths[2:-2].min() < 1.6


def test_classes_are_separable(train, held_out):
  images, labels = held_out
  assert np.mean(_nearest_label(train, images) == labels) > 0.87


def test_preparation_with_tfds_needs_no_network(tmp_path, monkeypatch):
  def refuse(*_, **__):
    raise AssertionError("the dataset used the network")

  monkeypatch.setattr(socket.socket, "connect", refuse)
  monkeypatch.setattr(socket, "create_connection", refuse)
  monkeypatch.setattr(socket, "getaddrinfo", refuse)

  builder = tfds.builder(
    "synthetic_digits", data_dir=tmp_path, num_train_examples=120, num_test_examples=40
  )
  builder.download_and_prepare()
  assert builder.info.features["image"].shape == (28, 28, 1)
  assert builder.info.features["label"].num_classes == 10
  assert builder.info.supervised_keys == ("image", "label")
  for split, size in (("train", 120), ("test", 40)):
    assert builder.info.splits[split].num_examples == size
    stored = list(tfds.as_numpy(builder.as_dataset(split=split, as_supervised=True)))
    images, labels = _draw(split, size)
    expected = [(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)]
    assert sorted((image.tobytes(), int(label)) for image, label in stored) == sorted(expected)

  again = pickle.loads(pickle.dumps(builder))
  assert again.info.splits["train"].num_examples == 120


def test_sizes_are_stored_separately(tmp_path):
  def prepare(num_train_examples: int) -> tfds.core.DatasetBuilder:
    builder = synthetic_digits.SyntheticDigits(
      data_dir=tmp_path, num_train_examples=num_train_examples, num_test_examples=5
    )
    builder.download_and_prepare()
    return builder

  small, large = prepare(10), prepare(30)
  assert small.data_dir != large.data_dir

  def images(builder: tfds.core.DatasetBuilder) -> list[bytes]:
    return [
      example["image"].tobytes() for example in tfds.as_numpy(builder.as_dataset(split="train"))
    ]

  small_images, large_images = images(small), images(large)
  assert len(small_images) == 10
  assert len(large_images) == 30
  # The smaller size, in the order of the larger one.
  assert small_images == [image for image in large_images if image in set(small_images)]


def test_default_size_is_that_of_mnist(tmp_path):
  builder = synthetic_digits.SyntheticDigits(data_dir=tmp_path)
  assert builder.builder_config.name == "60000_10000"
  assert builder.builder_config.num_train_examples == 60_000
  assert builder.builder_config.num_test_examples == 10_000
  assert pickle.loads(pickle.dumps(builder)).builder_config.name == "60000_10000"


@pytest.mark.parametrize("sizes", [(0, 1), (1, 0), (-5, 10)])
def test_empty_splits_are_rejected(tmp_path, sizes):
  with pytest.raises(ValueError, match="at least one example"):
    synthetic_digits.SyntheticDigits(
      data_dir=tmp_path, num_train_examples=sizes[0], num_test_examples=sizes[1]
    )


def test_classifier_of_synthetic_digits_reads_mnist(train, read_mnist):
  images = read_mnist("train-images-idx3-ubyte")[-3000:]
  labels = read_mnist("train-labels-idx1-ubyte")[-3000:]
  assert np.mean(_nearest_label(train, images) == labels) > 0.85
