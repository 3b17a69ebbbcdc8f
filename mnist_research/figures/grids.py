"""Pictures in rows and columns: examples with their labels, predictions with their probabilities.

A grid is laid out in units of one image pixel, drawn as PIXEL_SCALE x PIXEL_SCALE screen pixels: a
whole number keeps the pixels of the digits equally large.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from mnist_research.figures.canvas import (
  DPI,
  INK,
  LABEL_POINTS,
  MUTED,
  NOTE_POINTS,
  POINTS_PER_INCH,
  RIGHT_COLOUR,
  TITLE_POINTS,
  WRONG_COLOUR,
  fitted,
  new_figure,
  percent,
)

RIGHT_MARK, WRONG_MARK = "✓", "✗"
# The check marks exist in this font, which matplotlib ships; another default font may lack them.
MARK_FONT = "DejaVu Sans"

IMAGE_SIZE = 28
MAX_PICTURES = 80
MAX_COLUMNS = 10

PIXEL_SCALE = 4
POINTS_PER_UNIT = PIXEL_SCALE * POINTS_PER_INCH / DPI
# In units of the grid, from here on. A frame of 2 is drawn 1 wide where the prediction is right.
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
    images: uint8, or float in [0, 1], [N, 28, 28, 1]; the first 80 are drawn.
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
  """Draws pictures with the predicted label, its probability and, where wrong, the true label.

  Right and wrong differ in colour, in the mark before the label and in the width of the frame.

  Args:
    images: uint8, or float in [0, 1], [N, 28, 28, 1]; the first 80 are drawn.
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
    named = f"{label_names[guess]}  {percent(float(row[guess]))}"
    if guess == label:
      captions.append([(f"{RIGHT_MARK} {named}", RIGHT_COLOUR)])
    else:
      true = (f"true: {label_names[label]}", INK)
      captions.append([(f"{WRONG_MARK} {named}", WRONG_COLOUR), true])
  shown, count = len(right), int(right.sum())
  summary = [
    (f"{RIGHT_MARK} right: {count} of {shown}", RIGHT_COLOUR),
    (f"{WRONG_MARK} wrong: {shown - count} of {shown}", WRONG_COLOUR),
  ]
  footer = "Below each picture: predicted label and its probability."
  return _picture_grid(pixels, captions, title=title, summary=summary, footer=footer, right=right)


def _checked_pictures(
  images: np.ndarray, labels: np.ndarray, label_names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the pictures to draw as uint8 [n, 28, 28], and their labels [n]."""
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


def _picture_grid(
  pixels: np.ndarray,
  captions: Sequence[Sequence[tuple[str, str]]],
  *,
  title: str,
  summary: Sequence[tuple[str, str]],
  footer: str = "",
  right: np.ndarray | None = None,
) -> Figure:
  """Draws all pictures as one image: 80 axes would cost some 20 times as much.

  Args:
    pixels: uint8 [n, 28, 28].
    captions: for each picture, lines of text and their colours.
    title: written at the top.
    summary: texts below the title, side by side, and their colours.
    footer: text at the bottom.
    right: bool [n], which predictions are right; None draws no frames.
  """
  columns = _columns(len(pixels))
  outer = IMAGE_SIZE + (0 if right is None else 2 * FRAME)
  pitch = outer + GAP
  lines = [
    max(map(len, captions[start : start + columns])) for start in range(0, len(captions), columns)
  ]
  row_heights = [outer + CAPTION_LINE * count + GAP for count in lines]
  tops = (25 if summary else 16) + np.cumsum([0, *row_heights])
  width = max(MIN_WIDTH, columns * pitch - GAP + 2 * MARGIN)
  height = int(tops[-1]) + (7 if footer else 0)
  inches = PIXEL_SCALE / DPI
  figure = new_figure(width * inches, height * inches)
  axes = figure.add_axes((0, 0, 1, 1))
  axes.set_axis_off()
  canvas = np.full((height, width, 3), 255, np.uint8)
  for index, caption in enumerate(captions):
    x, y = MARGIN + index % columns * pitch, int(tops[index // columns])
    cell = canvas[y : y + outer, x : x + outer]
    if right is not None:
      cell = _painted_frame(cell, right=bool(right[index]))
    cell[:] = pixels[index, ..., None]
    _write_caption(axes, x + outer / 2, y + outer, caption, room=pitch - 1)
  indent = 0
  if right is not None:
    _paint_legend(canvas)
    indent = SWATCH + 2
  axes.imshow(canvas, interpolation="nearest", extent=(0, width, height, 0), zorder=0)
  for number, (text, colour) in enumerate(summary):
    x = MARGIN + number * SUMMARY_PITCH + indent
    axes.text(x, 20, text, color=colour, fontsize=LABEL_POINTS, weight="bold", family=MARK_FONT)
  _write_title_and_footer(axes, width, height, title=title, footer=footer)
  return figure


def _columns(count: int) -> int:
  """Returns how many columns, at least as many as rows, leave the fewest places empty."""
  square = int(np.ceil(np.sqrt(count)))
  return min(range(square, min(2 * square, MAX_COLUMNS) + 1), key=lambda c: (-count % c, c))


def _painted_frame(cell: np.ndarray, *, right: bool) -> np.ndarray:
  """Frames a cell in place, thick where wrong, and returns what is inside a thick frame.

  What a thin frame leaves over stays white.
  """
  framed = cell[1:-1, 1:-1] if right else cell
  framed[:] = np.rint(255 * np.array(to_rgb(RIGHT_COLOUR if right else WRONG_COLOUR)))
  return cell[FRAME:-FRAME, FRAME:-FRAME]


def _paint_legend(canvas: np.ndarray) -> None:
  """Paints a small frame of either kind where the texts of the summary begin."""
  for number, right in enumerate((True, False)):
    x = MARGIN + number * SUMMARY_PITCH
    _painted_frame(canvas[14 : 14 + SWATCH, x : x + SWATCH], right=right)[:] = 0


def _write_caption(
  axes: Axes, x: float, y: float, caption: Sequence[tuple[str, str]], *, room: float
) -> None:
  """Writes lines centred below a point, in units of the grid."""
  for number, (line, colour) in enumerate(caption, start=1):
    text, size = fitted(line, room * POINTS_PER_UNIT, LABEL_POINTS)
    axes.text(
      x,
      y + number * CAPTION_LINE - 0.8,
      text,
      color=colour,
      fontsize=size,
      family=MARK_FONT,
      ha="center",
      parse_math=False,
    )


def _write_title_and_footer(
  axes: Axes, width: int, height: int, *, title: str, footer: str
) -> None:
  room = (width - 2 * MARGIN) * POINTS_PER_UNIT
  text, size = fitted(title, room, TITLE_POINTS, bold=True)
  axes.text(MARGIN, 10.5, text, color=INK, fontsize=size, weight="bold", parse_math=False)
  if footer:
    text, size = fitted(footer, room, NOTE_POINTS)
    axes.text(MARGIN, height - 4, text, color=MUTED, fontsize=size, parse_math=False)
