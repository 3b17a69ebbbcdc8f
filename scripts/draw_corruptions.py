"""Draws the effect of each corruption of `evaluate --corruptions` on test examples.

  python scripts/draw_corruptions.py --dataset=mnist --output=corruptions.png

Draws five examples, first unchanged, then with each of the fifteen kinds of corruption.
"""

import numpy as np
from absl import flags

from mnist_research import figures
from mnist_research.config import flags as config_flags
from mnist_research.data import corruptions, datasets, splits
from mnist_research.runtime import app, command_line

_EXAMPLES = 5


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the dataset, and the output file."""
  config_flags.define(flag_values, ["dataset", "data_dir", "manual_dir"])
  command_line.define_path("output", "corruptions.png", "the picture to write", flag_values)


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Draws the picture."""
  app.refuse_arguments(arguments)
  source = datasets.prepare(config_flags.from_flags(flag_values))
  examples = splits.read(source, "test")[:_EXAMPLES].images
  images = [examples, *(corruptions.corrupt(examples, kind) for kind in corruptions.KINDS)]
  figure = figures.example_grid(
    np.concatenate(images),
    np.repeat(np.arange(len(images)), _EXAMPLES),
    label_names=["none", *corruptions.KINDS],
    title=f"{source.short_name}: test examples under each corruption",
  )
  figures.save(figure, flag_values.output)


if __name__ == "__main__":
  app.run(main, define_flags)
