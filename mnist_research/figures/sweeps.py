"""Pictures of a sweep: a heat map of two settings, parallel coordinates, and importances."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mnist_research.figures.canvas import (
  BLUE,
  INK,
  LABEL_POINTS,
  MUTED,
  NOTE_POINTS,
  POINTS_PER_INCH,
  RULE,
  TEXT_POINTS,
  VERMILION,
  add_axes,
  add_tooltips,
  fitted,
  new_figure,
  write,
  write_header,
)

# From pale to dark; darker is better.
SCALE = LinearSegmentedColormap.from_list("accuracy", ["#E8F1F8", "#8DBEDF", "#0072B2", "#08304F"])


class Axis(NamedTuple):
  """A setting in parallel coordinates.

  Attributes:
    name: the setting.
    values: the value in each trial, numbers or texts.
    log: whether its numbers are on a log scale.
  """

  name: str
  values: Sequence[float] | Sequence[str]
  log: bool = False


def heat_map(
  values: np.ndarray,
  *,
  rows: Sequence[str],
  columns: Sequence[str],
  row_name: str,
  column_name: str,
  title: str,
  summary: str,
) -> Figure:
  """Draws the accuracy for each pair of values of two settings.

  Args:
    values: float [rows, columns], fractions, NaN if missing; at least one isn't NaN.
    rows: the label of each row.
    columns: the label of each column.
    row_name: the setting in the rows.
    column_name: the setting in the columns.
    title: the title of the figure.
    summary: the line below the title.

  Returns:
    The figure; the best value is framed.
  """
  width, height = 1.05, 0.5
  left = 0.55 + 0.085 * max(map(len, rows))
  across, up = width * len(columns), height * len(rows)
  figure = new_figure(max(left + across + 0.4, 6.4), up + 1.65)
  axes = add_axes(figure, left, 0.75, across, up)
  finite = values[np.isfinite(values)]
  norm = Normalize(finite.min() - 1e-9, finite.max())
  colors = SCALE(norm(np.nan_to_num(values)))
  colors[~np.isfinite(values)] = (1, 1, 1, 1)
  axes.imshow(colors, aspect="auto", interpolation="nearest")
  best = np.unravel_index(np.nanargmax(values), values.shape)
  for (row, column), value in np.ndenumerate(values):
    known = np.isfinite(value)
    dark = known and colors[row, column, :3] @ (0.2126, 0.7152, 0.0722) < 0.5
    axes.text(
      column, row, f"{value:.2%}" if known else "-", color="white" if dark else INK,
      weight="bold" if (row, column) == best else None, fontsize=LABEL_POINTS, ha="center",
      va="center_baseline",
    )  # fmt: skip
  corner = best[1] - 0.48, best[0] - 0.46
  axes.add_patch(Rectangle(corner, 0.96, 0.92, fill=False, edgecolor=VERMILION, linewidth=2.5))
  axes.hlines(np.arange(1, len(rows)) - 0.5, -0.5, len(columns) - 0.5, colors="white")
  axes.vlines(np.arange(1, len(columns)) - 0.5, -0.5, len(rows) - 0.5, colors="white")
  axes.set_xticks(range(len(columns)), [_short(c) for c in columns], parse_math=False)
  axes.set_yticks(range(len(rows)), [_short(r) for r in rows], parse_math=False)
  axes.tick_params(length=0, labelsize=TEXT_POINTS, labelcolor=INK)
  axes.spines[:].set_visible(False)
  axes.set_xlabel(column_name, color=MUTED, fontsize=TEXT_POINTS, parse_math=False)
  axes.set_ylabel(row_name, color=MUTED, fontsize=TEXT_POINTS, parse_math=False)
  write_header(figure, title, summary)
  return figure


def _short(text: str) -> str:
  return text if len(text) <= 14 else text[:13] + "…"


def parallel_coordinates(
  settings: Sequence[Axis], accuracies: Sequence[float], *, title: str, summary: str
) -> Figure:
  """Draws every trial as a line through its settings to its error rate; darker is better.

  Args:
    settings: the settings, each with a value for every trial.
    accuracies: the accuracies of the trials, fractions; NaN, for example for a pruned trial, is
      drawn gray. At least one isn't NaN.
    title: the title of the figure.
    summary: the line below the title.

  Returns:
    The figure.
  """
  errors = 100 * (1 - np.asarray(accuracies, float))
  known = np.flatnonzero(np.isfinite(errors))
  result = Axis("validation error", errors.tolist(), log=_spreads(errors[known]))
  columns = [*settings, result]
  heights = np.stack([_heights(axis) for axis in columns])
  heights[-1] = 1 - heights[-1]  # The best is at the top.
  left, pitch, height, bottom = 0.9, 1.75, 3.6, 0.75
  across = pitch * (len(columns) - 1)
  figure = new_figure(max(left + across + 1.1, 6.4), bottom + height + 0.95)
  axes = add_axes(figure, left, bottom, across, height)
  axes.set_axis_off()
  axes.set_xlim(0, len(columns) - 1)
  axes.set_ylim(0, 1)
  positions = np.arange(len(columns))
  for trial in np.flatnonzero(~np.isfinite(errors)):
    line = heights[:-1, trial]
    axes.plot(positions[:-1], line, color=MUTED, alpha=0.25, linewidth=0.8, clip_on=False)
  # Colored by rank, because a trial that failed to learn would leave all others in one color.
  for rank, trial in enumerate(known[np.argsort(-errors[known], kind="stable")]):
    share = (rank + 1) / len(known)
    axes.plot(
      positions, heights[:, trial], color=SCALE(0.15 + 0.85 * share), alpha=0.5 + 0.5 * share,
      linewidth=0.8 + 1.6 * share**4, zorder=3 + share, clip_on=False, label=f"trial {trial}",
    )  # fmt: skip
    add_tooltips(axes, positions, heights[:, trial], [
      f"trial {trial}: {axis.name} {_value(axis.values[trial])}" for axis in columns
    ])  # fmt: skip
  for position, axis in enumerate(columns):
    _draw_axis(axes, position, axis, flipped=axis is result)
    text, size = fitted(axis.name, (pitch - 0.1) * POINTS_PER_INCH, TEXT_POINTS)
    write(
      figure,
      left + position * pitch,
      0.3,
      text,
      color=INK,
      fontsize=size,
      weight="bold",
      ha="center",
    )
  write_header(figure, title, summary)
  return figure


def _value(value: float | str) -> str:
  return value if isinstance(value, str) else f"{value:.4g}"


def _spreads(values: np.ndarray) -> bool:
  return bool(len(values) and values.min() > 0 and values.max() > 6 * values.min())


def _heights(axis: Axis) -> np.ndarray:
  """Returns the position of each value on its axis, from 0 to 1; NaN for NaN."""
  if any(isinstance(value, str) for value in axis.values):
    names = list(dict.fromkeys(axis.values))
    return np.array([(names.index(value) + 0.5) / len(names) for value in axis.values])
  values = np.asarray(axis.values, float)
  values = np.log(values) if axis.log else values
  low, high = np.nanmin(values), np.nanmax(values)
  return (values - low) / (high - low) if high > low else np.where(np.isnan(values), np.nan, 0.5)


def _draw_axis(axes: Axes, position: int, axis: Axis, *, flipped: bool) -> None:
  """Draws a vertical axis with all its names, or with five numbers."""
  axes.plot([position, position], [0, 1], color=INK, linewidth=1, zorder=5, clip_on=False)
  heights = _heights(axis)
  if any(isinstance(value, str) for value in axis.values):
    ticks = dict(zip(axis.values, heights, strict=True))
  else:
    values = np.asarray(axis.values, float)
    low, high = np.nanmin(values), np.nanmax(values)
    spread = np.geomspace(low, high, 5) if axis.log else np.linspace(low, high, 5)
    shares = np.linspace(1, 0, 5) if flipped else np.linspace(0, 1, 5)
    unit = "%" if flipped else ""
    ticks = {f"{value:.3g}{unit}": share for value, share in zip(spread, shares, strict=True)}
    if high <= low:
      ticks = {f"{low:.3g}{unit}": 0.5}
  for text, height in ticks.items():
    axes.plot([position - 0.02, position], [height, height], color=INK, linewidth=1, clip_on=False)
    axes.text(
      position - 0.04, height, _short(str(text)), color=INK, fontsize=NOTE_POINTS, ha="right",
      va="center", zorder=9, parse_math=False,
      bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6},
    )  # fmt: skip


def importances(shares: Mapping[str, float], *, title: str, summary: str) -> Figure:
  """Draws the importance of each setting, most important first.

  Args:
    shares: the importance of each setting; they sum to 1.
    title: the title of the figure.
    summary: the line below the title.

  Returns:
    The figure.
  """
  ordered = sorted(shares.items(), key=lambda item: -item[1])
  left, width, pitch, bottom = 2.2, 4.2, 0.36, 0.2
  height = pitch * len(ordered)
  figure = new_figure(left + width + 0.9, bottom + height + 0.85)
  axes = add_axes(figure, left, bottom, width, height)
  axes.set_axis_off()
  axes.set_xlim(0, 1)
  axes.set_ylim(len(ordered) - 0.5, -0.5)
  for row, (name, share) in enumerate(ordered):
    axes.barh(row, 1, 0.6, color=RULE, zorder=1)
    axes.barh(row, share, 0.6, color=BLUE, label=name, zorder=2)
    style: dict[str, Any] = {"fontsize": TEXT_POINTS, "color": INK, "va": "center"}
    axes.text(-0.02, row, name, ha="right", parse_math=False, **style)
    axes.text(1.02, row, f"{share:.0%}", ha="left", **style)
  write_header(figure, title, summary)
  return figure
