"""Pictures for TensorBoard's cards, about 320 x 210 pixels: few examples, large letters."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mnist_research.figures.canvas import DPI, INK, MUTED, POINTS_PER_INCH, RULE, fitted, new_figure
from mnist_research.figures.confusion import ERROR_COLORS, NEUTRAL
from mnist_research.figures.grids import (
  MARK_FONT,
  checked_pictures,
  prediction_captions,
  prediction_color,
)

# In pixels, twice the size of a card.
WIDTH, HEIGHT = 640, 420
# 12 pixels on the card.
POINTS = 24 * POINTS_PER_INCH / DPI
COLUMNS, ROWS = 4, 2
# More class names don't fit.
MOST_CLASSES = 12
_SIDE = 140  # The side of a picture, in pixels.
_LINE = 28


def example_card(images: np.ndarray, labels: np.ndarray, *, label_names: Sequence[str]) -> Figure:
  """Draws the first eight pictures with their labels; takes the arguments of `example_grid`."""
  pixels, labels = checked_pictures(images, labels, label_names)
  return _card(pixels, [[(label_names[label], INK)] for label in labels[: COLUMNS * ROWS]])


def prediction_card(
  images: np.ndarray,
  labels: np.ndarray,
  probabilities: np.ndarray,
  *,
  label_names: Sequence[str],
) -> Figure:
  """Draws the first eight pictures with predictions; takes the arguments of `prediction_grid`."""
  pixels, labels = checked_pictures(images, labels, label_names)
  captions = prediction_captions(labels, probabilities[: len(labels)], label_names)
  correct = probabilities[: len(labels)].argmax(axis=1) == labels
  return _card(pixels, captions[: COLUMNS * ROWS], [prediction_color(bool(r)) for r in correct])


def _card(
  pixels: np.ndarray,
  captions: Sequence[Sequence[tuple[str, str]]],
  frames: Sequence[str] | None = None,
) -> Figure:
  figure = new_figure(WIDTH / DPI, HEIGHT / DPI)
  across, down = WIDTH / COLUMNS, HEIGHT / ROWS
  for index, caption in enumerate(captions):
    left = index % COLUMNS * across + (across - _SIDE) / 2
    top = HEIGHT - index // COLUMNS * down - 4
    axes = figure.add_axes((left / WIDTH, (top - _SIDE) / HEIGHT, _SIDE / WIDTH, _SIDE / HEIGHT))
    axes.imshow(pixels[index], interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(color=frames[index] if frames else RULE, linewidth=3 if frames else 1)
    for number, (line, color) in enumerate(caption, start=1):
      text, size = fitted(line, across * POINTS_PER_INCH / DPI, POINTS)
      figure.text(
        (left + _SIDE / 2) / WIDTH, (top - _SIDE - number * _LINE + 4) / HEIGHT, text,
        color=color, fontsize=size, ha="center", family=MARK_FONT, parse_math=False,
      )  # fmt: skip
  return figure


def confusion_card(matrix: np.ndarray, *, label_names: Sequence[str]) -> Figure:
  """Draws a confusion matrix with few classes.

  Args:
    matrix: int [C, C], with true labels as rows and predicted labels as columns; C is at most 12.
    label_names: C names.

  Raises:
    ValueError: there are more classes.
  """
  classes = len(matrix)
  if classes > MOST_CLASSES:
    raise ValueError(f"{classes} classes, but at most {MOST_CLASSES} fit")
  figure = new_figure(WIDTH / DPI, HEIGHT / DPI)
  side, left, bottom = 372, 44, 40
  axes = figure.add_axes((left / WIDTH, bottom / HEIGHT, side / WIDTH, side / HEIGHT))
  errors = matrix.copy()
  np.fill_diagonal(errors, 0)
  shades = np.where(errors > 0, 0.15 + 0.85 * np.sqrt(errors / max(10, int(errors.max()))), 0)
  colors = ERROR_COLORS(np.minimum(shades, 1))
  colors[errors == 0] = 1
  axes.imshow(colors, interpolation="nearest")
  for index in range(classes):
    axes.add_patch(_cell(index))
  names = [name if len(name) <= 2 else f"{name[:1]}…" for name in label_names]
  axes.set_xticks(range(classes), names, fontsize=POINTS, color=INK)
  axes.set_yticks(range(classes), names, fontsize=POINTS, color=INK)
  axes.tick_params(length=0, pad=2)
  axes.spines[:].set_color(RULE)
  for row, column in np.argwhere(errors):
    color = "white" if shades[row, column] > 0.6 else INK
    text, size = fitted(str(errors[row, column]), side / classes * POINTS_PER_INCH / DPI, POINTS)
    axes.text(column, row, text, color=color, fontsize=size, ha="center", va="center_baseline")
  total, correct = int(matrix.sum()), int(matrix.trace())
  lines = [
    (f"{correct / total:.2%}" if total else "-", INK, "bold"),
    (f"{total - correct:,} errors", INK, "normal"),
    ("rows: true", MUTED, "normal"),
    ("columns: read as", MUTED, "normal"),
  ]
  for number, (text, color, weight) in enumerate(lines):
    shown, size = fitted(text, 205 * POINTS_PER_INCH / DPI, POINTS)
    figure.text(
      430 / WIDTH, 1 - (60 + 44 * number) / HEIGHT, shown, color=color, weight=weight,
      fontsize=size,
    )  # fmt: skip
  return figure


def _cell(index: int) -> Rectangle:
  return Rectangle((index - 0.5, index - 0.5), 1, 1, facecolor=NEUTRAL, edgecolor="none")
