"""Tests of reading pictures and of reporting the answers."""

import json

import numpy as np
import pytest

from mnist_research import images
from mnist_research.data.synthetic_digits import drawing
from mnist_research.inference import readings
from mnist_research.inference.readings import Reading
from mnist_research.inference.recognizer import Outputs
from mnist_research.runtime.errors import UserError

NAMES = ("zero", "one", "two")


def _paper(*digits):
  """Paper of 100 x 300 pixels with digits, each (image, left, factor), as dark ink."""
  paper = np.full((100, 300), 0.8, np.float32)
  for image, left, factor in digits:
    ink = np.kron(image[..., 0], np.ones((factor, factor))) / 255
    paper[8 : 8 + len(ink), left : left + len(ink)] -= np.float32(0.7) * ink
  return paper


@pytest.fixture(scope="module")
def two_digits():
  block, _ = next(drawing.draw_examples("test", 2))
  return block


def test_every_digit_of_a_picture_is_read(recognizer, two_digits):
  small, large = two_digits
  first, second = readings.read_picture(recognizer, _paper((small, 20, 2), (large, 160, 3)))
  assert first.num_digits == second.num_digits == 2
  assert 20 < first.box.left < first.box.right < 20 + 2 * 28
  assert 160 < second.box.left < second.box.right < 160 + 3 * 28
  # The digit has 20 of the image's 28 pixels, 4 to 8 from its edge.
  assert second.box.height == pytest.approx(60, abs=8)
  (alone,) = readings.read_picture(recognizer, _paper((large, 160, 3)))
  assert alone.num_digits == 1
  assert second.box == pytest.approx(alone.box, abs=1)
  expected, *_ = recognizer.probabilities(alone.image[None, ..., None])
  np.testing.assert_array_equal(alone.probabilities, expected)
  assert alone.label == np.argmax(expected)
  assert alone.probability == expected.max()


def test_reading_prepares_images_like_predict(recognizer, two_digits):
  paper = _paper((two_digits[0], 100, 3))
  (reading,) = readings.read_picture(recognizer, paper)
  (digit,) = images.find_digits(paper)
  np.testing.assert_array_equal(reading.image, digit.image)


def test_blank_paper_has_no_reading(recognizer):
  assert readings.read_picture(recognizer, _paper()) == []


def test_outline_margin_is_a_share_of_the_longer_side(recognizer, two_digits):
  (reading,) = readings.read_picture(recognizer, _paper((two_digits[0], 100, 3)))
  placed = reading._replace(box=images.Box(100, 40, 140, 120))
  assert readings.outline(placed) == (88, 28, 152, 132)  # 0.15 * 80 = 12.
  assert readings.outline(reading._replace(box=images.Box(0, 0, 5, 6))) == (-2, -2, 7, 8)


def test_prepared_digits_are_read_in_order(recognizer, two_digits):
  prepared = images.find_digits(_paper((two_digits[0], 20, 3), (two_digits[1], 160, 3)))
  read = readings.read(recognizer, prepared)
  assert [reading.box for reading in read] == [digit.box for digit in prepared]
  for reading, digit in zip(read, prepared, strict=True):
    (alone,) = readings.read(recognizer, [digit])
    np.testing.assert_allclose(reading.probabilities, alone.probabilities, atol=1e-6)
    assert (reading.num_digits, alone.num_digits) == (2, 1)


def test_batch_reading_matches_single_readings(recognizer, two_digits):
  first, second = two_digits
  pictures = [
    images.find_digits(_paper((first, 20, 3), (second, 160, 3))),
    images.find_digits(_paper((second, 100, 3))),
  ]
  together = readings.read_each(recognizer, pictures)
  assert [len(each) for each in together] == [2, 1]
  for read, prepared in zip(together, pictures, strict=True):
    for reading, alone in zip(read, readings.read(recognizer, prepared), strict=True):
      assert (reading.label, reading.box) == (alone.label, alone.box)
      assert reading.num_digits == alone.num_digits
      np.testing.assert_allclose(reading.probabilities, alone.probabilities, atol=1e-6)


class _ColorNetwork:
  """Predicts the strongest of three colors."""

  image_shape = (4, 6, 3)

  def predict(self, seen):
    strengths = seen.sum(axis=(1, 2)) + 1e-9
    return Outputs(np.log(strengths / strengths.sum(axis=1, keepdims=True)), None)


def test_color_pictures_are_read_whole():
  image = np.zeros((4, 6, 3), np.uint8)
  image[:, 2:, 1] = 200
  picture = images.as_picture("cifar10/test[3]", image)
  (reading,) = readings.read(_ColorNetwork(), picture.prepared)
  assert (reading.label, reading.box) == (1, (0, 0, 6, 4))
  (panel,) = readings.panels(picture, [reading])
  assert panel.picture.shape == panel.image.shape == (4, 6, 3)


def test_network_for_other_images_is_rejected(recognizer):
  readings.check_reads_digits(recognizer, "--digits")
  with pytest.raises(UserError, match=r"^--digits prepares digits .*\(28, 28, 1\), .*\(4, 6, 3\)"):
    readings.check_reads_digits(_ColorNetwork(), "--digits")


# ---- Reports ----


def _readings(*probabilities):
  """A picture of 700 x 140 with bars of ink, 10 x 60 at x = 20, 120, ..., and its readings."""
  gray = np.full((140, 700), 0.9, np.float32)
  for place in range(len(probabilities)):
    gray[30:90, 20 + 100 * place : 30 + 100 * place] = 0.1
  picture = images.Picture("a/b.png", gray, images.find_digits(gray))
  rows = np.array(probabilities)
  return picture, [
    Reading(int(row.argmax()), row, digit.image, digit.box, len(rows))
    for row, digit in zip(rows, picture.prepared, strict=True)
  ]


def test_single_digit_record_is_plain_json():
  _, (reading,) = _readings([0.2, 0.1, 0.7])
  record = reading.record(NAMES)
  assert record == {
    "label": 2,
    "label_name": "two",
    "probability": 0.7,
    "probabilities": [0.2, 0.1, 0.7],
  }
  assert json.loads(json.dumps(record)) == record


def test_several_digits_form_a_number():
  _, read = _readings([0.9, 0.1, 0.0], [0.25, 0.5, 0.25])
  record = readings.number(read, NAMES)
  assert (record["number"], record["rows"]) == ("zeroone", ["zeroone"])
  first, second = record["digits"]
  assert first == {
    "label": 0,
    "label_name": "zero",
    "probability": 0.9,
    "probabilities": [0.9, 0.1, 0.0],
    "row": 0,
    "box": {"x": 20, "y": 30, "width": 10, "height": 60},
  }
  assert (second["label"], second["box"]["x"]) == (1, 120)
  assert json.loads(json.dumps(record)) == record


def test_each_row_of_digits_is_a_number():
  _, read = _readings([0.9, 0.1, 0.0], [0.25, 0.5, 0.25], [0.1, 0.0, 0.9])
  read = [each._replace(row=row) for each, row in zip(read, (0, 0, 1), strict=True)]
  record = readings.number(read, NAMES)
  assert (record["number"], record["rows"]) == ("zeroone\ntwo", ["zeroone", "two"])
  assert [digit["row"] for digit in record["digits"]] == [0, 0, 1]


def test_panels_show_downscaled_picture_with_box():
  first, second = readings.panels(*_readings([0.9, 0.1, 0.0], [0.25, 0.5, 0.25]))
  assert (first.caption, second.caption) == ("a/b.png: 1 of 2", "a/b.png: 2 of 2")
  # 700 pixels exceed the limit: 2 x 2 become one.
  assert first.picture.shape == (70, 350)
  assert first.box == (10, 15, 15, 45)
  left, top, right, bottom = map(int, second.box)
  assert second.picture[top:bottom, left:right] == pytest.approx(0.1)
  np.testing.assert_array_equal(second.probabilities, [0.25, 0.5, 0.25])
  assert second.image[4:24, 14].min() == 255
  assert readings.panels(*_readings([1, 0, 0]))[0].caption == "a/b.png"
