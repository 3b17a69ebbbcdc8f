"""Draws what each kind of --augment does to training examples.

  python scripts/draw_augmentations.py --flagfile=configs/cnn.cfg --output=augmentations.png

Each row is one kind at the strength that the flags give it, on the same ten examples; the last is
all kinds of the config together. mixup and cutmix have no row: they change targets as well.
"""

import dataclasses

import numpy as np
import tensorflow as tf
from absl import app, flags

from mnist_research import augment, config, data, figures

_OUTPUT = flags.DEFINE_string("output", "augmentations.png", "the picture to write")
_KINDS = ("shift", "rotation", "scale", "shear", "elastic", "erasing")
_EXAMPLES = 10


def main(_: list[str]) -> None:
  """Draws the picture."""
  settings = config.from_flags()
  source = data.prepare(settings)
  examples = data.read(source, "train")[:_EXAMPLES]
  rows = {"none": (), **{kind: (kind,) for kind in _KINDS}, "together": settings.augment}
  positions = tf.range(_EXAMPLES, dtype=tf.int64)
  images = [
    augment.augment_images(
      tf.constant(examples.images), positions, dataclasses.replace(settings, augment=kinds)
    )
    for kinds in rows.values()
  ]
  figure = figures.example_grid(
    np.concatenate(images),
    np.repeat(np.arange(len(rows)), _EXAMPLES),
    label_names=list(rows),
    title=f"{source.name}: training examples, and what --augment makes of them",
  )
  figures.save(figure, _OUTPUT.value)


if __name__ == "__main__":
  app.run(main)
