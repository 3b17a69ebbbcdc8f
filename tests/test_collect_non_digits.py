"""Tests of scripts/collect_non_digits.py on a small stand-in for Omniglot's archives."""

import importlib.util
import io
import zipfile

import collect_non_digits as collect
import commands
import numpy as np
import pytest
from PIL import Image, ImageDraw

from mnist_research import images
from mnist_research.data import user_files
from mnist_research.runtime.errors import UserError


def _drawing(width):
  """A PNG of a vertical stroke of some width."""
  image = Image.new("L", (105, 105), 255)
  ImageDraw.Draw(image).line([(50, 20), (50, 85)], 0, width)
  file = io.BytesIO()
  image.save(file, "PNG")
  return file.getvalue()


@pytest.fixture
def omniglot(tmp_path):
  """Two archives; Greek is in both. Drawings differ in their width."""
  (tmp_path / "python").mkdir()
  for number, alphabets in enumerate((("Greek", "Latin"), ("Greek", "Korean")), start=1):
    path = tmp_path / "python" / f"images_background_small{number}.zip"
    with zipfile.ZipFile(path, "w") as file:
      for alphabet in alphabets:
        for character in ("character01", "character02"):
          for drawing in range(10):
            name = f"images/{alphabet}/{character}/{drawing:02}.png"
            file.writestr(name, _drawing(2 + drawing))
      file.writestr("__MACOSX/images/Greek/character01/._01.png", b"no picture")
  return tmp_path


def test_eight_drawings_of_each_character_are_taken_once(omniglot):
  found = [(each.kind, float((1 - each.gray).sum())) for each in collect._characters(omniglot)]
  # Of Latin, a is a letter and b looks like a digit.
  assert [kind for kind, _ in found] == [
    *["Greek"] * 16, *["Korean"] * 16, *["Latin"] * 8, *["b"] * 8
  ]  # fmt: skip
  inks = np.reshape([ink for _, ink in found], (-1, 8))
  assert (np.diff(inks) > 0).all()
  np.testing.assert_array_equal(inks, np.broadcast_to(inks[0], inks.shape))


def test_missing_archive_is_named(tmp_path):
  with pytest.raises(
    UserError, match=f"--omniglot={tmp_path}: python/images_background_small1.zip"
  ):
    list(collect._characters(tmp_path))


def test_every_image_is_in_the_test_split(tmp_path):
  one = images.find_digits(images.read(io.BytesIO(_drawing(9))))[0].image
  path = tmp_path / "non_digits.npz"
  collect._save(str(path), {"Greek": [one, 255 - one], "faces": [one // 2]})
  examples = user_files.read("dataset", path)
  assert examples.label_names == ["Greek", "faces"]
  test = examples.splits["test"]
  np.testing.assert_array_equal(test.images[..., 0], [one, 255 - one, one // 2])
  assert test.labels.tolist() == [0, 0, 1]
  np.testing.assert_array_equal(examples.splits["train"].images[..., 0], [one, one // 2])


@pytest.mark.skipif(
  all(map(importlib.util.find_spec, ("skimage", "sklearn"))), reason="both packages are installed"
)
def test_missing_packages_are_named_with_the_remedy(omniglot):
  script = commands.REPOSITORY / "scripts" / "collect_non_digits.py"
  finished = commands.run_python(
    f"import runpy, sys; sys.argv = ['collect', '--omniglot={omniglot}'];"
    f"runpy.run_path({str(script)!r}, run_name='__main__')"
  )
  assert finished.error.endswith(
    " is not installed: python -m pip install scikit-image scikit-learn"
  )
