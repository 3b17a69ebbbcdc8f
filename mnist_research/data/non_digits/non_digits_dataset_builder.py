"""The TensorFlow Datasets builder of `non_digits`."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from mnist_research.data.drawn import DrawnConfig, DrawnDataset
from mnist_research.data.non_digits import drawing


class NonDigits(DrawnDataset):
  """Draws `non_digits`: letters, signs, scribbles, shapes, textures; labels are the kinds."""

  DESCRIPTION = """
  Images that show no digit: letters and signs from fonts, strokes of digits combined at random,
  two digits in one box, scribbles, shapes, blots, textures, and paper without writing. White ink on
  black, 28x28 gray levels, mostly fitted into a 20x20 box and centered like MNIST's digits.
  """
  LABEL_NAMES = tuple(drawing.KINDS)
  BUILDER_CONFIGS: ClassVar[list[DrawnConfig]] = [DrawnConfig.of_size(20_000, 2_000)]

  def draw_examples(self, split: str, num_examples: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yields the first examples of "train" or "test": image, uint8 (28, 28, 1), and kind."""
    return drawing.draw_examples(split, num_examples)
