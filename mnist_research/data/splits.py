"""Reads a prepared dataset's examples into memory, and holds out validation examples."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from mnist_research.config import Config
from mnist_research.data.datasets import ImageShape, Source
from mnist_research.runtime import arrays
from mnist_research.runtime.errors import UserError
from mnist_research.runtime.files import atomic

# More calls than cores, because the overhead of a call dominates for small examples: MNIST's 60,000
# take 1.3 s on two cores, against 2.6 s with as many calls as cores.
_PARALLEL_CALLS = 16

# The label of a training example that belongs to no class.
NO_CLASS = -1


@dataclasses.dataclass(frozen=True)
class Split:
  """Examples in memory.

  Attributes:
    images: uint8 [N, height, width, channels].
    labels: int32 [N].
  """

  images: np.ndarray
  labels: np.ndarray

  def __getitem__(self, index: Any) -> "Split":
    """Returns the examples that `index`, a slice or integers, selects."""
    return Split(self.images[index], self.labels[index])

  def __add__(self, other: "Split") -> "Split":
    """Returns these examples, followed by the other split's."""
    return Split(
      np.concatenate([self.images, other.images]), np.concatenate([self.labels, other.labels])
    )

  @property
  def num_examples(self) -> int:
    """The number of examples."""
    return len(self.labels)


def num_train_examples(source: Source, config: Config) -> int:
  """Returns the number of training examples.

  Raises:
    UserError: there are too few examples for validation or for a batch.
  """
  available = source.num_examples("train")
  count = available - config.data.validation_examples
  if count < 1:
    raise UserError(
      f"--validation_examples={config.data.validation_examples} leaves none of the {available} "
      f"examples of {source.name} to train on; hold out fewer, such as {available // 10}"
    )
  if config.optimization.batch_size > count:
    raise UserError(
      f"--batch_size={config.optimization.batch_size} is more than the {count} training examples"
    )
  return count


def read_train(source: Source, config: Config) -> tuple[Split, Split]:
  """Reads the train split: the training examples, and the validation examples from its end.

  Raises:
    UserError: there are too few examples for validation or for a batch.
  """
  count = num_train_examples(source, config)
  examples = read(source, "train")
  return examples[:count], examples[count:]


def read_outliers(source: Source) -> Split:
  """Reads the train split of a dataset of outliers, with `NO_CLASS` as their label.

  Raises:
    UserError: the prepared files are corrupt.
  """
  images = read(source, "train").images
  return Split(images, np.full(len(images), NO_CLASS, np.int32))


def read_split(source: Source, config: Config, name: str) -> Split:
  """Reads `train`, `validation` or `test` as a run with `config` uses them.

  Raises:
    UserError: the run has no validation examples.
  """
  if name == "test":
    return read(source, "test")
  if name == "validation" and not config.data.validation_examples:
    raise UserError("--split=validation: this run held out no validation examples")
  return read_train(source, config)[("train", "validation").index(name)]


def read_test_example(source: Source, index: int) -> tuple[str, np.ndarray]:
  """Returns the name of a test example and its image, uint8 [height, width, channels].

  Raises:
    UserError: the test split has no such index.
  """
  split = read(source, "test")
  if index >= split.num_examples:
    raise UserError(f"--index={index}: the test split has {split.num_examples} examples, from 0")
  return f"{source.name}/test[{index}]", split.images[index]


def read(source: Source, split: str) -> Split:
  """Reads a split of a prepared dataset into memory, in the order of its files.

  The first call caches the arrays next to TFDS's files, because decoding 60,000 PNGs takes as long
  as importing TensorFlow.

  Args:
    source: the dataset, from `prepare`.
    split: `train`, including the validation examples at its end, or `test`.

  Raises:
    UserError: the prepared files are corrupt, or an example has no label.
  """
  cache = Path(source.builder.data_dir) / f"arrays-{split}.npz"
  examples = _read_cache(cache, source.num_examples(split), source.image_shape)
  if examples is None:
    examples = _decode(source, split)
    # In a read-only directory, reading works without the cache, only slower.
    with contextlib.suppress(OSError):
      _write_cache(cache, examples)
  return examples


def _read_cache(path: Path, num_examples: int, image_shape: ImageShape) -> Split | None:
  """Returns the arrays that `_write_cache` wrote, or None if they are missing or corrupt."""
  try:
    split = Split(**arrays.read(path, ("images", "labels")))
  except (OSError, ValueError):
    return None
  fits = split.images.shape == (num_examples, *image_shape) and split.num_examples == num_examples
  return split if fits else None


def _write_cache(path: Path, split: Split) -> None:
  with atomic(path, shared=True) as partial, partial.open("wb") as file:
    np.savez(file, images=split.images, labels=split.labels)


def _decode(source: Source, split: str) -> Split:
  read_config = tfds.ReadConfig(try_autocache=False, num_parallel_calls_for_decode=_PARALLEL_CALLS)
  num_examples = source.num_examples(split)
  try:
    dataset = source.builder.as_dataset(split=split, read_config=read_config)
    examples = next(dataset.batch(num_examples).as_numpy_iterator())
  except (tf.errors.OpError, StopIteration, OSError) as error:
    raise UserError(
      f"the prepared files under {source.builder.data_dir} can't be read ({type(error).__name__}); "
      "delete that directory and rerun"
    ) from error
  if len(examples["label"]) != num_examples:
    raise UserError(
      f"{source.builder.data_dir} holds {len(examples['label'])} examples of {split}, not "
      f"{num_examples}; delete that directory and rerun"
    )
  labels = examples["label"]
  if labels.min() < 0 or labels.max() >= source.num_classes:
    raise UserError(
      f"--dataset={source.name}: the labels of {split} go from {labels.min()} to {labels.max()}, "
      f"but there are {source.num_classes} classes; choose a dataset whose test split is labeled"
    )
  return Split(examples["image"], labels.astype(np.int32))
