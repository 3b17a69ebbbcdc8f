"""Tests of figures of reliability, several runs and sweeps: they show the data that went in."""

import numpy as np
import pytest
from matplotlib.colors import to_hex

from mnist_research import figures
from mnist_research.figures.comparison import COLORS, OTHERS
from mnist_research.metrics.calibration import reliability


def _texts(figure):
  return [text.get_text() for text in (*figure.texts, *(t for a in figure.axes for t in a.texts))]


def _container(axes, label):
  return next(c for c in axes.containers if c.get_label() == label)


def _config(name, test, *, validation=None, losses=(), errors=()):
  interval = (min(test), max(test)) if len(test) > 1 else None
  return figures.Compared(name, test, interval, validation, losses, errors)


# ---- Reliability ----


def test_reliability_diagram_draws_accuracy_gap_and_counts():
  # Confidences 0.62, 0.64 and 0.95: bins (9/15, 10/15] and (14/15, 1].
  probabilities = np.array([[0.62, 0.38], [0.64, 0.36], [0.95, 0.05]])
  bins = reliability(probabilities, np.array([0, 1, 0]))
  figure = figures.reliability_diagram(bins, title="Three")
  accuracy, counts = figure.axes
  bars = _container(accuracy, "accuracy")
  np.testing.assert_allclose([bar.get_height() for bar in bars], [0.5, 1.0])
  np.testing.assert_allclose(
    [bar.get_x() + bar.get_width() / 2 for bar in bars], [9.5 / 15, 14.5 / 15]
  )
  gaps = _container(accuracy, "gap")
  np.testing.assert_allclose([bar.get_height() for bar in gaps], [0.13, -0.05])
  assert [bar.get_height() for bar in _container(counts, "count")] == [0] * 9 + [2] + [0] * 4 + [1]
  # (2 x 0.13 + 0.05) / 3
  assert "expected calibration error 10.33% · accuracy 66.67% · mean confidence 73.67%" in _texts(
    figure
  )


# ---- Several runs ----


def test_each_seed_accuracy_is_drawn_with_the_mean():
  figure = figures.compared_accuracies(
    [_config("relu", [0.97, 0.99], validation=0.96), _config("gelu", [0.95])], title="Two"
  )
  (axes,) = figure.axes
  seeds = [line for line in axes.get_lines() if line.get_label() == "seeds"]
  assert [list(line.get_xdata()) for line in seeds] == [[0.97, 0.99], [0.95]]
  assert [line.get_ydata()[0] for line in seeds] == [1, 0]  # The first is at the top.
  (interval,) = _container(axes, "interval")
  assert (interval.get_x(), interval.get_width()) == pytest.approx((0.97, 0.02))
  assert {"relu", "gelu", "98.00%", "95.00%"} <= set(_texts(figure))
  low, high = axes.get_xlim()
  assert low < 0.95
  assert high > 0.99


def test_uninformative_interval_does_not_stretch_the_axis():
  wide = figures.Compared("a", [0.90, 0.92], (-0.5, 2.0), None, (), ())
  (axes,) = figures.compared_accuracies([wide], title="x").axes
  assert axes.get_xlim() == pytest.approx(
    (0.90 - 0.35 * 0.02 - 0.0008, 0.92 + 0.35 * 0.02), abs=2e-3
  )


def test_line_is_mean_over_seeds_and_band_is_range():
  epochs = np.array([1.0, 2.0])
  losses = [(epochs, np.array([2.0, 1.0])), (epochs, np.array([4.0, 2.0]))]
  figure = figures.compared_curves([_config("relu", [0.9, 0.9], losses=losses)], title="One")
  (axes,) = figure.axes  # Without validation, there is no panel for it.
  (line,) = axes.get_lines()
  np.testing.assert_array_equal(line.get_ydata(), [3.0, 1.5])
  (band,) = axes.collections
  heights = band.get_paths()[0].vertices[:, 1]
  assert (heights.min(), heights.max()) == (1.0, 4.0)
  assert "1.5  relu" in _texts(figure)


def test_stopped_seeds_are_compared_at_common_steps():
  losses = [
    (np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])),
    (np.array([1.0, 1.5, 3.0]), np.array([5.0, 9.0, 3.0])),
  ]
  figure = figures.compared_curves([_config("relu", [0.9], losses=losses)], title="One")
  (line,) = figure.axes[0].get_lines()
  np.testing.assert_array_equal(line.get_xdata(), [1.0, 3.0])
  np.testing.assert_array_equal(line.get_ydata(), [4.0, 2.0])


def test_configs_beyond_eight_are_gray_and_unnamed():
  series = np.array([1.0, 2.0]), np.array([50.0, 40.0])
  configs = [_config(f"c{n}", [0.9], errors=[series]) for n in range(10)]
  figure = figures.compared_curves(configs, title="Ten")
  colors = [to_hex(line.get_color()).upper() for line in figure.axes[0].get_lines()]
  assert colors == [*COLORS, OTHERS, OTHERS]
  texts = _texts(figure)
  assert "40.00%  c7" in texts
  assert not any("c8" in text for text in texts)


def test_curves_without_records_say_so():
  assert "Nothing recorded" in _texts(figures.compared_curves([_config("a", [0.5])], title="x"))


# ---- Sweeps ----


def _heat_map(values):
  return figures.heat_map(
    np.array(values), rows=["relu", "gelu"], columns=["adam", "sgd"], row_name="activation",
    column_name="optimizer", title="x", summary="y",
  )  # fmt: skip


def test_heat_map_writes_values_and_frames_the_best():
  figure = _heat_map([[0.9, 0.95], [0.8, np.nan]])
  (axes,) = figure.axes
  cells = {t.get_position(): t for t in axes.texts}
  assert {place: text.get_text() for place, text in cells.items()} == {
    (0, 0): "90.00%", (1, 0): "95.00%", (0, 1): "80.00%", (1, 1): "-",
  }  # fmt: skip
  assert cells[1, 0].get_weight() == "bold"
  (frame,) = axes.patches
  assert (frame.get_x(), frame.get_y()) == (pytest.approx(0.52), pytest.approx(-0.46))
  assert [label.get_text() for label in axes.get_xticklabels()] == ["adam", "sgd"]


def test_heat_map_of_equal_values_is_drawn():
  assert "90.00%" in _texts(_heat_map([[0.9, 0.9], [0.9, 0.9]]))


def test_parallel_coordinates_connect_trials_to_errors():
  figure = figures.parallel_coordinates(
    [
      figures.Axis("learning_rate", [1e-4, 1e-3, 1e-2], log=True),
      figures.Axis("activation", ["relu", "gelu", "relu"]),
    ],
    [0.90, 0.95, float("nan")],
    title="x",
    summary="y",
  )
  (axes,) = figure.axes
  lines = {line.get_label(): line for line in axes.get_lines()}
  # At the bottom: the lowest rate, the first of two names (relu), the highest error.
  np.testing.assert_allclose(lines["trial 0"].get_ydata(), [0, 0.25, 0])
  np.testing.assert_allclose(lines["trial 1"].get_ydata(), [0.5, 0.75, 1])
  assert "trial 2" not in lines  # Gray, without an error.
  assert {"0.0001", "0.01", "relu", "gelu", "5%", "10%"} <= set(_texts(figure))


def test_single_trial_is_centered():
  axis = figures.Axis("dropout_rate", [0.2])
  (axes,) = figures.parallel_coordinates([axis], [0.9], title="x", summary="y").axes
  lines = {line.get_label(): line for line in axes.get_lines()}
  np.testing.assert_allclose(lines["trial 0"].get_ydata(), [0.5, 0.5])


def test_importances_are_sorted_descending():
  figure = figures.importances({"a": 0.2, "b": 0.7, "c": 0.1}, title="x", summary="y")
  widths = {c.get_label(): c[0].get_width() for c in figure.axes[0].containers if len(c) == 1}
  assert {name: widths[name] for name in "abc"} == {"a": 0.2, "b": 0.7, "c": 0.1}
  names = [text for text in _texts(figure) if text in "abc"]
  assert names == ["b", "a", "c"]
