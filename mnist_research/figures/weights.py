"""Draws the weights of the first layer as pictures."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from mnist_research.figures.canvas import (
  BLUE,
  DPI,
  MUTED,
  NOTE_POINTS,
  VERMILION,
  add_axes,
  new_figure,
  write,
  write_header,
)

MAX_WEIGHTS = 64
COLUMNS = 16
_CELL_PIXELS = 60
# An odd number of colors, so that 0 is white.
_COLORS = LinearSegmentedColormap.from_list("weights", [BLUE, "white", VERMILION], N=255)


def weight_grid(weights: np.ndarray, *, title: str) -> Figure:
  """Draws weights as images on one scale: blue below zero, orange above.

  Weights for color images are drawn in color, with gray as zero.

  Args:
    weights: floats [N, height, width, 1 or 3], the weights of N units or filters; the first 64 are
      drawn.
    title: the title of the figure.

  Returns:
    The figure.
  """
  shown = weights[:MAX_WEIGHTS, ..., 0] if weights.shape[-1] == 1 else weights[:MAX_WEIGHTS]
  columns = min(COLUMNS, len(shown))
  rows = -(-len(shown) // columns)
  limit = float(np.abs(shown).max()) or 1.0
  # One image, because separate axes would take about 20 times as long. NaN leaves the gaps white.
  height, breadth = (side + 1 for side in shown.shape[1:3])
  tiles = np.full((rows * columns, height, breadth, *shown.shape[3:]), np.nan)
  tiles[: len(shown), :-1, :-1] = shown
  # An integer number of pixels per weight keeps them equally large.
  scale = max(1, _CELL_PIXELS // max(height, breadth)) / DPI
  across, up = columns * breadth * scale, rows * height * scale
  figure = new_figure(max(across + 0.3, 5.2), up + 1.25)
  axes = add_axes(figure, 0.15, 0.4, across, up)
  axes.set_axis_off()
  picture = tiles.reshape(rows, columns, height, breadth, *shown.shape[3:]).swapaxes(1, 2)
  picture = picture.reshape(rows * height, columns * breadth, *shown.shape[3:])
  legend = f"blue: down to -{limit:.2g}    white: 0    orange: up to {limit:.2g}"
  if shown.ndim == 4:
    picture = np.nan_to_num(0.5 + 0.5 * picture / limit, nan=1.0)
    legend = f"each color: dark down to -{limit:.2g}, gray 0, bright up to {limit:.2g}"
  axes.imshow(
    picture,
    cmap=_COLORS, vmin=-limit, vmax=limit, interpolation="nearest", aspect="auto",
  )  # fmt: skip
  count = f"the first {len(shown)} of {len(weights):,}" if len(shown) < len(weights) else "all"
  write_header(figure, title, f"{count}, each {breadth - 1} x {height - 1}")
  write(figure, 0.15, 0.15, legend, color=MUTED, fontsize=NOTE_POINTS)
  return figure
