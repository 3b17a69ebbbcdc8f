"""Turns user data into a dataset: a folder of pictures by class, or an .npz file.

A folder holds `train/` and `test/`, each with a folder of pictures for each class, or only the
class folders. An .npz file holds arrays named as in Keras's mnist.npz, or `images` and `labels`.
Without a test split, one example in six of each class is held out.

Long because both formats share the checks of classes, labels and splits.
"""

import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from mnist_research import images
from mnist_research.runtime import user_data
from mnist_research.runtime.errors import UserError

# The share of each class that is held out if there is no test split.
_ONE_TEST_EXAMPLE_IN = 6
_SPLITS = ("train", "test")
# The names of the arrays in an .npz file: train images and labels, test images and labels.
_ARRAYS = (
  ("x_train", "y_train", "x_test", "y_test"),
  ("train_images", "train_labels", "test_images", "test_labels"),
  ("images", "labels"),
  ("x", "y"),
)
# An optional array in an .npz file: the names of the classes.
_LABEL_NAMES = "label_names"
_MOST_CLASSES = 10_000
# Errors that corrupt files cause in np.load and in reading an array.
_NPZ_ERRORS = (ValueError, KeyError, EOFError, OSError, RuntimeError, zipfile.BadZipFile)


class Labeled(NamedTuple):
  """A split.

  Attributes:
    images: uint8 [N, height, width, 1 or 3].
    labels: int64 [N].
  """

  images: np.ndarray
  labels: np.ndarray


class Examples(NamedTuple):
  """A whole dataset.

  Attributes:
    splits: train and test.
    label_names: the name of each class.
  """

  splits: dict[str, Labeled]
  label_names: list[str]


class UserFiles(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
  """A builder for examples that are in memory."""

  name = "own_files"
  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "Initial release."}
  pkg_dir_path = Path(__file__).parent

  def __init__(self, examples: Examples, **kwargs: Any):
    """Creates the builder for `examples`; `kwargs` are those of every TFDS builder."""
    self._examples = examples
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    shape = self._examples.splits["train"].images.shape[1:]
    return tfds.core.DatasetInfo(
      builder=self,
      description="A user's examples.",
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(shape=shape),
          "label": tfds.features.ClassLabel(names=self._examples.label_names),
        }
      ),
      supervised_keys=("image", "label"),
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
    del dl_manager  # Nothing is downloaded.
    return {name: self._generate_examples(split) for name, split in self._examples.splits.items()}

  def _generate_examples(self, split: Labeled) -> Iterator[tuple[int, dict[str, Any]]]:
    for index, (image, label) in enumerate(zip(*split, strict=True)):
      yield index, {"image": image, "label": label}


def create_builder(flag: str, text: str, root: Path) -> tfds.core.DatasetBuilder:
  """Returns the builder for a path.

  Prepared data is stored by content, in `root/<digest>`, after which the files are no longer
  needed: a run is evaluated on the examples that it was trained with, even if the files are gone.

  Args:
    flag: the flag that holds the path, for error messages.
    text: the path, with the digest of its content.
    root: the directory for all such datasets.

  Raises:
    UserError: the files are missing, have changed, or aren't a dataset.
  """
  path, digest = user_data.parse(text)
  assert digest is not None
  if is_prepared(text, root):
    return tfds.builder_from_directory(_prepared_directory(text, root))
  current = user_data.content_digest(flag, path)
  if current != digest:
    raise UserError(
      f"--{flag}={text}: the files have changed (their digest is now {current}); restore them, or "
      f"give --{flag}={path} for the new ones"
    )
  return UserFiles(read(flag, path), data_dir=root / digest)


def is_prepared(text: str, root: Path) -> bool:
  """Whether the content of a path with a digest is already prepared in `root`."""
  return (_prepared_directory(text, root) / "dataset_info.json").is_file()


def _prepared_directory(text: str, root: Path) -> Path:
  return root / str(user_data.parse(text).digest) / UserFiles.name / str(UserFiles.VERSION)


def read(flag: str, path: Path) -> Examples:
  """Reads user data.

  Args:
    flag: the flag that holds the path, for error messages.
    path: a folder or an .npz file.

  Raises:
    UserError: it isn't a dataset; the message names the problem and the place.
  """
  try:
    examples = _read_folder(path) if path.is_dir() else _read_npz(path)
    _check(examples)
  except UserError as error:
    raise UserError(f"--{flag}={path}: {error}") from error
  if examples.splits["train"].images.shape[1:] == images.MNIST_SHAPE:
    _warn_about_dark_ink(path, examples.splits["train"].images)
  return examples


def _warn_about_dark_ink(path: Path, pictures: np.ndarray) -> None:
  if np.median(pictures) > 127:
    logging.warning(
      "%s: its pictures are dark on light, but predict and the page prepare pictures as light on "
      "dark, like MNIST; invert yours to use them", path,
    )  # fmt: skip


# ---- Folders ----


def _read_folder(path: Path) -> Examples:
  folders = _folders(path)
  given = [name for name in _SPLITS if name in folders]
  if len(given) == 1:
    (missing,) = set(_SPLITS) - set(given)
    raise UserError(
      f"it has a folder {given[0]} and none called {missing}; add that, or put the folders of the "
      f"classes into {path} itself"
    )
  if not given:
    names, files = _files_by_class(path)
    return _cut_test_split(names, *_load(path, files))
  others = sorted(set(folders) - set(_SPLITS))
  if others:
    logging.warning("%s: only train and test are read, not %s", path, ", ".join(others))
  names, train_files = _files_by_class(path / "train")
  test_names, test_files = _files_by_class(path / "test")
  if test_names != names:
    unmatched = sorted(set(names) ^ set(test_names))[0]
    has, lacks = ("train", "test") if unmatched in names else ("test", "train")
    raise UserError(
      f"{has} has a class {unmatched}, and {lacks} doesn't; both need the same folders"
    )
  # Loaded together, because one picture in color makes them all RGB.
  pictures, labels = _load(path, train_files + test_files)
  count = len(train_files)
  splits = {
    "train": Labeled(pictures[:count], labels[:count]),
    "test": Labeled(pictures[count:], labels[count:]),
  }
  return Examples(splits, names)


def _folders(path: Path) -> dict[str, Path]:
  try:
    return {
      entry.name: entry
      for entry in sorted(path.iterdir())
      if entry.is_dir() and not entry.name.startswith(".")
    }
  except OSError as error:
    raise UserError(f"{path} can't be read: {error.strerror}") from error


def _files_by_class(path: Path) -> tuple[list[str], list[tuple[Path, int]]]:
  """Returns the names of the classes, and each picture with its label."""
  folders = _folders(path)
  if not folders:
    raise UserError(
      f"{path} contains no folders; put the pictures of each class into one named after the class: "
      f"{path / 'a' / '1.png'}"
    )
  # Natural order: 10 after 9.
  are_numbers = all(name.isascii() and name.isdecimal() for name in folders)
  names = sorted(folders, key=int) if are_numbers else sorted(folders)
  files = []
  for label, name in enumerate(names):
    pictures = sorted(entry for entry in folders[name].iterdir() if user_data.is_picture(entry))
    if not pictures:
      raise UserError(
        f"{folders[name]} contains no pictures; add {', '.join(images.FORMATS)} files, or remove it"
      )
    files += [(picture, label) for picture in pictures]
  return names, files


def _load(path: Path, files: Sequence[tuple[Path, int]]) -> tuple[np.ndarray, np.ndarray]:
  """Reads pictures of one size, uint8 [N, height, width, 1 or 3], and their labels.

  All are gray unless at least one is in color.
  """
  first, _ = files[0]
  shape: tuple[int, ...] | None = None
  pictures = []
  for file, _ in files:
    picture = np.rint(images.read(file, colors=True) * 255).astype(np.uint8)
    shape = shape or picture.shape
    if picture.shape != shape:
      raise UserError(
        f"{file.relative_to(path)} is {_size(picture.shape)}, and {first.relative_to(path)} "
        f"{_size(shape)}; scale all pictures to one size"
      )
    is_gray = (picture == picture[..., :1]).all()
    pictures.append(picture[..., :1] if is_gray else picture)
  if any(picture.shape[-1] == 3 for picture in pictures):
    pictures = [np.broadcast_to(picture, shape) for picture in pictures if shape]
  return np.stack(pictures), np.array([label for _, label in files], np.int64)


def _size(shape: Sequence[int]) -> str:
  return f"{shape[1]} pixels wide and {shape[0]} high"


# ---- .npz ----


def _read_npz(path: Path) -> Examples:
  try:
    with np.load(path) as file:
      if isinstance(file, np.ndarray):
        raise UserError("it contains a single array; np.savez writes several, images and labels")
      arrays = {name: file[name] for name in _array_names(file.files)}
      names = np.atleast_1d(file[_LABEL_NAMES]).tolist() if _LABEL_NAMES in file.files else None
  except _NPZ_ERRORS as error:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    raise UserError(f"it isn't a readable .npz file: {reason}; write it with np.savez") from error
  parts = list(arrays.items())
  pictures = [_as_images(*part) for part in parts[::2]]
  labels = [_as_labels(*part) for part in parts[1::2]]
  for (images_name, _), (labels_name, _), split_images, split_labels in zip(
    parts[::2], parts[1::2], pictures, labels, strict=True
  ):
    if len(split_images) != len(split_labels):
      raise UserError(
        f"{images_name} has {len(split_images)} examples, and {labels_name} {len(split_labels)}"
      )
    if not len(split_images):
      raise UserError(f"{images_name} has no examples")
  count = min(max(int(split_labels.max()) for split_labels in labels) + 1, _MOST_CLASSES)
  names = [str(index) for index in range(count)] if names is None else list(map(str, names))
  for (labels_name, _), split_labels in zip(parts[1::2], labels, strict=True):
    _check_labels(labels_name, split_labels, len(names))
  if len(parts) == 2:
    return _cut_test_split(names, pictures[0], labels[0])
  splits = {name: Labeled(*arrays) for name, *arrays in zip(_SPLITS, pictures, labels, strict=True)}
  return Examples(splits, names)


def _array_names(available: Sequence[str]) -> tuple[str, ...]:
  for names in _ARRAYS:
    if set(names) <= set(available):
      return names
  raise UserError(
    f"it contains {', '.join(sorted(available)) or 'nothing'}, but needs x_train, y_train, x_test "
    "and y_test, or images and labels"
  )


def _as_images(name: str, array: np.ndarray) -> np.ndarray:
  if array.dtype != np.uint8:
    raise UserError(
      f"{name} has dtype {array.dtype}, but must be uint8, from 0 to 255; for floats from 0 to 1, "
      f"save ({name} * 255).round().astype('uint8')"
    )
  array = array[..., None] if array.ndim == 3 else array
  if array.ndim != 4 or array.shape[-1] not in (1, 3) or not all(array.shape[1:]):
    raise UserError(
      f"{name} has shape {array.shape}, but must be [N, height, width] or [N, height, width, 3]"
    )
  return array


def _as_labels(name: str, array: np.ndarray) -> np.ndarray:
  if array.ndim == 2 and array.shape[1] == 1:
    array = array[:, 0]
  if array.ndim != 1 or array.dtype.kind not in "iu":
    raise UserError(
      f"{name} has dtype {array.dtype} and shape {array.shape}, but must be integers [N], the "
      "class of each image, from 0"
    )
  return array.astype(np.int64)


def _check_labels(name: str, labels: np.ndarray, num_classes: int) -> None:
  if labels.min() < 0 or labels.max() >= num_classes:
    raise UserError(
      f"{name} goes from {labels.min()} to {labels.max()}, but there are {num_classes} classes, "
      "counted from 0"
    )


# ---- Both ----


def _cut_test_split(names: list[str], pictures: np.ndarray, labels: np.ndarray) -> Examples:
  """Holds out one example in six of each class, at least one, chosen by the bytes of the pictures.

  Thus equal pictures stay together, and adding or renaming a picture moves few others.
  """
  keys = np.array([hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures])
  is_test = np.zeros(len(labels), bool)
  for label in range(len(names)):
    of_class = labels == label
    count = -(-int(of_class.sum()) // _ONE_TEST_EXAMPLE_IN)
    if count:
      is_test |= of_class & (keys <= np.sort(keys[of_class])[count - 1])
  splits = {
    "train": Labeled(pictures[~is_test], labels[~is_test]),
    "test": Labeled(pictures[is_test], labels[is_test]),
  }
  return Examples(splits, names)


def _check(examples: Examples) -> None:
  """Raises UserError if a model couldn't be trained and tested on the examples."""
  names, splits = examples.label_names, examples.splits
  if len(names) < 2:
    raise UserError(f"it has one class, {', '.join(names)}; at least two are needed")
  if len(set(names)) < len(names) or not all(names):
    raise UserError("its class names must differ")
  train_shape, test_shape = (splits[name].images.shape[1:] for name in _SPLITS)
  if train_shape != test_shape:
    raise UserError(f"its train images are of {train_shape}, and its test images of {test_shape}")
  counts = np.bincount(splits["train"].labels, minlength=len(names))
  if not counts.all():
    empty = int(np.argmin(counts))
    hint = "; labels count from 0" if empty == 0 else "; each needs two different pictures"
    raise UserError(f"no training example is of class {names[empty]}{hint}")
