"""Training curves: loss, error rate and learning rate by step."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from mnist_research.figures.canvas import (
  BLUE,
  DPI,
  GREEN,
  INK,
  MUTED,
  NOTE_POINTS,
  POINTS_PER_INCH,
  RULE,
  TEXT_POINTS,
  VERMILION,
  add_axes,
  add_tooltips,
  log_ticks,
  new_figure,
  write,
  write_header,
)

# Ascending steps, and values, both [n].
Series = tuple[np.ndarray, np.ndarray]

SPLIT_COLORS = {"train": BLUE, "validation": VERMILION, "test": GREEN}
# With at least this many points, train is drawn twice: raw and faint, and as a running mean.
SMOOTH_FROM = 60
MARKERS_UP_TO = 30
# More tooltips per line can't be distinguished.
_MOST_TOOLTIPS = 400
TICK_STEPS = (1, 2, 5, 10)


def training_curves(records: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
  """Draws loss, error rate and learning rate by step.

  Accuracy is drawn as an error rate in percent, on a log scale if the values span a wide range, so
  that 97% and 99% are easy to distinguish. Panels without values are omitted.

  If the training loss isn't the cross-entropy that scores the other splits, the recorded
  cross-entropy (`plain_loss`) is drawn instead, because the splits share an axis.

  Args:
    records: mappings with `step` (int) and `split` ("train", "validation" or "test"), and any of
      `loss`, `plain_loss`, `accuracy` (a fraction) and `learning_rate` (floats); other keys are
      ignored.
    title: the title of the figure.

  Returns:
    The figure; if there are no values, it says so.

  Raises:
    ValueError: a record has no step or an unknown split.
  """
  _check_records(records)
  losses = _series_by_split(with_plain_losses(records), "loss")
  errors = {
    split: (steps, 100.0 * (1.0 - accuracy))
    for split, (steps, accuracy) in _series_by_split(records, "accuracy").items()
  }
  rates = _series(records, "learning_rate")
  # The height of each panel in inches, and its drawing function.
  panels: list[tuple[float, Callable[[Axes], None]]] = []
  if losses:
    panels.append((2.2, lambda axes: _draw_splits(axes, "Loss", losses, unit="")))
  if errors:
    panels.append((2.2, lambda axes: _draw_splits(axes, "Error rate", errors, unit="%")))
  if len(rates[0]):
    panels.append((0.85, lambda axes: _draw_learning_rate(axes, rates)))
  if not panels:
    return _empty_curves(title)

  left, bottom, width, heading, right = 0.75, 0.55, 6.2, 0.42, 1.6
  total = sum(height + heading for height, _ in panels)
  figure = new_figure(left + width + right, bottom + total + 0.66)
  write_header(figure, title, _summary(records))
  limits = _step_limits(records)
  top = bottom + total
  for height, draw in panels:
    axes = add_axes(figure, left, top - heading - height, width, height)
    top -= heading + height
    axes.set_xlim(*limits)
    style_panel(axes)
    draw(axes)
  axes.tick_params(labelbottom=True)
  axes.set_xlabel("step", color=MUTED, fontsize=TEXT_POINTS)
  if any(_is_smoothed(split, steps) for split, (steps, _) in [*losses.items(), *errors.items()]):
    note = "train: faint line raw, clear line running mean"
    write(figure, left + width, 0.17, note, color=MUTED, fontsize=NOTE_POINTS, ha="right")
  return figure


def with_plain_losses(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
  """Returns `records` with the plain loss as the loss, if all training records have one."""
  if not has_comparable_losses(records):
    return list(records)
  return [
    {**record, "loss": record["plain_loss"]} if record["split"] == "train" else record
    for record in records
  ]


def has_comparable_losses(records: Sequence[Mapping[str, Any]]) -> bool:
  """Returns whether all training records have the loss that scores the other splits."""
  return all("plain_loss" in record for record in records if record["split"] == "train")


def _check_records(records: Sequence[Mapping[str, Any]]) -> None:
  for number, record in enumerate(records):
    if record.get("step") is None or record.get("split") not in SPLIT_COLORS:
      raise ValueError(
        f"record {number} needs a step and a split in {sorted(SPLIT_COLORS)}, "
        f"got step {record.get('step')!r} and split {record.get('split')!r}"
      )


def _series(records: Sequence[Mapping[str, Any]], key: str) -> Series:
  with_key = sorted(
    (record for record in records if record.get(key) is not None),
    key=lambda record: record["step"],
  )
  steps = np.array([record["step"] for record in with_key], np.int64)
  return steps, np.array([record[key] for record in with_key], np.float64)


def _series_by_split(records: Sequence[Mapping[str, Any]], key: str) -> dict[str, Series]:
  """Returns the series of each split that has values."""
  series = {}
  for split in SPLIT_COLORS:
    steps, values = _series([record for record in records if record["split"] == split], key)
    if len(steps):
      series[split] = steps, values
  return series


def _summary(records: Sequence[Mapping[str, Any]]) -> str:
  """Describes the last accuracy of the held-out splits."""
  parts = [
    f"{split} accuracy {accuracy[-1]:.2%} at step {steps[-1]:,}"
    for split, (steps, accuracy) in _series_by_split(records, "accuracy").items()
    if split != "train"
  ]
  return " · ".join(parts) or f"{max(record['step'] for record in records):,} steps"


def _empty_curves(title: str) -> Figure:
  figure = new_figure(6.0, 1.6)
  write_header(figure, title, "")
  write(figure, 3.0, 0.5, "Nothing recorded yet", color=MUTED, fontsize=13, ha="center")
  return figure


def _step_limits(records: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
  steps = [record["step"] for record in records]
  low, high = min(steps), max(steps)
  # Starts at zero, unless that would leave the left of the panels empty after a late resume.
  left = 0 if low < 0.35 * high or low == high else low
  return left, max(high, left + 1)


def add_line_tooltips(
  axes: Axes, xs: np.ndarray, values: np.ndarray, name: str, x_name: str, unit: str = ""
) -> None:
  """Adds tooltips to the points of a line."""
  chosen = np.unique(np.linspace(0, len(xs) - 1, min(len(xs), _MOST_TOOLTIPS)).astype(int))
  texts = [f"{name}: {values[i]:.4g}{unit} at {x_name} {_x_text(xs[i])}" for i in chosen]
  add_tooltips(axes, xs[chosen], values[chosen], texts)


def _x_text(x: float) -> str:
  return f"{x:,.0f}" if x >= 1000 else f"{x:.4g}"


def style_panel(axes: Axes) -> None:
  axes.spines[["top", "right"]].set_visible(False)
  axes.spines[["left", "bottom"]].set_color(MUTED)
  axes.tick_params(color=MUTED, labelcolor=INK, labelsize=TEXT_POINTS, length=3, labelbottom=False)
  axes.grid(color=RULE, linewidth=0.8)
  axes.set_axisbelow(True)
  axes.xaxis.set_major_locator(MaxNLocator(7, integer=True, steps=TICK_STEPS))
  axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))


def write_panel_name(axes: Axes, name: str) -> None:
  axes.set_title(name, loc="left", color=INK, fontsize=10.5, weight="bold", pad=7)


def _draw_learning_rate(axes: Axes, rates: Series) -> None:
  steps, values = rates
  marker = "o" if len(steps) <= MARKERS_UP_TO else None
  axes.plot(
    steps, values, color=INK, linewidth=1.5, marker=marker, markersize=3, label="learning rate"
  )
  add_line_tooltips(axes, steps, values, "learning rate", "step")
  peak = float(np.max(values, where=np.isfinite(values), initial=0.0)) or 1.0
  axes.set_ylim(0, 1.12 * peak)
  axes.yaxis.set_major_locator(FixedLocator([0, peak]))
  axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
  write_panel_name(axes, "Learning rate")


def _draw_splits(axes: Axes, name: str, series: Mapping[str, Series], *, unit: str) -> None:
  """Draws a quantity for all splits, each with its last value on the right."""
  clear, raw = {}, np.array([])
  for split, (steps, values) in series.items():
    clear[split] = values
    if _is_smoothed(split, steps):
      axes.plot(
        steps, values, color=BLUE, alpha=0.25, linewidth=0.6, antialiased=False, label="train (raw)"
      )
      clear[split], raw = running_mean(values, 2 * (len(steps) // 80) + 3), values
    marker = {"train": "o", "validation": "s", "test": "D"}[split]
    axes.plot(
      steps,
      clear[split],
      color=SPLIT_COLORS[split],
      linewidth=1.8,
      marker=marker if len(steps) <= MARKERS_UP_TO else None,
      markersize=7 if split == "test" else 3.5,
      label=split,
      zorder=3 + list(SPLIT_COLORS).index(split),
      clip_on=False,
    )
    add_line_tooltips(
      axes, steps, clear[split], f"{split}, smoothed" if _is_smoothed(split, steps) else split,
      "step", unit,
    )  # fmt: skip
  if scale_values(axes, np.concatenate(list(clear.values())), raw):
    name += ", log scale"
    if (raw <= 0).any():
      name += " (raw zeros lie below it)"
  axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}{unit}"))
  write_panel_name(axes, name)
  _write_last_values(axes, {split: values[-1] for split, values in clear.items()}, unit)


def _is_smoothed(split: str, steps: np.ndarray) -> bool:
  return split == "train" and len(steps) >= SMOOTH_FROM


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
  """Returns the mean of the finite values in a centered odd window, shorter at the ends."""
  finite = np.isfinite(values)
  kernel = np.ones(window)
  total = np.convolve(np.where(finite, values, 0.0), kernel, mode="same")
  count = np.convolve(finite, kernel, mode="same")
  return np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0.5)


def scale_values(axes: Axes, clear: np.ndarray, raw: np.ndarray) -> bool:
  """Sets the scale, limits and ticks of the value axis; returns whether it is a log scale.

  Raw values set only the upper limit, so that a batch without errors doesn't stretch the axis.
  """
  finite = clear[np.isfinite(clear)]
  positive = finite[finite > 0]
  highest = np.concatenate([finite, raw[np.isfinite(raw)]]).max(initial=0.0)
  # A wider range is easier to read on a log scale.
  if not len(positive) or highest < 6 * positive.min():
    low, high = finite.min(initial=highest), highest or 1.0
    padding = 0.1 * (high - low) or 0.1 * high
    axes.set_ylim(max(0.0, low - padding), high + padding)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=TICK_STEPS))
    return False
  low, high = positive.min() * 0.7, highest * 1.15
  axes.set_yscale("log", nonpositive="mask")
  axes.set_ylim(low, high)
  axes.yaxis.set_major_locator(FixedLocator(log_ticks(low, high)))
  axes.yaxis.set_minor_locator(NullLocator())
  return True


def _write_last_values(axes: Axes, last: Mapping[str, float], unit: str) -> None:
  """Writes the name and last value of each split next to the axes, without overlap."""
  heights = {split: height_of(axes, value) for split, value in last.items()}
  gap = 1.4 * TEXT_POINTS / POINTS_PER_INCH / (axes.get_window_extent().height / DPI)
  order = sorted(heights, key=heights.__getitem__)
  moved = moved_apart(np.array([heights[split] for split in order]), gap)
  for split, y in zip(order, moved, strict=True):
    value = f"{last[split]:.2f}{unit}" if unit else f"{last[split]:.3g}"
    axes.text(
      1.025,
      y,
      f"{split} {value}",
      color=SPLIT_COLORS[split],
      fontsize=TEXT_POINTS,
      weight="bold",
      va="center",
      transform=axes.transAxes,
    )


def height_of(axes: Axes, value: float) -> float:
  """Returns a value's height as a fraction of the axes; the top if it isn't finite."""
  if not np.isfinite(value):
    return 1.0
  low, high = axes.get_ylim()
  to_fraction = axes.transScale + axes.transLimits
  return float(to_fraction.transform((1, np.clip(value, low, high)))[1])


def moved_apart(heights: np.ndarray, gap: float) -> np.ndarray:
  """Moves ascending heights at least a gap apart, half of it up and half of it down."""
  offsets = gap * np.arange(len(heights))
  upwards = np.maximum.accumulate(heights - offsets) + offsets
  downwards = np.minimum.accumulate((heights - offsets)[::-1])[::-1] + offsets
  return (upwards + downwards) / 2
