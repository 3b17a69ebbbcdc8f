"""Scores a trained network: `python -m mnist_research.evaluate --workdir=DIR [--split=test]`.

The last line on stdout is one JSON object: dataset, split, num_examples, loss, accuracy,
accuracy_per_class.
"""

from absl import flags, logging

from mnist_research import app, config

config.define_flags()
flags.adopt_module_key_flags(config)
_SPLIT = flags.DEFINE_enum(
  "split", "test", ["train", "validation", "test"], "examples to score the network on"
)


def main(arguments: list[str]) -> None:
  """Scores the split that the flags name."""
  app.refuse_arguments(arguments)
  settings = config.of_workdir(flags.FLAGS)
  app.load_tensorflow()
  from mnist_research import trained

  network = trained.load(settings)
  evaluation = network.evaluate(_SPLIT.value)
  for name, accuracy in zip(network.label_names, evaluation.accuracy_per_class, strict=True):
    logging.info("%s: %s", name, "no examples" if accuracy is None else f"{accuracy:.4f}")
  app.print_json(
    {
      "dataset": settings.dataset,
      "split": _SPLIT.value,
      "num_examples": evaluation.num_examples,
      "loss": evaluation.loss,
      "accuracy": evaluation.accuracy,
      "accuracy_per_class": evaluation.accuracy_per_class,
    }
  )


if __name__ == "__main__":
  app.run(main)
