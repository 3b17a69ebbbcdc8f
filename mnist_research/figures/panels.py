"""Shows how a model reads users' pictures: the picture, the model's input, and its probabilities.

Positions in a panel are in screen pixels from the upper left.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mnist_research.figures.canvas import (
  BLUE,
  DPI,
  INK,
  MUTED,
  NOTE_POINTS,
  POINTS_PER_INCH,
  RULE,
  TEXT_POINTS,
  TITLE_POINTS,
  VERMILION,
  drawable,
  fitted,
  new_figure,
  percent,
)

MAX_PANELS = 24
# Of more classes than this, only the most probable are drawn.
MAX_BARS = 10
# A lower probability is drawn, but not written.
LEAST_SHARE = 0.02

POINTS_PER_PIXEL = POINTS_PER_INCH / DPI
MARGIN = 24
GAP = 28
TITLE_LINE = 40
NOTE_LINE = 30
CAPTION_LINE = 22
# A multiple of 28, so that the pixels of the model's input are equally large.
HEIGHT = 6 * 28
PICTURE_WIDTH = 224
BAR_WIDTH = 200
PERCENT_WIDTH = 60


class Panel(NamedTuple):
  """A digit in a picture, as the model's input, and its prediction.

  Attributes:
    caption: the text above the picture.
    picture: float32 [h, w] in [0, 1], or [h, w, 3] in color: the whole picture, downscaled.
    box: the digit's left, top, right and bottom in the picture's pixels.
    image: uint8 [height, width], or [height, width, 3] in color: the model's input.
    probabilities: float64 [C].
  """

  caption: str
  picture: np.ndarray
  box: tuple[float, float, float, float]
  image: np.ndarray
  probabilities: np.ndarray


def recognition(
  shown: Sequence[Panel], *, label_names: Sequence[str], count: int, title: str
) -> Figure:
  """Draws panels in a column, each with a bar for every class or for the ten most probable.

  Args:
    shown: the panels; the first 24 are drawn.
    label_names: C names.
    count: the total number of digits.
    title: the title of the figure.

  Raises:
    ValueError: there is no panel, or the numbers of probabilities and names differ.
  """
  shown = shown[:MAX_PANELS]
  if not shown or any(panel.probabilities.shape != (len(label_names),) for panel in shown):
    raise ValueError(f"{len(shown)} panels, or probabilities of other classes than {label_names}")
  input_left = MARGIN + PICTURE_WIDTH + GAP
  bars_left = input_left + HEIGHT + GAP + _names_width(label_names)
  width = bars_left + BAR_WIDTH + PERCENT_WIDTH + MARGIN
  notes = [f"the first {len(shown)} of {count:,} digits"] if count > len(shown) else []
  top = MARGIN + TITLE_LINE + NOTE_LINE * (len(notes) + 1)
  height = top + len(shown) * (CAPTION_LINE + HEIGHT + GAP)
  figure = new_figure(width / DPI, height / DPI)
  axes = _add_axes(figure, width, height)
  available = width - 2 * MARGIN
  _write(axes, MARGIN, MARGIN + 8, title, available, points=TITLE_POINTS, weight="bold")
  for note in notes:
    _write(axes, MARGIN, MARGIN + TITLE_LINE, note, available, color=MUTED)
  for left, heading in [
    (MARGIN, "picture"),
    (input_left, "input of the model"),
    (bars_left, "probability"),
  ]:
    _write(axes, left, top - NOTE_LINE, heading, available, points=NOTE_POINTS, color=MUTED)
  for panel in shown:
    _write(axes, MARGIN, top, drawable(panel.caption), available)
    top += CAPTION_LINE
    _draw_picture(axes, MARGIN, top, panel)
    _draw_input(axes, input_left, top, panel.image)
    _draw_bars(axes, bars_left, top, panel.probabilities, label_names)
    top += HEIGHT + GAP
  return figure


def _add_axes(figure: Figure, width: int, height: int) -> Axes:
  """Adds axes that fill the figure, in pixels from its upper left corner."""
  axes = figure.add_axes((0, 0, 1, 1))
  axes.set_axis_off()
  axes.set_xlim(0, width)
  axes.set_ylim(height, 0)
  return axes


def _names_width(label_names: Sequence[str]) -> int:
  """Returns the width of the names before the bars."""
  return min(110, 8 + 11 * max(map(len, label_names)))


def _write(
  axes: Axes,
  x: float,
  y: float,
  text: str,
  available: float,
  *,
  points: float = TEXT_POINTS,
  **style: Any,
) -> None:
  """Writes a line of text, vertically centered at y, within a width in pixels."""
  bold = style.get("weight") == "bold"
  text, size = fitted(text, available * POINTS_PER_PIXEL, points, bold=bold)
  style = {"color": INK, "va": "center_baseline", **style}
  axes.text(x, y, text, fontsize=size, parse_math=False, **style)


def _draw_picture(axes: Axes, left: float, top: float, panel: Panel) -> None:
  """Draws the picture with a frame around the digit."""
  height, width = panel.picture.shape[:2]
  scale = min(PICTURE_WIDTH / width, HEIGHT / height)
  y = top + (HEIGHT - scale * height) / 2
  pixels = np.rint(panel.picture * 255).astype(np.uint8)
  _draw_image(axes, pixels, left, y, scale * width, scale * height)
  x0, y0, x1, y1 = scale * np.array(panel.box)
  sides = x1 - x0, y1 - y0
  outline = Rectangle((left + x0, y + y0), *sides, fill=False, linewidth=1.5, edgecolor=VERMILION)
  axes.add_patch(outline)


def _draw_input(axes: Axes, left: float, top: float, image: np.ndarray) -> None:
  """Draws the model's input in the center of a square of HEIGHT."""
  rows, columns = image.shape[:2]
  scale = HEIGHT / max(rows, columns)
  x, y = left + (HEIGHT - scale * columns) / 2, top + (HEIGHT - scale * rows) / 2
  _draw_image(axes, image, x, y, scale * columns, scale * rows)


def _draw_image(
  axes: Axes, image: np.ndarray, left: float, top: float, width: float, height: float
) -> None:
  """Draws gray values, uint8 [h, w], or colors, uint8 [h, w, 3], with a frame."""
  # As colors, because a color map would change the values slightly.
  colors = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1)
  extent = (left, left + width, top + height, top)
  small = max(image.shape[:2]) <= HEIGHT
  axes.imshow(colors, aspect="auto", extent=extent, interpolation="nearest" if small else "auto")
  rule = Rectangle((left, top), width, height, fill=False, linewidth=0.8, edgecolor=RULE)
  axes.add_patch(rule)


def _draw_bars(
  axes: Axes, left: float, top: float, probabilities: np.ndarray, label_names: Sequence[str]
) -> None:
  """Draws a bar for each class, or for the most probable ones, in the order of the labels."""
  likeliest = int(probabilities.argmax())
  labels = sorted(np.argsort(-probabilities, kind="stable")[:MAX_BARS])
  pitch = HEIGHT / len(labels)
  for row, label in enumerate(labels):
    middle = top + (row + 0.5) * pitch
    share = float(probabilities[label])
    is_best = label == likeliest
    color, weight = (BLUE, "bold") if is_best else (MUTED, "normal")
    for width, fill in [(BAR_WIDTH, RULE), (share * BAR_WIDTH, color)]:
      corner = (left, middle - 0.35 * pitch)
      axes.add_patch(Rectangle(corner, width, 0.7 * pitch, facecolor=fill, linewidth=0))
    style: dict[str, Any] = {
      "color": BLUE if is_best else INK,
      "weight": weight,
      "points": NOTE_POINTS,
    }
    name_width = _names_width(label_names) - 8
    _write(axes, left - 8, middle, label_names[label], name_width, ha="right", **style)
    if share >= LEAST_SHARE:
      _write(axes, left + BAR_WIDTH + 8, middle, percent(share), PERCENT_WIDTH - 8, **style)
