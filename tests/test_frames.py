"""Tests of what is read in a frame: which digit, and where."""

import numpy as np
import pytest

from mnist_research import frames, images, recognition
from mnist_research.synthetic_digits import drawing
from mnist_research.workdir import SHIPPED, Workdir


@pytest.fixture(scope="module")
def recognizer():
  workdir = Workdir(SHIPPED)
  return recognition.load(workdir, workdir.trained_config())


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


def test_the_tallest_digit_is_read(recognizer, two_digits):
  small, large = two_digits
  reading = frames.read_digit(recognizer, _paper((small, 20, 2), (large, 160, 3)))
  assert reading.num_digits == 2
  alone = frames.read_digit(recognizer, _paper((large, 160, 3)))
  assert alone.num_digits == 1
  # 20 of the 28 pixels of an image are the digit, 4 to 8 from its edge.
  assert reading.box == pytest.approx(alone.box, abs=1)
  assert 160 < reading.box.left < reading.box.right < 160 + 3 * 28
  assert reading.box.height == pytest.approx(60, abs=8)
  (expected,) = recognizer.probabilities(reading.image[None, ..., None])
  np.testing.assert_array_equal(reading.probabilities, expected)
  assert reading.label == np.argmax(expected)
  assert reading.probability == expected.max()


def test_it_sees_what_predict_would(recognizer, two_digits):
  paper = _paper((two_digits[0], 100, 3))
  reading = frames.read_digit(recognizer, paper)
  (digit,) = images.find_digits(paper)
  np.testing.assert_array_equal(reading.image, digit.image)


def test_blank_paper_has_no_reading(recognizer):
  assert frames.read_digit(recognizer, _paper()) is None


def test_the_outline_keeps_off_the_ink_by_a_share_of_the_longer_side(recognizer, two_digits):
  reading = frames.read_digit(recognizer, _paper((two_digits[0], 100, 3)))
  placed = reading._replace(box=images.Box(100, 40, 140, 120))
  assert frames.outline(placed) == (88, 28, 152, 132)  # 0.15 * 80 = 12.
  assert frames.outline(reading._replace(box=images.Box(0, 0, 5, 6))) == (-2, -2, 7, 8)
