"""Tests of the frames of scripts/answer_times.py: each shows its scene and can be read."""

import itertools

import answer_times
import numpy as np
import pytest
from scipy import ndimage

from mnist_research import images


@pytest.mark.parametrize("scene", answer_times.SCENES)
def test_each_scene_renders_a_digit_on_paper(scene):
  for file in itertools.islice(answer_times.draw_frames(scene), 6):
    frame = images.read(file)
    assert frame.shape == (480, 640)
    digit = images.tallest(images.find_digits(frame))
    assert 0.4 * 250 < digit.box.side < 1.9 * 250
    # Outside the digit's box, the paper's lines are darker than their surroundings.
    lines = ndimage.median_filter(frame[::2, ::2], 9) - frame[::2, ::2] > 0.08
    box = [edge // 2 for edge in digit.box]
    lines[max(0, box[1] - 6) : box[3] + 6, max(0, box[0] - 6) : box[2] + 6] = False
    assert (np.count_nonzero(lines) > 2000) == (scene != "white")
