"""Tests of the pictures for measuring predict."""

import many_pictures
import pytest

from mnist_research import images


def test_each_picture_has_one_digit_and_its_stated_size(tmp_path):
  many_pictures.draw_pictures(tmp_path, 12, 0.04)
  files = sorted(tmp_path.iterdir())
  assert len(files) == 12
  for file in files:
    picture = images.read(file)
    assert picture.size == pytest.approx(40_000, rel=0.01)
    assert len(images.find_digits(picture)) == 1
  # Later pictures are links.
  assert files[10].stat().st_ino == files[0].stat().st_ino
