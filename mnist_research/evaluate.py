"""Scores a trained network: `python -m mnist_research.evaluate [--workdir=DIR]`.

With `--ensemble`, several networks together: the mean of their probabilities. The last line on
stdout is one JSON object: dataset, split, num_examples, loss, accuracy, accuracy_per_class,
calibration_error, and the temperature of each network.
"""

import math

from absl import flags, logging

from mnist_research import app, config
from mnist_research.errors import UserError
from mnist_research.workdir import Workdir, trained_workdir

flags.adopt_module_key_flags(config)
_SPLIT = flags.DEFINE_enum(
  "split", "test", ["train", "validation", "test"], "examples to score the network on"
)
_ENSEMBLE = flags.DEFINE_list(
  "ensemble", [], "more workdirs: the mean of all their probabilities is scored"
)
_TEST_TIME_AUGMENTATION = flags.DEFINE_integer(
  "test_time_augmentation", 0, "augmented copies of each image to answer for with it", lower_bound=0
)
_TEMPERATURE = flags.DEFINE_float(
  "temperature", 1.0, "what logits are divided by: above 1, less sure; 0: fitted on validation",
  lower_bound=0.0,
)  # fmt: skip


def main(arguments: list[str]) -> None:
  """Scores the network of a workdir on the split that the flags name."""
  app.refuse_arguments(arguments)
  if not math.isfinite(_TEMPERATURE.value):
    raise UserError(f"--temperature={_TEMPERATURE.value}: must be a finite number")
  first = app.required("workdir") if _ENSEMBLE.value else flags.FLAGS.workdir
  workdirs = [trained_workdir(first), *map(Workdir, _ENSEMBLE.value)]
  # The first member says which examples are scored.
  member_settings = [config.from_flags_over(workdir.trained_config()) for workdir in workdirs]
  app.load_tensorflow()
  from mnist_research import calibration, data, evaluation, recognition

  settings = member_settings[0]
  source = data.prepare(settings)
  members = []
  for workdir, member in zip(workdirs, member_settings, strict=True):
    recognizer = recognition.load(workdir, member)
    data.check_labels(source, recognizer.label_names)
    logging.info("%s after %d steps", workdir.path, recognizer.trained.step)
    recognizer = recognition.with_temperature(recognizer, _TEMPERATURE.value, source)
    members.append(recognition.with_copies(recognizer, _TEST_TIME_AUGMENTATION.value))
  split = data.read_split(source, settings, _SPLIT.value)
  logging.info("%d examples: %s of %s", split.num_examples, _SPLIT.value, source.name)
  log_probabilities = recognition.ensemble_log_probabilities(members, split.images)
  result = evaluation.evaluate(log_probabilities, split.labels)
  for name, accuracy in zip(source.label_names, result.accuracy_per_class, strict=True):
    logging.info("accuracy of %s: %s", name, "-" if accuracy is None else f"{accuracy:.4f}")
  reliability = calibration.reliability(result.probabilities, split.labels)
  app.print_json(
    {
      "dataset": source.name,
      "split": _SPLIT.value,
      "num_examples": result.num_examples,
      "loss": result.loss,
      "accuracy": result.accuracy,
      "accuracy_per_class": result.accuracy_per_class,
      "calibration_error": reliability.expected_calibration_error,
      "temperatures": [member.temperature for member in members],
    }
  )


if __name__ == "__main__":
  app.run(main)
