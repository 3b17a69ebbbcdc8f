"""The tables of a comparison: one for people, with notes, and two for programs."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from mnist_research.config import FIELDS
from mnist_research.reports.comparison import Comparison, Row, Summary, summarize
from mnist_research.reports.runs import Group
from mnist_research.reports.tables import Table, write_csv

_METRICS = ("validation_accuracy", "validation_loss", "test_accuracy", "test_loss")


def comparison_table(compared: Comparison) -> Table:
  """Returns the table of the configs, from best to worst."""
  rows = compared.rows
  # Configs are named by their folders, or else by the settings that distinguish them.
  named = () if rows[0].group.folder else rows[0].group.distinguishing
  settings = [name for name in rows[0].group.settings if name not in named]
  has_validation, has_test = any(row.validation for row in rows), any(row.test for row in rows)
  summaries = [row.test if compared.compared_split == "test" else row.validation for row in rows]
  several = len(rows) > 1
  has_p_values = any(row.adjusted_p_value is not None for row in rows)
  # The compared figures come first, because a narrow screen may cut off the rest.
  header = [
    "config", *(["test"] if has_test else []), *(["validation"] if has_validation else []),
    "95% interval", *(["difference"] if several else []), *(["p"] if has_p_values else []), "seeds",
    "parameters", "training", *settings,
  ]  # fmt: skip
  cells = [
    [
      row.group.label,
      *([_mean(row.test)] if has_test else []),
      *([_mean(row.validation)] if has_validation else []),
      interval_text(summary.interval if summary else None),
      *([_difference(row)] if several else []),
      *([_p_value(row)] if has_p_values else []),
      str(len(row.group.runs)),
      f"{row.parameters:,}",
      f"{row.train_seconds:.1f} s",
      *(row.group.settings[name] or "none" for name in settings),
    ]
    for row, summary in zip(rows, summaries, strict=True)
  ]
  strong = frozenset({0} if several else ())
  return Table(header, cells, texts=1, strong=strong, last_texts=len(settings))


def _mean(summary: Summary | None) -> str:
  if summary is None:
    return "-"
  deviation = f" ± {100 * summary.deviation:.2f}" if summary.deviation is not None else ""
  return f"{100 * summary.mean:.2f}{deviation}%"


def interval_text(interval: tuple[float, float] | None) -> str:
  """Returns an interval of accuracies in percent; a dash if there is none."""
  return f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}%" if interval else "-"


def _difference(row: Row) -> str:
  if row.against_reference is None:
    return "reference"
  difference = row.against_reference.difference
  return "-" if math.isnan(difference) else f"{100 * difference:+.2f}%"


def _p_value(row: Row) -> str:
  if row.against_reference is None:
    return ""
  return "-" if row.adjusted_p_value is None else f"{row.adjusted_p_value:.2g}"


def table_notes(compared: Comparison, datasets: Sequence[str]) -> list[str]:
  """Explains how to read the table, and its limits."""
  order = "never by test" if compared.ranking_split == "validation" else (
    "and choosing by it would be choosing on the test set"
  )  # fmt: skip
  texts = [
    f"Accuracies, ordered by mean {compared.ranking_split} accuracy, {order}. ± is the standard "
    f"deviation over seeds; the interval is that of the mean {compared.compared_split} accuracy, "
    "by Student's t: it covers other seeds, not other examples. Training is the median time spent "
    f"in steps. Differences are in {compared.compared_split} accuracy, from the reference."
  ]
  tests = [row.against_reference for row in compared.rows if row.against_reference]
  if any(test.p_value is not None for test in tests):
    texts.append(_tests_note(compared))
  reasons = sorted({test.reason for test in tests if test.reason})
  if reasons:
    applicable = any(test.p_value is not None for test in tests)
    where = "Where p is -, the test does not apply" if applicable else "No test of the differences"
    texts.append(f"{where}: {'; '.join(reasons)}.")
  if len(datasets) > 1:
    texts.append("The configs were tested on different datasets: accuracies aren't comparable.")
  return texts


def _tests_note(compared: Comparison) -> str:
  """Explains the p-values and their adjustment."""
  text = (
    f"p: two-sided paired t-test (scipy.stats.ttest_rel) of the {compared.compared_split} "
    "accuracies of the seeds that a config shares with the reference"
  )
  if compared.num_tests > 1:
    text += f", adjusted for {compared.num_tests} tests (Holm 1979)"
  if compared.named:
    return f"{text}. --reference named it, so only tests against it are counted."
  return (
    f"{text}. The reference is the first row, chosen by accuracy, so the tests of all pairs are "
    "counted. Naming a --reference beforehand leaves fewer tests."
  )


def _mean_and_std(group: Group, metric: str) -> tuple[float | None, float | None]:
  """Returns the mean and standard deviation of a metric over the seeds, None for a missing one."""
  values = list(group.values(metric).values())
  if not values:
    return None, None
  summary = summarize(values)
  return summary.mean, summary.deviation


def write_csvs(compared: Comparison, output: Path) -> None:
  """Writes `configs.csv`, with a line per config, and `runs.csv`, with a line per run.

  Raises:
    UserError: a file can't be written.
  """
  rows = compared.rows
  settings = list(rows[0].group.settings)
  write_csv(
    output / "configs.csv",
    [
      *settings, "seeds",
      *(f"{metric}_{statistic}" for metric in _METRICS for statistic in ("mean", "std")),
      "test_accuracy_low", "test_accuracy_high",
      "parameters", "train_seconds_median", "difference", "p_value", "p_value_holm",
    ],
    [
      [
        *row.group.settings.values(), len(row.group.runs),
        *itertools.chain.from_iterable(_mean_and_std(row.group, metric) for metric in _METRICS),
        *((row.test and row.test.interval) or (None, None)),
        row.parameters, row.train_seconds,
        *((row.against_reference.difference, row.against_reference.p_value)
          if row.against_reference else (None, None)),
        row.adjusted_p_value,
      ]
      for row in rows
    ],
  )  # fmt: skip
  names = list(FIELDS)
  results = [(run, run.result) for row in rows for run in row.group.runs if run.result is not None]
  keys = list(dict.fromkeys(key for _, result in results for key in result if key not in names))
  write_csv(
    output / "runs.csv",
    [*names, *keys],
    [
      [*{**run.config.to_texts(), "workdir": str(run.path)}.values(), *map(result.get, keys)]
      for run, result in results
    ],
  )
