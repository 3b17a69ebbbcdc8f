"""The errors that remain in the joint predictions of several models, and suspect labels.

The joint prediction is the mean of the models' probabilities. A label is suspect if every model
predicts the same other class, with a mean probability of 90% or more. The models weren't trained on
the test examples, so none has memorized a wrong label. (The rule of confident learning,
arXiv:1911.00068, is meant for less confident models.)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mnist_research import figures
from mnist_research.reports import html, known_errors
from mnist_research.reports.output import drawn, make_directory
from mnist_research.reports.runs import Run
from mnist_research.reports.tables import Table, write_csv
from mnist_research.runtime.files import write_atomically

PAGE = "remaining.html"
_PICTURED = 40
_LISTED = 200
# The lowest mean probability of another class that makes a label suspect.
_SUSPECT = 0.9


class Remaining(NamedTuple):
  """The joint errors of several models, most confident first.

  Attributes:
    indices: int [M], the test examples with a wrong joint prediction.
    suspect: bool [M], whether the label is suspect.
    votes: int [M], the number of models that agree with the joint prediction.
    labels: int32 [N], the labels of all test examples.
    probabilities: float64 [N, C], the mean of the models' probabilities.
    label_names: the C names of the classes.
    models: the number of models.
  """

  indices: np.ndarray
  suspect: np.ndarray
  votes: np.ndarray
  labels: np.ndarray
  probabilities: np.ndarray
  label_names: tuple[str, ...]
  models: int


def find(runs: Sequence[Run]) -> Remaining | None:
  """Finds the joint errors of the runs that were tested on the same examples as the first run.

  Args:
    runs: the runs; runs without predictions are ignored.

  Returns:
    The errors, or None if fewer than two runs were tested on the same examples.

  Raises:
    UserError: a predictions file is corrupt.
  """
  all_predictions = [predictions for run in runs if (predictions := run.workdir.read_predictions())]
  comparable = [
    predictions
    for predictions in all_predictions
    if predictions.label_names == all_predictions[0].label_names
    and np.array_equal(predictions.labels, all_predictions[0].labels)
  ]
  if len(comparable) < 2:
    return None
  labels, names = comparable[0].labels, comparable[0].label_names
  stacked = np.stack([predictions.probabilities.astype(np.float64) for predictions in comparable])
  mean: np.ndarray = stacked.mean(axis=0)
  predicted = mean.argmax(axis=1)
  wrong = np.flatnonzero(predicted != labels)
  wrong = wrong[np.argsort(-mean[wrong].max(axis=1), kind="stable")]
  guesses = predicted[wrong]
  single = stacked[:, wrong].argmax(axis=2)
  votes = (single == guesses).sum(axis=0)
  suspect = (votes == len(comparable)) & (mean[wrong, guesses] >= _SUSPECT)
  return Remaining(wrong, suspect, votes, labels, mean, names, len(comparable))


def write_page(remaining: Remaining, images: np.ndarray | str, output: Path) -> Path:
  """Writes the page, `remaining.csv` and, if there are images, pictures of the errors.

  Args:
    remaining: the result of `find`.
    images: the test images, uint8 [N, height, width, channels]; or the reason why there are none.
    output: the directory of the report.

  Returns:
    The path of the page.

  Raises:
    UserError: a file can't be written.
  """
  make_directory(output)
  count = len(remaining.labels)
  header = [
    "test example", "label", "predicted", "its probability", "label's probability", "votes",
    "status",
  ]  # fmt: skip
  known = {} if isinstance(images, str) else known_errors.find(images)
  rows = _rows(remaining, known)
  write_csv(output / "remaining.csv", [*header[:-1], "suspect", "known error"], rows)
  wrong, suspects = len(rows), int(remaining.suspect.sum())
  lead = (
    f"The mean of {remaining.models} models' probabilities is wrong for {wrong:,} of {count:,} "
    f"test examples, {100 * wrong / count:.2f}%"
  )
  parts = [
    html.section(
      "Suspect labels",
      html.paragraph(
        f"{suspects:,} of these labels are suspect: every model predicts the same other class, "
        f"with a mean probability of {_SUSPECT:.0%} or more. Some labels are wrong; other digits "
        "only look like another class. Check them before you rely on the last hundredths of a "
        "percent; no label is corrected."
      ),
      *_known_part(remaining, known),
      _pictures(remaining, images, output / "suspect_labels.png", suspect=True),
    ),
    html.section(
      "Other errors",
      _pictures(remaining, images, output / "remaining.png", suspect=False),
    ),
  ]
  if rows:
    cells = [
      [
        str(r[0]), r[1], r[2], f"{r[3]:.1%}", f"{r[4]:.2g}", f"{r[5]} of {remaining.models}",
        ", ".join(filter(None, r[6:])),
      ]
      for r in rows[:_LISTED]
    ]  # fmt: skip
    listed = Table(header, cells, texts=3, last_texts=1).to_html()
    parts.append(html.section(f"The first {len(cells)} of {wrong:,}, most confident first", listed))
  path = output / PAGE
  write_atomically(path, html.page("Remaining errors", lead, *parts))
  return path


def _rows(remaining: Remaining, known: Mapping[int, int]) -> list[list[Any]]:
  """Returns a table row for each error; the last column marks known label errors."""
  names = remaining.label_names
  rows: list[list[Any]] = []
  for index, suspect, votes in zip(
    remaining.indices.tolist(), remaining.suspect, remaining.votes, strict=True
  ):
    row, label = remaining.probabilities[index], remaining.labels[index]
    rows.append([
      index, names[label], names[row.argmax()], float(row.max()), float(row[label]), int(votes),
      "suspect" if suspect else "", "known error" if index in known else "",
    ])  # fmt: skip
  return rows


def _known_part(remaining: Remaining, known: Mapping[int, int]) -> list[str]:
  """Returns a paragraph about labels that human annotators found wrong, if any are known."""
  if not known:
    return []
  wrong = [int(index) for index in remaining.indices if int(index) in known]
  suspect = [int(index) for index in remaining.indices[remaining.suspect] if int(index) in known]
  text = (
    f"As a check: for {len(known)} labels of MNIST, most annotators of Northcutt et al. 2021 "
    f"(arXiv:2103.14749) disagreed with the label. The models get {len(wrong)} of these wrong; "
    f"{len(suspect)} of them are suspect here."
  )
  return [html.paragraph(text)]


def _pictures(remaining: Remaining, images: np.ndarray | str, path: Path, *, suspect: bool) -> str:
  indices = remaining.indices[remaining.suspect == suspect]
  if not len(indices):
    return html.note("None.")
  if isinstance(images, str):
    return html.note(f"Pictures omitted: {images}.")
  shown = indices[:_PICTURED]
  grid = figures.prediction_grid(
    images[shown], remaining.labels[shown], remaining.probabilities[shown],
    label_names=remaining.label_names,
    title=figures.selection_title(
      len(shown), len(indices), "most confident", "suspect labels" if suspect else "errors"
    ).capitalize(),
  )  # fmt: skip
  names = remaining.label_names
  listed = [
    f"{names[remaining.labels[i]]} read as {names[remaining.probabilities[i].argmax()]}"
    for i in shown[:5]
  ]
  more = f", and {len(shown) - 5} more" if len(shown) > 5 else ""
  return drawn(grid, path, f"Test examples, by label and reading: {', '.join(listed)}{more}")
