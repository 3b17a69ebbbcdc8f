"""A user's datasets: small color images, and gray ones that aren't square."""

import numpy as np
import tensorflow_datasets as tfds

SHAPES = ["square", "disc", "cross", "stripes"]
BARS = ["flat", "upright", "slanted"]


class _Drawn(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version("1.0.0")
  SHAPE: tuple[int, int, int]
  NAMES: list[str]

  def _info(self):
    features = {
      "image": tfds.features.Image(shape=self.SHAPE),
      "label": tfds.features.ClassLabel(names=self.NAMES),
    }
    return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

  def _split_generators(self, dl_manager):
    del dl_manager
    return {"train": self._generate_examples(1, 400), "test": self._generate_examples(2, 100)}

  def _generate_examples(self, seed, count):
    generator = np.random.default_rng(seed)
    for index in range(count):
      label = index % len(self.NAMES)
      noise = generator.uniform(0, 40, self.SHAPE)
      image = noise + self.draw(label, generator)
      yield index, {"image": image.astype(np.uint8), "label": label}


class ColoredShapes(_Drawn):
  """Colored shapes, each at a random position on 32 x 32 pixels."""

  SHAPE = (32, 32, 3)
  NAMES = SHAPES

  def draw(self, label, generator):
    """Returns the picture of a label, without noise."""
    top, left = generator.integers(0, 16, 2)
    y, x = np.indices((16, 16)) - 7.5
    ink = [
      np.maximum(abs(x), abs(y)) < 7, x**2 + y**2 < 50, np.minimum(abs(x), abs(y)) < 3, y % 4 < 2
    ][label]  # fmt: skip
    image = np.zeros(self.SHAPE)
    image[top : top + 16, left : left + 16] = ink[..., None] * np.eye(4, 3)[label]
    return 200 * image


class GreyBars(_Drawn):
  """A bar across 20 x 24 pixels."""

  SHAPE = (20, 24, 1)
  NAMES = BARS

  def draw(self, label, generator):
    """Returns the picture of a label, without noise."""
    y, x = np.indices(self.SHAPE[:2])
    place = generator.integers(5, 15)
    return 200 * (abs([y, x, (x + y) / 2][label] - place) < 3)[..., None]


class BrokenShapes(ColoredShapes):
  """Fails while it is prepared."""

  def draw(self, label, generator):
    """Raises an error."""
    del label, generator
    raise RuntimeError("no ink left")


class NoTest(ColoredShapes):
  """Has no test split."""

  def _split_generators(self, dl_manager):
    return {"train": super()._split_generators(dl_manager)["train"]}


class Unlabeled(ColoredShapes):
  """Its test examples have no labels."""

  def _split_generators(self, dl_manager):
    examples = super()._split_generators(dl_manager)
    unlabeled = ((key, {**each, "label": -1}) for key, each in examples["test"])
    return {"train": examples["train"], "test": unlabeled}


class FourChannels(ColoredShapes):
  """Pictures with transparency."""

  SHAPE = (32, 32, 4)


def NotABuilder(**_):  # noqa: N802 - it is taken for a class.
  """Not a class."""
