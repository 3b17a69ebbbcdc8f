r"""Trains a model and scores it on the test split.

  python -m mnist_research.train --flagfile=configs/dense.cfg
  python -m mnist_research.train --flagfile=configs/cnn.cfg --epochs=3 \
    --workdir=runs/short

The last line on stdout is the run's result.json. The same command in the same workdir resumes
where it stopped.
"""

import gc
import shlex

from absl import flags

from mnist_research.config import flags as config_flags
from mnist_research.runtime import app


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: all settings."""
  config_flags.define(flag_values)


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Trains as the flags specify, and prints the result."""
  app.refuse_arguments(arguments)
  settings = config_flags.from_flags(flag_values).with_pinned_data()
  # Importing TensorFlow takes two seconds, so invalid flags are reported before.
  app.load_tensorflow()
  from absl import logging

  from mnist_research.training import loop, teachers

  settings = teachers.pinned(settings)

  # Half a million objects live as long as the process, so collections needn't scan them.
  gc.freeze()
  result = loop.train(settings)
  if not result:  # This worker isn't the chief.
    return
  workdir = settings.run.workdir or settings.default_workdir()
  for line in _usage_hints(workdir, tested="test_accuracy" in result):
    logging.info("%s", line)
  if result["dataset"] != settings.data.dataset:
    logging.warning(
      "these are results on %s instead of %s", result["dataset"], settings.data.dataset
    )
  # Without the digest of result.json, because printed figures are rounded.
  app.print_json({name: value for name, value in result.items() if name != "sha256"})


def _usage_hints(workdir: str, *, tested: bool) -> list[str]:
  """Returns lines about the run's pictures, and about how to use its model."""
  directory = shlex.quote(workdir)
  split, picture = ("", "--index=0") if tested else (" --split=validation", "PICTURE.png")
  return [
    f"pictures: {directory}/figures",
    "next:",
    f"  python -m mnist_research.evaluate --workdir={directory}{split}",
    f"  python -m mnist_research.predict --workdir={directory} {picture}",
    f"  tensorboard --logdir={directory}/tensorboard",
  ]


if __name__ == "__main__":
  app.run(main, define_flags)
