"""Tests of the projector's files: the data read back equals the data written."""

import json

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector import ProjectorConfig

from mnist_research.data.splits import Split
from mnist_research.recording import projector
from mnist_research.runtime.errors import UserError

_SPLIT = Split(
  np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1), dtype=np.uint8), np.array([0, 1, 1])
)
_VECTORS = np.array([[0.5, -1.25], [2, 1e-4], [3, 4]], np.float32)


def _write(directory):
  projector.write(
    directory, "test/embedding/hidden_0", _VECTORS, _SPLIT, np.array([0, 0, 1]),
    label_names=["T-shirt/top", "Bag"],
  )  # fmt: skip
  config = ProjectorConfig()
  (embedding,) = text_format.Parse(
    (directory / "projector_config.pbtxt").read_text(), config
  ).embeddings
  return embedding


def test_projector_files_hold_vectors_and_labels(tmp_path):
  embedding = _write(tmp_path)
  assert (embedding.tensor_name, [*embedding.tensor_shape]) == ("test/embedding/hidden_0", [3, 2])
  np.testing.assert_allclose(np.loadtxt(tmp_path / embedding.tensor_path), _VECTORS)
  (view,) = json.loads((tmp_path / embedding.bookmarks_path).read_text())
  assert (view["dataSetDimensions"], view["selectedColorOptionName"]) == ([3, 2], "label")
  assert (tmp_path / embedding.metadata_path).read_text() == (
    "label\tprediction\tright\n"
    "T-shirt/top\tT-shirt/top\tright\n"
    "Bag\tT-shirt/top\twrong\n"
    "Bag\tBag\tright\n"
  )


def test_digit_labels_are_quoted_for_the_projector(tmp_path):
  projector.write(
    tmp_path, "test", _VECTORS, _SPLIT, np.array([0, 0, 1]), label_names=["0", "1"]
  )  # fmt: skip
  rows = (tmp_path / projector.METADATA).read_text().splitlines()
  assert rows[1] == "“0”\t“0”\tright"


def test_sprite_holds_pictures_in_order(tmp_path):
  embedding = _write(tmp_path)
  assert [*embedding.sprite.single_image_dim] == [28, 28]
  sprite = np.asarray(Image.open(tmp_path / embedding.sprite.image_path))
  images = _SPLIT.images[..., 0]
  assert sprite.shape == (56, 56)
  np.testing.assert_array_equal(sprite[:28], np.hstack(images[:2]))
  np.testing.assert_array_equal(sprite[28:, :28], images[2])
  assert not sprite[28:, 28:].any()


def test_color_sprite_is_in_color_with_width_first(tmp_path):
  pictures = np.random.default_rng(0).integers(0, 256, (3, 20, 24, 3), np.uint8)
  sprite = projector.sprite(pictures)
  assert sprite.shape == (40, 48, 3)
  np.testing.assert_array_equal(sprite[20:, :24], pictures[2])
  split = Split(pictures, _SPLIT.labels)
  projector.write(tmp_path, "test", _VECTORS, split, np.zeros(3, int), label_names=["a", "b"])
  (embedding,) = text_format.Parse(
    (tmp_path / "projector_config.pbtxt").read_text(), ProjectorConfig()
  ).embeddings
  assert [*embedding.sprite.single_image_dim] == [24, 20]


def test_missing_directory_is_reported(tmp_path):
  with pytest.raises(UserError, match="removed can't be written"):
    _write(tmp_path / "removed")
