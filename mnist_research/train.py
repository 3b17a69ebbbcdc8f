"""Trains a network: `python -m mnist_research.train --flagfile=configs/dense.cfg`.

The last line on stdout is the run's result.json. The same command in the same workdir goes on where
it stopped.
"""

import gc

from absl import flags, logging

from mnist_research import app, config

flags.adopt_module_key_flags(config)


def main(arguments: list[str]) -> None:
  """Trains as the flags say and prints the result."""
  app.refuse_arguments(arguments)
  settings = config.from_flags()
  # TensorFlow takes two seconds: a bad flag is answered before.
  app.load_tensorflow()
  from mnist_research import loop

  # Half a million objects that live as long as the process: a collection would go through them all.
  gc.freeze()
  result = loop.train(settings)
  if not result:  # Of another worker than the chief.
    return
  if result["dataset"] != settings.dataset:
    logging.warning(
      "these are figures of %s, which stood in for %s", result["dataset"], settings.dataset
    )
  app.print_json(result)


if __name__ == "__main__":
  app.run(main)
