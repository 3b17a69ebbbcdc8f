"""The TensorFlow Datasets builder of `synthetic_digits`."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from mnist_research.data.drawn import DrawnConfig, DrawnDataset
from mnist_research.data.synthetic_digits import drawing


class SyntheticDigits(DrawnDataset):
  """Draws `synthetic_digits`, an MNIST-like dataset; labels are int64 in [0, 9]."""

  DESCRIPTION = """
  Handwritten digits drawn by a program: a stand-in for MNIST that needs no download. White ink on
  black, 28x28 gray levels, each digit scaled into a 20x20 box and centered by its center of mass.
  """
  LABEL_NAMES = tuple("0123456789")
  BUILDER_CONFIGS: ClassVar[list[DrawnConfig]] = [DrawnConfig.of_size(60_000, 10_000)]

  def draw_examples(self, split: str, num_examples: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yields the first examples of "train" or "test": image, uint8 (28, 28, 1), and label."""
    for images, labels in drawing.draw_examples(split, num_examples):
      yield from zip(images, labels.tolist(), strict=True)
