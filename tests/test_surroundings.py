"""Tests that objects at the edges of a picture aren't taken for digits and don't hide digits."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from mnist_research import images

_WIDTH, _HEIGHT = 400, 300


def _photo(ink, *, paper=0.7, pen=0.35):
  """Ink, float [height, width], on noisy paper."""
  noise = np.random.default_rng(0).normal(0, 0.01, ink.shape)
  return np.clip(paper + (pen - paper) * ink + noise, 0, 1).astype(np.float32)


def _sevens(count=4):
  """A row of 7s, 40 pixels high."""
  image = Image.new("L", (_WIDTH, _HEIGHT))
  drawing = ImageDraw.Draw(image)
  for place in range(count):
    x = 100 + 60 * place
    drawing.line([(x, 80), (x + 26, 80), (x + 10, 120)], 255, 5)
  return np.asarray(image) / 255


@pytest.mark.parametrize("side", ["right", "bottom", "left", "top"])
@pytest.mark.parametrize("darkness", [0.4, 0.95])
def test_darker_object_is_ignored_and_hides_no_digit(side, darkness):
  expected = images.find_digits(_photo(_sevens()))
  mask = np.zeros((_HEIGHT, _WIDTH))
  window = {
    "right": np.s_[150:, 350:], "bottom": np.s_[230:, 130:300], "left": np.s_[20:250, :40],
    "top": np.s_[:30, 50:250],
  }[side]  # fmt: skip
  mask[window] = 1
  picture = _photo(_sevens()) * (1 - darkness * ndimage.gaussian_filter(mask, 1))
  digits = images.find_digits(picture.astype(np.float32))
  assert len(digits) == len(expected) == 4
  for digit, other in zip(digits, expected, strict=True):
    assert np.abs(np.subtract(digit.box, other.box)).max() <= 3
    assert np.abs(digit.image.astype(float) - other.image).mean() < 10


@pytest.mark.parametrize("object_pen", [0.9, 0.45])
def test_line_along_the_edge_is_not_a_one(object_pen):
  picture = _photo(_sevens())
  picture[60:140, :3] *= 1 - object_pen
  assert len(images.find_digits(picture)) == 4


@pytest.mark.parametrize("top", [0, 20])
@pytest.mark.parametrize("dot", [0, 6, 12])
def test_digit_that_touches_the_edge_is_kept(top, dot):
  ink = np.zeros((300, 300))
  ink[top : top + 8, 60:240] = 1
  ink[top:300, 215:240] = 1
  ink[200 : 200 + dot, 50 : 50 + dot] = 1
  (digit,) = images.find_digits(_photo(ink))
  assert digit.box == (60, top, 240, 300)


def test_tightly_cropped_number_keeps_digits_at_the_edges():
  row = _sevens()[80:122, 100:308]
  assert len(images.find_digits(_photo(row))) == 4
  assert len(images.find_digits(1 - row.astype(np.float32))) == 4
