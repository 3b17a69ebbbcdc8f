"""Scores a trained network: `python -m mnist_research.evaluate --workdir=DIR [--split=test]`.

The last line on stdout is one JSON object: dataset, split, num_examples, loss, accuracy,
accuracy_per_class.
"""

from absl import flags, logging

from mnist_research import app, config
from mnist_research.workdir import Workdir

flags.adopt_module_key_flags(config)
_SPLIT = flags.DEFINE_enum(
  "split", "test", ["train", "validation", "test"], "examples to score the network on"
)


def main(arguments: list[str]) -> None:
  """Scores the network of a workdir on the split that the flags name."""
  app.refuse_arguments(arguments)
  workdir = Workdir(app.required("workdir"))
  settings = config.from_flags_over(workdir.trained_config())
  app.load_tensorflow()
  from mnist_research import data, recognition
  from mnist_research.evaluation import evaluate_logits

  recognizer = recognition.load(workdir, settings)
  source = data.prepare(settings)
  split = data.read_split(source, settings, _SPLIT.value)
  data.check_labels(source, recognizer.label_names)
  logging.info(
    "%s after %d steps, on %s of %s",
    workdir.path,
    recognizer.trained.step,
    _SPLIT.value,
    source.name,
  )
  evaluation = evaluate_logits(recognizer.score(split.images), split.labels)
  for name, accuracy in zip(source.label_names, evaluation.accuracy_per_class, strict=True):
    logging.info("accuracy of %s: %s", name, "-" if accuracy is None else f"{accuracy:.4f}")
  app.print_json(
    {
      "dataset": source.name,
      "split": _SPLIT.value,
      "num_examples": evaluation.num_examples,
      "loss": evaluation.loss,
      "accuracy": evaluation.accuracy,
      "accuracy_per_class": evaluation.accuracy_per_class,
    }
  )


if __name__ == "__main__":
  app.run(main)
