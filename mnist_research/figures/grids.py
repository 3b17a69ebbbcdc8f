"""Draws pictures in a grid: examples with labels, and predictions with probabilities.

Positions are in units of PIXEL_SCALE x PIXEL_SCALE screen pixels. A pixel of a picture takes an
integer number of units, so that all are equally large; only large pictures are rescaled.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from mnist_research.figures.canvas import (
  CORRECT_COLOR,
  DPI,
  INK,
  LABEL_POINTS,
  MUTED,
  NOTE_POINTS,
  POINTS_PER_INCH,
  TITLE_POINTS,
  WRONG_COLOR,
  fitted,
  new_figure,
  percent,
)

CORRECT_MARK, WRONG_MARK = "✓", "✗"
# This font, which ships with matplotlib, has the check marks; other default fonts may lack them.
MARK_FONT = "DejaVu Sans"

MAX_PICTURES = 80
MAX_COLUMNS = 10

PIXEL_SCALE = 4
POINTS_PER_UNIT = PIXEL_SCALE * POINTS_PER_INCH / DPI
# All sizes from here on are in grid units. The longer side of a small picture is between these two.
SMALL_SIDE = 28
LARGE_SIDE = 56
# The frame of a correct prediction is half as wide.
MARGIN = 7
GAP = 5
MIN_WIDTH = 170
CAPTION_LINE = 7
FRAME = 2
SWATCH = 8
SUMMARY_PITCH = 80


def example_grid(
  images: np.ndarray, labels: np.ndarray, *, label_names: Sequence[str], title: str
) -> Figure:
  """Draws pictures with their labels.

  Args:
    images: uint8, or float in [0, 1], [N, height, width, 1 or 3]; the first 80 are drawn.
    labels: int [N], indices into `label_names`.
    label_names: the name of each class.
    title: the title of the figure.

  Returns:
    The figure.

  Raises:
    ValueError: shapes or lengths disagree, the grid would be empty, or a value is out of range.
  """
  pixels, labels = checked_pictures(images, labels, label_names)
  captions = [[(label_names[label], INK)] for label in labels]
  summary = []
  if len(pixels) < len(images):
    summary = [(f"the first {len(pixels)} of {len(images):,}", MUTED)]
  return _picture_grid(pixels, captions, title=title, summary=summary)


def selection_title(shown: int, total: int, order: str, noun: str) -> str:
  """Returns how pictures were chosen: `the 40 most confident of 150 mistakes`, `all 3 mistakes`."""
  if shown < total:
    return f"the {shown} {order} of {total:,} {noun}"
  return f"all {total:,} {noun}" if total > 1 else f"the only {noun.removesuffix('s')}"


def prediction_grid(
  images: np.ndarray,
  labels: np.ndarray,
  probabilities: np.ndarray,
  *,
  label_names: Sequence[str],
  title: str,
) -> Figure:
  """Draws pictures with the predicted label, its probability and, if it is wrong, the true label.

  Correct and wrong predictions differ in color, in the mark before the label and in the width of
  the frame.

  Args:
    images: uint8, or float in [0, 1], [N, height, width, 1 or 3]; the first 80 are drawn.
    labels: int [N], the true classes.
    probabilities: float [N, C].
    label_names: C names.
    title: the title of the figure, which should say how the pictures were chosen.

  Returns:
    The figure.

  Raises:
    ValueError: shapes or lengths disagree, the grid would be empty, or a value is out of range.
  """
  pixels, labels = checked_pictures(images, labels, label_names)
  probabilities = np.asarray(probabilities)
  if probabilities.shape != (len(images), len(label_names)):
    raise ValueError(
      f"probabilities have shape {probabilities.shape}, expected {(len(images), len(label_names))} "
      f"for images of shape {np.shape(images)} and {len(label_names)} label names"
    )
  probabilities = probabilities[: len(pixels)]
  predicted = probabilities.argmax(axis=1)
  correct = predicted == labels
  captions = prediction_captions(labels, probabilities, label_names)
  # Without counts, because those of selected pictures would look like an accuracy.
  summary = [(f"{CORRECT_MARK} right", CORRECT_COLOR), (f"{WRONG_MARK} wrong", WRONG_COLOR)]
  footer = "Below each picture: predicted label and its probability."
  return _picture_grid(
    pixels, captions, title=title, summary=summary, footer=footer, correct=correct
  )


def prediction_captions(
  labels: np.ndarray, probabilities: np.ndarray, label_names: Sequence[str]
) -> list[list[tuple[str, str]]]:
  """Returns the colored lines below each picture: the prediction and, if it is wrong, the truth.

  Args:
    labels: int [N].
    probabilities: float [N, C].
    label_names: C names.
  """
  captions = []
  for label, row in zip(labels, probabilities, strict=True):
    prediction = int(row.argmax())
    text = f"{label_names[prediction]}  {percent(float(row[prediction]))}"
    if prediction == label:
      captions.append([(f"{CORRECT_MARK} {text}", CORRECT_COLOR)])
    else:
      true = (f"true: {label_names[label]}", INK)
      captions.append([(f"{WRONG_MARK} {text}", WRONG_COLOR), true])
  return captions


def prediction_color(correct: bool) -> str:
  """Returns the color of correct predictions, or of wrong ones."""
  return CORRECT_COLOR if correct else WRONG_COLOR


def checked_pictures(
  images: np.ndarray, labels: np.ndarray, label_names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the pictures to draw as uint8 [n, height, width, 3], and their labels [n]."""
  images, labels = np.asarray(images), np.asarray(labels)
  if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
    raise ValueError(
      f"images have shape {images.shape}, expected (N, height, width, 1 or 3) with N >= 1"
    )
  if labels.shape != images.shape[:1]:
    raise ValueError(f"labels have shape {labels.shape}, but images have shape {images.shape}")
  if not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(f"labels are {labels.dtype}, expected integers")
  if labels.min() < 0 or labels.max() >= len(label_names):
    raise ValueError(
      f"labels range from {labels.min()} to {labels.max()}, but there are {len(label_names)} names"
    )
  pixels = np.broadcast_to(_as_uint8(images[:MAX_PICTURES]), (*images[:MAX_PICTURES].shape[:3], 3))
  return pixels, labels[:MAX_PICTURES]


def _as_uint8(images: np.ndarray) -> np.ndarray:
  if images.dtype == np.uint8:
    return images
  if not np.issubdtype(images.dtype, np.floating):
    raise ValueError(f"images are {images.dtype}, expected uint8 or float")
  low, high = images.min(), images.max()
  # Written so that NaN is rejected, too.
  if not (low >= 0 and high <= 1):
    raise ValueError(f"float images range from {low} to {high}, expected [0, 1]")
  return np.rint(images.astype(np.float32) * 255).astype(np.uint8)


def _scaled(pixels: np.ndarray) -> tuple[np.ndarray, int, int]:
  """Scales pictures, uint8 [n, h, w, 3], to the screen.

  Returns:
    The screen pixels, uint8 [n, ..., 3], and the height and width of a picture in units.
  """
  height, width = pixels.shape[1:3]
  side = max(height, width)
  if side <= LARGE_SIDE:
    units = max(1, SMALL_SIDE // side)
    large = pixels.repeat(units * PIXEL_SCALE, axis=1).repeat(units * PIXEL_SCALE, axis=2)
    return large, height * units, width * units
  rows, columns = (max(1, round(length * LARGE_SIDE / side)) for length in (height, width))
  size = columns * PIXEL_SCALE, rows * PIXEL_SCALE
  scaled = [np.asarray(Image.fromarray(picture).resize(size)) for picture in pixels]
  return np.stack(scaled), rows, columns


def _picture_grid(
  pixels: np.ndarray,
  captions: Sequence[Sequence[tuple[str, str]]],
  *,
  title: str,
  summary: Sequence[tuple[str, str]],
  footer: str = "",
  correct: np.ndarray | None = None,
) -> Figure:
  """Draws all pictures as one image, because 80 axes would take about 20 times as long.

  Args:
    pixels: uint8 [n, height, width, 3].
    captions: for each picture, lines of text and their colors.
    title: the title at the top.
    summary: texts below the title, side by side, and their colors.
    footer: the text at the bottom.
    correct: bool [n], whether each prediction is correct; None draws no frames.
  """
  columns = _columns(len(pixels))
  pixels, rows_high, columns_wide = _scaled(pixels)
  frames = 0 if correct is None else 2 * FRAME
  tall, wide = rows_high + frames, columns_wide + frames
  # Wide enough for a caption below a narrow picture.
  pitch = max(wide, SMALL_SIDE + frames) + GAP
  lines = [
    max(map(len, captions[start : start + columns])) for start in range(0, len(captions), columns)
  ]
  row_heights = [tall + CAPTION_LINE * count + GAP for count in lines]
  tops = (25 if summary else 16) + np.cumsum([0, *row_heights])
  width = max(MIN_WIDTH, columns * pitch - GAP + 2 * MARGIN)
  height = int(tops[-1]) + (7 if footer else 0)
  figure, axes, canvas = _blank(width, height)
  for index, caption in enumerate(captions):
    x, y = MARGIN + index % columns * pitch, int(tops[index // columns])
    cell = _window(canvas, x, y, wide, tall)
    if correct is not None:
      cell = _painted_frame(cell, correct=bool(correct[index]))
    cell[:] = pixels[index]
    _write_caption(axes, x + wide / 2, y + tall, caption, available=pitch - 1)
  indent = 0
  if correct is not None:
    _paint_legend(canvas)
    indent = SWATCH + 2
  axes.imshow(canvas, interpolation="nearest", extent=(0, width, height, 0), zorder=0)
  for number, (text, color) in enumerate(summary):
    x = MARGIN + number * SUMMARY_PITCH + indent
    axes.text(x, 20, text, color=color, fontsize=LABEL_POINTS, weight="bold", family=MARK_FONT)
  _write_title_and_footer(axes, width, height, title=title, footer=footer)
  return figure


def _blank(width: int, height: int) -> tuple[Figure, Axes, np.ndarray]:
  """Returns a figure with a size in units, its axes, and its white pixels, uint8 [h, w, 3]."""
  inches = PIXEL_SCALE / DPI
  figure = new_figure(width * inches, height * inches)
  axes = figure.add_axes((0, 0, 1, 1))
  axes.set_axis_off()
  return figure, axes, np.full((height * PIXEL_SCALE, width * PIXEL_SCALE, 3), 255, np.uint8)


def _window(canvas: np.ndarray, x: int, y: int, width: int, height: int) -> np.ndarray:
  """Returns the pixels of a rectangle given in units."""
  left, top, right, bottom = (PIXEL_SCALE * edge for edge in (x, y, x + width, y + height))
  return canvas[top:bottom, left:right]


def _columns(count: int) -> int:
  """Returns the number of columns, at least as many as rows, that leaves the fewest empty cells."""
  square = int(np.ceil(np.sqrt(count)))
  return min(range(square, min(2 * square, MAX_COLUMNS) + 1), key=lambda c: (-count % c, c))


def _painted_frame(cell: np.ndarray, *, correct: bool) -> np.ndarray:
  """Paints a frame into a cell, and returns the cell inside it.

  A wrong prediction gets a thick frame. The inner part of a thin frame stays white.
  """
  thin, thick = PIXEL_SCALE, PIXEL_SCALE * FRAME
  framed = cell[thin:-thin, thin:-thin] if correct else cell
  framed[:] = np.rint(255 * np.array(to_rgb(CORRECT_COLOR if correct else WRONG_COLOR)))
  return cell[thick:-thick, thick:-thick]


def _paint_legend(canvas: np.ndarray) -> None:
  """Paints a small frame of each kind before the texts of the summary."""
  for number, correct in enumerate((True, False)):
    x = MARGIN + number * SUMMARY_PITCH
    _painted_frame(_window(canvas, x, 14, SWATCH, SWATCH), correct=correct)[:] = 0


def _write_caption(
  axes: Axes, x: float, y: float, caption: Sequence[tuple[str, str]], *, available: float
) -> None:
  """Writes lines centered below a point, in units of the grid."""
  for number, (line, color) in enumerate(caption, start=1):
    text, size = fitted(line, available * POINTS_PER_UNIT, LABEL_POINTS)
    axes.text(
      x,
      y + number * CAPTION_LINE - 0.8,
      text,
      color=color,
      fontsize=size,
      family=MARK_FONT,
      ha="center",
      parse_math=False,
    )


def _write_title_and_footer(
  axes: Axes, width: int, height: int, *, title: str, footer: str
) -> None:
  available = (width - 2 * MARGIN) * POINTS_PER_UNIT
  text, size = fitted(title, available, TITLE_POINTS, bold=True)
  axes.text(MARGIN, 10.5, text, color=INK, fontsize=size, weight="bold", parse_math=False)
  if footer:
    text, size = fitted(footer, available, NOTE_POINTS)
    axes.text(MARGIN, height - 4, text, color=MUTED, fontsize=size, parse_math=False)
