"""Tests of figures: the data read back from a figure equals the input."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.image import imread

from mnist_research import figures
from mnist_research.figures import canvas
from mnist_research.metrics.calibration import reliability

NAMES = [str(digit) for digit in range(10)]


def _pictures(count, *, seed=0):
  generator = np.random.default_rng(seed)
  images = generator.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
  return images, generator.integers(0, 10, count)


def _texts(figure):
  """All texts of a figure with their colors."""
  artists = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
  return [(text.get_text(), to_hex(text.get_color()).upper()) for text in artists]


def _probabilities(predicted, confidence):
  """Gives each predicted class its confidence and distributes the rest equally."""
  rest = (1 - np.asarray(confidence)) / 9
  result = np.repeat(rest[:, None], 10, axis=1)
  result[np.arange(len(predicted)), predicted] = confidence
  return result


def _lines(axes):
  return {line.get_label(): line for line in axes.get_lines()}


def _panel(figure, name):
  return next(axes for axes in figure.axes if axes.get_title(loc="left").startswith(name))


def _contains_picture(array, picture):
  """Whether the array contains a picture, enlarged so that each pixel is 4 x 4."""
  large = np.repeat(np.repeat(picture, 4, axis=0), 4, axis=1)
  rows, columns = np.nonzero(array[..., 0] == large[0, 0])
  for row, column in zip(rows, columns, strict=True):
    window = array[row : row + 112, column : column + 112]
    if window.shape[:2] == large.shape and (window == large[..., None]).all():
      return True
  return False


def test_example_grid_labels_each_picture():
  images, labels = _pictures(12)
  figure = figures.example_grid(images, labels, label_names=NAMES, title="Some digits")
  texts = [text for text, _ in _texts(figure)]
  assert texts[:12] == [str(label) for label in labels]
  assert "Some digits" in texts


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_example_grid_shows_pixels_unchanged(dtype):
  images, labels = _pictures(3)
  inputs = images if dtype == np.uint8 else images.astype(np.float32) / 255
  array = figures.to_array(figures.example_grid(inputs, labels, label_names=NAMES, title="x"))
  assert all(_contains_picture(array, image[..., 0]) for image in images)


def test_example_grid_shows_at_most_80_and_says_so():
  images, labels = _pictures(100)
  texts = [t for t, _ in _texts(figures.example_grid(images, labels, label_names=NAMES, title="x"))]
  assert "the first 80 of 100" in texts
  assert len(texts) == 80 + 2


def test_dollar_signs_and_long_names_are_drawn_as_text():
  images, _ = _pictures(2)
  names = ["$a_b^$"] * 9 + ["x" * 60]
  figure = figures.example_grid(images, np.array([0, 9]), label_names=names, title="$x$")
  figures.to_array(figure)
  texts = [text for text, _ in _texts(figure)]
  assert texts[0] == "$a_b^$"
  assert texts[1].startswith("xxx")
  assert texts[1].endswith("…")
  assert len(texts[1]) < 25


@pytest.mark.parametrize(
  ("shape", "scale"),
  # Small pictures are enlarged by an integer factor; large ones are scaled to a side of 224.
  [((32, 32, 3), 4), ((20, 24, 1), 4), ((8, 10, 3), 8), ((112, 56, 3), None)],
)
def test_grids_show_any_shape_in_color(shape, scale):
  images = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
  if scale is None:  # Smooth, so that scaling doesn't change it.
    images[:] = (10, 20, 30)
  labels = np.array([3, 4])
  large = np.repeat(np.repeat(images, scale or 2, axis=1), scale or 2, axis=2)
  large = np.broadcast_to(large, (*large.shape[:3], 3))
  tall, wide = large.shape[1:3]
  grid = figures.example_grid(images, labels, label_names=NAMES, title="x")
  array = figures.to_array(grid)
  top, left = 16 * 4, 7 * 4
  pitch = max(wide, 28 * 4) + 5 * 4
  for place in range(2):
    window = array[top : top + tall, left + place * pitch :][:, :wide]
    np.testing.assert_array_equal(window, large[place])
  predictions = figures.prediction_grid(
    images, labels, _probabilities([3, 3], [0.9, 0.9]), label_names=NAMES, title="x"
  )
  array = figures.to_array(predictions)
  top, left = (25 + 2) * 4, (7 + 2) * 4
  np.testing.assert_array_equal(array[top : top + tall, left : left + wide], large[0])


@pytest.mark.parametrize("shape", [(2, 28, 28), (2, 28, 28, 2), (0, 28, 28, 1)])
def test_non_images_are_rejected(shape):
  with pytest.raises(ValueError, match=r"expected \(N, height, width, 1 or 3\)"):
    figures.example_grid(
      np.zeros(shape, np.uint8), np.zeros(shape[0], int), label_names=NAMES, title="x"
    )


@pytest.mark.parametrize(
  ("shown", "total", "title"),
  [
    (40, 1500, "the 40 most confident of 1,500 mistakes"),
    (3, 3, "all 3 mistakes"),
    (1, 1, "the only mistake"),
  ],
)
def test_title_says_how_pictures_were_chosen(shown, total, title):
  assert figures.selection_title(shown, total, "most confident", "mistakes") == title


def test_prediction_grid_marks_errors_by_symbol_color_and_frame():
  images, _ = _pictures(2)
  images[:] = 0
  probabilities = _probabilities([7, 3], [0.913, 0.62])
  figure = figures.prediction_grid(
    images, np.array([7, 5]), probabilities, label_names=NAMES, title="Two"
  )
  texts = _texts(figure)
  assert ("✓ 7  91%", figures.CORRECT_COLOR) in texts
  assert ("✗ 3  62%", figures.WRONG_COLOR) in texts
  assert ("true: 5", figures.INK) in texts
  assert ("✓ right", figures.CORRECT_COLOR) in texts
  assert ("✗ wrong", figures.WRONG_COLOR) in texts
  assert "true: 7" not in [text for text, _ in texts]

  array = figures.to_array(figure)
  # A row of screen pixels through the middle of the first row of pictures.
  row = array[(25 + 16) * 4]
  right, wrong = (
    np.flatnonzero((row == np.rint(255 * np.array(to_rgb(color)))).all(axis=1))
    for color in (figures.CORRECT_COLOR, figures.WRONG_COLOR)
  )
  assert (len(right), len(wrong)) == (2 * 4, 2 * 8)
  assert right.max() < wrong.min()


@pytest.mark.parametrize(
  ("probability", "text"), [(0.9949, "99%"), (0.9999, ">99%"), (1.0, "100%"), (0.5, "50%")]
)
def test_only_certainty_is_written_as_100_percent(probability, text):
  images, _ = _pictures(1)
  figure = figures.prediction_grid(
    images, np.array([4]), _probabilities([4], [probability]), label_names=NAMES, title="x"
  )
  assert f"✓ 4  {text}" in [t for t, _ in _texts(figure)]


def test_confusion_matrix_writes_counts_accuracy_and_axes():
  matrix = np.array([[980, 20, 0], [0, 995, 5], [0, 0, 0]])
  figure = figures.confusion_matrix(matrix, label_names=["a", "b", "c"], title="Three")
  axes = figure.axes[0]
  cells = {text.get_position(): text.get_text() for text in axes.texts if text.get_text().isdigit()}
  assert cells == {(0, 0): "980", (1, 0): "20", (1, 1): "995", (2, 1): "5"}
  texts = _texts(figure)
  assert ("98.0%", figures.WRONG_COLOR) in texts
  assert ("99.5%", figures.INK) in texts
  assert ("-", figures.INK) in texts
  assert "1,975 of 2,000 right: accuracy 98.75%, 25 errors" in [text for text, _ in texts]
  assert axes.get_xlabel() == "predicted label"
  assert axes.get_ylabel() == "true label"
  assert [tick.get_text() for tick in axes.get_xticklabels()] == ["a", "b", "c"]


def test_confusion_matrix_colors_errors_on_their_own_scale():
  matrix = np.array([[9000, 30, 1], [0, 9000, 5], [0, 0, 10]])
  figure = figures.confusion_matrix(matrix, label_names=["a", "b", "c"], title="x")
  colors = np.asarray(figure.axes[0].images[0].get_array())
  assert all(to_hex(colors[i, i]).upper() == figures.NEUTRAL for i in range(3))
  assert to_hex(colors[1, 0]) == "#ffffff"
  brightness = [colors[0, 1].sum(), colors[1, 2].sum(), colors[0, 2].sum(), 3.0]
  assert np.diff(brightness).min() > 0.15


def test_large_confusion_matrix_has_a_scale_instead_of_counts():
  matrix = np.diag(np.full(62, 3000))
  matrix[0, 1] = 250
  names = [chr(48 + index) for index in range(62)]
  figure = figures.confusion_matrix(matrix, label_names=names, title="x")
  texts = [text for text, _ in _texts(figure)]
  assert "3000" not in texts
  assert "250" in texts
  assert "white: none" in " ".join(texts)
  width, height, _ = figures.to_array(figure).shape
  assert max(width, height) < 1400


def test_weights_share_a_blue_to_orange_scale():
  weights = np.zeros((70, 5, 5, 1))
  weights[0, 0, 1], weights[63, 4, 4], weights[64] = -2, 1, 9
  figure = figures.weight_grid(weights, title="Some weights")
  texts = [text for text, _ in _texts(figure)]
  assert "the first 64 of 70, each 5 x 5" in texts
  assert "blue: down to -2    white: 0    orange: up to 2" in texts
  (picture,) = figure.axes[0].get_images()
  values = picture.get_array()
  # 4 rows of 16, each with a gap to the right and below.
  assert values.shape == (4 * 6, 16 * 6)
  assert (values[0, 1], values[22, 94]) == (-2, 1)
  assert values.mask.sum() == 64 * 11
  colors = {value: to_hex(picture.to_rgba(np.array([value]))[0]).upper() for value in (-2, 0, 2)}
  assert colors == {-2: "#0072B2", 0: "#FFFFFF", 2: "#D55E00"}


def test_color_weights_are_drawn_in_color_around_gray():
  weights = np.zeros((2, 5, 4, 3))
  weights[0, 0, 0], weights[1, 0, 0] = (2, 0, -2), (-2, -2, -2)
  figure = figures.weight_grid(weights, title="x")
  (shown,) = figure.axes[0].get_images()
  pixels = shown.get_array()
  np.testing.assert_allclose(pixels[0, 0], (1, 0.5, 0))
  np.testing.assert_allclose(pixels[0, 5], (0, 0, 0))
  np.testing.assert_allclose(pixels[1, 0], (0.5, 0.5, 0.5))
  assert "all, each 4 x 5" in [text for text, _ in _texts(figure)]


def test_weight_pixels_have_equal_size():
  weights = np.where(np.indices((5, 5)).sum(axis=0) % 2, 1.0, -1.0)[None, ..., None]
  array = figures.to_array(figures.weight_grid(weights, title="x"))
  rows = np.flatnonzero((array == (0, 114, 178)).all(axis=2).any(axis=1))
  columns = np.flatnonzero((array == (0, 114, 178)).all(axis=2).any(axis=0))
  # Weights of 10 x 10 pixels on a chess board: every row and column has a blue one.
  assert (np.ptp(rows) + 1, np.ptp(columns) + 1, len(rows), len(columns)) == (50, 50, 50, 50)


def test_reliability_diagram_draws_accuracy_and_counts_per_bin():
  probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
  bins = reliability(probabilities, np.array([0, 0, 0, 1, 0]), bins=5)
  figure = figures.reliability_diagram(bins, title="Run")
  bars = {container.get_label(): container.patches for container in figure.axes[0].containers}
  np.testing.assert_allclose([bar.get_height() for bar in bars["accuracy"]], [0, 0.75])
  np.testing.assert_allclose([bar.get_height() for bar in bars["gap"]], [0.6, 0.15])
  (counts,) = figure.axes[1].containers
  assert [bar.get_height() for bar in counts.patches] == [0, 0, 1, 0, 4]
  texts = [text for text, _ in _texts(figure)]
  assert "expected calibration error 24.00% · accuracy 60.00% · mean confidence 84.00%" in texts


def _records(steps=5, split="train"):
  return [
    {"step": 10 * n, "split": split, "loss": 2.0 / n, "accuracy": 1 - 0.5 / n}
    for n in range(1, steps + 1)
  ]


def test_training_curves_draw_the_records():
  validation = [{"step": 30, "split": "validation", "loss": 0.7, "accuracy": 0.8}]
  rates = [{"step": 10, "split": "train", "learning_rate": 0.001}]
  records = _records() + validation + rates
  figure = figures.training_curves(records[::-1], title="Run")
  loss, error = _lines(_panel(figure, "Loss")), _lines(_panel(figure, "Error rate"))
  np.testing.assert_array_equal(loss["train"].get_xdata(), [10, 20, 30, 40, 50])
  np.testing.assert_allclose(loss["train"].get_ydata(), [2, 1, 2 / 3, 0.5, 0.4])
  np.testing.assert_allclose(error["train"].get_ydata(), [50, 25, 50 / 3, 12.5, 10])
  np.testing.assert_allclose(error["validation"].get_xydata(), [[30, 20]])
  rate = _lines(_panel(figure, "Learning rate"))["learning rate"]
  np.testing.assert_allclose(rate.get_xydata(), [[10, 0.001]])
  assert "train (raw)" not in loss
  assert "test" not in loss


def test_plain_loss_replaces_loss_on_another_scale():
  trained = [{**record, "plain_loss": record["loss"] / 4} for record in _records()]
  validation = {"step": 30, "split": "validation", "loss": 0.3, "accuracy": 0.8}
  lines = _lines(_panel(figures.training_curves([*trained, validation], title="Run"), "Loss"))
  np.testing.assert_allclose(lines["train"].get_ydata(), [0.5, 0.25, 1 / 6, 0.125, 0.1])
  np.testing.assert_allclose(lines["validation"].get_ydata(), [0.3])
  # Without the first steps, which an older version didn't record, the line has one style.
  del trained[0]["plain_loss"]
  lines = _lines(_panel(figures.training_curves(trained, title="Run"), "Loss"))
  np.testing.assert_allclose(lines["train"].get_ydata(), [2, 1, 2 / 3, 0.5, 0.4])


def test_training_curves_smooth_many_points_over_faint_originals():
  figure = figures.training_curves(_records(100), title="Run")
  lines = _lines(_panel(figure, "Loss"))
  values = 2.0 / np.arange(1, 101)
  np.testing.assert_allclose(lines["train (raw)"].get_ydata(), values)
  smooth = lines["train"].get_ydata()
  np.testing.assert_allclose(smooth[49], values[47:52].mean())
  np.testing.assert_allclose(smooth[0], values[:3].mean())
  assert lines["train (raw)"].get_alpha() < 0.5
  assert _panel(figure, "Loss").get_yscale() == "log"


def test_training_curves_mark_and_annotate_a_single_test():
  test = {"step": 50, "split": "test", "loss": 0.0213, "accuracy": 0.9934}
  figure = figures.training_curves([*_records(), test], title="Run")
  line = _lines(_panel(figure, "Error rate"))["test"]
  assert line.get_marker() == "D"
  np.testing.assert_allclose(line.get_xydata(), [[50, 0.66]])
  texts = _texts(figure)
  assert ("test 0.66%", figures.GREEN) in texts
  assert ("test 0.0213", figures.GREEN) in texts
  assert "test accuracy 99.34% at step 50" in [text for text, _ in texts]


def test_training_curves_separate_97_from_99_percent():
  records = _records(50) + [
    {"step": 500, "split": split, "accuracy": accuracy}
    for split, accuracy in [("validation", 0.97), ("test", 0.99)]
  ]
  figure = figures.training_curves(records, title="Run")
  axes = _panel(figure, "Error rate")
  low, high = axes.transAxes.inverted().transform(axes.transData.transform([(0, 1), (0, 3)]))[:, 1]
  assert high - low > 0.15
  assert {1.0, 2.0, 5.0} <= set(axes.get_yticks())


def test_training_curves_without_values_say_so():
  for records in ([], [{"step": 1, "split": "train", "epoch": 0}]):
    texts = [text for text, _ in _texts(figures.training_curves(records, title="Run"))]
    assert "Nothing recorded yet" in texts
    assert "Run" in texts


def test_training_curves_tolerate_missing_and_odd_values():
  records = [
    {"step": step, "split": "train", "loss": value, "accuracy": None}
    for step, value in enumerate([1.0, float("inf"), 0.5, float("nan")])
  ]
  figure = figures.training_curves(records, title="Run")
  assert len(figure.axes) == 1
  assert "train nan" in [text for text, _ in _texts(figure)]
  figures.to_array(figure)
  perfect = [{"step": step, "split": "train", "accuracy": 1.0} for step in range(100)]
  figures.to_array(figures.training_curves(perfect, title="Run"))


def test_zero_values_stay_inside_a_linear_panel():
  records = [
    {"step": step, "split": "validation", "accuracy": accuracy}
    for step, accuracy in enumerate([0.99, 1.0])
  ]
  axes = figures.training_curves(records, title="Run").axes[0]
  assert axes.get_ylim()[0] == 0


def test_to_array_reflects_figure_changes():
  images, labels = _pictures(1)
  figure = figures.example_grid(images, labels, label_names=NAMES, title="x")
  first = figures.to_array(figure)
  assert first.dtype == np.uint8
  assert (first[0, 0] == 255).all()
  figure.axes[0].texts[-1].set_text("another title")
  second = figures.to_array(figure)
  assert first.shape == second.shape
  assert (first != second).any()


def test_save_matches_to_array_and_is_deterministic(tmp_path):
  matrix = np.arange(9).reshape(3, 3)
  for name in ("first.png", "second.png"):
    figure = figures.confusion_matrix(matrix, label_names=["a", "b", "c"], title="x")
    figures.save(figure, tmp_path / name)
  first, second = ((tmp_path / name).read_bytes() for name in ("first.png", "second.png"))
  assert first == second
  assert b"Software" not in first
  assert b"tIME" not in first
  pixels = np.rint(imread(tmp_path / "first.png")[..., :3] * 255)
  np.testing.assert_array_equal(pixels, figures.to_array(figure))
  assert sorted(path.name for path in tmp_path.iterdir()) == ["first.png", "second.png"]


@pytest.mark.parametrize("stage", ["draw", "replace"])
def test_failed_save_keeps_the_old_file(tmp_path, monkeypatch, stage):
  def fail(*_):
    raise OSError("no")

  path = tmp_path / "figure.png"
  path.write_bytes(b"old")
  figure = figures.training_curves([], title="x")
  if stage == "draw":
    monkeypatch.setattr(canvas, "to_array", fail)
  else:
    monkeypatch.setattr(Path, "replace", fail)
  with pytest.raises(OSError, match="no"):
    figures.save(figure, path)
  assert path.read_bytes() == b"old"
  assert [entry.name for entry in tmp_path.iterdir()] == ["figure.png"]


def test_wrong_shapes_are_named():
  images, labels = _pictures(4)
  named = {"label_names": NAMES, "title": "x"}
  with pytest.raises(ValueError, match=r"\(3,\).*\(4, 28, 28, 1\)"):
    figures.example_grid(images, labels[:3], **named)
  with pytest.raises(ValueError, match=r"\(4, 28, 28\).*\(N, height, width, 1 or 3\)"):
    figures.example_grid(images[..., 0], labels, **named)
  with pytest.raises(ValueError, match=r"\(0, 28, 28, 1\)"):
    figures.example_grid(images[:0], labels[:0], **named)
  with pytest.raises(ValueError, match=r"\(4, 9\).*\(4, 10\)"):
    figures.prediction_grid(images, labels, np.ones((4, 9)), **named)
  with pytest.raises(ValueError, match=r"\(9, 9\).*\(10, 10\)"):
    figures.confusion_matrix(np.eye(9, dtype=int), **named)


def test_wrong_values_are_rejected():
  images, labels = _pictures(4)
  named = {"label_names": NAMES, "title": "x"}
  with pytest.raises(ValueError, match=r"10.*10 names"):
    figures.example_grid(images, np.array([0, 1, 2, 10]), **named)
  with pytest.raises(ValueError, match="float64"):
    figures.example_grid(images, labels.astype(float), **named)
  for bad in (images.astype(np.float32), np.full((4, 28, 28, 1), np.nan)):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
      figures.example_grid(bad, labels, **named)
  with pytest.raises(ValueError, match="int64"):
    figures.example_grid(images.astype(np.int64), labels, **named)
  with pytest.raises(ValueError, match="counts"):
    figures.confusion_matrix(-np.eye(10, dtype=int), **named)
  with pytest.raises(ValueError, match=r"record 0.*'dev'"):
    figures.training_curves([{"step": 1, "split": "dev"}], title="x")


def test_pyplot_is_never_imported():
  code = "import sys, mnist_research.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
  root = Path(figures.__file__).parents[2]
  assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_scale_curves_draw_medians_ranges_and_linear_scaling():
  line = figures.Line("training", [2.0, 3.0, 8.0], [1.0, 2.5, 7.0], [2.5, 4.0, 9.0])
  other = figures.Line("limit", [20.0, 30.0, 80.0], [19.0, 29.0, 79.0], [21.0, 31.0, 81.0])
  figure = figures.scale_curves(
    [
      figures.Chart("Seconds of an epoch", "examples", [15_000, 30_000, 60_000], [line], True),
      figures.Chart("GFLOP/s", "units", [32, 64, 128], [line, other]),
    ],
    title="Costs",
    summary="of one network",
  )
  cost, speed = figure.axes
  drawn = {each.get_label(): each.get_xydata() for each in cost.get_lines()}
  np.testing.assert_allclose(drawn["in proportion"], [[15_000, 2.0], [30_000, 4.0], [60_000, 8.0]])
  (container,) = cost.containers
  np.testing.assert_allclose(container[0].get_ydata(), [2.0, 3.0, 8.0])
  (bars,) = container[2]
  np.testing.assert_allclose(
    bars.get_segments(),
    [
      [[15_000, 1.0], [15_000, 2.5]],
      [[30_000, 2.5], [30_000, 4.0]],
      [[60_000, 7.0], [60_000, 9.0]],
    ],
  )
  figures.to_array(figure)
  assert [label.get_text() for label in cost.get_xticklabels()] == ["15k", "30k", "60k"]
  assert [text.get_text() for text in speed.get_legend().get_texts()] == ["training", "limit"]
  assert (cost.get_xscale(), cost.get_yscale()) == ("log", "log")


# ---- Tooltips and charts on pages ----


def _tooltips(figure):
  return {text: (x, y) for x, y, text in figure.tooltips()}


def test_curve_tooltips_are_placed_at_their_points():
  records = [
    {"step": step, "split": "validation", "loss": loss, "accuracy": 1 - loss}
    for step, loss in ((500, 0.5), (1000, 0.25))
  ]
  figure = figures.training_curves(records, title="Run")
  tooltips = _tooltips(figure)
  assert list(tooltips) == [
    "validation: 0.5 at step 500", "validation: 0.25 at step 1,000",
    "validation: 50% at step 500", "validation: 25% at step 1,000",
  ]  # fmt: skip
  line = _lines(_panel(figure, "Error"))["validation"]
  pixels = figure.axes[1].transData.transform(line.get_xydata())
  shares = figure.transFigure.inverted().transform(pixels)
  np.testing.assert_allclose(
    tooltips["validation: 25% at step 1,000"], shares[1] * (1, -1) + (0, 1)
  )


def test_nonfinite_values_have_no_tooltips():
  records = [{"step": step, "split": "train", "loss": loss}
             for step, loss in enumerate((1.0, float("nan"), float("inf"), 0.5))]  # fmt: skip
  assert list(_tooltips(figures.training_curves(records, title="Run"))) == [
    "train: 1 at step 0", "train: 0.5 at step 3",
  ]  # fmt: skip


def test_long_line_has_a_subset_of_tooltips():
  records = [{"step": step, "split": "test", "loss": 0.1} for step in range(3000)]
  texts = list(_tooltips(figures.training_curves(records, title="Run")))
  assert len(texts) == 400
  assert texts[-1] == "test: 0.1 at step 2,999"


def test_confusion_matrix_tooltips_give_counts():
  tooltips = _tooltips(
    figures.confusion_matrix(np.array([[9, 2], [0, 7]]), label_names="ab", title="Run")
  )
  assert list(tooltips) == ["a predicted as a: 9", "a predicted as b: 2", "b predicted as b: 7"]
  (x, y), (other_x, other_y) = tooltips["a predicted as a: 9"], tooltips["b predicted as b: 7"]
  assert (x < other_x, y < other_y) == (True, True)


def test_svg_chart_uses_page_colors():
  records = [{"step": step, "split": "train", "loss": 0.1 * step} for step in (1, 2, 3)]
  first, second = (
    figures.to_svg(figures.training_curves(records, title="A < $B"), name, 'Loss & "rate"')
    for name in ("one", "two")
  )
  assert first.startswith('<svg viewBox="0 0 ')
  assert 'aria-label="Loss &amp; &quot;rate&quot;">' in first
  assert first.endswith("</svg>")
  assert ">A &lt; $B</text>" in first
  assert "stroke: var(--blue)" in first
  assert "fill: var(--ground)" in first
  assert not re.search("#[0-9a-f]{6}|<style|<metadata|<!--|xmlns", first)
  assert re.sub("one-", "two-", first).count("two-") == second.count("two-") > 0
  again = figures.to_svg(figures.training_curves(records, title="A < $B"), "one", 'Loss & "rate"')
  assert again == first
