"""Shared parts of the figures: colors, fonts, positions in inches, pixels and PNG files."""

import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.image import imsave

from mnist_research.runtime import files

DPI = 120
POINTS_PER_INCH = 72

# Blue, vermilion and green of the Okabe-Ito palette, which is safe for common color blindness.
BLUE = "#0072B2"
VERMILION = "#D55E00"
GREEN = "#007F5F"
INK = "#1F2933"
MUTED = "#5F6B7A"
RULE = "#E3E7EC"
CORRECT_COLOR, WRONG_COLOR = BLUE, VERMILION

TITLE_POINTS = 15
LABEL_POINTS = 11
TEXT_POINTS = 10
NOTE_POINTS = 9
SMALLEST_POINTS = 6.5


class Tooltip(NamedTuple):
  """A point of a figure, and its tooltip on a page.

  Attributes:
    x: the fraction of the figure's width from the left.
    y: the fraction of its height from the top.
    text: the text of the tooltip.
  """

  x: float
  y: float
  text: str


class Picture(Figure):
  """A figure with tooltips for its points."""

  def __init__(self, **options: Any):
    super().__init__(**options)
    self._tooltips: list[tuple[Axes, float, float, str]] = []

  def add_tooltips(
    self, axes: Axes, xs: Iterable[float], ys: Iterable[float], texts: Sequence[str]
  ) -> None:
    """Adds tooltips to points, given in the coordinates of their axes."""
    self._tooltips += [(axes, x, y, text) for x, y, text in zip(xs, ys, texts, strict=True)]

  def tooltips(self) -> list[Tooltip]:
    """Returns the tooltips of the points within their axes."""
    visible = []
    for axes, x, y, text in self._tooltips:
      pixel = axes.transData.transform((x, y))
      across, up = axes.transAxes.inverted().transform(pixel)
      # False for a point that isn't finite.
      if -0.01 <= across <= 1.01 and -0.01 <= up <= 1.01:
        left, bottom = self.transFigure.inverted().transform(pixel)
        visible.append(Tooltip(float(left), 1 - float(bottom), text))
    return visible


def new_figure(width: float, height: float) -> Picture:
  """Creates a white figure with a size in inches."""
  return Picture(figsize=(width, height), dpi=DPI, facecolor="white")


def add_tooltips(
  axes: Axes, xs: Iterable[float], ys: Iterable[float], texts: Sequence[str]
) -> None:
  """Adds tooltips to points, given in the coordinates of their axes."""
  figure = axes.get_figure()
  assert isinstance(figure, Picture), "new_figure makes them"
  figure.add_tooltips(axes, xs, ys, texts)


def add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
  """Adds axes at a position in inches; a layout engine would take longer than the drawing."""
  full_width, full_height = figure.get_size_inches()
  return figure.add_axes(
    (left / full_width, bottom / full_height, width / full_width, height / full_height)
  )


def style_axes(axes: Axes) -> None:
  """Styles the frame, the ticks and the grid of a chart."""
  axes.spines[["top", "right"]].set_visible(False)
  axes.spines[["left", "bottom"]].set_color(MUTED)
  axes.tick_params(color=MUTED, labelcolor=INK, labelsize=TEXT_POINTS, length=3)
  axes.grid(color=RULE, linewidth=0.8)
  axes.set_axisbelow(True)


def write(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
  """Writes text at a position in inches from the lower left corner."""
  full_width, full_height = figure.get_size_inches()
  figure.text(x / full_width, y / full_height, text, parse_math=False, **style)


def write_header(figure: Figure, title: str, summary: str) -> None:
  """Writes the title, and a line below it, in the top 0.7 inches."""
  width, height = figure.get_size_inches()
  available = (width - 0.3) * POINTS_PER_INCH
  text, size = fitted(title, available, TITLE_POINTS, bold=True)
  write(figure, 0.15, height - 0.32, text, color=INK, fontsize=size, weight="bold")
  text, size = fitted(summary, available, LABEL_POINTS)
  write(figure, 0.15, height - 0.58, text, color=MUTED, fontsize=size)


def fitted(text: str, width: float, points: float, *, bold: bool = False) -> tuple[str, float]:
  """Fits a line of text to a width in points: shrinks it, then shortens it.

  The width is estimated from the mean advance of the font, because measuring a text takes as long
  as drawing it.

  Returns:
    The text to write, and its size in points.
  """
  advance = 0.70 if bold else 0.62
  size = min(points, width / (advance * max(1, len(text))))
  if size >= SMALLEST_POINTS:
    return text, size
  length = max(1, int(width / (advance * SMALLEST_POINTS)) - 1)
  return text[:length] + "…", SMALLEST_POINTS


def drawable(text: str) -> str:
  """Replaces characters that the font lacks, for example in file names, by question marks."""
  font = get_font(findfont(FontProperties()))
  return "".join(letter if font.get_char_index(ord(letter)) else "?" for letter in text)


def percent(fraction: float) -> str:
  """Formats a fraction as a whole percentage; only 1 becomes 100%."""
  return ">99%" if 0.995 <= fraction < 1.0 else f"{fraction:.0%}"


def log_ticks(low: float, high: float) -> list[float]:
  """Returns round values from `low` to `high`: fewer per power of ten if there are many powers."""
  exponents = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
  steps: tuple[float, ...] = (1, 2, 5)
  if high >= 2000 * low:
    steps = (1,)
  elif high < 10 * low:
    steps = (1, 1.5, 2, 3, 5, 7)
  ticks = [step * 10.0**exponent for exponent in exponents for step in steps]
  return [tick for tick in ticks if low <= tick <= high]


def to_array(figure: Figure) -> np.ndarray:
  """Returns a figure as pixels.

  Args:
    figure: any figure; it is drawn only if it has changed since it was last drawn.

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
  """Writes the figure as a PNG file, atomically.

  The file contains neither a time nor a version, so equal figures give equal bytes.

  Args:
    figure: the figure.
    path: the file to write, in an existing directory.

  Raises:
    OSError: the directory is missing or can't be written; an older file stays unchanged.
  """
  path = Path(path)
  encoded = io.BytesIO()
  no_version: dict[str, Any] = {"Software": None}
  imsave(encoded, to_array(figure), format="png", dpi=figure.dpi, metadata=no_version)
  with files.atomic(path, shared=True) as partial:
    partial.write_bytes(encoded.getbuffer())
