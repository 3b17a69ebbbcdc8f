"""Keeps the records of published runs, and writes the table of docs/results.md from them.

  python scripts/results.py runs/cnn runs/dense     # adds the runs, and writes the table
  python scripts/results.py                         # only rewrites the table

The arguments are workdirs or folders of them. Each finished run of a config of configs/ becomes a
line of docs/results.jsonl, which replaces the line of the same config and seed: its results, its
calibration error on the test examples, and from its environment.json the commit, processor and
versions. A table for each dataset is written between two markers of docs/results.md: mean,
standard deviation and 95% interval of the test accuracy, the mean calibration error, the median of
the training seconds, the machines, and how often the test split was scored. Other runs are named on
stderr and skipped.
"""

import itertools
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from mnist_research.config import Config
from mnist_research.config import flags as config_flags
from mnist_research.metrics import calibration
from mnist_research.reports import comparison, runs
from mnist_research.reports.comparison_tables import interval_text
from mnist_research.runtime import app, user_data
from mnist_research.runtime.errors import UserError
from mnist_research.runtime.files import write_atomically

_REPOSITORY = Path(__file__).resolve().parents[1]
_BEGIN, _END = "<!-- results: begin -->", "<!-- results: end -->"
_MACHINE = ("commit", "processor", "cores", "python", "tensorflow", "keras")
_FIGURES = (
  "dataset", "step", "test_accuracy", "test_loss", "validation_accuracy", "validation_loss",
  "train_examples", "parameters", "train_seconds",
)  # fmt: skip
_COLUMNS = (
  "config", "seeds", "test accuracy", "95% interval", "calibration error", "parameters",
  "trained on", "training, median", "machine", "commit", "test scored",
)  # fmt: skip

# A line of docs/results.jsonl.
Record = dict[str, Any]


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the directory of the documents."""
  flags.DEFINE_string(
    "docs", str(_REPOSITORY / "docs"), "folder with results.jsonl and results.md",
    flag_values=flag_values,
  )  # fmt: skip


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Adds the given runs, and writes the table."""
  docs = Path(flag_values.docs)
  records = merge(read_records(docs / "results.jsonl"), collect(arguments))
  lines = "".join(json.dumps(record) + "\n" for record in records)
  write_atomically(docs / "results.jsonl", lines)
  page = (docs / "results.md").read_text(encoding="utf-8")
  write_atomically(docs / "results.md", with_tables(page, tables(records)))
  print(tables(records))


def read_records(path: Path) -> list[Record]:
  """Returns the lines of a file of records; empty if there is no file."""
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def collect(directories: Sequence[str]) -> list[Record]:
  """Returns a record for each finished run of a config under some directories."""
  if not directories:
    return []
  all_runs, left_out = runs.read(directories)
  for entry in left_out:
    print(f"skipped: {entry.path}, {entry.kind}: {entry.reason}", file=sys.stderr)
  configs = {
    path.name: config_flags.from_flagfile(path)
    for path in sorted((_REPOSITORY / "configs").glob("*.cfg"))
  }
  records = []
  for run in all_runs:
    name = next((name for name, config in configs.items() if is_of(config, run)), None)
    if name is None or run.result is None:
      reason = "of no config" if name is None else "unfinished"
      print(f"skipped: {run.path}, {reason}", file=sys.stderr)
      continue
    environment = run.workdir.read_environment()
    records.append(
      {
        "config": name,
        "seed": run.config.run.seed,
        **{key: run.result[key] for key in _FIGURES if key in run.result},
        **_calibration(run),
        "test_scorings": run.test_scorings,
        "precision": run.config.devices.precision,
        **{key: environment.get(key) for key in _MACHINE},
      }
    )
  return records


def _calibration(run: runs.Run) -> Record:
  """Returns the expected calibration error on the test examples, if the run has scored them."""
  predictions = run.workdir.read_predictions()
  if predictions is None:
    return {}
  bins = calibration.reliability(predictions.probabilities, predictions.labels)
  return {"test_calibration_error": bins.expected_calibration_error}


def is_of(config: Config, run: runs.Run) -> bool:
  """Whether `run` has the settings of `config`, except for its seed.

  A teacher `runs/cnn/seed0` is any workdir whose path ends in `cnn/seed0`; precision `auto` is any.
  """
  if config.devices.precision == "auto":
    config = config.replace(precision=run.config.devices.precision)
  differences = config.replace(teacher=()).differences(run.config.replace(teacher=()))
  same_settings = all(difference.startswith("--seed=") for difference in differences)
  return same_settings and _same_teachers(
    config.optimization.teacher, run.config.optimization.teacher
  )


def _same_teachers(expected: Sequence[str], recorded: Sequence[str]) -> bool:
  if len(expected) != len(recorded):
    return False
  paths = (user_data.parse(text).path.parts for text in recorded)
  ends = (Path(text).parts[-2:] for text in expected)
  return all(path[-len(end) :] == end for path, end in zip(paths, ends, strict=True))


def merge(records: Sequence[Record], newer: Sequence[Record]) -> list[Record]:
  """Merges both by config and seed; the newer record replaces the older."""
  merged = {(record["config"], record["seed"]): record for record in (*records, *newer)}
  return [merged[key] for key in sorted(merged)]


def tables(records: Sequence[Record]) -> str:
  """Returns a table for each dataset as Markdown, under its name."""
  datasets = sorted(
    {record["dataset"] for record in records}, key=lambda name: (name != "mnist", name)
  )
  return "\n\n".join(
    f"### {name}\n\n{table([record for record in records if record['dataset'] == name])}"
    for name in datasets
  )


def table(records: Sequence[Record]) -> str:
  """Returns a table as Markdown, a row for each config."""
  groups = itertools.groupby(records, key=lambda record: record["config"])
  rows = (_row(name, list(group)) for name, group in groups)
  return "\n".join([_line(_COLUMNS), "|---" * len(_COLUMNS) + "|", *rows])


def _row(name: str, group: Sequence[Record]) -> str:
  accuracies = [record["test_accuracy"] for record in group]
  summary = comparison.summarize(accuracies)
  deviation = "" if summary.deviation is None else f" ± {summary.deviation:.2%}"
  seconds = statistics.median(record["train_seconds"] for record in group)
  cells = [
    f"`{name}`",
    ", ".join(str(record["seed"]) for record in group),
    f"{summary.mean:.2%}{deviation}",
    interval_text(summary.interval),
    _mean_error(group),
    f"{group[0]['parameters']:,.0f}",
    f"{group[0]['train_examples']:,.0f}",
    f"{seconds:,.1f} s",
    # Rows from different machines name each.
    "; ".join(_distinct(_machine(record) for record in group)),
    ", ".join(_distinct(_short(record["commit"]) for record in group)),
    "-".join(_distinct(str(record["test_scorings"]) for record in group)),
  ]
  return _line(cells)


def _line(cells: Sequence[str]) -> str:
  return f"| {' | '.join(cells)} |"


def _mean_error(group: Sequence[Record]) -> str:
  """Returns the mean calibration error; a dash if a run has no record of it."""
  errors = [
    record["test_calibration_error"] for record in group if "test_calibration_error" in record
  ]
  return f"{statistics.fmean(errors):.2%}" if len(errors) == len(group) else "-"


def _machine(record: Record) -> str:
  cores = f"{record['cores']} core{'' if record['cores'] == 1 else 's'}"
  return f"{record['processor']}, {cores}, {record['precision']}, TensorFlow {record['tensorflow']}"


def _short(commit: str | None) -> str:
  """Returns the first digits of a commit, and whether the checkout had changes."""
  if not commit:
    return "unknown"
  return commit[:7] + ("+" if commit.endswith("+changes") else "")


def _distinct(texts: Any) -> list[str]:
  return sorted(set(texts))


def with_tables(page: str, rows: str) -> str:
  """Returns a page with the tables between its markers.

  Raises:
    UserError: it has no markers.
  """
  begin, end = page.find(_BEGIN), page.find(_END)
  if begin < 0 or end < begin:
    raise UserError(f"results.md needs the markers {_BEGIN} and {_END}")
  return f"{page[: begin + len(_BEGIN)]}\n\n{rows}\n\n{page[end:]}"


if __name__ == "__main__":
  app.run(main, define_flags)
