"""The TensorFlow Datasets builder of `synthetic_digits`."""

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from mnist_research.data.synthetic_digits import drawing

_DESCRIPTION = """
Handwritten digits drawn by a program: a stand-in for MNIST that needs no download. White ink on
black, 28x28 grey levels, each digit scaled into a 20x20 box and centred by its centre of mass.
"""

_NUM_TRAIN_EXAMPLES = 60_000
_NUM_TEST_EXAMPLES = 10_000


@dataclasses.dataclass(eq=False)
class SyntheticDigitsConfig(tfds.core.BuilderConfig):
  """How many examples are drawn; the name keeps each size in a directory of its own.

  Attributes:
    num_train_examples: size of the "train" split, at least 1.
    num_test_examples: size of the "test" split, at least 1.
  """

  num_train_examples: int = _NUM_TRAIN_EXAMPLES
  num_test_examples: int = _NUM_TEST_EXAMPLES

  @classmethod
  def of_size(cls, num_train_examples: int, num_test_examples: int) -> "SyntheticDigitsConfig":
    """Returns the config of a size, named as in "60000_10000".

    Raises:
      ValueError: if either size is less than 1.
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


def _parse_sizes(name: str) -> tuple[int, int]:
  """Returns the two sizes in a config's name."""
  train, _, test = name.partition("_")
  if not (train.isdecimal() and test.isdecimal()):
    raise ValueError(f"{name!r} is no <train examples>_<test examples>, as in 1000_200")
  return int(train), int(test)


class SyntheticDigits(tfds.core.GeneratorBasedBuilder):
  """Draws `synthetic_digits`, an MNIST-like dataset that needs no network.

  Examples have an "image", uint8 (28, 28, 1) in [0, 255], and a "label", int64 in [0, 9]. An
  example depends only on its split and its index, so the examples of a smaller size are also in
  every larger one. As for any TFDS dataset the stored order is shuffled, the same way every time.
  """

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "Initial release."}
  BUILDER_CONFIGS: ClassVar[list[SyntheticDigitsConfig]] = [
    SyntheticDigitsConfig.of_size(_NUM_TRAIN_EXAMPLES, _NUM_TEST_EXAMPLES)
  ]

  def __init__(
    self,
    *,
    num_train_examples: int = _NUM_TRAIN_EXAMPLES,
    num_test_examples: int = _NUM_TEST_EXAMPLES,
    config: str | SyntheticDigitsConfig | None = None,
    **kwargs: Any,
  ):
    """Creates the builder of a size.

    Args:
      num_train_examples: size of the "train" split, at least 1.
      num_test_examples: size of the "test" split, at least 1.
      config: in place of the sizes, a config or the name of one: "1000_200" has 1000 train and
        200 test examples.
      **kwargs: what every TFDS builder takes, such as `data_dir`.

    Raises:
      ValueError: if either size is less than 1, or the name is no two sizes.
    """
    sizes = num_train_examples, num_test_examples
    if isinstance(config, str):
      sizes, config = _parse_sizes(config), None
    # TFDS wants its own config object for a size that it already knows, so the default is left
    # for it to choose.
    if config is None and sizes != (_NUM_TRAIN_EXAMPLES, _NUM_TEST_EXAMPLES):
      config = SyntheticDigitsConfig.of_size(*sizes)
    super().__init__(config=config, **kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      description=_DESCRIPTION,
      features=tfds.features.FeaturesDict(
        {
          "image": tfds.features.Image(shape=(drawing.IMAGE_SIZE, drawing.IMAGE_SIZE, 1)),
          "label": tfds.features.ClassLabel(num_classes=drawing.NUM_CLASSES),
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
    index = 0
    for images, labels in drawing.draw_examples(split, num_examples):
      for image, label in zip(images, labels.tolist(), strict=True):
        yield index, {"image": image, "label": label}
        index += 1
