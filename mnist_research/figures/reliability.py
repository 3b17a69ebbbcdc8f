"""The reliability diagram: accuracy by confidence."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from mnist_research.figures.canvas import (
  BLUE,
  INK,
  MUTED,
  NOTE_POINTS,
  TEXT_POINTS,
  VERMILION,
  add_axes,
  add_tooltips,
  new_figure,
  style_axes,
  write,
  write_header,
)
from mnist_research.figures.curves import write_panel_name
from mnist_research.metrics.calibration import Reliability
from mnist_research.metrics.evaluation import wilson_interval


def reliability_diagram(reliability: Reliability, *, title: str) -> Figure:
  """Draws the accuracy and the number of predictions in each confidence bin.

  A bar that ends at the diagonal is calibrated. The line through a bar's end is the 95% interval
  (Wilson) of its accuracy, which is wide for a bin with few predictions.

  Args:
    reliability: the bins, at least one of them not empty.
    title: the title of the figure.

  Returns:
    The figure.
  """
  left, side, histogram, between = 0.75, 4.2, 1.1, 0.65
  bottom = 0.6 + histogram + between
  figure = new_figure(left + side + 2.3, bottom + side + 1.15)
  _draw_accuracy(add_axes(figure, left, bottom, side, side), reliability)
  _draw_counts(add_axes(figure, left, 0.6, side, histogram), reliability)
  total = int(reliability.counts.sum())
  filled = reliability.counts > 0
  weights = reliability.counts[filled] / total
  accuracy, confidence = (
    float(values[filled] @ weights) for values in (reliability.accuracy, reliability.confidence)
  )
  write_header(
    figure,
    title,
    f"expected calibration error {reliability.expected_calibration_error:.2%} · accuracy "
    f"{accuracy:.2%} · mean confidence {confidence:.2%}",
  )
  x, y = left + side + 0.2, bottom + side
  for text, color in (
    ("bar: accuracy", BLUE),
    ("hatched: its distance\nfrom the confidence", VERMILION),
    ("line: 95% interval", INK),
    ("dashes: perfectly calibrated", MUTED),
  ):
    write(figure, x, y, text, color=color, fontsize=NOTE_POINTS, va="top")
    y -= 0.2 + 0.19 * text.count("\n")
  return figure


def _draw_accuracy(axes: Axes, reliability: Reliability) -> None:
  counts = reliability.counts
  bins = len(counts)
  filled = np.flatnonzero(counts)
  middles = (filled + 0.5) / bins
  accuracy, confidence = reliability.accuracy[filled], reliability.confidence[filled]
  width = 0.92 / bins
  axes.bar(middles, accuracy, width, color=BLUE, alpha=0.45, label="accuracy", zorder=2)
  axes.bar(
    middles,
    confidence - accuracy,
    width,
    bottom=accuracy,
    facecolor="none",
    edgecolor=VERMILION,
    hatch="////",
    linewidth=0.8,
    label="gap",
    zorder=3,
  )
  low, high = wilson_interval(np.rint(accuracy * counts[filled]), counts[filled])
  axes.vlines(middles, low, high, color=INK, linewidth=1.2, label="interval", zorder=4)
  axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=5)
  add_tooltips(axes, middles, accuracy, [
    f"confidence {bin / bins:.0%} to {(bin + 1) / bins:.0%}: {share:.2%} of {count:,} right"
    for bin, share, count in zip(filled, accuracy, counts[filled], strict=True)
  ])  # fmt: skip
  _style(axes)
  axes.set_ylim(0, 1)
  axes.yaxis.set_major_locator(FixedLocator(np.linspace(0, 1, 6).tolist()))
  axes.yaxis.set_major_formatter(FuncFormatter(_percent))
  axes.tick_params(labelbottom=False)
  write_panel_name(axes, "Accuracy by confidence")


def _draw_counts(axes: Axes, reliability: Reliability) -> None:
  """Draws the number of predictions in each bin, on a log scale because most are in the last."""
  counts = reliability.counts
  middles = (np.arange(len(counts)) + 0.5) / len(counts)
  axes.bar(middles, counts, 0.92 / len(counts), color=MUTED, alpha=0.55, label="count", zorder=2)
  filled, bins = np.flatnonzero(counts), len(counts)
  add_tooltips(axes, middles[filled], counts[filled], [
    f"confidence {bin / bins:.0%} to {(bin + 1) / bins:.0%}: {counts[bin]:,} predictions"
    for bin in filled
  ])  # fmt: skip
  _style(axes)
  axes.set_yscale("log")
  top = 10.0 ** np.ceil(np.log10(max(10, counts.max())))
  axes.set_ylim(0.7, top)
  powers = range(int(np.log10(top)) + 1)
  ticks = [10.0**power for power in powers][:: len(powers) // 4 + 1]
  axes.yaxis.set_major_locator(FixedLocator(ticks))
  axes.yaxis.set_minor_locator(FixedLocator([]))
  axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
  write_panel_name(axes, "Predictions, log scale")
  axes.set_xlabel("confidence", color=MUTED, fontsize=TEXT_POINTS)


def _style(axes: Axes) -> None:
  style_axes(axes)
  axes.set_xlim(0, 1)
  axes.xaxis.set_major_locator(FixedLocator(np.linspace(0, 1, 6).tolist()))
  axes.xaxis.set_major_formatter(FuncFormatter(_percent))


def _percent(fraction: float, _: int | None) -> str:
  return f"{fraction:.0%}"
