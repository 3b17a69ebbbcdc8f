"""Curves of the cost or throughput of training as a quantity grows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from mnist_research.figures.canvas import (
  BLUE,
  INK,
  MUTED,
  NOTE_POINTS,
  RULE,
  TEXT_POINTS,
  VERMILION,
  add_axes,
  log_ticks,
  new_figure,
  style_axes,
  write,
  write_header,
)

_COLORS = (BLUE, VERMILION)
_COLUMNS = 2
_CHART_WIDTH, _CHART_HEIGHT = 3.7, 2.3


class Line(NamedTuple):
  """A measured quantity.

  Attributes:
    name: its name, shown if there are several.
    median: the median at each x, positive.
    lowest: the lowest value at each x.
    highest: the highest value at each x.
  """

  name: str
  median: Sequence[float]
  lowest: Sequence[float]
  highest: Sequence[float]


class Chart(NamedTuple):
  """The effect of a quantity.

  Attributes:
    title: the measured quantity, with its unit.
    x_label: the quantity that grows.
    x: its values, ascending and positive.
    lines: at most two lines, each as long as `x`.
    is_cost: whether to draw proportional growth, as a straight line through the first point.
  """

  title: str
  x_label: str
  x: Sequence[int]
  lines: Sequence[Line]
  is_cost: bool = False


def scale_curves(charts: Sequence[Chart], *, title: str, summary: str) -> Figure:
  """Draws charts on log axes, with medians as lines and ranges as bars.

  Args:
    charts: the charts, at least one.
    title: the title of the figure.
    summary: the line below the title.
  """
  rows = -(-len(charts) // _COLUMNS)
  left, bottom, across, up = 0.75, 0.75, _CHART_WIDTH + 0.95, _CHART_HEIGHT + 0.95
  figure = new_figure(_COLUMNS * across + 0.1, rows * up + 0.75)
  write_header(figure, title, summary)
  for number, chart in enumerate(charts):
    row, column = divmod(number, _COLUMNS)
    axes = add_axes(
      figure,
      left + column * across,
      bottom + (rows - 1 - row) * up,
      _CHART_WIDTH,
      _CHART_HEIGHT,
    )
    _draw(axes, chart)
  note = "bars: lowest to highest of the turns"
  note += "; dashed: in proportion" if any(chart.is_cost for chart in charts) else ""
  write(figure, _COLUMNS * across - 0.1, 0.14, note, color=MUTED, fontsize=NOTE_POINTS, ha="right")
  return figure


def range_test(
  rates: np.ndarray, losses: np.ndarray, averages: np.ndarray, *, proposal: float
) -> Figure:
  """Draws the loss by learning rate.

  Args:
    rates: float [steps], the learning rates, ascending and positive.
    losses: float [steps], the loss of each step.
    averages: float [steps], the moving average of the losses.
    proposal: the proposed rate.
  """
  figure = new_figure(6.4, 4.2)
  write_header(figure, "Loss by learning rate", f"proposed: {proposal:g}")
  axes = add_axes(figure, 0.75, 0.65, 5.4, 2.75)
  axes.set_xscale("log")
  axes.plot(rates, losses, color=RULE, linewidth=0.8, label="a step's")
  axes.plot(rates, averages, color=BLUE, linewidth=1.8, label="moving average")
  axes.axvline(proposal, color=VERMILION, linewidth=1.2, label="proposed rate")
  axes.set_ylim(0, 1.15 * averages[: 1 + len(averages) // 2].max())
  style_axes(axes)
  axes.set_xlabel("learning rate", color=MUTED, fontsize=TEXT_POINTS)
  axes.legend(frameon=False, fontsize=NOTE_POINTS, labelcolor=INK)
  return figure


def _draw(axes: Axes, chart: Chart) -> None:
  axes.set_xscale("log")
  axes.set_yscale("log")
  x = np.asarray(chart.x, np.float64)
  for line, color in zip(chart.lines, _COLORS, strict=False):
    median = np.asarray(line.median)
    errors = [median - np.asarray(line.lowest), np.asarray(line.highest) - median]
    axes.errorbar(
      x, median, yerr=errors, color=color, linewidth=1.8, marker="o", markersize=4, elinewidth=1,
      capsize=2, label=line.name, zorder=3,
    )  # fmt: skip
  if chart.is_cost:
    expected = chart.lines[0].median[0] * x / x[0]
    axes.plot(x, expected, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="in proportion")
  style_axes(axes)
  axes.xaxis.set_major_locator(FixedLocator(list(x)))
  axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
  axes.xaxis.set_minor_locator(NullLocator())
  _set_value_ticks(axes, chart)
  axes.set_xlabel(chart.x_label, color=MUTED, fontsize=TEXT_POINTS)
  axes.set_title(chart.title, loc="left", color=INK, fontsize=10.5, weight="bold", pad=7)
  if len(chart.lines) > 1:
    axes.legend(frameon=False, fontsize=NOTE_POINTS, labelcolor=INK)


def _set_value_ticks(axes: Axes, chart: Chart) -> None:
  """Sets limits and ticks so that every value fits and is easy to read."""
  low = 0.8 * min(min(line.lowest) for line in chart.lines)
  high = 1.25 * max(max(line.highest) for line in chart.lines)
  axes.set_ylim(low, high)
  axes.yaxis.set_major_locator(FixedLocator(log_ticks(low, high)))
  axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
  axes.yaxis.set_minor_locator(NullLocator())


def _short(value: float) -> str:
  """Shortens 60000 to 60k, and leaves smaller numbers unchanged."""
  return f"{value / 1000:g}k" if value >= 10_000 else f"{value:g}"
