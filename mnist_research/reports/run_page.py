"""Writes the page on a run: figures, curves, confusion, mistakes, calibration and settings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mnist_research import figures, protocol
from mnist_research.config import Config
from mnist_research.metrics.calibration import reliability
from mnist_research.metrics.evaluation import confusion_matrix, wilson_interval
from mnist_research.metrics.mistakes import confident_mistakes
from mnist_research.reports import html
from mnist_research.reports.html import Tile
from mnist_research.reports.output import charted, drawn, make_directory, write_page
from mnist_research.reports.runs import Run
from mnist_research.reports.tables import Table, settings_table, write_csv
from mnist_research.run_files import CORRUPTION_MODES, Predictions
from mnist_research.runtime import user_data
from mnist_research.runtime.errors import UserError

_SHOWN_MISTAKES = 40


def write_run_page(run: Run, test_images: np.ndarray | str, output: Path) -> Path:
  """Writes the page on a run, with its pictures as PNG files next to it.

  Args:
    run: the run, finished or not.
    test_images: the test images, uint8 [N, height, width, channels], or the reason why they are
      missing.
    output: the directory to write to, created if missing.

  Returns:
    The path of the page.

  Raises:
    UserError: a file can't be read or written.
  """
  make_directory(output)
  name = f"{run.config.model.model} on {user_data.short_name(run.config.data.dataset)}"
  predictions = run.workdir.read_predictions()
  parts = [html.tiles(*_tiles(run, predictions))]
  if run.result is None:
    parts.append(
      html.paragraph(f"This run is not finished: its last recorded step is {run.last_step:,}.")
    )
  curves = figures.training_curves(run.metrics, title=name)
  parts.append(
    html.section("Curves", charted(curves, output / "curves.png", _describe_curves(run.metrics)))
  )
  if run.result is not None and not run.metrics:
    parts.append(html.note("metrics.jsonl is missing or empty, so there are no curves."))
  if not figures.has_comparable_losses(run.metrics) and run.config.optimization.label_smoothing:
    parts.append(html.note("Only the training loss includes label smoothing."))
  if predictions is not None:
    parts += _prediction_sections(name, predictions, test_images, output)
  elif run.result is not None and "test_accuracy" not in run.result:
    parts.append(html.note("This run didn't score the test split: --score_test=false."))
  elif run.result is not None:
    parts.append(html.note("This run has no predictions-test.npz, so its mistakes are unknown."))
  parts += _corruptions_section(run)
  parts += [_settings_section(run.config), _environment_section(run)]
  return write_page(output, html.page(name, f"{run.path} · seed {run.config.run.seed}", *parts))


def _describe_curves(metrics: Sequence[Mapping[str, Any]]) -> str:
  """Describes the curves, for screen readers."""
  last = {record["split"]: record for record in metrics if "accuracy" in record}
  ends = [f"{split} {record['accuracy']:.2%}" for split, record in last.items()]
  accuracies = f"; accuracy at the end: {', '.join(ends)}" if ends else ""
  return f"Loss, error rate and learning rate by step{accuracies}"


def _describe_confusion(confusion: np.ndarray, names: Sequence[str]) -> str:
  mistakes = confusion - np.diag(confusion.diagonal())
  total, wrong = int(confusion.sum()), int(mistakes.sum())
  text = f"Confusion matrix: {wrong:,} of {total:,} test examples are off the diagonal"
  if not wrong:
    return text
  true, predicted = divmod(int(mistakes.argmax()), len(names))
  most = f"{names[true]} predicted as {names[predicted]}, {mistakes.max():,} times"
  return f"{text}; the most frequent mistake is {most}"


def _describe_mistakes(rows: Sequence[Sequence[Any]]) -> str:
  listed = [
    f"{true} predicted as {predicted} with {share:.0%}" for _, true, predicted, share, _ in rows[:5]
  ]
  more = f", and {len(rows) - 5} more" if len(rows) > 5 else ""
  return f"The most confident mistakes: {', '.join(listed)}{more}"


def _tiles(run: Run, predictions: Predictions | None) -> list[Tile]:
  if run.result is None:
    return []
  result = run.result
  tiles = []
  if predictions is not None:
    bins = reliability(predictions.probabilities, predictions.labels)
    count = len(predictions.labels)
    correct = int(np.trace(confusion_matrix(predictions.probabilities, predictions.labels)))
    low, high = wilson_interval(np.array(correct), np.array(count))
    tiles = [
      Tile(
        "test accuracy", f"{correct / count:.2%}",
        f"{low:.2%} to {high:.2%}: 95% interval for {count:,} test examples (Wilson)",
      ),
      Tile("errors", f"{count - correct:,}", f"of {count:,}"),
      Tile(
        "calibration error",
        f"{bins.expected_calibration_error:.2%}",
        "expected, 15 bins",
      ),
    ]  # fmt: skip
  elif "test_accuracy" in result:
    tiles = [Tile("test accuracy", f"{result['test_accuracy']:.2%}")]
  if "validation_accuracy" in result:
    tiles.append(Tile("validation accuracy", f"{result['validation_accuracy']:.2%}"))
  rate = result["step"] * run.config.optimization.batch_size / max(result["train_seconds"], 1e-9)
  split = "test" if "test_loss" in result else "validation"
  return [
    *tiles,
    Tile(f"{split} loss", f"{result[f'{split}_loss']:.4f}", "nats, without label smoothing"),
    *_other_metrics(result),
    _test_scored(run),
    Tile("parameters", f"{int(result['parameters']):,}"),
    Tile("training steps", f"{result['train_seconds']:.1f} s", f"{rate:,.0f} examples per second"),
  ]


def _test_scored(run: Run) -> Tile:
  """Returns how often the test split was scored, or the reason why that can't be read."""
  name, note = "test scored", "times, by train and evaluate: test_scores.jsonl"
  try:
    protocol.read_test_scorings(run.path)
  except UserError as error:
    note = str(error)
  return Tile(name, run.test_scorings, note)


def _other_metrics(result: Mapping[str, Any]) -> list[Tile]:
  """Returns a tile for each remaining metric of the test split."""
  shown = ("test_accuracy", "test_loss")
  return [
    Tile(name.replace("_", " "), f"{value:.4f}")
    for name, value in result.items()
    if name.startswith("test_") and name not in shown and isinstance(value, float)
  ]


def _prediction_sections(
  name: str, predictions: Predictions, test_images: np.ndarray | str, output: Path
) -> list[str]:
  labels, probabilities, names = predictions
  confusion = confusion_matrix(probabilities, labels)
  matrix = figures.confusion_matrix(confusion, label_names=names, title=f"{name}: test examples")
  bins = reliability(probabilities, labels)
  diagram = figures.reliability_diagram(bins, title=f"{name}: test examples")
  mistakes = confident_mistakes(probabilities, labels)
  return [
    html.section(
      "Confusion",
      drawn(matrix, output / "confusion_matrix.png", _describe_confusion(confusion, names)),
    ),
    html.section(
      "Mistakes", *_mistakes(name, predictions, mistakes, test_images, output)
    ),
    html.section(
      "Calibration",
      html.paragraph(
        "Is a prediction with a probability of 80% correct in 80 of 100 cases? The "
        "expected calibration error is the mean distance of accuracy from confidence, over 15 bins "
        "of equal width, weighted by their counts (Guo et al. 2017, arXiv:1706.04599)."
      ),
      charted(
        diagram, output / "reliability_diagram.png", "Accuracy by confidence, in 15 bins: the "
        f"expected calibration error is {bins.expected_calibration_error:.2%}",
      ),
    ),
  ]  # fmt: skip


def _mistakes(
  name: str,
  predictions: Predictions,
  mistakes: np.ndarray,
  test_images: np.ndarray | str,
  output: Path,
) -> list[str]:
  """Returns pictures and a table of the mistakes, given by index, most confident first."""
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
  write_csv(output / "mistakes.csv", header, rows)
  if not rows:
    return [html.paragraph("None: every test example was predicted correctly.")]
  shown = mistakes[:_SHOWN_MISTAKES]
  listed = Table(
    header,
    [[str(row[0]), *row[1:3], f"{row[3]:.1%}", f"{row[4]:.2g}"] for row in rows[: len(shown)]],
    texts=3,
  )
  if isinstance(test_images, str):
    pictures = html.note(f"Pictures are missing: {test_images}.")
  else:
    grid = figures.prediction_grid(
      test_images[shown], labels[shown], probabilities[shown], label_names=names,
      title=f"{name}: "
      + figures.selection_title(len(shown), len(mistakes), "most confident", "mistakes"),
    )  # fmt: skip
    pictures = drawn(grid, output / "mistakes.png", _describe_mistakes(rows[: len(shown)]))
  return [pictures, html.folded(f"The first {len(shown)} in a table", listed.to_html())]


def _corruptions_section(run: Run) -> list[str]:
  """Returns the errors on corrupted test examples, if `evaluate --corruptions` was run."""
  stored = run.workdir.read_corruptions()
  if stored is None or stored["step"] != run.workdir.tested_step():
    return []
  by_mode = {mode: stored[mode] for mode in CORRUPTION_MODES if mode in stored}
  columns = {
    f"{title}, {mode}": {"mean of all": record[name]} | record[f"{name}_per_kind"]
    for title, name in (("error", "error"), ("calibration error", "calibration_error"))
    for mode, record in by_mode.items()
  }
  kinds = dict.fromkeys(kind for column in columns.values() for kind in column)
  rows = [
    [
      kind.replace("_", " "),
      *(f"{column[kind]:.2%}" if kind in column else "-" for column in columns.values()),
    ]
    for kind in kinds
  ]
  return [
    html.section(
      "Corruptions",
      html.paragraph(
        f"The test examples of {stored['dataset']} under the corruptions of MNIST-C (Mu and Gilmer "
        "2019, arXiv:1906.02337): raw, or prepared as users' pictures are."
      ),
      Table(["corruption", *columns], rows, texts=1, strong=frozenset([0])).to_html(),
    )
  ]


def _settings_section(config: Config) -> str:
  texts, defaults = config.to_texts(), Config().to_texts()
  del texts["workdir"]
  changed = {name: text for name, text in texts.items() if text != defaults[name]}
  return html.section(
    "Settings",
    html.note("Settings that differ from the defaults:"),
    settings_table(changed).to_html(),
    html.folded("All settings", settings_table(texts).to_html()),
  )


def _environment_section(run: Run) -> str:
  try:
    environment = run.workdir.read_environment()
  except UserError as error:
    return html.section("Environment", html.note(str(error)))
  rows = [
    [name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)]
    for name, value in environment.items()
    if name != "command"
  ]
  command = environment.get("command", [])
  return html.section(
    "Environment",
    Table(["", ""], rows, 2).to_html(),
    html.code(" ".join(map(str, command)) if isinstance(command, list) else str(command)),
  )
