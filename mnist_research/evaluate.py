r"""Scores a trained model.

  python -m mnist_research.evaluate --workdir=runs/dense
  python -m mnist_research.evaluate --workdir=runs/a --ensemble=runs/b,runs/c \
    --split=validation

`--ensemble` scores the mean of the probabilities of several models. Validation examples are scored,
and used to fit a temperature, only if no model was trained on them. Each scoring of the test split
is logged in test_scores.jsonl in the workdirs of the models.

The last line on stdout is one JSON object: dataset, split, num_examples, loss, accuracy,
accuracy_per_class, calibration_error, the step of the model, and the steps and temperatures of all
models. For a model trained with --outliers it has `refused`, the share of examples rejected as
non-digits; with --outliers=DATASET also `outliers`, the same for the test split of that dataset.
With --corruptions it has `corruptions`, the errors on corrupted copies of the examples: the fifteen
corruptions of MNIST-C for the test split, and ten others for the other splits, so that the test
corruptions don't influence choices. --corruptions=raw passes the corrupted images to the model;
--corruptions=prepared first prepares them like users' pictures, which takes minutes. The workdir
keeps the results on the test split for its report.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from mnist_research import protocol
from mnist_research.config import Config
from mnist_research.config import flags as config_flags
from mnist_research.runtime import app, command_line
from mnist_research.runtime.errors import UserError

if TYPE_CHECKING:  # They load TensorFlow.
  import numpy as np

  from mnist_research.data.datasets import Source
  from mnist_research.data.splits import Split
  from mnist_research.inference.recognizer import Recognizer
  from mnist_research.workdir import Workdir


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the model, the examples, and the way of scoring."""
  config_flags.define(flag_values, config_flags.AFTER_TRAINING)
  config_flags.define_step(flag_values)
  flags.DEFINE_enum(
    "split", "test", ["train", "validation", "test"], "examples to score the model on",
    flag_values=flag_values,
  )  # fmt: skip
  flags.DEFINE_string(
    "outliers", "", "dataset of images of no class: print the share of its test split that a "
    "model trained with --outliers rejects", flag_values=flag_values,
  )  # fmt: skip
  flags.DEFINE_enum(
    "corruptions", None, ["raw", "prepared"], "also score corrupted copies of the examples: raw, "
    "or prepared like users' pictures", flag_values=flag_values,
  )  # fmt: skip
  command_line.define_paths(
    "ensemble", "more workdirs, to score the mean of all their probabilities", flag_values
  )
  flags.DEFINE_integer(
    "test_time_augmentation", 0, "number of augmented copies of each image to average over",
    lower_bound=0, flag_values=flag_values,
  )  # fmt: skip
  flags.DEFINE_float(
    "temperature", 1.0, "divisor of the logits: above 1, less confident; 0: fit on validation",
    lower_bound=0.0, flag_values=flag_values,
  )  # fmt: skip


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Scores the model of a workdir on the split that the flags name."""
  app.refuse_arguments(arguments)
  temperature, split_name = flag_values.temperature, flag_values.split
  if not math.isfinite(temperature):
    raise UserError(f"--temperature={temperature}: must be a finite number")
  if flag_values.ensemble:
    app.required(flag_values, "workdir")
  from mnist_research.workdir import Workdir, trained_workdir

  workdirs = [trained_workdir(flag_values.workdir), *map(Workdir, flag_values.ensemble)]
  # The first member decides which examples are scored.
  trained = [workdir.trained_config() for workdir in workdirs]
  member_settings = [
    config_flags.from_flags_over(config, flag_values).with_pinned_data() for config in trained
  ]
  settings = member_settings[0]
  runs = [(workdir.path, config) for workdir, config in zip(workdirs, trained, strict=True)]
  _check_held_out(settings, runs, flag_values)
  _check_rejects(trained, flag_values.outliers)
  app.load_tensorflow()
  from absl import logging

  from mnist_research.data import datasets, splits
  from mnist_research.inference.readings import check_reads_digits

  source = datasets.prepare(settings)
  # The run may have used a fallback instead of its dataset.
  settings = settings.replace(dataset=source.name)
  _check_held_out(settings, runs, flag_values)
  members = [
    _load_member(workdir, member, source, flag_values)
    for workdir, member in zip(workdirs, member_settings, strict=True)
  ]
  if flag_values.corruptions == "prepared":
    check_reads_digits(members[0], "--corruptions=prepared")
  split = splits.read_split(source, settings, split_name)
  logging.info("%d examples: %s of %s", split.num_examples, split_name, source.name)
  steps = [member.trained.step for member in members]
  if split_name == "test":
    _record_test_scorings(workdirs, steps, source.name)
  metrics, class_scores = _score(members, source, split)
  rejections = _rejected_shares(members, class_scores, settings, flag_values.outliers)
  corruptions = _corruptions(members, split, split_name, flag_values.corruptions)
  if corruptions and split_name == "test" and len(members) == 1:
    _store_corruptions(workdirs[0], {"dataset": source.name, "step": steps[0]}, corruptions)
  app.print_json(
    {
      "dataset": source.name,
      "split": split_name,
      **metrics,
      **rejections,
      **({"corruptions": corruptions} if corruptions else {}),
      "step": steps[0],
      "steps": steps,
      "temperatures": [member.temperature for member in members],
    }
  )


def _score(
  members: Sequence["Recognizer"], source: "Source", split: "Split"
) -> tuple[dict[str, Any], "np.ndarray | None"]:
  """Returns the scores for JSON, and the class scores.

  Args:
    members: the models of the ensemble.
    source: the dataset, for the names of the classes.
    split: the examples.
  """
  from absl import logging

  from mnist_research.inference.recognizer import ensemble_predict
  from mnist_research.metrics import calibration, evaluation

  outputs = ensemble_predict(members, split.images)
  result = evaluation.evaluate(outputs.log_probabilities, split.labels)
  logging.info("loss %.4f, accuracy %.4f", result.loss, result.accuracy)
  for name, accuracy in zip(source.label_names, result.accuracy_per_class, strict=True):
    logging.info("accuracy of %s: %s", name, "-" if accuracy is None else f"{accuracy:.4f}")
  reliability = calibration.reliability(result.probabilities, split.labels)
  return {
    "num_examples": result.num_examples,
    "loss": result.loss,
    "accuracy": result.accuracy,
    "accuracy_per_class": result.accuracy_per_class,
    "calibration_error": reliability.expected_calibration_error,
  }, outputs.class_scores


def _rejected_shares(
  members: Sequence["Recognizer"], scores: "np.ndarray | None", settings: Config, outliers: str
) -> dict[str, Any]:
  """Returns the shares that are rejected, for JSON.

  Args:
    members: the models of the ensemble.
    scores: the class scores of the examples, float64 [N]; None if the models reject nothing.
    settings: the settings of the first model.
    outliers: the name of a dataset of outliers, or empty.
  """
  from absl import logging

  from mnist_research.data import datasets, splits
  from mnist_research.inference.recognizer import ensemble_predict
  from mnist_research.metrics.outliers import ACCEPTED, auroc, rejected_share

  if scores is None:
    return {}
  rejected = float((scores < ACCEPTED).mean())
  logging.info("refused: %.4f", rejected)
  if not outliers:
    return {"refused": rejected}
  source = datasets.prepare_outliers(settings.replace(outliers=outliers), members[0].image_shape)
  assert source is not None
  split = splits.read(source, "test")
  outlier_scores = ensemble_predict(members, split.images).class_scores
  assert outlier_scores is not None
  by_kind = {
    name: float((outlier_scores[split.labels == label] < ACCEPTED).mean())
    for label, name in enumerate(source.label_names)
  }
  for name, share in by_kind.items():
    logging.info("rejected of %s: %.4f", name, share)
  return {
    "refused": rejected,
    "outliers": {
      "dataset": outliers,
      "num_examples": split.num_examples,
      "refused": float((outlier_scores < ACCEPTED).mean()),
      "refused_per_class": by_kind,
      "refused_where_2_percent_are": rejected_share(scores, outlier_scores, 0.02),
      "auroc": auroc(scores, outlier_scores),
    },
  }


def _corruptions(
  members: Sequence["Recognizer"], split: "Split", split_name: str, mode: str | None
) -> dict[str, dict[str, Any]]:
  """Returns the scores on corrupted examples by mode, for JSON; empty without a mode.

  Args:
    members: the models of the ensemble.
    split: the uncorrupted examples.
    split_name: the name of the split; only the test split gets the test corruptions.
    mode: raw or prepared; None for no corruptions.
  """
  from absl import logging

  from mnist_research.data import corruptions
  from mnist_research.inference import robustness

  if mode is None:
    return {}
  kinds = corruptions.KINDS if split_name == "test" else corruptions.VALIDATION_KINDS
  prepared, by_kind = mode == "prepared", {}
  for kind, scores in robustness.read_corrupted(members, split, kinds, prepared=prepared):
    logging.info("error under %s: %.4f", kind, scores.error)
    by_kind[kind] = scores
  record = robustness.as_record(by_kind)
  logging.info("mean error under corruptions: %.4f", record["error"])
  return {mode: record}


def _store_corruptions(
  workdir: "Workdir", scored: Mapping[str, Any], corruptions: Mapping[str, Any]
) -> None:
  """Stores the results for the report, together with earlier ones of the same model.

  Args:
    workdir: the model's workdir.
    scored: the name of the dataset, and the step of the model.
    corruptions: the result of `_corruptions`.
  """
  from absl import logging

  from mnist_research.workdir import SHIPPED

  if workdir.path == SHIPPED:  # The package's files don't change.
    return
  try:
    known = workdir.read_corruptions() or {}
    if {**known, **scored} != known:
      known = {}
    workdir.write_corruptions({**known, **scored, **corruptions})
  except UserError as error:
    logging.warning("these results won't be in the report: %s", error)


def _load_member(
  workdir: "Workdir", settings: Config, source: "Source", flag_values: flags.FlagValues
) -> "Recognizer":
  """Returns the model of a workdir, configured by the flags."""
  from absl import logging

  from mnist_research.data import datasets
  from mnist_research.inference.recognizer import load_recognizer, with_copies, with_temperature

  recognizer = load_recognizer(workdir, settings, flag_values.step)
  datasets.check_fits(source, recognizer.label_names, recognizer.image_shape)
  logging.info("%s after %d steps", workdir.path, recognizer.trained.step)
  recognizer = with_temperature(recognizer, flag_values.temperature, source)
  return with_copies(recognizer, flag_values.test_time_augmentation)


def _record_test_scorings(
  workdirs: Sequence["Workdir"], steps: Sequence[int], dataset: str
) -> None:
  """Logs in each workdir that its model was scored on the test split."""
  from mnist_research.workdir import SHIPPED

  for workdir, step in zip(workdirs, steps, strict=True):
    if workdir.path != SHIPPED:  # The package's files don't change.
      protocol.record_test_scoring(
        workdir.path, "evaluate", dataset=dataset, step=step, members=len(workdirs)
      )


def _check_rejects(trained: Sequence[Config], outliers: str) -> None:
  """Raises UserError if `outliers` is given but a model wasn't trained with outliers."""
  if outliers and not all(config.data.outliers for config in trained):
    raise UserError(
      f"--outliers={outliers}: the model was trained without --outliers and rejects nothing"
    )


def _check_held_out(
  settings: Config, members: Sequence[tuple[Path, Config]], flag_values: flags.FlagValues
) -> None:
  """Raises UserError if a model or its temperature was fitted to the examples to score.

  Args:
    settings: the settings that define the examples.
    members: each model's workdir, and its training settings.
    flag_values: the command's flags.
  """
  validation, fitted = flag_values.split == "validation", not flag_values.temperature
  if validation and fitted:
    raise UserError("--temperature=0 is fitted on the validation examples: use --split=test")
  if validation:
    protocol.check_held_out(settings, members)
  for path, config in members if fitted else ():
    fitting_settings = settings.replace(validation_examples=config.data.validation_examples)
    protocol.check_held_out(fitting_settings, [(path, config)], purpose="--temperature=0")


if __name__ == "__main__":
  app.run(main, define_flags, config_flags.TRAINING_ONLY)
