"""From TFDS into memory: prepares a dataset, from the network or from files, and reads it."""

import contextlib
import dataclasses
import fcntl
import importlib
import io
import os
import sys
import threading
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import requests
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging

from mnist_research import progress
from mnist_research.config import Config
from mnist_research.errors import UserError
from mnist_research.models import IMAGE_SHAPE

# Long enough for a slow host, short enough for somebody who waits.
_REACH_SECONDS = 5
# More calls in flight than cores: an example costs so little that handing it over dominates
# (1.3 s for MNIST's 60,000 on two cores, against 2.6 s with as many calls as cores).
_PARALLEL_CALLS = 16


@dataclasses.dataclass(frozen=True)
class Split:
  """Examples in memory.

  Attributes:
    images: uint8 [N, 28, 28, 1].
    labels: int32 [N].
  """

  images: np.ndarray
  labels: np.ndarray

  def __getitem__(self, index: Any) -> "Split":
    """Returns the examples that `index`, a slice or integers, selects."""
    return Split(self.images[index], self.labels[index])

  @property
  def num_examples(self) -> int:
    """The number of examples."""
    return len(self.labels)


class Source(NamedTuple):
  """A dataset prepared on this machine.

  Attributes:
    name: as `--dataset` takes it.
    builder: the TFDS builder that reads it.
  """

  name: str
  builder: tfds.core.DatasetBuilder

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
    UserError: the dataset is unknown, of another shape, or can't be had; its remedies are named.
  """
  try:
    return _prepare(config, config.dataset)
  except _UnreachableError as error:
    if not config.fallback_dataset:
      raise
    banner = "!" * 100
    logging.warning(
      "%s is not at hand: %s\n%s\n!!! TRAINING ON %s INSTEAD OF %s. Its figures are not those of "
      "%s.\n%s", config.dataset, error, banner, config.fallback_dataset.upper(),
      config.dataset.upper(), config.dataset, banner,
    )  # fmt: skip
    return _prepare(config, config.fallback_dataset)


def prepared(config: Config) -> Source | None:
  """Returns the dataset where it is on this machine already, else None: nothing is fetched.

  Raises:
    UserError: the dataset is unknown.
  """
  builder = _create_builder(config.dataset, config.data_dir)
  return Source(config.dataset, builder) if builder.is_prepared() else None


class _UnreachableError(UserError):
  """The dataset is neither prepared nor given as files, and its host doesn't answer."""


def _prepare(config: Config, name: str) -> Source:
  builder = _create_builder(name, config.data_dir)
  _check_features(name, builder)
  if not builder.is_prepared():
    _download_and_prepare(Source(name, builder), config.manual_dir)
    # Another process may have prepared it, while this one waited: then `builder` doesn't know.
    builder = _create_builder(name, config.data_dir)
  missing = {"train", "test"} - set(builder.info.splits)
  if missing:
    raise UserError(f"--dataset={name} has no split {' and no '.join(sorted(missing))}")
  return Source(name, builder)


def _create_builder(name: str, data_dir: str) -> tfds.core.DatasetBuilder:
  if name.split("/")[0] == "synthetic_digits":
    importlib.import_module("mnist_research.synthetic_digits")  # Registers it with TFDS.
  try:
    return tfds.builder(name, data_dir=data_dir or None)
  except tfds.core.DatasetNotFoundError:
    raise UserError(f"--dataset={name}: TFDS knows no such dataset") from None
  except (ValueError, KeyError, TypeError, AttributeError, ImportError, AssertionError) as error:
    raise UserError(f"--dataset={name}: {error}") from error


def _check_features(name: str, builder: tfds.core.DatasetBuilder) -> None:
  features = builder.info.features
  known = dict(features) if isinstance(features, tfds.features.FeaturesDict) else {}
  shape = getattr(known.get("image"), "shape", None)
  if shape != IMAGE_SHAPE or not isinstance(known.get("label"), tfds.features.ClassLabel):
    raise UserError(
      f"--dataset={name}: its images are {shape or 'absent'}; choose one with labelled images of "
      f"{IMAGE_SHAPE}"
    )


def _download_and_prepare(source: Source, manual_dir: str) -> None:
  builder = source.builder
  files = {Path(info.filename).name: url for url, info in (builder.url_infos or {}).items()}
  if manual_dir:
    _check_manual_files(source.name, Path(manual_dir), files)
  elif files:
    _check_hosts(source.name, list(files.values()))
  data_dir = Path(builder.data_dir).parent
  data_dir.mkdir(parents=True, exist_ok=True)
  if not progress.shows_bars():
    tfds.disable_progress_bar()
  logging.info("preparing %s in %s", source.name, data_dir)
  config = tfds.download.DownloadConfig(
    manual_dir=manual_dir or None, try_download_gcs=False, register_checksums=False
  )
  # TFDS announces itself on stdout, which is the programs'.
  announcements = sys.stderr if logging.level_info() else io.StringIO()
  with (
    _locked(data_dir / ".preparing"),
    contextlib.redirect_stdout(announcements),
    progress.waiting(f"preparing {source.name}"),
  ):
    if builder.is_prepared():  # By another process, while this one waited.
      return
    try:
      builder.download_and_prepare(
        # Datasets use the same file names for other files: each has a directory of its own.
        download_dir=str(data_dir / "downloads"),
        download_config=config,
      )
    except tfds.download.download_manager.NonMatchingChecksumError as error:
      where = f"--manual_dir={manual_dir}" if manual_dir else "the download"
      raise UserError(
        f"--dataset={source.name}: a file of {where} has a wrong checksum: {error}"
      ) from error
    except (requests.exceptions.RequestException, tfds.download.DownloadError) as error:
      raise _UnreachableError(_remedies(source.name, f"its download failed: {error}")) from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
  """Holds an exclusive lock of the operating system, which ends with the process at the latest."""
  with path.open("w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


def _check_manual_files(name: str, manual_dir: Path, files: dict[str, str]) -> None:
  missing = sorted(file for file in files if not (manual_dir / file).is_file())
  if missing:
    raise UserError(
      f"--manual_dir={manual_dir}: --dataset={name} needs {', '.join(missing)} there, or no "
      "--manual_dir"
    )


def _check_hosts(name: str, urls: Sequence[str]) -> None:
  """Asks each host once: TFDS itself tries again for minutes before it gives up."""
  by_host = {urlsplit(url).netloc: url for url in urls}
  for host, url in by_host.items():
    answers: list[requests.Response] = []

    def ask(url: str = url, answers: list[requests.Response] = answers) -> None:
      with contextlib.suppress(requests.exceptions.RequestException):
        answers.append(requests.head(url, timeout=_REACH_SECONDS, allow_redirects=True))

    # In a thread, since no time-out of requests covers the look-up of the name.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(2 * _REACH_SECONDS)
    if not answers:
      raise _UnreachableError(_remedies(name, f"{host} doesn't answer"))


def _remedies(name: str, problem: str) -> str:
  return (
    f"--dataset={name} is not prepared here and {problem}: give its original files with "
    "--manual_dir=DIR, a directory where TFDS has prepared it with --data_dir=DIR, or take "
    "--dataset=synthetic_digits, which needs no network"
  )


def read(source: Source, split: str) -> Split:
  """Reads a whole split of a prepared dataset into memory, in the order of its files.

  The first time, the arrays are kept beside TFDS's files: decoding 60,000 PNGs takes as long as
  importing TensorFlow, and every later start does without.

  Args:
    source: from `prepare`.
    split: `train` (the validation examples are still its last) or `test`.

  Raises:
    UserError: the prepared files are damaged.
  """
  kept = Path(source.builder.data_dir) / f"arrays-{split}.npz"
  examples = _load_arrays(kept, source.num_examples(split))
  if examples is None:
    examples = _decode(source, split)
    # A directory that can't be written serves as well, only slower.
    with contextlib.suppress(OSError):
      _keep_arrays(kept, examples)
  return examples


def _load_arrays(path: Path, num_examples: int) -> Split | None:
  """Returns the arrays that `_keep_arrays` wrote, or None where they are absent or damaged."""
  try:
    with np.load(path) as arrays:  # A zip file: every byte is held against its checksum.
      split = Split(arrays["images"], arrays["labels"])
  # RuntimeError: damage that reads as a zip file of a later version, or an encrypted one.
  except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile):
    return None
  fits = split.images.shape == (num_examples, *IMAGE_SHAPE) and split.num_examples == num_examples
  return split if fits else None


def _keep_arrays(path: Path, split: Split) -> None:
  # In containers that share a disk, each process may have the same number.
  partial = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}")
  try:
    with partial.open("wb") as file:
      np.savez(file, images=split.images, labels=split.labels)
    partial.replace(path)
  finally:
    partial.unlink(missing_ok=True)


def _decode(source: Source, split: str) -> Split:
  read_config = tfds.ReadConfig(try_autocache=False, num_parallel_calls_for_decode=_PARALLEL_CALLS)
  num_examples = source.num_examples(split)
  try:
    dataset = source.builder.as_dataset(split=split, read_config=read_config)
    examples = next(dataset.batch(num_examples).as_numpy_iterator())
  except (tf.errors.OpError, StopIteration, OSError) as error:
    raise UserError(
      f"the prepared files under {source.builder.data_dir} can't be read ({type(error).__name__}); "
      "delete that directory and run again"
    ) from error
  if len(examples["label"]) != num_examples:
    raise UserError(
      f"{source.builder.data_dir} holds {len(examples['label'])} examples of {split} and not "
      f"{num_examples}; delete that directory and run again"
    )
  return Split(examples["image"], examples["label"].astype(np.int32))


def read_split(source: Source, config: Config, name: str) -> Split:
  """Reads `train`, `validation` or `test` as the run of `config` cuts them.

  Raises:
    UserError: the run held no validation examples out.
  """
  if name == "test":
    return read(source, "test")
  if name == "validation" and not config.validation_examples:
    raise UserError("--split=validation: this run held no validation examples out")
  examples, count = read(source, "train"), num_train_examples(source, config)
  return examples[:count] if name == "train" else examples[count:]


def read_test_example(source: Source, index: int) -> tuple[str, np.ndarray]:
  """Returns what a test example is called, and its image, uint8 [28, 28, 1].

  Raises:
    UserError: the test split has no such example.
  """
  split = read(source, "test")
  if index >= split.num_examples:
    raise UserError(f"--index={index}: the test split has {split.num_examples} examples, from 0")
  return f"{source.name}/test[{index}]", split.images[index]


def check_labels(source: Source, label_names: Sequence[str]) -> None:
  """Raises UserError unless a network that tells `label_names` apart fits the dataset."""
  if len(source.label_names) != len(label_names):
    raise UserError(
      f"--dataset={source.name} has {len(source.label_names)} classes, and this network "
      f"{len(label_names)}"
    )


def num_train_examples(source: Source, config: Config) -> int:
  """The number of examples that are trained on.

  Raises:
    UserError: the validation examples or the batch take more than there are.
  """
  available = source.num_examples("train")
  left = available - config.validation_examples
  if left < 1:
    raise UserError(
      f"--validation_examples={config.validation_examples} leaves none of the {available} examples "
      f"of {source.name} to train on"
    )
  if config.batch_size > left:
    raise UserError(f"--batch_size={config.batch_size} is more than the {left} training examples")
  return left
