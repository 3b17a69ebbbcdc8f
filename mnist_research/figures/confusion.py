"""The confusion matrix: counts of true versus predicted labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_rgb
from matplotlib.figure import Figure

from mnist_research.figures.canvas import (
  DPI,
  INK,
  MUTED,
  NOTE_POINTS,
  POINTS_PER_INCH,
  RULE,
  SMALLEST_POINTS,
  WRONG_COLOR,
  add_axes,
  add_tooltips,
  new_figure,
  write,
  write_header,
)

NEUTRAL = "#DDE2E8"
ERROR_COLORS = LinearSegmentedColormap.from_list(
  "errors", ["#FFEBDC", "#F9B384", "#E2711D", "#A63C00", "#5E1F00"]
)


def confusion_matrix(matrix: np.ndarray, *, label_names: Sequence[str], title: str) -> Figure:
  """Draws counts of true versus predicted labels, with the accuracy of every class.

  Errors have a separate color scale and the diagonal is gray, so that a few errors are visible next
  to thousands of correct predictions. Empty cells are zero. If cells are too small for numbers, as
  with 62 classes, a color bar replaces the numbers.

  Args:
    matrix: int [C, C], with true labels as rows and predicted labels as columns.
    label_names: C names.
    title: the title of the figure.

  Returns:
    The figure.

  Raises:
    ValueError: the matrix isn't [C, C] for C names, or contains anything but counts.
  """
  matrix = _checked_matrix(matrix, label_names)
  classes = len(matrix)
  side = float(np.clip(0.54 * classes, 3.6, max(7.0, 0.139 * classes)))
  cell_points = side * POINTS_PER_INCH / classes
  name_points = min(11.0, max(SMALLEST_POINTS, 0.72 * cell_points))
  name_inches = 0.62 * name_points * max(map(len, label_names)) / POINTS_PER_INCH
  left, top, accuracy_width = 0.55 + name_inches, 1.0, 0.75
  upright = name_inches * POINTS_PER_INCH <= cell_points
  bottom = 0.85 + (0.0 if upright else name_inches)

  figure = new_figure(left + side + accuracy_width + 0.1, bottom + side + top)
  axes = add_axes(figure, left, bottom, side, side)
  errors = matrix.copy()
  np.fill_diagonal(errors, 0)
  # The scale starts at one error and reaches at least ten, so that single errors stay pale.
  norm = PowerNorm(0.5, vmin=1, vmax=max(10, int(errors.max())), clip=True)
  colors = _cell_colors(errors, norm)
  axes.imshow(colors, interpolation="nearest")
  _draw_cell_rules(axes, classes)
  _add_count_tooltips(axes, matrix, label_names)
  _write_names(axes, label_names, name_points, upright=upright)
  numbers = _write_counts(axes, matrix, colors, cell_points)
  _write_class_accuracy(axes, matrix, min(name_points, 10.0))
  write_header(figure, title, _summary(matrix))
  legend = f"gray: right · orange: errors, darker is more · {'empty' if numbers else 'white'}: none"
  write(figure, left, 0.16, legend, color=MUTED, fontsize=NOTE_POINTS)
  if not numbers:
    _draw_error_scale(figure, left + side - 2.4, norm)
  return figure


def _checked_matrix(matrix: np.ndarray, label_names: Sequence[str]) -> np.ndarray:
  matrix = np.asarray(matrix)
  expected = (len(label_names), len(label_names))
  if matrix.shape != expected or not matrix.size:
    raise ValueError(
      f"the matrix has shape {matrix.shape}, expected {expected} for {len(label_names)} label names"
    )
  if not np.issubdtype(matrix.dtype, np.integer) or matrix.min() < 0:
    raise ValueError(f"the matrix holds {matrix.dtype} from {matrix.min()}, expected counts")
  return matrix


def _cell_colors(errors: np.ndarray, norm: PowerNorm) -> np.ndarray:
  """Returns colors, float [C, C, 3]: white for cells without errors, gray on the diagonal."""
  colors = ERROR_COLORS(norm(errors))[..., :3]
  colors[errors == 0] = 1.0
  diagonal = np.arange(len(errors))
  colors[diagonal, diagonal] = to_rgb(NEUTRAL)
  return colors


def _draw_cell_rules(axes: Axes, classes: int) -> None:
  edges = np.arange(classes + 1) - 0.5
  width = 0.8 if classes <= 20 else 0.4
  axes.hlines(edges, -0.5, classes - 0.5, colors=RULE, linewidths=width)
  axes.vlines(edges, -0.5, classes - 0.5, colors=RULE, linewidths=width)


def _write_names(axes: Axes, label_names: Sequence[str], points: float, *, upright: bool) -> None:
  ticks = range(len(label_names))
  style: dict[str, Any] = {"fontsize": points, "color": INK, "parse_math": False}
  axes.set_xticks(ticks, label_names, rotation=0 if upright else 90, **style)
  axes.set_yticks(ticks, label_names, **style)
  axes.tick_params(length=0, pad=3)
  axes.spines[:].set_visible(False)
  axes.set_xlabel("predicted label", color=INK, fontsize=11)
  axes.set_ylabel("true label", color=INK, fontsize=11)


def _write_counts(axes: Axes, matrix: np.ndarray, colors: np.ndarray, cell_points: float) -> bool:
  """Writes the counts above zero; returns False if the cells are too small for them."""
  digits = len(str(matrix.max()))
  size = min(11.0, 0.9 * cell_points / (0.64 * digits))
  if size < SMALLEST_POINTS:
    return False
  luminance = colors @ (0.2126, 0.7152, 0.0722)
  style: dict[str, Any] = {"fontsize": size, "ha": "center", "va": "center_baseline"}
  for row, column in np.argwhere(matrix):
    color = "white" if luminance[row, column] < 0.5 else INK
    axes.text(column, row, str(matrix[row, column]), color=color, **style)
  return True


def _add_count_tooltips(axes: Axes, matrix: np.ndarray, names: Sequence[str]) -> None:
  cells = np.argwhere(matrix)
  add_tooltips(axes, cells[:, 1], cells[:, 0], [
    f"{names[row]} predicted as {names[column]}: {matrix[row, column]:,}" for row, column in cells
  ])  # fmt: skip


def _write_class_accuracy(axes: Axes, matrix: np.ndarray, points: float) -> None:
  """Writes each row's accuracy to its right, the lowest in bold."""
  totals, correct = matrix.sum(axis=1), matrix.diagonal()
  accuracy = np.divide(correct, totals, out=np.ones(len(matrix)), where=totals > 0)
  width = axes.get_window_extent().width / DPI
  position: dict[str, Any] = {
    "x": 1 + 0.62 / width,
    "transform": axes.get_yaxis_transform(),
    "ha": "right",
  }
  for row, fraction in enumerate(accuracy):
    lowest = fraction < 1 and fraction == accuracy.min()
    axes.text(
      y=row,
      s=f"{fraction:.1%}" if totals[row] else "-",
      color=WRONG_COLOR if lowest else INK,
      weight="bold" if lowest else None,
      fontsize=points,
      va="center_baseline",
      **position,
    )
  points_per_row = width * POINTS_PER_INCH / len(matrix)
  heading = -0.5 - 6 / points_per_row
  axes.text(y=heading, s="accuracy", fontsize=NOTE_POINTS, color=MUTED, **position)


def _summary(matrix: np.ndarray) -> str:
  total, correct = int(matrix.sum()), int(matrix.trace())
  if not total:
    return "no examples"
  return (
    f"{correct:,} of {total:,} right: accuracy {correct / total:.2%}, {total - correct:,} errors"
  )


def _draw_error_scale(figure: Figure, left: float, norm: PowerNorm) -> None:
  axes = add_axes(figure, left, 0.2, 1.9, 0.1)
  scale = np.linspace(0, 1, 128)[None]
  axes.imshow(scale, cmap=ERROR_COLORS, aspect="auto", interpolation="nearest")
  axes.set_axis_off()
  style: dict[str, Any] = {
    "transform": axes.transAxes,
    "color": MUTED,
    "fontsize": NOTE_POINTS,
    "va": "center",
  }
  axes.text(-0.03, 0.5, "1", ha="right", **style)
  axes.text(1.03, 0.5, f"{norm.vmax:,.0f}", ha="left", **style)
