"""Tests of the figure with pictures, the network's inputs, and its probabilities."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from mnist_research import figures

NAMES = [str(digit) for digit in range(10)]


def _panel(caption="a.png", *, label=7, share=0.6, classes=10, seed=0):
  generator = np.random.default_rng(seed)
  probabilities = np.full(classes, (1 - share) / (classes - 1))
  probabilities[label] = share
  image = generator.integers(0, 256, (28, 28), dtype=np.uint8)
  return figures.Panel(
    caption, np.full((84, 112), 0.8, np.float32), (14, 21, 42, 63), image, probabilities
  )


def _draw(*shown, names=NAMES, count=None):
  return figures.recognition(
    shown, label_names=names, count=count or len(shown), title="dense, trained on mnist"
  )


def _texts(figure):
  return [text.get_text() for text in figure.axes[0].texts]


def _bars(figure, color):
  """The bars of a color: their widths and vertical centers."""
  return [
    (bar.get_width(), bar.get_y() + bar.get_height() / 2)
    for bar in figure.axes[0].patches
    if bar.get_fill() and to_hex(bar.get_facecolor()).upper() == color
  ]


def test_panel_shows_network_input_pixel_by_pixel():
  shown = [_panel(seed=1), _panel(seed=2)]
  array = figures.to_array(_draw(*shown))
  for place, panel in enumerate(shown):
    # Below the header, the caption and the previous panels; to the right of the picture.
    top, left = 24 + 40 + 30 + 22 + place * (22 + 168 + 28), 24 + 224 + 28
    large = np.repeat(np.repeat(panel.image, 6, axis=0), 6, axis=1)
    drawn = array[top : top + 168, left : left + 168]
    # Its frame takes two screen pixels.
    np.testing.assert_array_equal(drawn[2:-2, 2:-2], large[2:-2, 2:-2, None].repeat(3, axis=2))


def test_color_panel_keeps_its_aspect_ratio():
  panel = _panel()._replace(
    image=np.random.default_rng(0).integers(0, 256, (21, 42, 3), np.uint8),
    picture=np.full((84, 112, 3), (0.2, 0.4, 0.6), np.float32),
  )
  array = figures.to_array(_draw(panel))
  # Four screen pixels per pixel, in the middle of a square of 168.
  top, left = 24 + 40 + 30 + 22 + 42, 24 + 224 + 28
  large = np.repeat(np.repeat(panel.image, 4, axis=0), 4, axis=1)
  np.testing.assert_array_equal(
    array[top : top + 84, left : left + 168][2:-2, 2:-2], large[2:-2, 2:-2]
  )
  np.testing.assert_array_equal(array[24 + 40 + 30 + 22 + 10, 24 + 10], (51, 102, 153))


def test_bar_lengths_are_proportional_to_probabilities():
  figure = _draw(_panel(label=7, share=0.6))
  ((width, middle),) = _bars(figure, figures.CORRECT_COLOR)
  assert width == pytest.approx(0.6 * 200)
  others = _bars(figure, "#5F6B7A")
  assert [width for width, _ in others] == pytest.approx([0.4 / 9 * 200] * 9)
  # The eighth of ten, from the top.
  assert sum(other < middle for _, other in others) == 7
  texts = _texts(figure)
  assert [text for text in texts if text in NAMES] == NAMES
  assert [text for text in texts if text.endswith("%")] == ["4%"] * 7 + ["60%"] + ["4%"] * 2


def test_most_likely_classes_are_drawn():
  names = [f"class {index}" for index in range(62)]
  panel = _panel(label=40, share=0.5, classes=62)
  panel.probabilities[[60, 3]] = 0.04
  texts = _texts(_draw(panel, names=names))
  drawn = [text for text in texts if text.startswith("class")]
  assert len(drawn) == 10
  assert {"class 3", "class 40", "class 60"} <= set(drawn)
  assert drawn == sorted(drawn, key=names.index)


def test_box_surrounds_the_digit():
  figure = _draw(_panel())
  box = next(
    patch for patch in figure.axes[0].patches if to_hex(patch.get_edgecolor()) == "#d55e00"
  )
  # 112 x 84 pixels are drawn twice as large, 24 from the left, below the header.
  assert (box.get_x(), box.get_width(), box.get_height()) == (24 + 2 * 14, 2 * 28, 2 * 42)
  assert box.get_y() == 24 + 40 + 30 + 22 + 2 * 21


def test_panels_that_do_not_fit_are_counted():
  figure = _draw(*[_panel(f"{index}.png") for index in range(30)], count=1234)
  texts = _texts(figure)
  assert "the first 24 of 1,234 digits" in texts
  assert [text for text in texts if text.endswith(".png")] == [f"{i}.png" for i in range(24)]
  assert not any("first" in text for text in _texts(_draw(_panel())))


def test_odd_names_are_drawn_as_text():
  figure = _draw(_panel("$a_b^$.png"), _panel("x" * 400))
  figures.to_array(figure)
  texts = _texts(figure)
  assert "$a_b^$.png" in texts
  assert any(text.startswith("xxx") and text.endswith("…") for text in texts)


def test_missing_glyphs_are_drawn_as_question_marks(recwarn):
  figure = _draw(_panel("é 7\n\udcff\N{SLIGHTLY SMILING FACE}.png"))
  figures.to_array(figure)
  assert "é 7???.png" in _texts(figure)
  assert not recwarn.list


def test_no_panels_or_other_classes_are_rejected():
  with pytest.raises(ValueError, match="0 panels"):
    _draw()
  with pytest.raises(ValueError, match="other classes"):
    _draw(_panel(classes=9))
