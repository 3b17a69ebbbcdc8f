"""TensorFlow Datasets builders for images that this package generates."""

import abc
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds


@dataclasses.dataclass(eq=False)
class DrawnConfig(tfds.core.BuilderConfig):
  """The number of examples; its name gives each size a separate directory.

  Attributes:
    num_train_examples: the size of the "train" split, at least 1.
    num_test_examples: the size of the "test" split, at least 1.
  """

  num_train_examples: int = 0
  num_test_examples: int = 0

  @classmethod
  def of_size(cls, num_train_examples: int, num_test_examples: int) -> "DrawnConfig":
    """Returns the config for a size, named like "60000_10000".

    Raises:
      ValueError: either size is less than 1.
    """
    if num_train_examples < 1 or num_test_examples < 1:
      raise ValueError(
        "each split needs at least one example, got "
        f"num_train_examples={num_train_examples}, num_test_examples={num_test_examples}"
      )
    return cls(
      name=f"{num_train_examples}_{num_test_examples}",
      description=f"{num_train_examples} train and {num_test_examples} test examples.",
      num_train_examples=num_train_examples,
      num_test_examples=num_test_examples,
    )


class DrawnDataset(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
  """A dataset of 28x28 gray images that needs no network, in any size.

  Examples have an "image", uint8 (28, 28, 1) in [0, 255], and a "label", int64. An example depends
  only on its split and its index, so a larger size contains all examples of a smaller one.
  The stored order is shuffled, the same way every time, as in any TFDS dataset.

  A subclass defines `DESCRIPTION`, `LABEL_NAMES`, `draw_examples`, and its default size in
  `BUILDER_CONFIGS`.
  """

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "Initial release."}
  DESCRIPTION: ClassVar[str]
  LABEL_NAMES: ClassVar[Sequence[str]]

  def __init__(
    self,
    *,
    num_train_examples: int | None = None,
    num_test_examples: int | None = None,
    config: str | DrawnConfig | None = None,
    **kwargs: Any,
  ):
    """Creates the builder for a size.

    Args:
      num_train_examples: the size of the "train" split, at least 1; None for the default.
      num_test_examples: the size of the "test" split, at least 1; None for the default.
      config: a config or its name, instead of the sizes: "1000_200" has 1000 train and 200 test
        examples.
      **kwargs: arguments of every TFDS builder, such as `data_dir`.

    Raises:
      ValueError: either size is less than 1, or the name doesn't consist of two sizes.
    """
    default = self.BUILDER_CONFIGS[0]
    sizes = (
      default.num_train_examples if num_train_examples is None else num_train_examples,
      default.num_test_examples if num_test_examples is None else num_test_examples,
    )
    if isinstance(config, str):
      sizes, config = _parse_sizes(config), None
    # For the default size TFDS insists on its own config object, so it gets none here.
    if config is None and sizes != (default.num_train_examples, default.num_test_examples):
      config = DrawnConfig.of_size(*sizes)
    super().__init__(config=config, **kwargs)

  @abc.abstractmethod
  def draw_examples(self, split: str, num_examples: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yields the first examples of "train" or "test": image, uint8 (28, 28, 1), and label."""

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=self.DESCRIPTION,
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(shape=(28, 28, 1)),
          "label": tfds.features.ClassLabel(names=self.LABEL_NAMES),
        }
      ),
      supervised_keys=("image", "label"),
    )

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
    del dl_manager  # Nothing is downloaded.
    return {
      "train": self._generate_examples("train", self.builder_config.num_train_examples),
      "test": self._generate_examples("test", self.builder_config.num_test_examples),
    }

  def _generate_examples(
    self, split: str, num_examples: int
  ) -> Iterator[tuple[int, dict[str, np.ndarray | int]]]:
    for index, (image, label) in enumerate(self.draw_examples(split, num_examples)):
      yield index, {"image": image, "label": label}


def _parse_sizes(name: str) -> tuple[int, int]:
  """Returns the two sizes in a config's name."""
  train, _, test = name.partition("_")
  if not (train.isdecimal() and test.isdecimal()):
    raise ValueError(f"{name!r} must be <train examples>_<test examples>, as in 1000_200")
  return int(train), int(test)
