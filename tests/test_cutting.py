"""Tests of touching digits: how they are cut, and when their parts are read."""

import itertools
from types import SimpleNamespace

import commands
import numpy as np
import pytest
from PIL import Image, ImageDraw

from mnist_research import images
from mnist_research.data.synthetic_digits import drawing
from mnist_research.inference import readings
from mnist_research.inference.recognizer import Outputs


def _bars(count, *, pitch=84):
  """Connected dark bars of 120 rows by 12 columns on paper, at a distance of `pitch` columns."""
  paper = np.full((200, 80 + pitch * count), 0.9, np.float32)
  for place in range(count):
    paper[40:160, 40 + pitch * place :][:, :12] = 0.1
  paper[96:104, 40 : 52 + pitch * (count - 1)] = 0.1
  return paper


def _touching(first, second):
  """Two digits, uint8 [28, 28], enlarged and moved together until their ink overlaps."""
  first, second = (np.asarray(Image.fromarray(each).resize((168, 168))) for each in (first, second))
  canvas = np.zeros((228, 420), np.uint8)
  canvas[30:198, 30:198] = first
  for left in range(220, 0, -1):
    moved = np.zeros_like(canvas)
    moved[30:198, left : left + 168] = second
    if np.count_nonzero((canvas > 128) & (moved > 128)) > 20:
      break
  return (0.9 - 0.8 * np.maximum(canvas, moved) / 255).astype(np.float32)


def test_bridge_is_cut_and_parts_keep_their_positions():
  (whole,) = images.find_digits(_bars(2, pitch=60))
  assert images.propose_cuts(whole) == []  # Too narrow: half as wide as high.
  (whole,) = images.find_digits(_bars(3))
  cuts = images.propose_cuts(whole)
  assert cuts
  for cut in cuts:
    assert cut.parts[0].box.left == whole.box.left
    assert cut.parts[-1].box.right == whole.box.right
    for left, right in itertools.pairwise(cut.parts):
      assert left.box.right == pytest.approx(right.box.left, abs=2)
    assert {part.box.height for part in cut.parts} == {whole.box.height}
    assert cut.doubt > 0.5 * (len(cut.parts) - 1)
  assert {len(cut.parts) for cut in cuts} == {2, 3}


def test_touching_digits_are_separated_by_a_cut():
  block, labels = next(drawing.draw_examples("test", 60))
  digits = [block[np.flatnonzero(labels == label)[0], ..., 0] for label in (2, 3)]
  (whole,) = images.find_digits(_touching(*digits))
  alone = [images.find_digits(_touching(each, np.zeros_like(each)))[0] for each in digits]
  differences = [
    max(
      np.abs(part.image.astype(float) - one.image).sum() / one.image.sum()
      for part, one in zip(cut.parts, alone, strict=True)
    )
    for cut in images.propose_cuts(whole)
    if len(cut.parts) == 2
  ]
  assert min(differences) < 0.5


def test_cutting_a_ring_costs_more_than_a_bridge():
  ring = Image.new("L", (240, 240), 230)
  ImageDraw.Draw(ring).ellipse((40, 40, 200, 200), outline=20, width=16)
  (zero,) = images.find_digits(np.asarray(ring, np.float32) / 255)
  (two_bars,) = images.find_digits(_bars(2, pitch=108))
  least = min(cut.doubt for cut in images.propose_cuts(two_bars))
  # Two strokes instead of one, with the same width.
  assert min(cut.doubt for cut in images.propose_cuts(zero)) > least + 1.5


def test_picture_in_mnist_style_is_not_cut():
  image = np.zeros((28, 28), np.uint8)
  image[9:19, 4:24] = 255
  (digit,) = images.find_digits(image.astype(np.float32) / 255)
  assert images.propose_cuts(digit) == []


def _recognizer(wide, narrow):
  """A network with given certainties of a 1 for images of wide and of narrow ink."""

  def predict(seen):
    columns = [np.ptp(np.flatnonzero(image[..., 0].any(0))) for image in seen]
    certainty = np.where(np.array(columns) > 14, wide, narrow)
    probabilities = np.repeat((1 - certainty)[:, None] / 9, 10, axis=1)
    probabilities[:, 1] = certainty
    return Outputs(np.log(probabilities), None)

  return SimpleNamespace(predict=predict, image_shape=images.MNIST_SHAPE)


@pytest.mark.parametrize("count", [3, 4])
def test_parts_replace_whole_if_more_confident(count):
  digits = images.find_digits(_bars(count))
  assert len(digits) == 1
  read = readings.read(_recognizer(0.6, 0.999), digits)
  assert [reading.num_digits for reading in read] == [count] * count
  lefts = [reading.box.left for reading in read]
  assert lefts == sorted(lefts)
  assert len(readings.read_picture(_recognizer(0.6, 0.999), _bars(count))) == count


@pytest.mark.parametrize(
  ("wide", "narrow"), [(0.9999, 0.99999), (0.95, 0.96), (0.9, 0.5), (0.2, 0.6)]
)
def test_whole_is_kept_if_about_as_confident(wide, narrow):
  (reading,) = readings.read(_recognizer(wide, narrow), images.find_digits(_bars(3)))
  assert reading.num_digits == 1
  assert reading.probability == pytest.approx(wide)


def test_touching_digits_are_rejected_without_digits_flag(tmp_path):
  """The ink is connected, so only the network can decide."""
  block, labels = next(drawing.draw_examples("test", 60))
  two, three = (block[np.flatnonzero(labels == label)[0], ..., 0] for label in (2, 3))
  file = tmp_path / "23.png"
  Image.fromarray(np.rint(255 * _touching(two, three)).astype(np.uint8)).save(file)
  finished = commands.call(file, module="predict")
  assert finished.error == f"error: {file} shows 2 digits; --digits reads them as a number"
