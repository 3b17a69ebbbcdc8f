"""The protocol of scoring: which examples may score a model, and the log of test scorings.

Two rules keep choices from leaking into scores. First, a model is scored on validation examples,
and a temperature is fitted on them, only if it wasn't trained on them. Second, each scoring on a
test split is logged in the model's workdir.
"""

import datetime
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from mnist_research.config import Config
from mnist_research.runtime import extensions, records, user_data
from mnist_research.runtime.errors import UserError

TEST_SCORES = "test_scores.jsonl"
# Datasets made from the same handwriting, so an example may be in several.
_NIST = ("mnist", "emnist", "mnist_corrupted")


class Holdout(NamedTuple):
  """The division of a train split: its last examples are held out for validation.

  Attributes:
    dataset: an identification of the dataset.
    held_out: the number of held-out examples.
  """

  dataset: str
  held_out: int


def holdout_of(config: Config) -> Holdout:
  """Returns how a run with `config` divides the train split of its dataset."""
  dataset = config.data.dataset
  if extensions.is_builder(dataset):
    # The same code is the same dataset, independent of the location of its file.
    dataset = extensions.identity("dataset", dataset)
  elif user_data.is_path(dataset):
    # The same pictures are the same dataset, too.
    digest = user_data.parse(user_data.pinned("dataset", dataset)).digest
    dataset = f"files with SHA-256 {digest}"
  return Holdout(dataset, config.data.validation_examples)


def check_held_out(
  scored: Config, members: Iterable[tuple[Path, Config]], *, purpose: str = "--split=validation"
) -> None:
  """Raises UserError unless every member held out the validation examples of `scored`.

  Args:
    scored: the dataset, and the number of validation examples at the end of its train split.
    members: each model's workdir, and its training settings.
    purpose: the flag that needs these examples, for the error message.

  Raises:
    UserError: a member was, or may have been, trained on some of them; the message names it.
  """
  dataset, required = holdout_of(scored)
  if not required:
    raise UserError(f"{purpose}: this run held out no validation examples")
  for path, config in members:
    trained_on, held_out = holdout_of(config)
    if trained_on != dataset:
      if _may_overlap(trained_on, dataset):
        raise UserError(
          f"{purpose}: {path} was trained on {config.data.dataset}, which may contain validation "
          f"examples of {scored.data.dataset}; leave it out, or choose another --dataset"
        )
    elif held_out < required:
      raise UserError(
        f"{purpose}: {path} was trained on {required - held_out:,} of the {required:,} validation "
        f"examples (its --validation_examples={held_out}); leave it out, or train it with "
        f"--validation_examples={required}"
      )


def _may_overlap(first: str, second: str) -> bool:
  """Whether two datasets may share examples; unknown, so possible, for user data."""
  if any(extensions.is_builder(name) or "SHA-256" in name for name in (first, second)):
    return True
  families = [name.split("/")[0].split(":")[0] for name in (first, second)]
  return families[0] == families[1] or all(family in _NIST for family in families)


def holdout_by_name(config: Config) -> Holdout:
  """Returns `holdout_of(config)`, with the dataset's name if its file is missing."""
  try:
    return holdout_of(config)
  except UserError:
    return Holdout(config.data.dataset, config.data.validation_examples)


def same_holdout(configs: Sequence[Config]) -> bool:
  """Whether runs held out the same examples, which makes their validation accuracies comparable."""
  return len({holdout_by_name(config) for config in configs}) == 1


class TestScoring(NamedTuple):
  """A scoring on a test split.

  Attributes:
    time: the time, in UTC.
    command: train or evaluate.
    dataset: the dataset of the test split.
    step: the step of the weights.
    members: the number of models that were scored together.
  """

  time: str
  command: str
  dataset: str
  step: int
  members: int = 1


def record_test_scoring(
  directory: Path, command: str, *, dataset: str, step: int, members: int = 1
) -> None:
  """Logs a scoring on the test split of `dataset` in a workdir.

  A read-only workdir causes only a warning, so that other people's runs can be examined.
  """
  time = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
  line = records.to_line(TestScoring(time, command, dataset, step, members)._asdict())
  path = directory / TEST_SCORES
  try:
    with path.open("a", encoding="utf-8") as file:
      file.write(line)
  except OSError as error:
    from absl import logging  # Imported here, because it defines flags.

    logging.warning("%s: %s; this scoring of the test split is not counted", path, error.strerror)


def read_test_scorings(directory: Path) -> list[TestScoring] | None:
  """Returns the logged test scorings of a workdir's model, in order.

  Returns:
    None if nothing is logged: the model wasn't scored, or it is from an earlier version.

  Raises:
    UserError: the file is corrupt.
  """
  path = directory / TEST_SCORES
  try:
    lines = enumerate(records.lines(path), start=1)
    return [_parsed(path, number, line) for number, line in lines if line.strip()]
  except FileNotFoundError:
    return None
  except (OSError, ValueError) as error:
    raise UserError(f"{path} can't be read: {error}") from error


def _parsed(path: Path, number: int, line: bytes) -> TestScoring:
  """Returns the content of a line; one without a checksum is from an earlier version."""
  try:
    scoring = TestScoring(**records.from_line(line, required=False))
    texts, counts = (
      (scoring.time, scoring.command, scoring.dataset),
      (scoring.step, scoring.members),
    )
    if not all(isinstance(text, str) for text in texts) or not all(map(records.is_integer, counts)):
      raise TypeError
  except (ValueError, TypeError) as error:
    raise UserError(f"{path} is corrupt in line {number}; delete that line") from error
  return scoring


def count_test_scorings(directory: Path, dataset: str) -> int | None:
  """Returns how often the test split of `dataset` was scored; None if nothing is logged.

  Raises:
    UserError: the file is corrupt.
  """
  scorings = read_test_scorings(directory)
  return None if scorings is None else sum(scoring.dataset == dataset for scoring in scorings)
