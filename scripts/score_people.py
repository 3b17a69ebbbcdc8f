"""Scores a trained network on people's own pictures, by kind, and draws the twenty worst.

  python scripts/score_people.py --pictures=path/to/folder --figure=worst.png

The folder holds pictures and labels.csv, with the columns file, kind, split (tuning or test) and
label: the digits of each row, with slashes between rows. Prints one JSON object for each split and
kind: pictures, right (every digit of every row), refused (blank, or not a digit), error. Score the
same folder before and after a change to see its effect; make choices on the tuning pictures.

The pictures aren't part of this package. docs/people.csv names public repositories that have some.
"""

import csv
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from absl import flags

from mnist_research import images
from mnist_research.config import flags as config_flags
from mnist_research.runtime import app, command_line
from mnist_research.runtime.errors import UserError
from mnist_research.workdir import trained_workdir

if TYPE_CHECKING:  # They load TensorFlow.
  from mnist_research.inference.readings import Reading

_LABELS = "labels.csv"
_WORST = 20


class Answered(NamedTuple):
  """A picture, its label, and the network's answer.

  Attributes:
    kind: its split and its kind.
    label: the true rows, with slashes between them.
    text: the rows that were read; empty if nothing was found.
    picture: the prepared picture; None if it is blank.
    readings: its digits.
  """

  kind: tuple[str, str]
  label: str
  text: str
  picture: images.Picture | None
  readings: "list[Reading]"

  @property
  def certainty(self) -> float:
    """The certainty of the least certain digit."""
    return min((reading.certainty for reading in self.readings), default=0.0)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the network and the pictures."""
  config_flags.define(flag_values, ["workdir", "device"])
  command_line.define_path("pictures", "", "folder of pictures with labels.csv", flag_values)
  command_line.define_path("figure", "", "PNG to draw: the twenty worst", flag_values)


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Reads the pictures and prints how many were answered correctly."""
  app.refuse_arguments(arguments)
  folder = Path(flag_values.pictures)
  try:
    with (folder / _LABELS).open(newline="") as file:
      rows = list(csv.DictReader(file))
  except OSError as error:
    raise UserError(f"--pictures={folder} has no {_LABELS}: {error.strerror}") from error
  app.load_tensorflow()
  from mnist_research import figures
  from mnist_research.inference import readings
  from mnist_research.inference.recognizer import load_recognizer

  workdir = trained_workdir(flag_values.workdir)
  settings = config_flags.from_flags_over(workdir.trained_config(), flag_values)
  recognizer = load_recognizer(workdir, settings)
  answered = []
  for row in rows:
    gray = images.read(folder / row["file"])
    prepared = images.find_digits(gray)
    kind = (row["split"], row["kind"])
    if not prepared:
      answered.append(Answered(kind, row["label"], "", None, []))
      continue
    read = readings.read(recognizer, prepared)
    text = readings.number(read, recognizer.label_names)["number"].replace("\n", "/")
    small, _ = images.reduce(gray, 480)
    answered.append(
      Answered(kind, row["label"], text, images.Picture(row["file"], small, prepared), read)
    )
  print_rows(answered)
  wrong = sorted(
    (each for each in answered if each.text != each.label and each.picture),
    key=lambda each: -each.certainty,
  )[:_WORST]
  if flag_values.figure and wrong:
    panels = []
    for each in wrong:
      assert each.picture
      (first, *_) = readings.panels(each.picture, each.readings)
      panels.append(
        first._replace(caption=f"{each.text}, not {each.label}: {first.caption}", box=(0, 0, 0, 0))
      )
    title = f"the {len(panels)} worst, by the certainty of a wrong answer"
    figure = figures.recognition(
      panels, label_names=recognizer.label_names, count=len(panels), title=title
    )
    figures.save(figure, flag_values.figure)


def print_rows(answered: list[Answered]) -> None:
  """Prints one JSON object for each split and kind."""
  groups: dict[tuple[str, str], list[Answered]] = defaultdict(list)
  for each in answered:
    groups[each.kind].append(each)
  for (split, kind), members in sorted(groups.items()):
    right = sum(each.text == each.label for each in members)
    app.print_json(
      {
        "split": split,
        "kind": kind,
        "pictures": len(members),
        "right": right,
        "refused": sum("?" in each.text or not each.text for each in members),
        "error": round(1 - right / len(members), 4),
      }
    )


if __name__ == "__main__":
  app.run(main, define_flags, config_flags.OF_TRAINING)
