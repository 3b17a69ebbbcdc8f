"""Writes the page on several runs: a table of their configs, curves, and their common settings."""

import math
import os
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mnist_research import figures
from mnist_research.reports import comparison, html
from mnist_research.reports.comparison import Row
from mnist_research.reports.comparison_tables import comparison_table, table_notes, write_csvs
from mnist_research.reports.output import charted, make_directory, write_page
from mnist_research.reports.runs import Group, LeftOut, Run
from mnist_research.reports.tables import Table, settings_table
from mnist_research.runtime import user_data
from mnist_research.runtime.errors import UserError
from mnist_research.runtime.files import write_atomically

# A picture with more rows would be unreadable.
_PICTURED_CONFIGS = 40


def write_comparison_page(
  groups: Sequence[Group],
  left_out: Sequence[LeftOut],
  output: Path,
  *,
  title: str = "",
  first_parts: Sequence[str] = (),
  last_parts: Sequence[str] = (),
  reference: str = "",
  pages: Mapping[Path, Path] | None = None,
) -> tuple[Path, Table]:
  """Writes the page on several runs, with `configs.csv`, `runs.csv`, `table.md` and pictures.

  Args:
    groups: the configs, from `runs.group`; at least one.
    left_out: the directories without results, which are listed.
    output: the directory to write to, created if missing.
    title: the title of the page; if empty, the number of configs and the datasets.
    first_parts: HTML before the table.
    last_parts: HTML at the end.
    reference: the name of the config to compare with; if empty, the first in order.
    pages: the page of each run by directory, linked from the table of runs.

  Returns:
    The path of the page, and the table of the configs from best to worst.

  Raises:
    UserError: a file can't be written, or there is no such reference.
  """
  named = comparison.find_reference(groups, reference) if reference else None
  results = comparison.compare(groups, named)
  make_directory(output)
  rows, compared_split = results.rows, results.compared_split
  table = comparison_table(results)
  num_runs = sum(len(group.runs) for group in groups)
  datasets = sorted(
    {user_data.short_name(run.config.data.dataset) for group in groups for run in group.runs}
  )
  counts = f"{_counted(len(rows), 'config')}, {_counted(num_runs, 'run')}"
  title = title or f"{_counted(len(rows), 'config')} on {' and '.join(datasets)}"
  write_csvs(results, output)
  write_atomically(output / "table.md", table.to_markdown())
  accuracies, curves = _pictures(rows, compared_split, output)
  parts = [
    *first_parts,
    html.section(
      "Configs, best to worst",
      table.to_html(),
      *(html.note(text) for text in table_notes(results, datasets)),
      accuracies,
    ),
    html.section("Curves", curves),
    html.section("Runs", _runs_table(rows, pages or {}, output), _common_settings(groups)),
    *_left_out(left_out),
    *last_parts,
  ]
  lead = f"{counts} · {_machines(groups)}"
  return write_page(output, html.page(title, lead, *parts)), table


def _left_out(left_out: Sequence[LeftOut]) -> list[str]:
  """Returns the section of directories without results, if there are any."""
  if not left_out:
    return []
  rows = [[str(entry.path), entry.kind, entry.reason] for entry in left_out]
  listed = Table(["directory", "state", "reason"], rows, texts=3)
  return [html.section("Left out", listed.to_html())]


def _describe_accuracies(rows: Sequence[Row], compared_split: str) -> str:
  """Describes the picture of the accuracies, for screen readers."""
  summaries = {r.group.label: r.test if compared_split == "test" else r.validation for r in rows}
  means = [f"{name} {summary.mean:.2%}" for name, summary in summaries.items() if summary]
  shown = [*means[:3], "...", means[-1]] if len(means) > 4 else means
  return f"The {compared_split} accuracy of each seed, by config; means: {', '.join(shown)}"


def _pictures(rows: Sequence[Row], compared_split: str, output: Path) -> tuple[str, str]:
  """Draws the accuracies and the curves of the best configs; returns both as HTML."""
  compared = [_compared(row, compared_split) for row in rows[:_PICTURED_CONFIGS]]
  best = f": the best {len(compared)}" if len(compared) < len(rows) else ""
  with_accuracies = [config for config in compared if config.accuracies] or compared
  accuracies = figures.compared_accuracies(
    with_accuracies,
    title=f"{compared_split.capitalize()} accuracy of every seed{best}",
    split=compared_split,
  )
  curves = figures.compared_curves(compared, title=f"Training loss and validation error{best}")
  description = (
    f"Training loss and validation error by epoch, a color for each of {len(rows)} configs"
  )
  return (
    charted(accuracies, output / "accuracies.png", _describe_accuracies(rows, compared_split)),
    charted(curves, output / "curves.png", description),
  )


def _compared(row: Row, compared_split: str) -> figures.Compared:
  summary = row.test if compared_split == "test" else row.validation
  accuracies = row.group.values(f"{compared_split}_accuracy")
  return figures.Compared(
    name=row.group.label,
    accuracies=list(accuracies.values()),
    seeds=list(accuracies),
    interval=summary.interval if summary else None,
    validation=row.validation.mean if row.validation and compared_split == "test" else None,
    losses=[_series(run, "train", "loss") for run in row.group.runs if _has(run, "train")],
    errors=[
      _series(run, "validation", "accuracy") for run in row.group.runs if _has(run, "validation")
    ],
  )


def _has(run: Run, split: str) -> bool:
  return any(record["split"] == split for record in run.metrics)


def _series(run: Run, split: str, key: str) -> tuple[np.ndarray, np.ndarray]:
  """Returns the epochs and values of a run; an accuracy becomes an error rate in percent."""
  assert run.result is not None
  records = [r for r in figures.with_plain_losses(run.metrics) if r["split"] == split]
  steps = np.array([record["step"] for record in records], np.float64)
  values = np.array([record.get(key, math.nan) for record in records], np.float64)
  epochs = steps * run.config.optimization.batch_size / run.result["train_examples"]
  return epochs, 100 * (1 - values) if key == "accuracy" else values


def _runs_table(rows: Sequence[Row], pages: Mapping[Path, Path], output: Path) -> str:
  header = [
    "workdir", "config", "seed", "test accuracy", "test loss", "test scored", "training"
  ]  # fmt: skip
  cells = [
    [
      str(run.path), row.group.label, str(run.config.run.seed),
      *([f"{run.result['test_accuracy']:.2%}", f"{run.result['test_loss']:.4f}"]
        if "test_accuracy" in run.result else ["-", "-"]),
      run.test_scorings, f"{run.result['train_seconds']:.1f} s",
    ]
    for row in rows
    for run in row.group.runs
    if run.result is not None
  ]  # fmt: skip
  links = {
    str(path): urllib.parse.quote(os.path.relpath(page, output)) for path, page in pages.items()
  }
  table = Table(header, cells, texts=2, links=links)
  return html.folded(_counted(len(cells), "run"), table.to_html())


def _common_settings(groups: Sequence[Group]) -> str:
  texts = groups[0].runs[0].config.to_texts()
  differing = {"seed", "workdir", *groups[0].settings}
  common = {name: text for name, text in texts.items() if name not in differing}
  return html.folded("Shared settings", settings_table(common).to_html())


def _machines(groups: Sequence[Group]) -> str:
  """Describes the machine of the runs, or says that times aren't comparable."""
  machines, unreadable = set(), []
  for run in (run for group in groups for run in group.runs):
    try:
      environment = run.workdir.read_environment()
    except UserError:
      unreadable.append(run.workdir.path.name)
    else:
      machines.add((str(environment.get("processor")), str(environment.get("tensorflow"))))
  if unreadable:
    return f"the machine of {', '.join(unreadable)} can't be read: times may not be comparable"
  if len(machines) == 1:
    processor, version = machines.pop()
    return f"{processor}, TensorFlow {version}"
  return f"{len(machines)} different machines or versions of TensorFlow: times aren't comparable"


def _counted(number: int, noun: str) -> str:
  return f"{number:,} {noun}{'' if number == 1 else 's'}"
