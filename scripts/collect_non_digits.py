"""Collects images without digits, which no training uses, into a dataset for `evaluate`.

  pip install scikit-image scikit-learn
  git clone https://github.com/brendenlake/omniglot
  python scripts/collect_non_digits.py --omniglot=omniglot --output=non_digits.npz
  python -m mnist_research.evaluate --outliers=non_digits.npz

Eight drawings of each character of eight alphabets of Omniglot (Lake, Salakhutdinov and Tenenbaum
2015, doi:10.1126/science.aab3050), 100 faces of scikit-image, and random squares of the photographs
in scikit-image and scikit-learn, each prepared as `predict` prepares a picture. Those without ink
are left out. Latin letters that look like a digit go to the file that --lookalikes names. Prints
one JSON object: the number of images of each class, their total, and the blank pictures.
"""

import importlib.util
import io
import string
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from absl import flags
from PIL import Image

from mnist_research import images
from mnist_research.runtime import app, command_line
from mnist_research.runtime.errors import UserError

# Both of Omniglot's small background sets; two alphabets are in both.
_ARCHIVES = ("python/images_background_small1.zip", "python/images_background_small2.zip")
_DRAWINGS = 8
# The characters of Omniglot's Latin alphabet.
_LETTERS = string.ascii_lowercase
_LOOKALIKES = "bgiloqsz"
_FACES = 100
_PHOTOGRAPHS = (
  "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png",
  "color.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png",
  "motorcycle_left.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip
# Cut from each photograph, and the range of their sides in pixels.
_SQUARES = 40
_SIDES = (40, 161)


class _Picture(NamedTuple):
  """A picture without a digit.

  Attributes:
    kind: its class.
    gray: float [height, width] in [0, 1].
  """

  kind: str
  gray: np.ndarray


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: Omniglot's repository, and the files to write."""
  command_line.define_path("omniglot", "", "a clone of Omniglot's repository", flag_values)
  command_line.define_path("output", "non_digits.npz", "the .npz to write", flag_values)
  command_line.define_path(
    "lookalikes", "", "the .npz to write of letters that look like a digit", flag_values
  )


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Collects the images."""
  app.refuse_arguments(arguments)
  omniglot = Path(app.required(flag_values, "omniglot"))
  _check_modules()
  by_kind: dict[str, list[np.ndarray]] = defaultdict(list)
  blank = 0
  for picture in (*_characters(omniglot), *_faces(), *_squares()):
    digits = images.find_digits(picture.gray)
    if digits:
      by_kind[picture.kind].append(images.tallest(digits).image)
    else:
      blank += 1
  lookalikes = {letter: by_kind.pop(letter) for letter in _LOOKALIKES}
  _save(flag_values.output, by_kind)
  if flag_values.lookalikes:
    _save(flag_values.lookalikes, lookalikes)
  counts = {kind: len(members) for kind, members in (by_kind | lookalikes).items()}
  app.print_json({**counts, "total": sum(map(len, by_kind.values())), "blank": blank})


def _characters(omniglot: Path) -> Iterator[_Picture]:
  """Yields the first drawings of each character of each alphabet."""
  drawings: dict[tuple[str, str], list[_Picture]] = {}
  for archive in _ARCHIVES:
    try:
      with zipfile.ZipFile(omniglot / archive) as file:
        drawings |= _read_drawings(file)
    except (OSError, zipfile.BadZipFile) as error:
      raise UserError(f"--omniglot={omniglot}: {archive} can't be read: {error}") from error
  for key in sorted(drawings):
    yield from drawings[key]


def _read_drawings(file: zipfile.ZipFile) -> dict[tuple[str, str], list[_Picture]]:
  """Returns the first drawings of each character, by alphabet and the character's name."""
  names: dict[tuple[str, str], list[str]] = defaultdict(list)
  for name in sorted(file.namelist()):
    if name.endswith(".png") and not name.startswith("__MACOSX"):
      _, alphabet, character, _ = name.split("/")
      names[alphabet, character].append(name)
  return {
    key: [
      _Picture(_kind(*key), images.read(io.BytesIO(file.read(name))))
      for name in members[:_DRAWINGS]
    ]
    for key, members in names.items()
  }


def _kind(alphabet: str, character: str) -> str:
  """Returns the class of a character, which Omniglot names character01 and so on."""
  if alphabet == "Latin":
    letter = _LETTERS[int(character.removeprefix("character")) - 1]
    if letter in _LOOKALIKES:
      return letter
  return alphabet


def _faces() -> Iterator[_Picture]:
  # The first 100 of the 200 images are faces.
  for face in _skimage_data().lfw_subset()[:_FACES]:
    yield _Picture("faces", face.astype(np.float32))


def _squares() -> Iterator[_Picture]:
  generator = np.random.default_rng(0)
  for photograph in _photographs():
    height, width = photograph.shape
    for _ in range(_SQUARES):
      side = int(generator.integers(*_SIDES))
      top, left = generator.integers(height - side), generator.integers(width - side)
      yield _Picture("photographs", photograph[top : top + side, left : left + side])


def _photographs() -> Iterator[np.ndarray]:
  folder = Path(str(_skimage_data().__file__)).parent
  for name in _PHOTOGRAPHS:
    yield images.read(folder / name)
  from sklearn import datasets

  for colors in datasets.load_sample_images().images:
    yield np.asarray(Image.fromarray(colors).convert("L"), np.float32) / 255


def _skimage_data() -> ModuleType:
  from skimage import data

  return data


def _check_modules() -> None:
  for name in ("skimage", "sklearn"):
    if importlib.util.find_spec(name) is None:
      raise UserError(f"{name} is not installed: python -m pip install scikit-image scikit-learn")


def _save(path: str, by_kind: dict[str, list[np.ndarray]]) -> None:
  """Writes the images as a test split; the train split, which a dataset needs, repeats one each."""
  classes = np.arange(len(by_kind))
  np.savez_compressed(
    path,
    x_train=np.stack([members[0] for members in by_kind.values()]),
    y_train=classes,
    x_test=np.concatenate([np.stack(members) for members in by_kind.values()]),
    y_test=np.repeat(classes, [len(members) for members in by_kind.values()]),
    label_names=list(by_kind),
  )


if __name__ == "__main__":
  app.run(main, define_flags)
