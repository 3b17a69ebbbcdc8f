"""Writes the final page of a sweep: the report's table, failures, and pictures of the settings."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mnist_research import figures
from mnist_research.reports import html, runs
from mnist_research.reports.comparison_page import write_comparison_page
from mnist_research.reports.output import charted, drawn, make_directory
from mnist_research.reports.tables import Table
from mnist_research.runtime.errors import UserError
from mnist_research.runtime.files import write_atomically
from mnist_research.sweeps.space import Range, Space, SweepPlan, Values
from mnist_research.sweeps.study import Record

_CHOICE = "The sweep compares only validation accuracies. Its trials never score the test split."


class Summary(NamedTuple):
  """The summary of a sweep.

  Attributes:
    report: the path of the page.
    table: the table of the configs trained here.
    best: the settings, except the seed, with the highest mean validation accuracy.
    validation_accuracy: that mean.
  """

  report: Path
  table: Table
  best: Mapping[str, str]
  validation_accuracy: float


def summarize(
  plan: SweepPlan, records: Sequence[Record], importances: Mapping[str, float], directory: Path
) -> Summary:
  """Writes the page of a sweep into `directory/sweep-report`.

  Args:
    plan: the trials.
    records: their results, on all machines.
    importances: the importance of each setting; may be empty.
    directory: the sweep's directory, with the workdirs of its trials.

  Raises:
    UserError: no trial finished here, or a file can't be written.
  """
  all_runs, left_out = runs.read([directory])
  groups, ungrouped = runs.group(all_runs)
  finished = [record for record in records if record.accuracy is not None]
  if not finished:
    errors = [record.error for record in records if record.error]
    raise UserError(f"no trial finished; the first failed: {errors[0]}" if errors else "no trial")
  if not groups:
    owners = ", ".join(sorted({record.owner for record in finished}))
    raise UserError(f"no trials ran in this directory: they are in {owners}; run report there")
  output = directory / "sweep-report"
  make_directory(output)
  first = [html.paragraph(_CHOICE), html.note(_count(records))]
  elsewhere = len(finished) - sum(len(group.runs) for group in groups)
  if elsewhere > 0:
    first.append(html.note(f"{elsewhere} of them finished elsewhere, and are not in the table."))
  first += _pictures(plan, records, importances, output)
  # Only the study knows that a pruned trial isn't an unfinished run.
  numbered = {f"{record.number:04d}-" for record in records}
  others = [entry for entry in [*left_out, *ungrouped] if entry.path.name[:5] not in numbered]
  varied = [axis.name for axis in plan.space if axis.name != "seed"]
  title = f"{'Search' if plan.is_search else 'Sweep'}: {', '.join(varied) or 'seed'}"
  path, table = write_comparison_page(
    groups, others, output, title=title, first_parts=first, last_parts=_failures(records)
  )
  return Summary(path, table, *_best(varied, records))


def _best(names: Sequence[str], records: Sequence[Record]) -> tuple[dict[str, str], float]:
  """Returns the settings with the highest mean validation accuracy over seeds, and that mean."""
  accuracies = _by_settings(records, names)
  best = max(accuracies, key=lambda texts: statistics.fmean(accuracies[texts]))
  return dict(zip(names, best, strict=True)), statistics.fmean(accuracies[best])


def _by_settings(
  records: Sequence[Record], names: Sequence[str]
) -> dict[tuple[str, ...], list[float]]:
  """Returns the accuracies of the finished trials by the values of `names`.

  Settings with a failed trial are omitted, unless all have one, because only the seeds that didn't
  diverge would count.
  """
  finished: dict[tuple[str, ...], dict[str, float]] = {}
  for record in records:
    if record.accuracy is not None:
      values = tuple(record.texts[name] for name in names)
      finished.setdefault(values, {})[_seed(record)] = record.accuracy
  complete = dict(finished)
  for record in records:
    values = tuple(record.texts.get(name, "") for name in names)
    if record.state == "failed" and _seed(record) not in finished.get(values, {}):
      complete.pop(values, None)
  return {values: list(seeds.values()) for values, seeds in (complete or finished).items()}


def _seed(record: Record) -> str:
  return record.texts.get("seed", "")


def _count(records: Sequence[Record]) -> str:
  """Describes the number of trials by state."""
  states = Counter(record.state for record in records)
  return f"{len(records)} trials: {', '.join(f'{n} {state}' for state, n in states.items())}."


def _pictures(
  plan: SweepPlan, records: Sequence[Record], importances: Mapping[str, float], output: Path
) -> list[str]:
  """Draws the plan's settings: two in a heat map, more as parallel coordinates."""
  space = [axis for axis in plan.space if axis.name != "seed"]
  parts = []
  if len(space) > 1 and not plan.is_search:
    parts.append(_heat_map(space, records, output))
  if len(space) > 2 or plan.is_search:
    parts.append(_parallel_coordinates(space, records, output / "parallel_coordinates.png"))
  if importances:
    figure = figures.importances(
      importances,
      title="Which settings matter",
      summary="importance for the validation accuracy, by PED-ANOVA (arXiv:2304.10255)",
    )
    parts.append(charted(figure, output / "importances.png", "Importance of each setting"))
  return [html.section("Settings and validation accuracy", *parts)] if parts else []


class _Cell(NamedTuple):
  """The result of a pair of values, with the best values of all other settings.

  Attributes:
    accuracies: the accuracy of each seed.
    others: the values of the other settings, by name.
  """

  accuracies: list[float]
  others: Mapping[str, str]

  @property
  def mean(self) -> float:
    """The mean over the seeds; NaN if nothing finished."""
    return statistics.fmean(self.accuracies) if self.accuracies else math.nan

  @property
  def text(self) -> str:
    """The mean, the standard deviation, and the values of the other settings, as text."""
    if not self.accuracies:
      return "-"
    several = len(self.accuracies) > 1
    deviation = f" ± {statistics.stdev(self.accuracies):.2%}" if several else ""
    return " ".join(
      [f"{self.mean:.2%}{deviation}", *(f"({text})" for text in self.others.values())]
    )


def _heat_map(space: Space, records: Sequence[Record], output: Path) -> str:
  """Draws a heat map of the first two settings, and writes the same as a table."""
  rows, columns, *others = (axis for axis in space if isinstance(axis, Values))
  names = [axis.name for axis in others]
  accuracies = _by_settings(records, [rows.name, columns.name, *names])
  cells = [[_best_cell(accuracies, row, column, names) for column in columns.texts]
           for row in rows.texts]  # fmt: skip
  seeds = max(map(len, accuracies.values()))
  note = f"mean over {seeds} seeds · " if seeds > 1 else ""
  if others:
    note += f"the best {' and '.join(names)} for each · "
  figure = figures.heat_map(
    np.array([[cell.mean for cell in line] for line in cells]),
    rows=rows.texts, columns=columns.texts, row_name=rows.name, column_name=columns.name,
    title="Validation accuracy", summary=f"{note}framed: the best",
  )  # fmt: skip
  table = Table(
    [rows.name, *columns.texts],
    [[row, *(cell.text for cell in line)] for row, line in zip(rows.texts, cells, strict=True)],
    1,
  )
  write_atomically(output / "heat_map.md", table.to_markdown())
  picture = drawn(figure, output / "heat_map.png", "Validation accuracy by two settings")
  return picture + table.to_html()


def _best_cell(
  accuracies: Mapping[tuple[str, ...], list[float]], row: str, column: str, names: Sequence[str]
) -> _Cell:
  """Returns the best result with the values `row` and `column`."""
  cells = [
    _Cell(seeds, dict(zip(names, values[2:], strict=True)))
    for values, seeds in accuracies.items()
    if values[:2] == (row, column)
  ]
  return max(cells, key=lambda cell: cell.mean, default=_Cell([], {}))


def _parallel_coordinates(space: Space, records: Sequence[Record], path: Path) -> str:
  complete = [r for r in records if all(axis.name in r.texts for axis in space)]
  settings = [
    figures.Axis(
      axis.name,
      [float(r.texts[axis.name]) for r in complete],
      log=axis.log,
    )
    if isinstance(axis, Range)
    else figures.Axis(axis.name, [r.texts[axis.name] for r in complete])
    for axis in space
  ]
  accuracies = [math.nan if r.accuracy is None else r.accuracy for r in complete]
  figure = figures.parallel_coordinates(
    settings, accuracies, title="Every trial, from its settings to its error",
    summary="blue: finished, darker is better · gray: pruned or failed",
  )  # fmt: skip
  return charted(figure, path, "Settings and validation error of every trial")


def _failures(records: Sequence[Record]) -> list[str]:
  failed = [record for record in records if record.state == "failed"]
  if not failed:
    return []
  rows = [
    [str(r.number), ", ".join(f"{name}={text}" for name, text in r.texts.items()), r.error]
    for r in failed
  ]
  return [html.section("Failed trials", Table(["trial", "settings", "error"], rows, 3).to_html())]
