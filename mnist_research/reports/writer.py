"""Reports: a page of one run, or a page and tables of many, from what is in their workdirs."""

import csv
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mnist_research import figures
from mnist_research.calibration import reliability
from mnist_research.config import Config
from mnist_research.errors import UserError, writing
from mnist_research.evaluation import wilson_interval
from mnist_research.reports import comparison, page
from mnist_research.reports.comparison import Row, Summary
from mnist_research.reports.page import Table, Tile
from mnist_research.reports.runs import REPORT_NAME, Group, Run, SetAside
from mnist_research.workdir import Predictions, write_atomically

_SHOWN_MISTAKES = 40
# More rows than this make a picture that nobody reads.
_PICTURED_CONFIGS = 40


# ---- One run ----


def report_run(run: Run, test_images: np.ndarray | str, output: Path) -> Path:
  """Writes the page of one run, and its pictures as PNG beside it.

  Args:
    run: finished or not.
    test_images: uint8 [N, 28, 28, 1], the images that it was tested on; or why there are none.
    output: the directory to write into, made where it is missing.

  Returns:
    The page.

  Raises:
    UserError: a file can't be read or written.
  """
  _make(output)
  name = f"{run.config.model} on {run.config.dataset}"
  predictions = run.workdir.read_predictions()
  parts = [page.tiles(*_tiles(run, predictions))]
  if run.result is None:
    parts.append(
      page.paragraph(f"This run is not finished: its last line is step {run.last_step:,}.")
    )
  curves = figures.training_curves(run.metrics, title=name)
  parts.append(page.section("Curves", drawn(curves, output / "curves.png", "Curves of the run")))
  if run.config.label_smoothing:
    parts.append(page.note("The loss of train is that with label smoothing, the others without."))
  if predictions is not None:
    parts += _prediction_sections(name, predictions, test_images, output)
  elif run.result is not None:
    parts.append(page.note("This run left no predictions-test.npz: its mistakes aren't known."))
  parts += [_settings_section(run.config), _environment_section(run)]
  return _write(output, page.page(name, f"{run.path} · seed {run.config.seed}", *parts))


def _tiles(run: Run, predictions: Predictions | None) -> list[Tile]:
  if run.result is None:
    return []
  result = run.result
  tiles = []
  if predictions is not None:
    bins = reliability(predictions.probabilities, predictions.labels)
    count = len(predictions.labels)
    right = int((predictions.probabilities.argmax(axis=1) == predictions.labels).sum())
    low, high = wilson_interval(np.array(right), np.array(count))
    tiles = [
      Tile(
        "test accuracy", f"{right / count:.2%}",
        f"{low:.2%} to {high:.2%}: 95% interval for {count:,} test examples (Wilson)",
      ),
      Tile("errors", f"{count - right:,}", f"of {count:,}"),
      Tile(
        "calibration error",
        f"{bins.expected_calibration_error:.2%}",
        "expected, 15 bins",
      ),
    ]  # fmt: skip
  else:
    tiles = [Tile("test accuracy", f"{result['test_accuracy']:.2%}")]
  if "validation_accuracy" in result:
    tiles.append(Tile("validation accuracy", f"{result['validation_accuracy']:.2%}"))
  rate = result["step"] * run.config.batch_size / max(result["train_seconds"], 1e-9)
  return [
    *tiles,
    Tile("test loss", f"{result['test_loss']:.4f}", "nats, without label smoothing"),
    Tile("parameters", f"{int(result['parameters']):,}"),
    Tile("training steps", f"{result['train_seconds']:.1f} s", f"{rate:,.0f} examples a second"),
  ]


def _prediction_sections(
  name: str, predictions: Predictions, test_images: np.ndarray | str, output: Path
) -> list[str]:
  labels, probabilities, names = predictions
  predicted = probabilities.argmax(axis=1)
  classes = len(names)
  confusion = np.bincount(labels * classes + predicted, minlength=classes**2)
  confusion = confusion.reshape(classes, classes)
  matrix = figures.confusion_matrix(confusion, label_names=names, title=f"{name}: test examples")
  bins = reliability(probabilities, labels)
  diagram = figures.reliability_diagram(bins, title=f"{name}: test examples")
  mistakes = np.flatnonzero(predicted != labels)
  mistakes = mistakes[np.argsort(-probabilities[mistakes].max(axis=1), kind="stable")]
  return [
    page.section(
      "Confusion", drawn(matrix, output / "confusion_matrix.png", "Confusion matrix")
    ),
    page.section(
      "Mistakes", *_mistakes(name, predictions, mistakes, test_images, output)
    ),
    page.section(
      "Calibration",
      page.paragraph(
        "Whether a prediction made with a probability of 80% is right in 80 of 100 cases. The "
        "expected calibration error is the mean distance of accuracy from confidence, over 15 bins "
        "of equal width, weighted by their counts (Guo et al. 2017, arXiv:1706.04599)."
      ),
      drawn(diagram, output / "reliability_diagram.png", "Reliability diagram"),
    ),
  ]  # fmt: skip


def _mistakes(
  name: str,
  predictions: Predictions,
  mistakes: np.ndarray,
  test_images: np.ndarray | str,
  output: Path,
) -> list[str]:
  """Returns the pictures and the list of the mistakes, given by index, the most confident first."""
  labels, probabilities, names = predictions
  rows: list[list[Any]] = [
    [
      int(index),
      names[labels[index]],
      names[probabilities[index].argmax()],
      float(probabilities[index].max()),
      float(probabilities[index, labels[index]]),
    ]
    for index in mistakes
  ]
  header = ["test example", "true label", "predicted", "its probability", "that of the true label"]
  _write_csv(output / "mistakes.csv", header, rows)
  if not rows:
    return [page.paragraph("None: every test example was predicted rightly.")]
  shown = mistakes[:_SHOWN_MISTAKES]
  listed = Table(
    header,
    [[str(row[0]), *row[1:3], f"{row[3]:.1%}", f"{row[4]:.2g}"] for row in rows[: len(shown)]],
    texts=3,
  )
  if isinstance(test_images, str):
    pictures = page.note(f"Their pictures are left out: {test_images}.")
  else:
    grid = figures.prediction_grid(
      test_images[shown], labels[shown], probabilities[shown], label_names=names,
      title=f"{name}: the {len(shown)} most confident of {len(mistakes):,} mistakes",
    )  # fmt: skip
    pictures = drawn(grid, output / "mistakes.png", "The most confident mistakes")
  return [pictures, page.folded(f"The first {len(shown)} in a table", listed.to_html())]


def _settings_section(config: Config) -> str:
  texts, defaults = config.to_texts(), Config().to_texts()
  del texts["workdir"]
  changed = {name: text for name, text in texts.items() if text != defaults[name]}
  return page.section(
    "Settings",
    page.note("Those other than the default:"),
    _settings_table(changed),
    page.folded("All settings", _settings_table(texts)),
  )


def _settings_table(texts: Mapping[str, str]) -> str:
  return Table(["", ""], [[name, text or "(empty)"] for name, text in texts.items()], 2).to_html()


def _environment_section(run: Run) -> str:
  try:
    environment = run.workdir.read_environment()
  except UserError as error:
    return page.section("Environment", page.note(str(error)))
  rows = [
    [name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)]
    for name, value in environment.items()
    if name != "command"
  ]
  command = environment.get("command", [])
  return page.section(
    "Environment",
    Table(["", ""], rows, 2).to_html(),
    page.code(" ".join(map(str, command)) if isinstance(command, list) else str(command)),
  )


# ---- Many runs ----


def report_runs(
  groups: Sequence[Group],
  set_aside: Sequence[SetAside],
  output: Path,
  *,
  title: str = "",
  first_parts: Sequence[str] = (),
  last_parts: Sequence[str] = (),
) -> tuple[Path, Table]:
  """Writes the page of several runs, with `configs.csv`, `runs.csv`, `table.md` and pictures.

  Args:
    groups: from `runs.group`; one at least.
    set_aside: what is listed as giving no figures.
    output: the directory to write into, made where it is missing.
    title: of the page; empty: what is compared.
    first_parts: HTML that stands before the table.
    last_parts: HTML that stands at the end.

  Returns:
    The page, and the table of the configs from the best to the worst.

  Raises:
    UserError: a file can't be written.
  """
  _make(output)
  rows = comparison.compare(groups)
  table = comparison_table(rows)
  num_runs = sum(len(group.runs) for group in groups)
  datasets = sorted({run.config.dataset for group in groups for run in group.runs})
  counted = f"{_counted(len(rows), 'config')}, {_counted(num_runs, 'run')}"
  title = title or f"{_counted(len(rows), 'config')} on {' and '.join(datasets)}"
  compared = [_compared(row) for row in rows[:_PICTURED_CONFIGS]]
  best = f": the best {len(compared)}" if len(compared) < len(rows) else ""
  accuracies = figures.compared_accuracies(compared, title=f"Test accuracy of every seed{best}")
  curves = figures.compared_curves(compared, title=f"Training loss and validation error{best}")
  _write_csvs(rows, output)
  _write_text(output / "table.md", table.to_markdown())
  parts = [
    *first_parts,
    page.section(
      "Configs, best to worst",
      table.to_html(),
      *(page.note(text) for text in _table_notes(rows, datasets)),
      drawn(accuracies, output / "accuracies.png", "Test accuracy of every config and seed"),
    ),
    page.section("Curves", drawn(curves, output / "curves.png", "Curves of the configs")),
    page.section("Runs", _runs_table(rows), _common_settings(groups)),
  ]
  if set_aside:
    listed = Table(
      ["directory", "", "reason"], [[str(a.path), a.kind, a.reason] for a in set_aside], texts=3
    )
    parts.append(page.section("Left out", listed.to_html()))
  lead = f"{counted} · {_machines(groups)}"
  path = _write(output, page.page(title, lead, *parts, *last_parts))
  return path, table


def comparison_table(rows: Sequence[Row]) -> Table:
  """Returns the table of the configs, from the best to the worst."""
  settings = list(rows[0].group.settings)
  validated = any(row.validation for row in rows)
  several = len(rows) > 1
  tested = any(row.adjusted_p_value is not None for row in rows)
  header = [
    *(settings or ["config"]), "seeds", *(["validation"] if validated else []),
    "test", "95% interval", "parameters", "training", *(["difference"] if several else []),
    *(["p"] if tested else []),
  ]  # fmt: skip
  cells = [
    [
      *([value or "none" for value in row.group.settings.values()] or [row.group.name]),
      str(row.test.num_seeds),
      *([_mean(row.validation)] if validated else []),
      _mean(row.test),
      _interval(row.test.interval),
      f"{row.parameters:,}",
      f"{row.train_seconds:.1f} s",
      *([_difference(row)] if several else []),
      *([_p_value(row)] if tested else []),
    ]
    for row in rows
  ]
  return Table(header, cells, texts=len(settings) or 1, strong=frozenset({0} if several else ()))


def _mean(summary: Summary | None) -> str:
  if summary is None:
    return "-"
  deviation = f" ± {100 * summary.deviation:.2f}" if summary.deviation is not None else ""
  return f"{100 * summary.mean:.2f}{deviation}%"


def _interval(interval: tuple[float, float] | None) -> str:
  return f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}%" if interval else "-"


def _difference(row: Row) -> str:
  if row.against_first is None:
    return ""
  difference = row.against_first.difference
  return "-" if math.isnan(difference) else f"{100 * difference:+.2f}%"


def _p_value(row: Row) -> str:
  if row.against_first is None:
    return ""
  return "-" if row.adjusted_p_value is None else f"{row.adjusted_p_value:.2g}"


def _table_notes(rows: Sequence[Row], datasets: Sequence[str]) -> list[str]:
  """Says how the table is to be read, and what it can't say."""
  ranked = comparison.ranked_by([row.group for row in rows])
  texts = [
    f"Accuracies, ordered by mean {ranked} accuracy"
    + (", never by test" if ranked == "validation" else "; to choose by it would be to choose on "
       "the test set")
    + ". ± is the standard deviation over seeds; the interval is that of the mean, by Student's t: "
    "it tells of other seeds, not of other test examples. Training is the median of the seconds "
    "spent in steps. The difference is that of the test accuracy from the first row's."
  ]  # fmt: skip
  tests = [row.against_first for row in rows[1:] if row.against_first]
  applicable = [test for test in tests if test.p_value is not None]
  if applicable:
    adjusted = f", adjusted for {len(applicable)} tests (Holm 1979)" if len(applicable) > 1 else ""
    texts.append(
      "p: two-sided paired t-test (scipy.stats.ttest_rel) of the test accuracies of the seeds that "
      f"a config shares with the first row{adjusted}."
    )
  reasons = sorted({test.reason for test in tests if test.reason})
  if reasons:
    where = "Where p is -, the test does not apply" if applicable else "No test of the differences"
    texts.append(f"{where}: {'; '.join(reasons)}.")
  if len(datasets) > 1:
    texts.append("The configs were tested on different datasets: their accuracies don't compare.")
  return texts


def _compared(row: Row) -> figures.Compared:
  return figures.Compared(
    name=row.group.name,
    test=list(row.group.values("test_accuracy").values()),
    interval=row.test.interval,
    validation=row.validation.mean if row.validation else None,
    losses=[_series(run, "train", "loss") for run in row.group.runs if _has(run, "train")],
    errors=[
      _series(run, "validation", "accuracy") for run in row.group.runs if _has(run, "validation")
    ],
  )


def _has(run: Run, split: str) -> bool:
  return any(record["split"] == split for record in run.metrics)


def _series(run: Run, split: str, key: str) -> tuple[np.ndarray, np.ndarray]:
  """Returns epochs and values of a run; an accuracy as an error rate in percent."""
  assert run.result is not None
  records = [r for r in run.metrics if r["split"] == split]
  steps = np.array([record["step"] for record in records], np.float64)
  values = np.array([record.get(key, math.nan) for record in records], np.float64)
  epochs = steps * run.config.batch_size / run.result["train_examples"]
  return epochs, 100 * (1 - values) if key == "accuracy" else values


def _runs_table(rows: Sequence[Row]) -> str:
  header = ["workdir", "config", "seed", "test accuracy", "test loss", "training"]
  cells = [
    [
      str(run.path), row.group.name, str(run.config.seed), f"{run.result['test_accuracy']:.2%}",
      f"{run.result['test_loss']:.4f}", f"{run.result['train_seconds']:.1f} s",
    ]
    for row in rows
    for run in row.group.runs
    if run.result is not None
  ]  # fmt: skip
  return page.folded(_counted(len(cells), "run"), Table(header, cells, texts=2).to_html())


def _common_settings(groups: Sequence[Group]) -> str:
  texts = groups[0].runs[0].config.to_texts()
  differing = {"seed", "workdir", *groups[0].settings}
  common = {name: text for name, text in texts.items() if name not in differing}
  return page.folded("Settings that all share", _settings_table(common))


def _machines(groups: Sequence[Group]) -> str:
  """Names the processor of the runs, or says that times don't compare."""
  found = set()
  for run in (run for group in groups for run in group.runs):
    try:
      environment = run.workdir.read_environment()
    except UserError:
      continue
    found.add((environment.get("processor"), environment.get("tensorflow")))
  if len(found) == 1:
    processor, version = found.pop()
    return f"{processor}, TensorFlow {version}"
  return f"{len(found)} different machines or versions of TensorFlow: times don't compare"


def _write_csvs(rows: Sequence[Row], output: Path) -> None:
  settings = list(rows[0].group.settings)
  _write_csv(
    output / "configs.csv",
    [
      *settings, "seeds", "validation_accuracy_mean", "validation_accuracy_std",
      "test_accuracy_mean", "test_accuracy_std", "test_accuracy_low", "test_accuracy_high",
      "parameters", "train_seconds_median", "difference", "p_value", "p_value_holm",
    ],
    [
      [
        *row.group.settings.values(), row.test.num_seeds,
        *((row.validation.mean, row.validation.deviation) if row.validation else (None, None)),
        row.test.mean, row.test.deviation, *(row.test.interval or (None, None)), row.parameters,
        row.train_seconds,
        *((row.against_first.difference, row.against_first.p_value) if row.against_first else
          (None, None)),
        row.adjusted_p_value,
      ]
      for row in rows
    ],
  )  # fmt: skip
  names = [field.name for field in dataclasses.fields(Config)]
  results = [(run, run.result) for row in rows for run in row.group.runs if run.result is not None]
  keys = list(dict.fromkeys(key for _, result in results for key in result if key not in names))
  _write_csv(
    output / "runs.csv",
    [*names, *keys],
    [
      [*{**run.config.to_texts(), "workdir": str(run.path)}.values(), *map(result.get, keys)]
      for run, result in results
    ],
  )


# ---- Files ----


def _counted(number: int, thing: str) -> str:
  return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _make(directory: Path) -> None:
  with writing(directory):
    directory.mkdir(parents=True, exist_ok=True)


def drawn(figure: figures.Figure, path: Path, description: str) -> str:
  """Saves a picture, and returns it as a part of a page."""
  with writing(path):
    figures.save(figure, path)
  return page.picture(path, description)


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
  text = io.StringIO()
  csv.writer(text, lineterminator="\n").writerows([header, *rows])
  _write_text(path, text.getvalue())


def _write_text(path: Path, text: str) -> None:
  write_atomically(path, text)


def _write(output: Path, content: str) -> Path:
  path = output / REPORT_NAME
  write_atomically(path, content)
  return path
