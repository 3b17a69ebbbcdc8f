"""Finds datasets by their names, and prepares those that aren't on this machine yet.

`user_files.py` turns a user's folder or file of examples into a TFDS dataset, `preparation.py`
lets TFDS write a dataset's files, and `splits.py` reads them into memory.
"""

import contextlib
import importlib
import inspect
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from google.protobuf import json_format

from mnist_research.config import Config
from mnist_research.data import downloads, original_files, preparation, user_files
from mnist_research.runtime import extensions, user_data
from mnist_research.runtime.errors import UserError

# The errors that TFDS raises if it can't make a builder from a name or a file.
_BUILDER_ERRORS = (
  ValueError, KeyError, TypeError, AttributeError, ImportError, AssertionError, RecursionError,
  OSError, json_format.ParseError,
)  # fmt: skip

# The datasets that this package generates, each in a subpackage.
_GENERATED = ("synthetic_digits", "non_digits")

# Height, width, channels.
ImageShape = tuple[int, int, int]


class Source(NamedTuple):
  """A dataset prepared on this machine.

  Attributes:
    name: the value of `--dataset`.
    builder: the TFDS builder that reads it; its images are uint8, of one size.
  """

  name: str
  builder: tfds.core.DatasetBuilder

  @property
  def short_name(self) -> str:
    """For titles."""
    return user_data.short_name(self.name)

  @property
  def image_shape(self) -> ImageShape:
    """The height, width and channels (one or three) of each image."""
    return self.builder.info.features["image"].shape

  @property
  def num_classes(self) -> int:
    """The number of classes."""
    return self.builder.info.features["label"].num_classes

  @property
  def label_names(self) -> list[str]:
    """The name of each class, in the order of the labels."""
    return list(self.builder.info.features["label"].names)

  def num_examples(self, split: str) -> int:
    """The number of examples of `split`, train or test, without reading them."""
    return self.builder.info.splits[split].num_examples


def prepare(config: Config) -> Source:
  """Makes sure that the dataset is on this machine, by download or from `manual_dir`.

  Raises:
    UserError: the dataset is unknown, has unsuitable examples, or can't be obtained; the message
      names remedies.
  """
  try:
    return _prepare(config, config.data.dataset)
  except downloads.UnreachableError as error:
    if not config.data.fallback_dataset:
      raise
    banner = "!" * 100
    logging.warning(
      "%s isn't available: %s\n%s\n!!! TRAINING ON %s INSTEAD OF %s. Its results are not those of "
      "%s.\n%s", config.data.dataset, error, banner, config.data.fallback_dataset.upper(),
      config.data.dataset.upper(), config.data.dataset, banner,
    )  # fmt: skip
    return _prepare(config, config.data.fallback_dataset)


def prepare_outliers(config: Config, image_shape: ImageShape) -> Source | None:
  """Makes sure that the dataset of outliers, if any, is on this machine.

  Args:
    config: the settings, which name it.
    image_shape: the required shape of its images.

  Raises:
    UserError: it is unknown, its images have a different shape, or it can't be obtained.
  """
  name = config.data.outliers
  if not name:
    return None
  try:
    # --manual_dir and --mirror apply only to --dataset.
    source = _prepare(config.replace(manual_dir="", mirror=""), name)
  except UserError as error:
    reason = str(error)
    names_dataset = reason.startswith("--dataset=")
    raise UserError(
      f"--outliers={reason.removeprefix('--dataset=')}"
      if names_dataset
      else f"--outliers={name}: {reason}"
    ) from error
  if source.image_shape != image_shape:
    raise UserError(
      f"--outliers={name} has images of {source.image_shape}, but --dataset={config.data.dataset} "
      f"of {image_shape}; choose one with the same shape"
    )
  return source


def prepared(config: Config) -> Source | None:
  """Returns the dataset if it is already on this machine, else None; downloads nothing.

  Raises:
    UserError: the dataset is unknown.
  """
  name = config.data.dataset
  if user_data.is_path(name) and not user_files.is_prepared(
    name, _user_data_root(config.data.data_dir)
  ):
    return None
  builder = _create_builder(config.data.dataset, config.data.data_dir)
  return Source(config.data.dataset, builder) if builder.is_prepared() else None


class Origin(NamedTuple):
  """Where `prepare` would find a dataset.

  Attributes:
    data_dir: the directory of the prepared dataset, even if it isn't prepared yet.
    is_prepared: whether it is already prepared there.
    source: a description of where its examples would come from otherwise.
  """

  data_dir: Path
  is_prepared: bool
  source: str


def find(config: Config) -> Origin:
  """Returns where the dataset is or would come from; downloads and writes nothing.

  Raises:
    UserError: the dataset is unknown or has unsuitable examples, its files aren't in `manual_dir`,
      or (UnreachableError) their host doesn't answer.
  """
  name, manual_dir = config.data.dataset, config.data.manual_dir
  name = user_data.pinned("dataset", name)
  builder = _create_builder(name, config.data.data_dir)
  _check_features(name, builder)
  data_dir = Path(builder.data_dir)
  if builder.is_prepared():
    return Origin(data_dir, True, "")
  if user_data.is_path(name):
    return Origin(data_dir, False, str(user_data.parse(name).path))
  url_infos = builder.url_infos or {}
  if manual_dir:
    with (
      tempfile.TemporaryDirectory() as staging,
      original_files.for_tfds(builder, Path(manual_dir), Path(staging) / "originals"),
    ):
      return Origin(data_dir, False, f"its original files, which are in {manual_dir}")
  urls = downloads.addresses(url_infos, config.data.mirror)
  downloads.check_hosts(name, urls)
  hosts = ", ".join(sorted({urlsplit(url).netloc for url in urls}))
  return Origin(data_dir, False, f"a download from {hosts}" if hosts else "its own code")


def _prepare(config: Config, name: str) -> Source:
  name = user_data.pinned("dataset", name)
  builder = _create_builder(name, config.data.data_dir)
  _check_features(name, builder)
  if not builder.is_prepared():
    with _attribute_errors(name):
      preparation.download_and_prepare(name, builder, config)
    # If another process prepared it while this one waited, `builder` doesn't know that.
    builder = _create_builder(name, config.data.data_dir)
  missing = {"train", "test"} - set(builder.info.splits)
  if missing:
    raise UserError(f"--dataset={name} has no split {' and no '.join(sorted(missing))}")
  return Source(name, builder)


def _attribute_errors(name: str) -> contextlib.AbstractContextManager[None]:
  """Attributes errors inside a custom builder to it; errors of other builders pass through."""
  if extensions.is_builder(name):
    return extensions.attribute_errors("dataset", name)
  return contextlib.nullcontext()


def _create_builder(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
  if extensions.is_builder(name):
    return _create_custom_builder(name, data_dir)
  if user_data.is_path(name):
    return user_files.create_builder("dataset", name, _user_data_root(data_dir))
  if name.split("/")[0] in _GENERATED:
    importlib.import_module(f"mnist_research.data.{name.split('/')[0]}")  # Registers it with TFDS.
  try:
    return tfds.builder(name, data_dir=data_dir or None)
  except tfds.core.DatasetNotFoundError:
    is_here = Path(name).is_dir()
    hint = f"; for the folder of that name write --dataset=./{name}" if is_here else ""
    raise UserError(f"--dataset={name}: TFDS has no such dataset{hint}") from None
  except _BUILDER_ERRORS as error:
    files = Path(data_dir or tfds.core.constants.DATA_DIR) / name.partition(":")[0]
    remedy = f"; if its files are corrupt, delete {files} and rerun" if files.is_dir() else ""
    reason = str(error).partition("\n")[0]
    raise UserError(f"--dataset={name}: {reason}{remedy}") from error


def _user_data_root(data_dir: str) -> Path:
  """Returns the directory for datasets from users' code and files, each under its digest."""
  return Path(data_dir or tfds.core.constants.DATA_DIR).expanduser() / "own"


def _create_custom_builder(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
  """Returns a builder of a user's class.

  Prepared data is stored by the content of the class's file, in `<data_dir>/own/<digest>`, so
  classes of the same name in different files don't share data, and a changed file is prepared
  again. The digest doesn't cover what the file reads or imports: when that changes, increase the
  class's `VERSION`.

  Raises:
    UserError: the class can't be loaded or created, or isn't a builder.
  """
  # TFDS identifies classes by name and refuses a second one, such as the class of a changed file.
  with tfds.core.registered.skip_registration():
    builder_class: Any = extensions.load("dataset", name)
  is_class = inspect.isclass(builder_class)
  if not is_class or not issubclass(builder_class, tfds.core.DatasetBuilder):
    raise UserError(f"--dataset={name}: must be a subclass of tfds.core.GeneratorBasedBuilder")
  # Otherwise TFDS would look for README.md and other files in a package named like the module.
  if "pkg_dir_path" not in vars(builder_class):
    builder_class.pkg_dir_path = Path(inspect.getfile(builder_class)).parent
  digest = extensions.read_source("dataset", name).digest[:12]
  with extensions.attribute_errors("dataset", name):
    return builder_class(data_dir=_user_data_root(data_dir) / digest)


def _check_features(name: str, builder: tfds.core.DatasetBuilder) -> None:
  """Raises UserError unless the examples are images of one size with labels."""
  with _attribute_errors(name):
    features = builder.info.features
  known = dict(features) if isinstance(features, tfds.features.FeaturesDict) else {}
  image: Any = known.get("image")
  label, shape = known.get("label"), getattr(image, "shape", None)
  if not isinstance(shape, tuple):
    problem = "it has no images" if image is None else f"its `image` is {image}"
  elif len(shape) != 3 or not all(shape) or shape[2] not in (1, 3):
    problem = f"its images are {shape}"
  elif np.dtype(image.np_dtype) != np.uint8:
    problem = f"its images are of {np.dtype(image.np_dtype)}"
  elif not isinstance(label, tfds.features.ClassLabel) or not label.num_classes:
    problem = "it has no labels" if label is None else f"its labels are {label}"
  else:
    return
  raise UserError(
    f"--dataset={name}: {problem}; choose one with images of one size, uint8 (height, width, 1 or "
    "3), with a ClassLabel `label`"
  )


def check_fits(source: Source, label_names: Sequence[str], image_shape: ImageShape) -> None:
  """Raises UserError unless a model matches the dataset.

  Args:
    source: the dataset.
    label_names: the model's classes.
    image_shape: the shape of the images that it takes.
  """
  if source.num_classes != len(label_names):
    raise UserError(
      f"--dataset={source.name} has {source.num_classes} classes, but this model has "
      f"{len(label_names)}"
    )
  if source.image_shape != tuple(image_shape):
    raise UserError(
      f"--dataset={source.name} has images of {source.image_shape}, but this model takes "
      f"{tuple(image_shape)}"
    )
