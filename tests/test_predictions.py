"""Tests of what is told of a picture that was read."""

import json

import numpy as np
import pytest

from mnist_research import images
from mnist_research.predictions import Answer

NAMES = ("zero", "one", "two")


def _answer(*probabilities):
  """An answer about bars of ink, 10 x 60 at x = 20, 120, ..., on a picture of 700 x 140."""
  grey = np.full((140, 700), 0.9, np.float32)
  for place in range(len(probabilities)):
    grey[30:90, 20 + 100 * place : 30 + 100 * place] = 0.1
  picture = images.Picture("a/b.png", grey, images.find_digits(grey))
  return Answer(picture, np.array(probabilities), NAMES)


def test_one_digit():
  record = _answer([0.2, 0.1, 0.7]).digit()
  assert record == {
    "file": "a/b.png",
    "label": 2,
    "label_name": "two",
    "probability": 0.7,
    "probabilities": [0.2, 0.1, 0.7],
  }
  assert json.loads(json.dumps(record)) == record


def test_a_number_of_several_digits():
  record = _answer([0.9, 0.1, 0.0], [0.25, 0.5, 0.25]).number()
  assert record["file"] == "a/b.png"
  assert record["number"] == "zeroone"
  first, second = record["digits"]
  assert first == {
    "label": 0,
    "label_name": "zero",
    "probability": 0.9,
    "probabilities": [0.9, 0.1, 0.0],
    "box": {"x": 20, "y": 30, "width": 10, "height": 60},
  }
  assert (second["label"], second["box"]["x"]) == (1, 120)
  assert json.loads(json.dumps(record)) == record


def test_panels_show_a_reduced_picture_with_the_box_on_it():
  first, second = _answer([0.9, 0.1, 0.0], [0.25, 0.5, 0.25]).panels()
  assert (first.caption, second.caption) == ("a/b.png: 1 of 2", "a/b.png: 2 of 2")
  # 700 pixels are more than are shown: 2 x 2 make one.
  assert first.picture.shape == (70, 350)
  assert first.box == (10, 15, 15, 45)
  left, top, right, bottom = map(int, second.box)
  assert second.picture[top:bottom, left:right] == pytest.approx(0.1)
  np.testing.assert_array_equal(second.probabilities, [0.25, 0.5, 0.25])
  assert second.image[4:24, 14].min() == 255
  assert _answer([1, 0, 0]).panels()[0].caption == "a/b.png"
