"""Tests of reading scenes from frames of 640 x 480 pixels, as a hand-held camera delivers them."""

from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from mnist_research import images
from mnist_research.inference import readings
from mnist_research.inference.readings import Reading
from mnist_research.live.scenes import digits_of, read_scene

_WIDTH, _HEIGHT, _RATE, _FRAMES = 640, 480, 30, 40
# The pen's path of each digit, in the unit square.
_PATHS = {
  "0": [(0.5 + 0.3 * np.cos(t), 0.5 + 0.5 * np.sin(t)) for t in np.linspace(-1.6, 4.8, 30)],
  "3": [
    *((0.4 + 0.32 * np.cos(t), 0.26 + 0.26 * np.sin(t)) for t in np.linspace(-2.4, 1.5, 15)),
    *((0.4 + 0.38 * np.cos(t), 0.75 + 0.25 * np.sin(t)) for t in np.linspace(-1.5, 2.6, 15)),
  ],
  "4": [(0.7, 1), (0.7, 0), (0.1, 0.65), (0.95, 0.65)],
  "7": [(0.1, 0.02), (0.9, 0), (0.4, 1)],
}


class _Frame(NamedTuple):
  seconds: float
  gray: np.ndarray


def _ink(number, pen):
  """A number, drawn with a pen of some pixels' width: float [480, 640], 1 for ink."""
  image = Image.new("L", (_WIDTH, _HEIGHT))
  drawing = ImageDraw.Draw(image)
  left = 320 - 75 * len(number)
  for place, digit in enumerate(number):
    path = [(left + 150 * place + 20 + 100 * x, 150 + 170 * y) for x, y in _PATHS[digit]]
    drawing.line(path, 255, pen, joint="curve")
  return np.asarray(image) / 255


def _printed(paper):
  """The lines of a kind of paper, 1 on a line."""
  rows, columns = np.mgrid[:_HEIGHT, :_WIDTH]
  across, down = rows % 32 < 2, columns % 32 < 2
  kinds = {"white": 0 * rows, "ruled": across, "squared": across | down, "dotted": across & down}
  return kinds[paper].astype(float)


def _frames(number="", *, pen=14, paper="white", shade=0.0, jitter=0.0):
  """Frames of a scene with sensor noise.

  Args:
    number: what is written; empty: nothing.
    pen: width of its strokes in pixels.
    paper: as in `_printed`.
    shade: the share of the light that is lost at the right edge.
    jitter: standard deviation of the hand's movement: pixels, and tenths of a degree.
  """
  generator = np.random.default_rng(0)
  scene = 0.75 * np.maximum(_ink(number, pen), 0.4 * _printed(paper))
  light = np.linspace(0.85, 0.85 * (1 - shade), _WIDTH)
  for index in range(_FRAMES):
    moved = ndimage.shift(scene, generator.normal(0, jitter, 2), order=1) if jitter else scene
    if jitter:
      moved = ndimage.rotate(moved, generator.normal(0, jitter) / 10, reshape=False, order=1)
    gray = light * (1 - moved) + generator.normal(0, 0.02, scene.shape)
    yield _Frame(index / _RATE, gray.clip(0, 1).astype(np.float32))


def _answers(recognizer, frames):
  """The number that is shown after each frame."""
  names = recognizer.label_names
  return [readings.number(read, names)["number"] for _, read in read_scene(recognizer, frames)]


@pytest.mark.parametrize("paper", ["white", "ruled", "squared", "dotted"])
def test_empty_paper_is_no_number(recognizer, paper):
  assert set(_answers(recognizer, _frames(paper=paper, jitter=1))) == {""}


@pytest.mark.parametrize(
  "scene",
  [
    {"number": "407"},
    {"number": "407", "jitter": 4},
    {"number": "407", "paper": "ruled"},
    {"number": "407", "paper": "squared"},
    {"number": "407", "shade": 0.7},
    {"number": "407", "pen": 5},
    {"number": "3", "pen": 5, "shade": 0.7, "jitter": 2},
    {"number": "3", "paper": "squared", "jitter": 2},
  ],
  ids=str,
)
def test_still_scene_has_one_answer(recognizer, scene):
  # Before the second frame there is none.
  assert set(_answers(recognizer, _frames(**scene))[1:]) == {scene["number"]}


def test_boxes_are_those_of_the_digits(recognizer):
  *_, (_, read) = read_scene(recognizer, _frames("407"))
  lefts = [each.box.left for each in read]
  assert lefts == pytest.approx([115, 275 + 10, 415 + 10], abs=16)
  assert [each.box.height for each in read] == pytest.approx([170, 184, 170], abs=16)


def _reading(height, score=None):
  image = np.zeros((28, 28), np.uint8)
  return Reading(3, np.eye(10)[3], image, images.Box(0, 0, 10, height), 1, score, 0)


def test_non_digits_and_small_marks_are_left_out():
  digit, second, mark, letter = _reading(100), _reading(41), _reading(39), _reading(300, 0.4)
  assert digits_of([digit, mark, letter, second]) == [digit, second]
  assert digits_of([letter]) == []
