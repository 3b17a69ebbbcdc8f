"""This project's training, in turn with its peers; it takes the flags of `mnist_research.train`."""

import turns
from absl import flags

from mnist_research import app, config

flags.adopt_module_key_flags(config)


# More than anybody asks for.
_MOST_TURNS = 1000


def main(arguments: list[str]) -> None:
  """Trains for as many turns as are asked for."""
  app.refuse_arguments(arguments)
  settings = config.from_flags()
  app.load_tensorflow()
  import tensorflow as tf

  from mnist_research.benchmarks import training as training_lib

  training = training_lib.build(training_lib.read(settings))
  training.compile()
  rates = training.turns(_MOST_TURNS, training.bench.turn_steps)
  turns.serve(({"examples_per_second": rate} for rate in rates), {"tensorflow": tf.__version__})


if __name__ == "__main__":
  app.run(main)
