"""Pictures of data, predictions and training, drawn without a display.

Every function builds its own `matplotlib.figure.Figure` on an Agg canvas. Nothing here touches
pyplot, so no figure is registered globally and drawing in a background thread is safe.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

__all__ = [
  "confusion_matrix",
  "example_grid",
  "prediction_grid",
  "save",
  "to_array",
  "training_curves",
]

DPI = 120
POINTS_PER_INCH = 72

# Blue, vermilion and green of the Okabe-Ito palette: told apart with every common colour blindness.
BLUE = "#0072B2"
VERMILION = "#D55E00"
GREEN = "#007F5F"
INK = "#1F2933"
MUTED = "#5F6B7A"
RULE = "#E3E7EC"
NEUTRAL = "#DDE2E8"

RIGHT_COLOUR, RIGHT_MARK = BLUE, "✓"
WRONG_COLOUR, WRONG_MARK = VERMILION, "✗"
ERROR_COLOURS = LinearSegmentedColormap.from_list(
  "errors", ["#FFEBDC", "#F9B384", "#E2711D", "#A63C00", "#5E1F00"]
)
# The check marks exist in this font, which matplotlib ships; another default font may lack them.
MARK_FONT = "DejaVu Sans"

IMAGE_SIZE = 28
MAX_PICTURES = 64
MAX_COLUMNS = 10

# Grids are laid out in units of one image pixel, drawn as PIXEL_SCALE x PIXEL_SCALE screen pixels:
# a whole number keeps the pixels of the digits equally large.
PIXEL_SCALE = 4
POINTS_PER_UNIT = PIXEL_SCALE * POINTS_PER_INCH / DPI
GRID_MARGIN = 7
GRID_GAP = 5
GRID_MIN_WIDTH = 170
GRID_LINE = 7
FRAME = 2
SWATCH = 8
SUMMARY_PITCH = 80
TITLE_POINTS = 15
LABEL_POINTS = 11
TEXT_POINTS = 10
NOTE_POINTS = 9
SMALLEST_POINTS = 6.5

SPLIT_COLOURS = {"train": BLUE, "validation": VERMILION, "test": GREEN}
SMOOTH_FROM = 60
MARKERS_UP_TO = 30
# A value axis that spans more than this ratio is easier to read on a log scale.
LOG_FROM_RATIO = 6.0
TICK_STEPS = (1, 2, 5, 10)


def example_grid(
  images: np.ndarray,
  labels: np.ndarray,
  *,
  label_names: Sequence[str],
  title: str,
) -> Figure:
  """Draw pictures with their labels.

  Args:
    images: uint8, or float in [0, 1], [N, 28, 28, 1]; the first 64 are drawn.
    labels: int [N], indices into `label_names`.
    label_names: one name for each class.
    title: written above the pictures.

  Returns:
    The figure.

  Raises:
    ValueError: shapes or lengths disagree, there is no picture, or a value is out of range.
  """
  pixels, labels = _checked_pictures(images, labels, label_names)
  captions = [[(label_names[label], INK)] for label in labels]
  summary = []
  if len(pixels) < len(images):
    summary = [(f"the first {len(pixels)} of {len(images):,}", MUTED)]
  return _picture_grid(pixels, captions, title=title, summary=summary)


def prediction_grid(
  images: np.ndarray,
  labels: np.ndarray,
  probabilities: np.ndarray,
  *,
  label_names: Sequence[str],
  title: str,
) -> Figure:
  """Draw pictures with the predicted label, its probability and, where wrong, the true label.

  Right and wrong differ in colour, in the mark before the label and in the width of the frame.

  Args:
    images: uint8, or float in [0, 1], [N, 28, 28, 1]; the first 64 are drawn.
    labels: int [N], the true classes.
    probabilities: float [N, C].
    label_names: C names.
    title: written above the pictures.

  Returns:
    The figure.

  Raises:
    ValueError: shapes or lengths disagree, there is no picture, or a value is out of range.
  """
  pixels, labels = _checked_pictures(images, labels, label_names)
  probabilities = np.asarray(probabilities)
  if probabilities.shape != (len(images), len(label_names)):
    raise ValueError(
      f"probabilities have shape {probabilities.shape}, expected {(len(images), len(label_names))} "
      f"for images of shape {np.shape(images)} and {len(label_names)} label names"
    )
  probabilities = probabilities[: len(pixels)]
  predicted = probabilities.argmax(axis=1)
  right = predicted == labels
  captions = []
  for label, guess, row in zip(labels, predicted, probabilities, strict=True):
    confidence = _percent(float(row[guess]))
    if guess == label:
      captions.append([(f"{RIGHT_MARK} {label_names[guess]}  {confidence}", RIGHT_COLOUR)])
    else:
      captions.append(
        [
          (f"{WRONG_MARK} {label_names[guess]}  {confidence}", WRONG_COLOUR),
          (f"true: {label_names[label]}", INK),
        ]
      )
  count = int(right.sum())
  shown = len(right)
  summary = [
    (f"{RIGHT_MARK} right: {count} of {shown}", RIGHT_COLOUR),
    (f"{WRONG_MARK} wrong: {shown - count} of {shown}", WRONG_COLOUR),
  ]
  footer = "Below each picture: predicted label and its probability."
  return _picture_grid(pixels, captions, title=title, summary=summary, footer=footer, right=right)


def confusion_matrix(matrix: np.ndarray, *, label_names: Sequence[str], title: str) -> Figure:
  """Draw counts of true against predicted labels, with the accuracy of every class.

  Errors are coloured on a scale of their own and the diagonal is grey, so that a handful of errors
  shows beside thousands of right answers. Cells without a count are zero. Where a cell is too small
  for a number, as with 62 classes, a colour bar replaces the numbers.

  Args:
    matrix: int [C, C], rows the true label, columns the predicted label.
    label_names: C names.
    title: written above the matrix.

  Returns:
    The figure.

  Raises:
    ValueError: the matrix is not [C, C] for C names, or holds anything but counts.
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

  figure = _new_figure(left + side + accuracy_width + 0.1, bottom + side + top)
  axes = _add_axes(figure, left, bottom, side, side)
  errors = matrix.copy()
  np.fill_diagonal(errors, 0)
  # The scale starts at one error and reaches at least ten: a few single errors stay pale.
  norm = PowerNorm(0.5, vmin=1, vmax=max(10, int(errors.max())), clip=True)
  colours = _matrix_colours(errors, norm)
  axes.imshow(colours, interpolation="nearest")
  _draw_cell_rules(axes, classes)
  _name_matrix_axes(axes, label_names, name_points, upright=upright)
  numbers = _write_counts(axes, matrix, colours, cell_points)
  _write_class_accuracy(axes, matrix, min(name_points, 10.0))
  _write_header(figure, title, _matrix_summary(matrix))
  legend = f"grey: right · orange: errors, darker is more · {'empty' if numbers else 'white'}: none"
  _figure_text(figure, left, 0.16, legend, color=MUTED, fontsize=NOTE_POINTS)
  if not numbers:
    _draw_error_scale(figure, left + side - 2.4, norm)
  return figure


def training_curves(records: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
  """Draw loss, error rate and learning rate against the training step.

  The accuracy is drawn as an error rate in percent, on a log scale where the values span a wide
  range, which tells 97% from 99% at a glance. Panels without values are left out.

  Args:
    records: mappings with `step` (int) and `split` ("train", "validation" or "test"), and any of
      `loss`, `accuracy` (a fraction) and `learning_rate` (floats); other keys are ignored.
    title: written above the curves.

  Returns:
    The figure; without any value to draw it says so.

  Raises:
    ValueError: a record has no step or an unknown split.
  """
  _check_records(records)
  losses = {split: _series(records, "loss", split) for split in SPLIT_COLOURS}
  errors = {
    split: (steps, 100.0 * (1.0 - accuracy))
    for split in SPLIT_COLOURS
    for steps, accuracy in [_series(records, "accuracy", split)]
  }
  rates = {"learning_rate": _series(records, "learning_rate")}
  panels = [
    (name, height, series)
    for name, height, series in [
      ("Loss", 2.2, losses),
      ("Error rate", 2.2, errors),
      ("Learning rate", 0.85, rates),
    ]
    if any(len(steps) for steps, _ in series.values())
  ]
  if not panels:
    return _empty_curves(title)

  left, bottom, width, heading, right = 0.75, 0.55, 6.2, 0.42, 1.6
  total = sum(height + heading for _, height, _ in panels)
  figure = _new_figure(left + width + right, bottom + total + 0.66)
  _write_header(figure, title, _curves_summary(records))
  limits = _step_limits(records)
  top = bottom + total
  for name, height, series in panels:
    axes = _add_axes(figure, left, top - heading - height, width, height)
    top -= heading + height
    axes.set_xlim(*limits)
    _style_panel(axes)
    if name == "Learning rate":
      _draw_learning_rate(axes, series["learning_rate"])
    else:
      _draw_splits(axes, name, series, unit="%" if name == "Error rate" else "")
    axes.tick_params(labelbottom=name == panels[-1][0])
  axes.set_xlabel("step", color=MUTED, fontsize=TEXT_POINTS)
  if len(losses["train"][0]) >= SMOOTH_FROM or len(errors["train"][0]) >= SMOOTH_FROM:
    note = "train: faint line raw, clear line running mean"
    _figure_text(figure, left + width, 0.17, note, color=MUTED, fontsize=NOTE_POINTS, ha="right")
  return figure


def to_array(figure: Figure) -> np.ndarray:
  """Return the drawn figure as pixels.

  Args:
    figure: any figure; it is drawn only if it changed since it was last drawn.

  Returns:
    uint8 [H, W, 3], RGB.
  """
  canvas = figure.canvas
  if not isinstance(canvas, FigureCanvasAgg):
    canvas = FigureCanvasAgg(figure)
  if figure.stale or not hasattr(canvas, "renderer"):
    canvas.draw()
  return np.array(canvas.buffer_rgba())[..., :3]


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
  """Write the figure as a PNG, whole or not at all.

  The picture goes to a temporary name in the same directory, which then replaces `path`. The file
  holds neither time nor version, so equal figures give equal bytes.

  Args:
    figure: the figure.
    path: the file to write, in a directory that exists.

  Raises:
    OSError: the directory is missing or cannot be written; an older file is left as it was.
  """
  path = Path(path)
  encoded = io.BytesIO()
  no_version: dict[str, Any] = {"Software": None}
  imsave(encoded, to_array(figure), format="png", dpi=figure.dpi, metadata=no_version)
  temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
  try:
    temporary.write_bytes(encoded.getbuffer())
    os.replace(temporary, path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    raise


# ---------------------------------------------------------------------------------- shared pieces


def _new_figure(width: float, height: float) -> Figure:
  figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
  FigureCanvasAgg(figure)
  return figure


def _add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
  """Add axes at a place given in inches: layout engines cost more than the drawing itself."""
  across, up = figure.get_size_inches()
  return figure.add_axes((left / across, bottom / up, width / across, height / up))


def _inches(axes: Axes) -> tuple[float, float]:
  """Return width and height of axes in inches."""
  extent = axes.get_window_extent()
  return extent.width / DPI, extent.height / DPI


def _figure_text(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
  across, up = figure.get_size_inches()
  figure.text(x / across, y / up, text, parse_math=False, **style)


def _write_header(figure: Figure, title: str, summary: str) -> None:
  """Write the title and one line below it in the top 0.7 inches."""
  width, height = figure.get_size_inches()
  text, size = _fitted(title, (width - 0.3) * POINTS_PER_INCH, TITLE_POINTS, bold=True)
  place: dict[str, Any] = {"ha": "left", "va": "baseline"}
  _figure_text(figure, 0.15, height - 0.32, text, color=INK, fontsize=size, weight="bold", **place)
  text, size = _fitted(summary, (width - 0.3) * POINTS_PER_INCH, TEXT_POINTS + 1)
  _figure_text(figure, 0.15, height - 0.58, text, color=MUTED, fontsize=size, **place)


def _fitted(text: str, width: float, points: float, *, bold: bool = False) -> tuple[str, float]:
  """Shrink, then shorten, one line of text to a width in points.

  The width is estimated from the mean advance of the font: measuring each text costs as much as
  drawing it.
  """
  advance = 0.70 if bold else 0.62
  size = min(points, width / (advance * max(1, len(text))))
  if size >= SMALLEST_POINTS:
    return text, size
  kept = max(1, int(width / (advance * SMALLEST_POINTS)) - 1)
  return text[:kept] + "…", SMALLEST_POINTS


def _percent(fraction: float) -> str:
  """Format a whole percentage that says 100% only of certainty."""
  if 0.995 <= fraction < 1.0:
    return ">99%"
  return f"{fraction:.0%}"


# ----------------------------------------------------------------------------------------- grids


def _checked_pictures(
  images: np.ndarray, labels: np.ndarray, label_names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
  """Return the pictures to draw as uint8 [n, 28, 28], and their labels [n]."""
  images, labels = np.asarray(images), np.asarray(labels)
  if images.ndim != 4 or images.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE, 1) or not len(images):
    raise ValueError(
      f"images have shape {images.shape}, expected (N, {IMAGE_SIZE}, {IMAGE_SIZE}, 1) with N >= 1"
    )
  if labels.shape != images.shape[:1]:
    raise ValueError(f"labels have shape {labels.shape}, but images have shape {images.shape}")
  if not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(f"labels are {labels.dtype}, expected integers")
  if labels.min() < 0 or labels.max() >= len(label_names):
    raise ValueError(
      f"labels range from {labels.min()} to {labels.max()}, but there are {len(label_names)} names"
    )
  return _as_uint8(images[:MAX_PICTURES, ..., 0]), labels[:MAX_PICTURES]


def _as_uint8(images: np.ndarray) -> np.ndarray:
  if images.dtype == np.uint8:
    return images
  if not np.issubdtype(images.dtype, np.floating):
    raise ValueError(f"images are {images.dtype}, expected uint8 or float")
  low, high = images.min(), images.max()
  # Written so that NaN fails as well.
  if not (low >= 0 and high <= 1):
    raise ValueError(f"float images range from {low} to {high}, expected [0, 1]")
  return np.rint(images.astype(np.float32) * 255).astype(np.uint8)


def _grid_columns(count: int) -> int:
  """Return the number of columns, at least as many as rows, that leaves the fewest places empty."""
  square = int(np.ceil(np.sqrt(count)))
  return min(range(square, min(2 * square, MAX_COLUMNS) + 1), key=lambda c: (-count % c, c))


def _picture_grid(
  pixels: np.ndarray,
  captions: Sequence[Sequence[tuple[str, str]]],
  *,
  title: str,
  summary: Sequence[tuple[str, str]] = (),
  footer: str = "",
  right: np.ndarray | None = None,
) -> Figure:
  """Draw all pictures as one image: 64 axes would cost some 20 times as much.

  Args:
    pixels: uint8 [n, 28, 28].
    captions: for each picture, lines of text and their colours.
    title: written at the top.
    summary: texts below the title, side by side, and their colours.
    footer: text at the bottom.
    right: bool [n], which predictions are right; None draws no frames.
  """
  columns = _grid_columns(len(pixels))
  outer = IMAGE_SIZE + (0 if right is None else 2 * FRAME)
  pitch = outer + GRID_GAP
  lines = [
    max(map(len, captions[start : start + columns])) for start in range(0, len(captions), columns)
  ]
  row_heights = [outer + GRID_LINE * count + GRID_GAP for count in lines]
  top = 25 if summary else 16
  tops = top + np.cumsum([0, *row_heights])
  width = max(GRID_MIN_WIDTH, columns * pitch - GRID_GAP + 2 * GRID_MARGIN)
  height = int(tops[-1]) + (7 if footer else 0)
  figure, axes = _unit_axes(width, height)
  canvas = np.full((height, width, 3), 255, np.uint8)
  for index, caption in enumerate(captions):
    x, y = GRID_MARGIN + index % columns * pitch, int(tops[index // columns])
    cell = canvas[y : y + outer, x : x + outer]
    if right is not None:
      _paint_frame(cell, right=bool(right[index]))
      cell = cell[FRAME:-FRAME, FRAME:-FRAME]
    cell[:] = pixels[index, ..., None]
    _write_caption(axes, x + outer / 2, y + outer, caption, room=pitch - 1)
  if right is not None:
    _paint_legend(canvas)
  axes.imshow(canvas, interpolation="nearest", extent=(0, width, height, 0), zorder=0)
  indent = 0 if right is None else SWATCH + 2
  for number, (text, colour) in enumerate(summary):
    x = GRID_MARGIN + number * SUMMARY_PITCH + indent
    style: dict[str, Any] = {"fontsize": LABEL_POINTS, "weight": "bold", "family": MARK_FONT}
    axes.text(x, 20, text, color=colour, va="baseline", **style)
  _write_title_and_footer(axes, width, height, title=title, footer=footer)
  return figure


def _unit_axes(width: int, height: int) -> tuple[Figure, Axes]:
  """Add axes over a whole new figure, whose unit is one image pixel."""
  inches = PIXEL_SCALE / DPI
  figure = _new_figure(width * inches, height * inches)
  axes = figure.add_axes((0, 0, 1, 1))
  axes.set_axis_off()
  return figure, axes


def _paint_frame(cell: np.ndarray, *, right: bool) -> None:
  """Frame a cell in place, thick where wrong; what a thin frame leaves over stays white."""
  if right:
    cell[1:-1, 1:-1] = _rgb(RIGHT_COLOUR)
  else:
    cell[:] = _rgb(WRONG_COLOUR)


def _paint_legend(canvas: np.ndarray) -> None:
  """Paint a small frame of either kind where the texts of the summary begin."""
  for number, right in enumerate((True, False)):
    x = GRID_MARGIN + number * SUMMARY_PITCH
    cell = canvas[14 : 14 + SWATCH, x : x + SWATCH]
    _paint_frame(cell, right=right)
    cell[FRAME:-FRAME, FRAME:-FRAME] = 0


def _rgb(colour: str) -> np.ndarray:
  return np.rint(255 * np.array(to_rgb(colour))).astype(np.uint8)


def _write_caption(
  axes: Axes, x: float, y: float, caption: Sequence[tuple[str, str]], *, room: float
) -> None:
  """Write lines centred below a point, in units of the grid."""
  style: dict[str, Any] = {
    "ha": "center",
    "va": "baseline",
    "family": MARK_FONT,
    "parse_math": False,
  }
  for number, (line, colour) in enumerate(caption, start=1):
    text, size = _fitted(line, room * POINTS_PER_UNIT, LABEL_POINTS)
    axes.text(x, y + number * GRID_LINE - 0.8, text, color=colour, fontsize=size, **style)


def _write_title_and_footer(
  axes: Axes, width: int, height: int, *, title: str, footer: str
) -> None:
  room = (width - 2 * GRID_MARGIN) * POINTS_PER_UNIT
  style: dict[str, Any] = {"va": "baseline", "parse_math": False}
  text, size = _fitted(title, room, TITLE_POINTS, bold=True)
  axes.text(GRID_MARGIN, 10.5, text, color=INK, fontsize=size, weight="bold", **style)
  if footer:
    text, size = _fitted(footer, room, NOTE_POINTS)
    axes.text(GRID_MARGIN, height - 4, text, color=MUTED, fontsize=size, **style)


# ------------------------------------------------------------------------------ confusion matrix


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


def _matrix_colours(errors: np.ndarray, norm: PowerNorm) -> np.ndarray:
  """Return float [C, C, 3], white where there is no error, grey on the diagonal."""
  colours = ERROR_COLOURS(norm(errors))[..., :3]
  colours[errors == 0] = 1.0
  np.einsum("iij->ij", colours)[:] = to_rgb(NEUTRAL)
  return colours


def _draw_cell_rules(axes: Axes, classes: int) -> None:
  edges = np.arange(classes + 1) - 0.5
  style: dict[str, Any] = {"colors": RULE, "linewidths": 0.8 if classes <= 20 else 0.4}
  axes.hlines(edges, -0.5, classes - 0.5, **style)
  axes.vlines(edges, -0.5, classes - 0.5, **style)


def _name_matrix_axes(
  axes: Axes, label_names: Sequence[str], points: float, *, upright: bool
) -> None:
  ticks = range(len(label_names))
  style: dict[str, Any] = {"fontsize": points, "color": INK, "parse_math": False}
  axes.set_xticks(ticks, label_names, rotation=0 if upright else 90, **style)
  axes.set_yticks(ticks, label_names, **style)
  axes.tick_params(length=0, pad=3)
  axes.spines[:].set_visible(False)
  axes.set_xlabel("predicted label", color=INK, fontsize=11)
  axes.set_ylabel("true label", color=INK, fontsize=11)


def _write_counts(axes: Axes, matrix: np.ndarray, colours: np.ndarray, cell_points: float) -> bool:
  """Write the counts that are not zero; False where the cells are too small for them."""
  digits = len(str(matrix.max()))
  size = min(11.0, 0.9 * cell_points / (0.64 * digits))
  if size < SMALLEST_POINTS:
    return False
  luminance = colours @ (0.2126, 0.7152, 0.0722)
  for row, column in np.argwhere(matrix):
    colour = "white" if luminance[row, column] < 0.5 else INK
    axes.text(
      column,
      row,
      str(matrix[row, column]),
      color=colour,
      fontsize=size,
      ha="center",
      va="center_baseline",
    )
  return True


def _write_class_accuracy(axes: Axes, matrix: np.ndarray, points: float) -> None:
  """Write the accuracy of each row at its right, the lowest in bold."""
  totals, right = matrix.sum(axis=1), matrix.diagonal()
  accuracy = np.divide(right, totals, out=np.ones(len(matrix)), where=totals > 0)
  width, _ = _inches(axes)
  points_per_row = width * POINTS_PER_INCH / len(matrix)
  place: dict[str, Any] = {
    "x": 1 + 0.62 / width,
    "transform": axes.get_yaxis_transform(),
    "ha": "right",
  }
  for row, fraction in enumerate(accuracy):
    lowest = fraction < 1 and fraction == accuracy.min()
    style: dict[str, Any] = {"color": INK}
    if lowest:
      style = {"color": WRONG_COLOUR, "weight": "bold"}
    text = f"{fraction:.1%}" if totals[row] else "-"
    axes.text(y=row, s=text, fontsize=points, va="center_baseline", **place, **style)
  heading = -0.5 - 6 / points_per_row
  axes.text(y=heading, s="accuracy", fontsize=NOTE_POINTS, color=MUTED, **place)


def _matrix_summary(matrix: np.ndarray) -> str:
  total, right = int(matrix.sum()), int(matrix.trace())
  if not total:
    return "no examples"
  return f"{right:,} of {total:,} right: accuracy {right / total:.2%}, {total - right:,} errors"


def _draw_error_scale(figure: Figure, left: float, norm: PowerNorm) -> None:
  axes = _add_axes(figure, left, 0.2, 1.9, 0.1)
  axes.imshow(
    np.linspace(0, 1, 128)[None], cmap=ERROR_COLOURS, aspect="auto", interpolation="nearest"
  )
  axes.set_axis_off()
  style: dict[str, Any] = {
    "transform": axes.transAxes,
    "color": MUTED,
    "fontsize": NOTE_POINTS,
    "va": "center",
  }
  axes.text(-0.03, 0.5, "1", ha="right", **style)
  axes.text(1.03, 0.5, f"{norm.vmax:,.0f}", ha="left", **style)


# ------------------------------------------------------------------------------- training curves


def _check_records(records: Iterable[Mapping[str, Any]]) -> None:
  for number, record in enumerate(records):
    if record.get("step") is None or record.get("split") not in SPLIT_COLOURS:
      raise ValueError(
        f"record {number} needs a step and a split in {sorted(SPLIT_COLOURS)}, "
        f"got step {record.get('step')!r} and split {record.get('split')!r}"
      )


def _series(
  records: Iterable[Mapping[str, Any]], key: str, split: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Return the steps and values of the records that have the key, by ascending step."""
  pairs = [
    (record["step"], record[key])
    for record in records
    if record.get(key) is not None and split in (None, record["split"])
  ]
  pairs.sort(key=lambda pair: pair[0])
  steps, values = zip(*pairs, strict=True) if pairs else ((), ())
  return np.array(steps, np.int64), np.array(values, np.float64)


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
  """Take the mean over a centred odd window, shorter at the ends, of the finite values."""
  finite = np.isfinite(values)
  kernel = np.ones(window)
  total = np.convolve(np.where(finite, values, 0.0), kernel, mode="same")
  count = np.convolve(finite, kernel, mode="same")
  return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0.5)


def _draw_splits(
  axes: Axes, name: str, series: Mapping[str, tuple[np.ndarray, np.ndarray]], *, unit: str
) -> None:
  """Draw one quantity of all splits, each with its last value at the right."""
  clear, raw = {}, np.array([])
  for split, (steps, values) in series.items():
    if not len(steps):
      continue
    shown = values
    if split == "train" and len(steps) >= SMOOTH_FROM:
      axes.plot(
        steps, values, color=BLUE, alpha=0.25, linewidth=0.6, antialiased=False, label="train (raw)"
      )
      shown, raw = _running_mean(values, 2 * (len(steps) // 80) + 3), values
    marker = {"train": "o", "validation": "s", "test": "D"}[split]
    axes.plot(
      steps,
      shown,
      color=SPLIT_COLOURS[split],
      linewidth=1.8,
      marker=marker if len(steps) <= MARKERS_UP_TO else None,
      markersize=7 if split == "test" else 3.5,
      label=split,
      zorder=3 + list(SPLIT_COLOURS).index(split),
      clip_on=False,
    )
    clear[split] = shown
  log = _scale_values(axes, np.concatenate(list(clear.values())), raw)
  axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}{unit}"))
  suffix = ", log scale" if log else ""
  if log and (raw <= 0).any():
    suffix += " (raw zeros lie below it)"
  _write_panel_name(axes, name + suffix)
  _write_last_values(axes, {split: values[-1] for split, values in clear.items()}, unit)


def _scale_values(axes: Axes, clear: np.ndarray, raw: np.ndarray) -> bool:
  """Set scale, limits and ticks of the value axis; return whether the scale is logarithmic.

  Raw values set the upper limit alone: a batch without an error must not stretch the axis.
  """
  finite = clear[np.isfinite(clear)]
  positive = finite[finite > 0]
  highest = np.concatenate([finite, raw[np.isfinite(raw)]]).max(initial=0.0)
  if not len(positive) or highest < LOG_FROM_RATIO * positive.min():
    low, high = finite.min(initial=highest), highest or 1.0
    room = 0.1 * (high - low) or 0.1 * high
    axes.set_ylim(max(0.0, low - room), high + room)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS))
    return False
  low, high = positive.min() * 0.7, highest * 1.15
  axes.set_yscale("log", nonpositive="mask")
  axes.set_ylim(low, high)
  axes.yaxis.set_major_locator(FixedLocator(_log_ticks(low, high)))
  axes.yaxis.set_minor_locator(NullLocator())
  return True


def _log_ticks(low: float, high: float) -> list[float]:
  """Return ticks at 1, 2 and 5 times the powers of ten, at the powers alone where they are many."""
  exponents = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
  steps = (1, 2, 5) if high < 2000 * low else (1,)
  ticks = [step * 10.0**exponent for exponent in exponents for step in steps]
  return [tick for tick in ticks if low <= tick <= high]


def _write_last_values(axes: Axes, last: Mapping[str, float], unit: str) -> None:
  """Write name and last value of each split beside the axes, moved apart where they would meet."""
  heights = {split: _height_of(axes, value) for split, value in last.items()}
  _, height = _inches(axes)
  gap = 1.4 * TEXT_POINTS / POINTS_PER_INCH / height
  order = sorted(heights, key=heights.__getitem__)
  moved = _moved_apart(np.array([heights[split] for split in order]), gap)
  for split, y in zip(order, moved, strict=True):
    text = f"{split} {_value_text(last[split], unit)}"
    style: dict[str, Any] = {
      "color": SPLIT_COLOURS[split],
      "fontsize": TEXT_POINTS,
      "weight": "bold",
    }
    axes.text(1.025, y, text, va="center", transform=axes.transAxes, **style)


def _height_of(axes: Axes, value: float) -> float:
  """Return the height of a value as a fraction of the axes, the top for one that is not finite."""
  if not np.isfinite(value):
    return 1.0
  low, high = axes.get_ylim()
  to_fraction = axes.transScale + axes.transLimits
  return float(to_fraction.transform((1, np.clip(value, low, high)))[1])


def _value_text(value: float, unit: str) -> str:
  return f"{value:.2f}{unit}" if unit else f"{value:.3g}"


def _moved_apart(heights: np.ndarray, gap: float) -> np.ndarray:
  """Move ascending heights to be at least a gap apart, half of the way up and half down."""
  pile = gap * np.arange(len(heights))
  upwards = np.maximum.accumulate(heights - pile) + pile
  downwards = np.minimum.accumulate((heights - pile)[::-1])[::-1] + pile
  return (upwards + downwards) / 2


def _draw_learning_rate(axes: Axes, rates: tuple[np.ndarray, np.ndarray]) -> None:
  steps, values = rates
  marker = "o" if len(steps) <= MARKERS_UP_TO else None
  axes.plot(
    steps, values, color=INK, linewidth=1.5, marker=marker, markersize=3, label="learning rate"
  )
  peak = float(np.max(values, where=np.isfinite(values), initial=0.0)) or 1.0
  axes.set_ylim(0, 1.12 * peak)
  axes.yaxis.set_major_locator(FixedLocator([0, peak]))
  axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
  _write_panel_name(axes, "Learning rate")


def _style_panel(axes: Axes) -> None:
  axes.spines[["top", "right"]].set_visible(False)
  axes.spines[["left", "bottom"]].set_color(MUTED)
  axes.tick_params(color=MUTED, labelcolor=INK, labelsize=TEXT_POINTS, length=3)
  axes.grid(color=RULE, linewidth=0.8)
  axes.set_axisbelow(True)
  axes.xaxis.set_major_locator(MaxNLocator(7, integer=True, steps=TICK_STEPS))
  axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))


def _write_panel_name(axes: Axes, name: str) -> None:
  axes.set_title(name, loc="left", color=INK, fontsize=10.5, weight="bold", pad=7)


def _step_limits(records: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
  steps = [record["step"] for record in records]
  low, high = min(steps), max(steps)
  # From zero, unless a run that was resumed late would leave the left of the panels empty.
  left = 0 if low < 0.35 * high or low == high else low
  return left, max(high, left + 1)


def _curves_summary(records: Sequence[Mapping[str, Any]]) -> str:
  """Put the last accuracy of the held-out splits in words."""
  parts = []
  for split in ("validation", "test"):
    steps, accuracy = _series(records, "accuracy", split)
    if len(steps):
      parts.append(f"{split} accuracy {accuracy[-1]:.2%} at step {steps[-1]:,}")
  return " · ".join(parts) or f"{max(record['step'] for record in records):,} steps"


def _empty_curves(title: str) -> Figure:
  figure = _new_figure(6.0, 1.6)
  _write_header(figure, title, "")
  _figure_text(figure, 3.0, 0.5, "Nothing recorded yet", color=MUTED, fontsize=13, ha="center")
  return figure
