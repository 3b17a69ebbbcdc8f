"""Collects images that hold no digit, and that no training uses, as a dataset for `evaluate`.

  pip install scikit-image scikit-learn
  git clone https://github.com/brendenlake/omniglot
  python scripts/collect_non_digits.py --omniglot=omniglot --output=non_digits.npz
  python -m mnist_research.evaluate --outliers=non_digits.npz

Eight drawings of each character of eight alphabets of Omniglot (Lake, Salakhutdinov and Tenenbaum
2015, doi:10.1126/science.aab3050), 100 faces of scikit-image, and random squares of the photographs
in scikit-image and scikit-learn, each prepared as `predict` prepares a picture; those in which
`predict` finds no ink are left out. Latin letters that look like a digit are apart,
in the file that --lookalikes names. Prints one JSON object: the images of each class, and the blank
pictures that were left out.
"""

import io
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
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
_LATIN = "Latin"
# Latin's characters in Omniglot are a to z.
_LOOKALIKES = "bgiloqsz"
_FACES = 100
_PHOTOGRAPHS = [
  "astronaut.png",
  "brick.png",
  "camera.png",
  "chelsea.png",
  "coffee.png",
  "coins.png",
  "color.png",
  "grass.png",
  "gravel.png",
  "hubble_deep_field.jpg",
  "ihc.png",
  "motorcycle_left.png",
  "retina.jpg",
  "rocket.jpg",
]
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
  found: dict[str, list[np.ndarray]] = defaultdict(list)
  blank = 0
  for picture in (*_characters(omniglot), *_faces(), *_squares()):
    digits = images.find_digits(picture.gray)
    if digits:
      found[picture.kind].append(images.tallest(digits).image)
    else:
      blank += 1
  lookalikes = {letter: found.pop(letter) for letter in _LOOKALIKES}
  _save(flag_values.output, found)
  if flag_values.lookalikes:
    _save(flag_values.lookalikes, lookalikes)
  counts = {kind: len(members) for kind, members in (found | lookalikes).items()}
  app.print_json({**counts, "total": sum(map(len, found.values())), "blank": blank})


def _characters(omniglot: Path) -> Iterator[_Picture]:
  seen: set[str] = set()
  for archive in _ARCHIVES:
    try:
      file = zipfile.ZipFile(omniglot / archive)
    except (OSError, zipfile.BadZipFile) as error:
      raise UserError(f"--omniglot={omniglot}: {archive} can't be read: {error}") from error
    with file:
      drawings: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
      for name in sorted(file.namelist()):
        if name.endswith(".png") and not name.startswith("__MACOSX"):
          _, alphabet, character, _ = name.split("/")
          drawings[alphabet][character].append(name)
      for alphabet in sorted(drawings.keys() - seen):
        for index, names in enumerate(drawings[alphabet].values()):
          letter = chr(ord("a") + index) if alphabet == _LATIN else ""
          kind = letter if letter and letter in _LOOKALIKES else alphabet
          for name in names[:_DRAWINGS]:
            yield _Picture(kind, images.read(io.BytesIO(file.read(name))))
      seen |= drawings.keys()


def _faces() -> Iterator[_Picture]:
  skimage_data = _import_skimage()
  # The first 100 of the 200 images are faces.
  for face in skimage_data.lfw_subset()[:_FACES]:
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
  folder = Path(_import_skimage().__file__).parent
  for name in _PHOTOGRAPHS:
    yield images.read(folder / name)
  from sklearn import datasets

  for colors in datasets.load_sample_images().images:
    yield np.asarray(Image.fromarray(colors).convert("L"), np.float32) / 255


def _import_skimage():
  try:
    import sklearn.datasets  # noqa: F401
    from skimage import data
  except ImportError as error:
    raise UserError(f"{error}: pip install scikit-image scikit-learn") from error
  return data


def _save(path: str, found: dict[str, list[np.ndarray]]) -> None:
  """Writes the images as a test split; the train split, which a dataset needs, repeats one each."""
  classes = np.arange(len(found))
  np.savez_compressed(
    path,
    x_train=np.stack([members[0] for members in found.values()]),
    y_train=classes,
    x_test=np.concatenate([np.stack(members) for members in found.values()]),
    y_test=np.repeat(classes, [len(members) for members in found.values()]),
    label_names=list(found),
  )


if __name__ == "__main__":
  app.run(main, define_flags)
