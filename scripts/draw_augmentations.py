"""Draws the effect of each kind of --augment on training examples.

  python scripts/draw_augmentations.py --flagfile=configs/cnn.cfg --output=augmentations.png

Five examples show each kind at the strength of the flags, with probability 1; the last five show
all kinds of the config together, each with its probability. mixup and cutmix, which also change
targets, and flip are omitted.
"""

import numpy as np
import tensorflow as tf
from absl import flags

from mnist_research import figures
from mnist_research.config import AUGMENTATIONS
from mnist_research.config import flags as config_flags
from mnist_research.data import augment, datasets, splits
from mnist_research.runtime import app, command_line

_KINDS = [kind for kind in AUGMENTATIONS if kind not in ("flip", "mixup", "cutmix")]
_EXAMPLES = 5


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: all settings, and the output file."""
  config_flags.define(flag_values)
  command_line.define_path("output", "augmentations.png", "the picture to write", flag_values)


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Draws the picture."""
  app.refuse_arguments(arguments)
  settings = config_flags.from_flags(flag_values)
  source = datasets.prepare(settings)
  examples = splits.read(source, "train")[:_EXAMPLES]
  always = {"distortion_probability": 1.0, "erasing_probability": 1.0}
  rows = [((), {}), *(((kind,), always) for kind in _KINDS), (settings.augmentation.augment, {})]
  positions = tf.range(_EXAMPLES, dtype=tf.int64)
  images = [
    augment.augment_images(
      tf.constant(examples.images),
      positions,
      settings.replace(augment=kinds, **shares).augmentation,
      settings.run.seed,
    )
    for (kinds, shares) in rows
  ]
  figure = figures.example_grid(
    np.concatenate(images),
    np.repeat(np.arange(len(rows)), _EXAMPLES),
    label_names=["none", *_KINDS, "together"],
    title=f"{source.short_name}: training examples and their augmentations",
  )
  figures.save(figure, flag_values.output)


if __name__ == "__main__":
  app.run(main, define_flags)
