"""Compares several configs: their accuracies over seeds, and their curves."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mnist_research.figures.canvas import (
  BLUE,
  DPI,
  GREEN,
  INK,
  MUTED,
  NOTE_POINTS,
  POINTS_PER_INCH,
  TEXT_POINTS,
  VERMILION,
  add_axes,
  add_tooltips,
  fitted,
  new_figure,
  write,
  write_header,
)
from mnist_research.figures.curves import (
  SMOOTH_FROM,
  TICK_STEPS,
  Series,
  add_line_tooltips,
  height_of,
  moved_apart,
  running_mean,
  scale_values,
  style_panel,
  write_panel_name,
)

# For the best configs; all others are gray, because more colors can't be distinguished.
COLORS = (BLUE, VERMILION, GREEN, "#B5568F", "#C98500", "#3AA0D8", "#6B4C9A", "#7A5230")
OTHERS = "#A9B2BD"
# In inches.
LEFT, WIDTH, NAMES = 0.75, 6.0, 3.0


class Compared(NamedTuple):
  """A config in a picture.

  Attributes:
    name: its settings in a few words.
    accuracies: the accuracy of each seed, a fraction.
    interval: the 95% interval of their mean; None for a single seed.
    validation: the mean validation accuracy; None without validation examples.
    losses: the training loss by epoch, for each seed.
    errors: the validation error rate in percent by epoch, for each seed.
    seeds: the seeds of `accuracies`; empty if unknown.
  """

  name: str
  accuracies: Sequence[float]
  interval: tuple[float, float] | None
  validation: float | None
  losses: Sequence[Series]
  errors: Sequence[Series]
  seeds: Sequence[int] = ()


def compared_accuracies(configs: Sequence[Compared], *, title: str, split: str = "test") -> Figure:
  """Draws the accuracy of every seed of each config, with the mean and its 95% interval.

  Args:
    configs: the configs, at least one; the first is at the top.
    title: the title of the figure.
    split: the split of the accuracies.

  Returns:
    The figure.
  """
  pitch, bottom = 0.34, 0.75
  height = pitch * len(configs)
  figure = new_figure(NAMES + WIDTH + 1.3, bottom + height + 0.85)
  axes = add_axes(figure, NAMES, bottom, WIDTH, height)
  style_panel(axes)
  axes.spines["left"].set_visible(False)
  axes.grid(visible=False, axis="y")
  names, size = _fitted_alike([config.name for config in configs], NAMES - 0.35, TEXT_POINTS)
  colors = _colors(len(configs))
  for row, (config, text, color) in enumerate(zip(configs, names, colors, strict=True)):
    y = len(configs) - 1 - row
    _draw_accuracies(axes, config, y, color)
    position = NAMES - 0.15, bottom + (y + 0.5) * pitch
    write(figure, *position, text, color=INK, fontsize=size, ha="right", va="center")
    mean = f"{np.mean(config.accuracies):.2%}" if config.accuracies else "-"
    write(
      figure, NAMES + WIDTH + 0.2, position[1], mean, color=MUTED if color == OTHERS else color,
      fontsize=TEXT_POINTS, weight="bold", va="center",
    )  # fmt: skip
  axes.set_xlim(*_accuracy_limits(configs))
  axes.set_ylim(-0.5, len(configs) - 0.5)
  axes.set_yticks([])
  axes.tick_params(labelbottom=True)
  axes.xaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS))
  axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g}%"))
  axes.set_xlabel(f"{split} accuracy", color=MUTED, fontsize=TEXT_POINTS)
  note = "dots: seeds · tick: mean · band: its 95% interval"
  if any(config.validation is not None for config in configs):
    note += " · diamond: mean validation accuracy"
  write_header(figure, title, note)
  return figure


def _accuracy_limits(configs: Sequence[Compared]) -> tuple[float, float]:
  """Returns limits that include every accuracy; the wide interval of two seeds may exceed them."""
  validation = [config.validation for config in configs if config.validation is not None]
  accuracies = [*validation, *(accuracy for config in configs for accuracy in config.accuracies)]
  low, high = min(accuracies), max(accuracies)
  padding = 0.35 * (high - low) or 0.005
  ends = [end for config in configs for end in config.interval or ()]
  margin = 0.04 * (high - low) or 0.001
  return max(low - padding, min([low, *ends]) - margin), min(
    high + padding, max([high, *ends]) + margin
  )


def _draw_accuracies(axes: Axes, config: Compared, y: int, color: str) -> None:
  if config.interval:
    low, high = config.interval
    axes.barh(y, high - low, 0.62, left=low, color=color, alpha=0.18, label="interval", zorder=2)
  if not config.accuracies:
    return
  mean = float(np.mean(config.accuracies))
  axes.plot([mean, mean], [y - 0.31, y + 0.31], color=color, linewidth=2, label="mean", zorder=3)
  axes.plot(
    config.accuracies, [y] * len(config.accuracies), "o", color=color, markersize=5, alpha=0.85,
    markeredgewidth=0, label="seeds", zorder=4,
  )  # fmt: skip
  names = [f"seed {seed}" for seed in config.seeds] or ["a seed"] * len(config.accuracies)
  texts = [
    f"{config.name}, {name}: {value:.2%}"
    for name, value in zip(names, config.accuracies, strict=True)
  ]
  add_tooltips(axes, config.accuracies, [y] * len(texts), texts)
  if config.interval:
    low, high = config.interval
    text = f"{config.name}, mean: {mean:.2%}, 95% interval {low:.2%} to {high:.2%}"
    add_tooltips(axes, [mean], [y + 0.31], [text])
  if config.validation is not None:
    add_tooltips(
      axes, [config.validation], [y], [f"{config.name}, validation: {config.validation:.2%}"]
    )
    axes.plot(
      [config.validation], [y], "D", markerfacecolor="white", markeredgecolor=MUTED, markersize=5,
      label="validation", zorder=3,
    )  # fmt: skip


def compared_curves(configs: Sequence[Compared], *, title: str) -> Figure:
  """Draws training loss and validation error of each config by epoch.

  A line is the mean over the seeds; its band extends from the lowest to the highest. Panels without
  values are omitted.

  Args:
    configs: the configs, at least one, best first; its line is on top.
    title: the title of the figure.

  Returns:
    The figure.
  """
  panels = {
    name: values
    for name, values, unit in (
      ("Training loss", {c.name: c.losses for c in configs if c.losses}, ""),
      ("Validation error rate", {c.name: c.errors for c in configs if c.errors}, "%"),
    )
    if values
  }
  height, heading, bottom = 2.9, 0.45, 0.55
  total = (height + heading) * max(1, len(panels))
  figure = new_figure(LEFT + WIDTH + NAMES, bottom + total + 0.66)
  colors = {c.name: color for c, color in zip(configs, _colors(len(configs)), strict=True)}
  top = bottom + total
  for name, values in panels.items():
    axes = add_axes(figure, LEFT, top - heading - height, WIDTH, height)
    top -= heading + height
    _draw_curves(axes, name, values, colors, unit="%" if "error" in name else "")
  if panels:
    axes.tick_params(labelbottom=True)
    axes.set_xlabel("epoch", color=MUTED, fontsize=TEXT_POINTS)
  else:
    write(figure, 3.0, 1.5, "Nothing recorded", color=MUTED, fontsize=13, ha="center")
  gray = f" · gray: those after the first {len(COLORS)}" if len(configs) > len(COLORS) else ""
  write_header(figure, title, "line: mean over seeds · band: lowest to highest" + gray)
  return figure


def _fitted_alike(texts: Sequence[str], inches: float, points: float) -> tuple[list[str], float]:
  """Fits texts to a width, with one font size for all: shrinks them, then shortens them."""
  fits = [fitted(text, inches * POINTS_PER_INCH, points) for text in texts]
  return [text for text, _ in fits], min(size for _, size in fits)


def _colors(count: int) -> list[str]:
  return [*COLORS, *[OTHERS] * count][:count]


def _draw_curves(
  axes: Axes,
  name: str,
  values: Mapping[str, Sequence[Series]],
  colors: Mapping[str, str],
  *,
  unit: str,
) -> None:
  style_panel(axes)
  means, lowest = {}, []
  for rank, (config, series) in enumerate(values.items()):
    epochs, over_seeds = _over_seeds(series)
    mean = np.nanmean(over_seeds, axis=0)
    style: dict[str, Any] = {"color": colors[config], "zorder": 30 - min(rank, 20)}
    if len(over_seeds) > 1:
      low, high = np.nanmin(over_seeds, axis=0), np.nanmax(over_seeds, axis=0)
      axes.fill_between(epochs, low, high, alpha=0.15, linewidth=0, **style)
    marker = "o" if len(epochs) <= 3 else None
    axes.plot(epochs, mean, linewidth=1.7, marker=marker, markersize=4, label=config, **style)
    add_line_tooltips(axes, epochs, mean, config, "epoch", unit)
    means[config] = float(mean[-1])
    lowest.append(mean)
  if scale_values(axes, np.concatenate(lowest), np.array([])):
    name += ", log scale"
  axes.set_xlim(0, None)
  axes.xaxis.set_major_formatter(FuncFormatter(lambda epoch, _: f"{epoch:g}"))
  axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}{unit}"))
  write_panel_name(axes, name)
  _write_names(axes, means, colors, unit)


def _over_seeds(series: Sequence[Series]) -> tuple[np.ndarray, np.ndarray]:
  """Returns the epochs at which every seed has a value, and these values, [seeds, epochs].

  Runs of a config are recorded at the same steps, unless they stop early.
  """
  epochs = series[0][0]
  for other, _ in series[1:]:
    epochs = np.intersect1d(epochs, other)
  values = np.stack(
    [seed_values[np.isin(seed_epochs, epochs)] for seed_epochs, seed_values in series]
  )
  if len(epochs) >= SMOOTH_FROM:
    window = 2 * (len(epochs) // 80) + 3
    values = np.stack([running_mean(row, window) for row in values])
  return epochs, values


def _write_names(
  axes: Axes, last: Mapping[str, float], colors: Mapping[str, str], unit: str
) -> None:
  """Writes the name and last value of each colored config next to the axes, without overlap."""
  named = [config for config in last if colors[config] != OTHERS]
  named.sort(key=lambda config: height_of(axes, last[config]))
  gap = 1.5 * NOTE_POINTS / POINTS_PER_INCH / (axes.get_window_extent().height / DPI)
  heights = moved_apart(np.array([height_of(axes, last[config]) for config in named]), gap)
  values = [f"{last[c]:.2f}{unit}" if unit else f"{last[c]:.3g}" for c in named]
  texts = [f"{value}  {config}" for value, config in zip(values, named, strict=True)]
  texts, size = _fitted_alike(texts, NAMES - 0.2, NOTE_POINTS)
  for config, text, y in zip(named, texts, heights, strict=True):
    axes.text(
      1.02, y, text, color=colors[config], fontsize=size, weight="bold", va="center",
      transform=axes.transAxes, parse_math=False,
    )  # fmt: skip
