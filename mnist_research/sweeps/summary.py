"""The page that a sweep ends with: the report's table, what failed, pictures of the settings."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mnist_research import figures
from mnist_research.errors import UserError, writing
from mnist_research.reports import page, runs, writer
from mnist_research.reports.comparison import Row
from mnist_research.reports.page import Table
from mnist_research.sweeps.space import Plan, Range, Space, Values
from mnist_research.sweeps.study import Record

_CHOICE = (
  "The sweep chooses by the accuracy on the validation examples alone. The accuracy on the test "
  "examples is shown beside it, and has no part in the order."
)


class Summary(NamedTuple):
  """What came out of a sweep.

  Attributes:
    report: the page.
    best: the settings of the config with the highest mean validation accuracy.
    row: that config in the comparison.
    table: all of them.
  """

  report: Path
  best: Mapping[str, str]
  row: Row
  table: Table


def summarise(
  plan: Plan, records: Sequence[Record], importances: Mapping[str, float], directory: Path
) -> Summary:
  """Writes the page of a sweep into `directory/sweep-report`.

  Args:
    plan: what was tried.
    records: what came of it, on all machines.
    importances: how much each setting matters; may be empty.
    directory: the sweep's, with the workdirs of its trials.

  Raises:
    UserError: no trial finished here, or a file can't be written.
  """
  found, set_aside = runs.read([directory])
  groups, left_out = runs.group(found)
  if not groups:
    errors = [record.error for record in records if record.error]
    raise UserError(
      f"no trial finished; the first failed of: {errors[0]}" if errors else "no trial finished"
    )
  output = directory / "sweep-report"
  with writing(output):
    output.mkdir(exist_ok=True)
  first = [page.paragraph(_CHOICE), page.note(count(records))]
  first += _pictures(plan, records, importances, output)
  # What the study tells better: a pruned trial is no unfinished run.
  told = {f"{record.number:04d}-" for record in records}
  others = [aside for aside in [*set_aside, *left_out] if aside.path.name[:5] not in told]
  varied = [axis.name for axis in plan.space if axis.name != "seed"]
  title = f"{'Search' if plan.is_search else 'Sweep'}: {', '.join(varied) or 'seed'}"
  path, rows, table = writer.report_runs(
    groups, others, output, title=title, first_parts=first, last_parts=_failures(records)
  )
  texts = rows[0].group.runs[0].config.to_texts()
  return Summary(path, {name: texts[name] for name in varied}, rows[0], table)


def count(records: Sequence[Record]) -> str:
  """Returns how many trials are in which state, in words."""
  states = Counter(record.state for record in records)
  return f"{len(records)} trials: {', '.join(f'{n} {state}' for state, n in states.items())}."


def _pictures(
  plan: Plan, records: Sequence[Record], importances: Mapping[str, float], output: Path
) -> list[str]:
  """Draws what fits the plan: a heat map of two settings, else lines through all of them."""
  space = [axis for axis in plan.space if axis.name != "seed"]
  parts = []
  if len(space) == 2 and not plan.is_search:
    parts.append(_heat_map(space, records, output / "heat_map.png"))
  elif len(space) > 1 or plan.is_search:
    parts.append(_parallel_coordinates(space, records, output / "parallel_coordinates.png"))
  if importances:
    figure = figures.importances(
      importances,
      title="Which settings matter",
      summary="importance for the validation accuracy, by PED-ANOVA (arXiv:2304.10255)",
    )
    parts.append(writer.drawn(figure, output / "importances.png", "Importance of each setting"))
  return [page.section("Settings and validation accuracy", *parts)] if parts else []


def _heat_map(space: Space, records: Sequence[Record], path: Path) -> str:
  rows, columns = (axis for axis in space if isinstance(axis, Values))
  found: dict[tuple[str, str], list[float]] = {}
  for record in records:
    if record.accuracy is not None:
      place = record.texts[rows.name], record.texts[columns.name]
      found.setdefault(place, []).append(record.accuracy)
  values = np.array(
    [
      [statistics.fmean(found.get((row, column), [math.nan])) for column in columns.texts]
      for row in rows.texts
    ]
  )
  seeds = max(map(len, found.values()))
  over = f"mean over {seeds} seeds · " if seeds > 1 else ""
  figure = figures.heat_map(
    values, rows=rows.texts, columns=columns.texts, row_name=rows.name, column_name=columns.name,
    title="Validation accuracy", summary=f"{over}framed: the best",
  )  # fmt: skip
  return writer.drawn(figure, path, "Validation accuracy by two settings")


def _parallel_coordinates(space: Space, records: Sequence[Record], path: Path) -> str:
  whole = [r for r in records if all(axis.name in r.texts for axis in space)]
  settings = [
    figures.Axis(
      axis.name,
      [float(r.texts[axis.name]) for r in whole],
      log=axis.log,
    )
    if isinstance(axis, Range)
    else figures.Axis(axis.name, [r.texts[axis.name] for r in whole])
    for axis in space
  ]
  accuracies = [math.nan if r.accuracy is None else r.accuracy for r in whole]
  figure = figures.parallel_coordinates(
    settings, accuracies, title="Every trial, from its settings to its error",
    summary="blue: finished, the better the darker · grey: pruned or failed",
  )  # fmt: skip
  return writer.drawn(figure, path, "Settings and validation error of every trial")


def _failures(records: Sequence[Record]) -> list[str]:
  failed = [record for record in records if record.state == "failed"]
  if not failed:
    return []
  rows = [
    [str(r.number), ", ".join(f"{name}={text}" for name, text in r.texts.items()), r.error]
    for r in failed
  ]
  return [page.section("Failed trials", Table(["trial", "settings", "error"], rows, 3).to_html())]
