"""This project's training as a peer; it takes the flags of `mnist_research.train`."""

import turns
from absl import flags

from mnist_research.config import flags as config_flags
from mnist_research.runtime import app


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: all settings."""
  config_flags.define(flag_values)


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Trains for as many turns as requested."""
  app.refuse_arguments(arguments)
  settings = config_flags.from_flags(flag_values)
  app.load_tensorflow()
  import tensorflow as tf

  from mnist_research.benchmarks import training as training_lib

  training = training_lib.build(training_lib.read(settings))
  training.compile()
  rates = training.turns(turns.MOST, training.bench.turn_steps)
  turns.serve(({"examples_per_second": rate} for rate in rates), {"tensorflow": tf.__version__})


if __name__ == "__main__":
  app.run(main, define_flags)
