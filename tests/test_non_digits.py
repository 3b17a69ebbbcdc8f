"""Tests of the generated images without digits: what is stored, and the properties of each kind."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from mnist_research.data import non_digits
from mnist_research.data.non_digits import drawing

_FRAMED = [kind for kind in drawing.KINDS if kind not in ("texture", "paper")]


def _draw(kind: str, count: int = 8) -> list[np.ndarray]:
  return [drawing.draw_example(kind, np.random.default_rng(seed)) for seed in range(count)]


def test_example_depends_only_on_split_and_index():
  few, many = (list(drawing.draw_examples("train", count)) for count in (5, 30))
  for (image, kind), (again, kind_again) in zip(few, many, strict=False):
    np.testing.assert_array_equal(image, again)
    assert kind == kind_again
  assert len({image.tobytes() for image, _ in many}) == 30
  # All kinds are equally frequent.
  assert [kind for _, kind in many] == [index % len(drawing.KINDS) for index in range(30)]
  others = {image.tobytes() for image, _ in drawing.draw_examples("test", 30)}
  assert not others & {image.tobytes() for image, _ in many}


def test_unknown_split_is_rejected():
  with pytest.raises(ValueError, match="split must be one of"):
    next(drawing.draw_examples("validation", 1))


@pytest.mark.parametrize("kind", drawing.KINDS)
def test_each_picture_is_gray_and_has_ink(kind):
  images = _draw(kind)
  for image in images:
    assert image.dtype == np.uint8
    assert image.shape == (28, 28)
    assert image.max() > image.min()
  assert len({image.tobytes() for image in images}) == len(images)


@pytest.mark.parametrize("kind", _FRAMED)
def test_ink_is_framed_as_in_mnist(kind):
  for image in _draw(kind):
    rows, columns = np.nonzero(image)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 <= 20
    total = image.sum(dtype=float)
    center = (image.sum(axis=1) @ np.arange(28) / total, image.sum(axis=0) @ np.arange(28) / total)
    assert np.abs(np.subtract(center, 14)).max() <= 4.01  # It may touch the edge of the frame.


def test_every_font_has_every_sign():
  for name in drawing._FONTS:
    font = drawing._font(name)
    missing = font.getmask("\uffff")
    for character in drawing._SIGNS + drawing._LETTERS:
      mask = font.getmask(character)
      assert bytes(mask) != bytes(missing), (name, character)


def test_prepared_examples_are_those_drawn(tmp_path):
  builder = non_digits.NonDigits(data_dir=tmp_path, num_train_examples=33, num_test_examples=11)
  builder.download_and_prepare()
  assert builder.info.features["label"].names == list(drawing.KINDS)
  for split, size in (("train", 33), ("test", 11)):
    stored = tfds.as_numpy(builder.as_dataset(split=split, as_supervised=True))
    expected = [(image.tobytes(), kind) for image, kind in drawing.draw_examples(split, size)]
    assert sorted((image.tobytes(), int(kind)) for image, kind in stored) == sorted(expected)
