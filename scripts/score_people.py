"""Scores a trained model on people's pictures, by kind, and draws the twenty worst.

  python scripts/score_people.py --pictures=path/to/folder --figure=worst.png

docs/people.csv lists the pictures: repository, commit, path, SHA-256, kind, split, and label (the
digits of each row, with slashes between rows). They aren't part of this package: --pictures is a
folder in which owner/name is a clone of that repository at its commit. Missing and changed files
are counted.

Prints one JSON object for each split and kind: pictures, right (every digit of every row), refused
(blank, or not a digit), missing, error. Score before and after a change to see its effect; make
choices on the tuning pictures. The blind pictures are scored only with --splits=blind.
"""

import csv
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from absl import flags, logging

from mnist_research import images
from mnist_research.config import flags as config_flags
from mnist_research.runtime import app, command_line, records
from mnist_research.runtime.errors import UserError
from mnist_research.workdir import trained_workdir

if TYPE_CHECKING:  # They load TensorFlow.
  from mnist_research.inference.readings import Reading

_LIST = Path(__file__).resolve().parents[1] / "docs" / "people.csv"
_COLUMNS = {"repository_on_github", "path", "sha256", "kind", "split", "label"}
_WORST = 20


class Result(NamedTuple):
  """A picture, its label, and what the model read.

  Attributes:
    kind: its split and its kind.
    label: the true rows, with slashes between them.
    text: the rows that were read; empty if nothing was found.
    picture: the picture, downscaled.
    readings: its digits.
  """

  kind: tuple[str, str]
  label: str
  text: str
  picture: images.Picture
  readings: "list[Reading]"

  @property
  def certainty(self) -> float:
    """The certainty of the least certain digit."""
    return min((reading.certainty for reading in self.readings), default=0.0)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the model and the pictures."""
  config_flags.define(flag_values, ["workdir", "device"])
  command_line.define_path("pictures", "", "folder of clones, owner/name", flag_values)
  command_line.define_path("list", str(_LIST), "CSV that lists the pictures", flag_values)
  flags.DEFINE_list("splits", ["tuning", "test"], "splits to score", flag_values=flag_values)
  command_line.define_path("figure", "", "PNG to draw: the twenty worst", flag_values)


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Reads the pictures and prints how many were read correctly."""
  app.refuse_arguments(arguments)
  folder = Path(app.required(flag_values, "pictures"))
  rows = read_list(Path(flag_values.list), flag_values.splits)
  present: list[dict[str, str]] = []
  missing: list[dict[str, str]] = []
  for row in rows:
    (present if is_present(folder, row) else missing).append(row)
  if not present:
    raise UserError(f"--pictures={folder} has none of the {len(rows)} listed pictures")
  if missing:
    logging.warning(
      "%d of %d pictures are missing in --pictures=%s or differ, such as %s",
      len(missing), len(rows), folder, relative_path(missing[0]),
    )  # fmt: skip
  app.load_tensorflow()
  from mnist_research.inference import readings
  from mnist_research.inference.recognizer import load_recognizer

  workdir = trained_workdir(flag_values.workdir)
  settings = config_flags.from_flags_over(workdir.trained_config(), flag_values)
  recognizer = load_recognizer(workdir, settings)
  results = []
  for row in present:
    gray = images.read(folder / relative_path(row))
    prepared = images.find_digits(gray)
    digits = readings.read(recognizer, prepared) if prepared else []
    text = "/".join(readings.number(digits, recognizer.label_names)["rows"])
    small, _ = images.reduce(gray, 480)
    picture = images.Picture(relative_path(row), small, prepared)
    results.append(Result(kind_of(row), row["label"], text, picture, digits))
  print_rows(results, Counter(map(kind_of, missing)))
  if flag_values.figure:
    draw_worst(results, recognizer.label_names, flag_values.figure)


def read_list(path: Path, splits: list[str]) -> list[dict[str, str]]:
  """Returns the rows of a list of pictures that belong to one of `splits`."""
  try:
    with path.open(newline="", encoding="utf-8") as file:
      reader = csv.DictReader(file)
      rows = [row for row in reader if row.get("split") in splits]
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f"--list={path} can't be read: {error}") from error
  if absent := _COLUMNS - set(reader.fieldnames or []):
    raise UserError(f"--list={path} has no column {min(absent)}")
  if not rows:
    raise UserError(f"--list={path} has no pictures of --splits={','.join(splits)}")
  return rows


def relative_path(row: dict[str, str]) -> str:
  """Returns the path of a listed picture in the folder."""
  return f"{row['repository_on_github']}/{row['path']}"


def kind_of(row: dict[str, str]) -> tuple[str, str]:
  """Returns the split and the kind of a listed picture."""
  return row["split"], row["kind"]


def is_present(folder: Path, row: dict[str, str]) -> bool:
  """Returns whether the folder has a listed picture, unchanged."""
  try:
    return records.digest_of_file(folder / relative_path(row)) == row["sha256"]
  except (OSError, ValueError):
    return False


def print_rows(results: list[Result], missing: Counter[tuple[str, str]]) -> None:
  """Prints one JSON object for each split and kind, with the number of `missing` pictures."""
  groups: dict[tuple[str, str], list[Result]] = defaultdict(list)
  for result in results:
    groups[result.kind].append(result)
  for split, kind in sorted(groups | missing):
    members = groups[split, kind]
    correct = sum(result.text == result.label for result in members)
    app.print_json(
      {
        "split": split,
        "kind": kind,
        "pictures": len(members),
        "right": correct,
        "refused": sum("?" in result.text or not result.text for result in members),
        "missing": missing[split, kind],
        "error": round(1 - correct / len(members), 4) if members else None,
      }
    )


def draw_worst(results: list[Result], label_names: Sequence[str], output: str) -> None:
  """Draws the twenty most certain wrong readings, if there are any."""
  from mnist_research import figures
  from mnist_research.inference import readings

  wrong = sorted(
    (result for result in results if result.text != result.label and result.readings),
    key=lambda result: -result.certainty,
  )[:_WORST]
  if not wrong:
    return
  panels = []
  for result in wrong:
    (first, *_) = readings.panels(result.picture, result.readings)
    panels.append(
      first._replace(
        caption=f"{result.text}, not {result.label}: {first.caption}", box=(0, 0, 0, 0)
      )
    )
  title = f"the {len(panels)} worst, by the certainty of a wrong reading"
  figure = figures.recognition(panels, label_names=label_names, count=len(panels), title=title)
  figures.save(figure, output)


if __name__ == "__main__":
  app.run(main, define_flags, config_flags.TRAINING_ONLY)
