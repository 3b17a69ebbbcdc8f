"""What several networks together still get wrong, and which of the labels are suspect.

The mean of the networks' probabilities predicts. A label is suspect where every network predicts
the same other class, together with a probability of 90% or more. No network was trained on the test
examples, so none has learned a wrong label of them by heart. (The rule of confident learning,
arXiv:1911.00068, asks for more than networks as sure as these ever give.)
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
# The least probability, for all networks together, of what a label is doubted for.
_SUSPECT = 0.9


class Remaining(NamedTuple):
  """What is wrong together, the most confident first.

  Attributes:
    indices: int [M], of the test examples.
    suspect: bool [M], whether the label is.
    votes: int [M], how many networks predict what all predict together.
    labels: int32 [N], of all test examples.
    probabilities: float64 [N, C], the mean of the networks'.
    label_names: C names.
    networks: how many they are.
  """

  indices: np.ndarray
  suspect: np.ndarray
  votes: np.ndarray
  labels: np.ndarray
  probabilities: np.ndarray
  label_names: tuple[str, ...]
  networks: int


def find(runs: Sequence[Run]) -> Remaining | None:
  """Returns what runs that were tested on the same examples get wrong together.

  Returns:
    None where fewer than two runs were tested on the same examples as the first.

  Raises:
    UserError: a file of predictions is damaged.
  """
  found = [predictions for run in runs if (predictions := run.workdir.read_predictions())]
  same = [
    each
    for each in found
    if each.label_names == found[0].label_names and np.array_equal(each.labels, found[0].labels)
  ]
  if len(same) < 2:
    return None
  labels, names = same[0].labels, same[0].label_names
  stacked = np.stack([each.probabilities.astype(np.float64) for each in same])
  mean: np.ndarray = stacked.mean(axis=0)
  predicted = mean.argmax(axis=1)
  wrong = np.flatnonzero(predicted != labels)
  wrong = wrong[np.argsort(-mean[wrong].max(axis=1), kind="stable")]
  guesses = predicted[wrong]
  single = stacked[:, wrong].argmax(axis=2)
  votes = (single == guesses).sum(axis=0)
  suspect = (votes == len(same)) & (mean[wrong, guesses] >= _SUSPECT)
  return Remaining(wrong, suspect, votes, labels, mean, names, len(same))


def write_page(remaining: Remaining, images: np.ndarray | str, output: Path) -> Path:
  """Writes the page, `remaining.csv`, and a picture where there are images.

  Args:
    remaining: from `find`.
    images: uint8 [N, height, width, channels], the test examples; or why there are none.
    output: the directory of the report.

  Raises:
    UserError: a file can't be written.
  """
  make_directory(output)
  count = len(remaining.labels)
  header = [
    "test example", "label", "predicted", "its probability", "that of the label", "networks for it",
    "label",
  ]  # fmt: skip
  known = {} if isinstance(images, str) else known_errors.find(images)
  rows = _rows(remaining, known)
  write_csv(output / "remaining.csv", [*header[:-1], "suspect", "known error"], rows)
  wrong, suspects = len(rows), int(remaining.suspect.sum())
  lead = (
    f"{remaining.networks} networks together, by the mean of their probabilities: {wrong:,} of "
    f"{count:,} test examples are wrong, {100 * wrong / count:.2f}%"
  )
  parts = [
    html.section(
      "Suspect labels",
      html.paragraph(
        f"{suspects:,} of these labels are suspect: every network gives the same other class, and "
        f"their mean gives it {_SUSPECT:.0%} or more. Some are wrong labels, some are digits that "
        "only look like another. Look before you trust the last hundredths of a percent; nothing "
        "is corrected here."
      ),
      *_known_part(remaining, known),
      _pictures(remaining, remaining.suspect, images, output / "suspect_labels.png"),
    ),
    html.section(
      "The other mistakes",
      _pictures(remaining, ~remaining.suspect, images, output / "remaining.png"),
    ),
  ]
  if rows:
    cells = [
      [
        str(r[0]), r[1], r[2], f"{r[3]:.1%}", f"{r[4]:.2g}", f"{r[5]} of {remaining.networks}",
        ", ".join(filter(None, r[6:])),
      ]
      for r in rows[:_LISTED]
    ]  # fmt: skip
    listed = Table(header, cells, texts=3, last_texts=1).to_html()
    parts.append(html.section(f"The first {len(cells)} of {wrong:,}, most confident first", listed))
  path = output / PAGE
  write_atomically(path, html.page("What remains wrong", lead, *parts))
  return path


def _rows(remaining: Remaining, known: Mapping[int, int]) -> list[list[Any]]:
  """Returns the row of each mistake; its last column names a known label error."""
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
  """Returns what is said of the labels that people found to be wrong, where any are known."""
  if not known:
    return []
  wrong = [int(index) for index in remaining.indices if int(index) in known]
  suspect = [int(index) for index in remaining.indices[remaining.suspect] if int(index) in known]
  text = (
    f"As a check: most people who looked at the digits for Northcutt et al. 2021 "
    f"(arXiv:2103.14749) didn't agree with {len(known)} labels of MNIST. The networks get "
    f"{len(wrong)} of these wrong, and {len(suspect)} are among the suspect ones."
  )
  return [html.paragraph(text)]


def _pictures(
  remaining: Remaining, chosen: np.ndarray, images: np.ndarray | str, path: Path
) -> str:
  indices = remaining.indices[chosen]
  if not len(indices):
    return html.note("None.")
  if isinstance(images, str):
    return html.note(f"Their pictures are left out: {images}.")
  shown = indices[:_PICTURED]
  grid = figures.prediction_grid(
    images[shown], remaining.labels[shown], remaining.probabilities[shown],
    label_names=remaining.label_names,
    title=f"The {len(shown)} most confident of {len(indices):,}",
  )  # fmt: skip
  names = remaining.label_names
  told = [
    f"{names[remaining.labels[i]]} read as {names[remaining.probabilities[i].argmax()]}"
    for i in shown[:5]
  ]
  rest = f", and {len(shown) - 5} more" if len(shown) > 5 else ""
  return drawn(grid, path, f"Test examples, by label and reading: {', '.join(told)}{rest}")
