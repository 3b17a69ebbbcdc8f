"""Tests of the pages and tables of a report."""

import base64
import csv
import html.parser
import io
import json
import re

import browser
import finished_runs
import numpy as np
import pytest
from matplotlib.image import imread

from mnist_research.metrics.calibration import reliability
from mnist_research.reports import comparison, remaining, runs
from mnist_research.reports.comparison_page import write_comparison_page
from mnist_research.reports.run_page import write_run_page
from mnist_research.reports.tables import Table, write_csv
from mnist_research.workdir import Workdir

_IMAGES = np.zeros((4, 28, 28, 1), np.uint8)


class _Page(html.parser.HTMLParser):
  """The visible content of a page: texts, tables as rows of cells, pictures."""

  def __init__(self, path):
    super().__init__()
    self.texts, self.rows, self.pictures, self.links, self.open = [], [], [], [], []
    self.feed(path.read_text())
    assert self.open == []  # All tags are closed.

  def handle_starttag(self, tag, attributes):
    values = dict(attributes)
    if tag not in ("meta", "img", "wbr"):
      self.open.append(tag)
    if tag == "tr":
      self.rows.append([])
    if tag in ("td", "th"):
      self.rows[-1].append("")
    if tag == "img":
      self.pictures.append(base64.b64decode(values["src"].removeprefix("data:image/png;base64,")))
    self.links += [values[name] for name in ("href", "src") if name in values and tag != "img"]

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open and self.open[-1] in ("td", "th"):
      self.rows[-1][-1] += data
    elif not {"style", "script"} & set(self.open):
      self.texts.append(data.strip())

  @property
  def text(self):
    return " ".join(self.texts)


def _report(tmp_path, images=_IMAGES):
  (run,), _ = runs.read([tmp_path / "run"])
  return _Page(write_run_page(run, images, tmp_path / "report"))


def test_page_shows_the_metrics_of_its_run(tmp_path):
  finished_runs.write(tmp_path / "run", accuracy=0.5, validation=0.625, learning_rate=0.02)
  shown = _report(tmp_path)
  assert "dense on synthetic_digits/2000_500" in shown.texts
  for value in ("50.00%", "62.50%", "0.7000", "1,234", "2.0 s"):
    assert value in shown.texts
  # 2 of 4, Wilson: (0.5 + 3.8415 / 8 -+ 1.96 sqrt(0.0625 + 0.0600)) / 1.9604 by hand.
  assert "15.00% to 85.00%" in shown.text
  error = reliability(finished_runs.PROBABILITIES, finished_runs.LABELS)
  # (1 - 1) + |0.7 - 1| + |0.9 - 0| + |0.6 - 0| over 4, each alone in its bin.
  assert error.expected_calibration_error == pytest.approx(1.8 / 4)
  assert "45.00%" in shown.texts
  assert ["learning_rate", "0.02"] in shown.rows
  assert any(row[0] == "tensorflow" for row in shown.rows)


def test_most_confident_mistakes_come_first(tmp_path):
  finished_runs.write(tmp_path / "run", accuracy=0.5)
  shown = _report(tmp_path)
  assert [row for row in shown.rows if row[0] in ("2", "3")] == [
    ["2", "7", "2", "90.0%", "0.1"],
    ["3", "1", "8", "60.0%", "0.4"],
  ]
  with (tmp_path / "report" / "mistakes.csv").open() as file:
    rows = list(csv.DictReader(file))
  assert [row["test example"] for row in rows] == ["2", "3"]
  assert float(rows[0]["its probability"]) == pytest.approx(0.9)


def test_page_images_are_the_files_next_to_it(tmp_path):
  finished_runs.write(tmp_path / "run", accuracy=0.5)
  shown = _report(tmp_path)
  files = {path.name: path.read_bytes() for path in (tmp_path / "report").glob("*.png")}
  assert set(files) == {
    "curves.png",
    "confusion_matrix.png",
    "mistakes.png",
    "reliability_diagram.png",
  }
  within = [files["confusion_matrix.png"], files["mistakes.png"]]
  assert sorted(shown.pictures) == sorted(within)  # The others are SVG there.
  assert imread(io.BytesIO(shown.pictures[0])).shape[2] >= 3
  # Nothing is loaded: the charts reuse marks within the page.
  assert [link for link in shown.links if not link.startswith("#")] == []


def test_mistakes_without_images_are_described(tmp_path):
  finished_runs.write(tmp_path / "run", accuracy=0.5)
  shown = _report(tmp_path, images="mnist is not prepared here")
  assert "Pictures are missing: mnist is not prepared here." in shown.texts
  assert not (tmp_path / "report" / "mistakes.png").exists()
  assert ["2", "7", "2", "90.0%", "0.1"] in shown.rows


def test_unfinished_run_has_a_partial_page(tmp_path):
  finished_runs.write(tmp_path / "run", accuracy=None, validation=0.25)
  shown = _report(tmp_path)
  assert "This run is not finished: its last recorded step is 200." in shown.texts
  assert shown.pictures == []
  assert (tmp_path / "report" / "report.html").read_text().count("<svg") == 1


def test_run_of_previous_version_has_no_predictions(tmp_path):
  workdir = finished_runs.write(tmp_path / "run", accuracy=0.5)
  (workdir.path / "predictions-test.npz").unlink()
  (workdir.path / "environment.json").write_text("{")
  shown = _report(tmp_path)
  assert "has no predictions-test.npz" in shown.text
  assert "environment.json can't be read" in shown.text


def test_missing_metrics_explain_missing_curves(tmp_path):
  workdir = finished_runs.write(tmp_path / "run", accuracy=0.9)
  (workdir.path / "metrics.jsonl").unlink()
  assert "metrics.jsonl is missing or empty, so there are no curves." in _report(tmp_path).text


def test_corrupt_count_of_test_scorings_is_explained(tmp_path):
  workdir = finished_runs.write(tmp_path / "run", accuracy=0.9)
  (workdir.path / "test_scores.jsonl").write_text("{}\n")
  shown = _report(tmp_path)
  assert "test_scores.jsonl is corrupt in line 1; delete that line" in shown.text
  assert "50.00%" in shown.texts


def test_network_without_mistakes_says_so(tmp_path):
  workdir = finished_runs.write(tmp_path / "run", accuracy=1.0)
  right = finished_runs.PROBABILITIES.argmax(axis=1).astype(np.int32)
  workdir.write_predictions(workdir.read_predictions()._replace(labels=right))
  assert "None: every test example was predicted correctly." in _report(tmp_path).texts


def test_texts_are_escaped(tmp_path):
  finished_runs.write(tmp_path / "run", accuracy=0.5, data_dir="/<b>&'\"")
  assert ["data_dir", "/<b>&'\""] in _report(tmp_path).rows


# ---- Several runs ----


def _compare(tmp_path):
  found, unread = runs.read([tmp_path / "runs"])
  groups, left_out = runs.group(found)
  return write_comparison_page(groups, [*unread, *left_out], tmp_path / "report")


@pytest.fixture
def compared(tmp_path):
  """Two configs with three seeds, and one stopped run."""
  for seed, (relu, gelu) in enumerate(((0.5, 0.75), (0.52, 0.76), (0.54, 0.80))):
    root = tmp_path / "runs"
    finished_runs.write(root / f"r{seed}", accuracy=relu, validation=relu, seed=seed)
    finished_runs.write(
      root / f"g{seed}", accuracy=gelu, validation=gelu, seed=seed, activation="gelu"
    )
  finished_runs.write(tmp_path / "runs" / "stopped", accuracy=None, seed=9)
  path, table = _compare(tmp_path)
  return tmp_path / "report", _Page(path), table


def test_table_is_sorted_by_accuracy(compared):
  _, shown, table = compared
  # gelu: mean 0.77, deviation sqrt((0.02^2 + 0.01^2 + 0.03^2) / 2); t of 2 degrees is 4.3027.
  deviation = np.sqrt((0.0004 + 0.0001 + 0.0009) / 2)
  margin = 4.3027 * deviation / np.sqrt(3)
  p_value = comparison.paired_test({0: 0.5, 1: 0.52, 2: 0.54}, {0: 0.75, 1: 0.76, 2: 0.80}).p_value
  assert table.rows[0] == [
    "g", "77.00 ± 2.65%", "77.00 ± 2.65%",
    f"{77 - 100 * margin:.2f} to {77 + 100 * margin:.2f}%", "reference", "", "3", "1,234", "3.0 s",
    "gelu",
  ]  # fmt: skip
  assert table.rows[1][4:6] == ["-25.00%", f"{p_value:.2g}"]
  assert table.rows[0] in shown.rows
  assert table.rows[1] in shown.rows
  assert "paired t-test (scipy.stats.ttest_rel)" in shown.text
  assert "never by test" in shown.text


def test_table_is_written_as_markdown_and_csv(compared):
  directory, _, table = compared
  lines = (directory / "table.md").read_text().splitlines()
  cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
  assert cells[0] == list(table.header)
  assert cells[2:] == [list(row) for row in table.rows]
  with (directory / "configs.csv").open() as file:
    rows = list(csv.DictReader(file))
  assert [row["activation"] for row in rows] == ["gelu", "relu"]
  assert float(rows[1]["test_accuracy_mean"]) == pytest.approx(0.52)
  assert float(rows[1]["test_accuracy_std"]) == pytest.approx(0.02)
  assert float(rows[1]["test_loss_mean"]) == pytest.approx(0.7)
  assert float(rows[1]["test_loss_std"]) == pytest.approx(0, abs=1e-9)
  assert float(rows[1]["validation_loss_mean"]) == 1
  assert float(rows[1]["difference"]) == pytest.approx(-0.25)
  with (directory / "runs.csv").open() as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 6
  assert {row["seed"] for row in rows} == {"0", "1", "2"}
  assert rows[0]["workdir"].endswith("g0")
  assert float(rows[0]["test_accuracy"]) == 0.75


def test_configs_are_named_after_folders_then_settings(tmp_path):
  for seed in (0, 1):
    root = tmp_path / "runs"
    finished_runs.write(root / "plain" / f"seed{seed}", accuracy=0.5, seed=seed)
    finished_runs.write(
      root / "other" / f"seed{seed}", accuracy=0.6, seed=seed, activation="gelu", noise=0.1
    )
  _, table = _compare(tmp_path)
  assert table.header[0] == "config"
  assert table.header[-2:] == ["activation", "noise"]
  assert [(row[0], *row[-2:]) for row in table.rows] == [
    ("other", "gelu", "0.1"), ("plain", "relu", "0.0"),
  ]  # fmt: skip
  markdown = (tmp_path / "report" / "table.md").read_text().splitlines()[1]
  assert markdown.strip("|").split("|")[-1].strip() == "-----"  # Words, from the left.
  groups, _ = runs.group(runs.read([tmp_path / "runs"])[0])
  assert comparison.find_reference(groups, "plain").folder == "plain"


def test_table_headers_sort_the_table(compared):
  directory, *_ = compared
  page_file = directory / "report.html"
  with browser.started() as chromium, chromium.new_context() as context:
    page = context.new_page()
    page.goto(page_file.as_uri())
    head = page.locator("thead th", has_text="test").first
    column = page.locator("tbody").first.locator(f"tr > :nth-child({2})")
    best_first = column.all_inner_texts()
    assert [text[:5] for text in best_first] == ["77.00", "52.00"]
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert column.all_inner_texts() == best_first
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column.all_inner_texts() == best_first[::-1]


@pytest.mark.parametrize("width", [1280, 390])
def test_accuracy_is_visible_without_horizontal_scrolling(tmp_path, width):
  for name, changes in (
    ("one", {}),
    ("two", {"activation": "gelu", "noise": 0.1, "dropout_rate": 0.1, "batch_size": 64}),
  ):
    finished_runs.write(tmp_path / "runs" / name / "seed0", accuracy=0.5, **changes)
  path, table = _compare(tmp_path)
  assert len(table.header) > 9
  with (
    browser.started() as chromium,
    chromium.new_context(viewport={"width": width, "height": 800}) as context,
  ):
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == width
    box = page.locator("thead th", has_text="test").first.bounding_box()
    assert box["x"] + box["width"] <= width


def test_page_supports_dark_color_scheme(compared):
  directory, *_ = compared
  with browser.started() as chromium:
    for scheme, ground in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 25, 31)")):
      with chromium.new_context(color_scheme=scheme) as context:
        page = context.new_page()
        page.goto((directory / "report.html").as_uri())
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == ground


def test_paper_shows_whole_pictures_and_tables(tmp_path):
  for name, changes in (
    ("relu", {}), ("nesterov", {"optimizer": "nesterov", "learning_rate": 0.1}),
    ("tanh", {"activation": "tanh", "hidden_units": (256,)}),
  ):  # fmt: skip
    finished_runs.write(tmp_path / "runs" / name, accuracy=0.5, validation=0.5, **changes)
  comparison_file, _ = _compare(tmp_path)
  finished_runs.write(tmp_path / "one" / "run", accuracy=0.5)
  _report(tmp_path / "one")
  paper = {"width": 680, "height": 1000}  # A4 without its margins, at 96 pixels per inch.
  with browser.started() as chromium, chromium.new_context(viewport=paper) as context:
    page = context.new_page()
    page.emulate_media(media="print")
    for path in (comparison_file, tmp_path / "one" / "report" / "report.html"):
      page.goto(path.as_uri())
      shown = page.locator("figure svg, figure img, table:visible").all()
      assert len(shown) >= 3
      for each in shown:
        box = each.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= paper["width"]


def test_chart_values_are_reachable_by_pointer_and_keyboard(tmp_path):
  finished_runs.write(tmp_path / "run", accuracy=0.5, validation=0.625)
  _report(tmp_path)
  with browser.started() as chromium, chromium.new_context(color_scheme="dark") as context:
    page = context.new_page()
    page.goto((tmp_path / "report" / "report.html").as_uri())
    chart = page.locator("figure").first
    points = json.loads(chart.get_attribute("data-points"))
    (point,) = [each for each in points if each[2].startswith("validation: 37.5% at step")]
    drawing, tip = chart.locator("svg"), chart.locator("output")
    assert tip.is_hidden()
    drawing.hover(position={
      name: share * drawing.bounding_box()[size]
      for name, size, share in (("x", "width", point[0]), ("y", "height", point[1]))
    })  # fmt: skip
    assert tip.inner_text() == point[2]
    # The point marks the end of the line, at 37.5%, in the colors of the dark theme.
    marker = chart.locator("i").bounding_box()
    middle = marker["x"] + marker["width"] / 2, marker["y"] + marker["height"] / 2
    under = page.evaluate(
      "([x, y]) => getComputedStyle(document.elementsFromPoint(x, y)[0]).stroke", middle
    )
    assert under == "rgb(255, 138, 69)"
    page.mouse.move(0, 0)
    assert tip.is_hidden()
    chart.focus()
    page.keyboard.press("ArrowRight")
    assert tip.inner_text() == points[0][2]
    page.keyboard.press("ArrowRight")
    assert tip.inner_text() == points[1][2]
    page.keyboard.press("Escape")
    assert tip.is_hidden()


def test_chart_ids_are_unique(tmp_path, compared):
  directory, *_ = compared
  finished_runs.write(tmp_path / "run", accuracy=0.5)
  _report(tmp_path)
  for path in (directory / "report.html", tmp_path / "report" / "report.html"):
    text = path.read_text()
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids)) > 0
    assert set(re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', text)) <= {
      pair for name in ids for pair in ((name, ""), ("", name))
    }


def test_axe_finds_no_violations(tmp_path, compared):
  directory, *_ = compared
  found, _ = runs.read([tmp_path / "runs"])
  write_run_page(found[0], _IMAGES, tmp_path / "run")
  left = remaining.find([run for run in found if run.result is not None])
  pages = [
    directory / "report.html", tmp_path / "run" / "report.html",
    remaining.write_page(left, _IMAGES, directory),
  ]  # fmt: skip
  with browser.started() as chromium:
    for scheme, width in (("light", 1280), ("dark", 390)):
      size = {"width": width, "height": 800}
      with chromium.new_context(color_scheme=scheme, viewport=size) as context:
        page = context.new_page()
        for path in pages:
          page.goto(path.as_uri())
          page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
          assert browser.violations(page) == []


def test_pictures_have_alternative_text(tmp_path, compared):
  directory, *_ = compared
  text = (directory / "report.html").read_text()
  means = "means: g 77.00%, r 52.00%"
  assert f'aria-label="The test accuracy of each seed, by config; {means}"' in text
  finished_runs.write(tmp_path / "run", accuracy=0.5)
  _report(tmp_path)
  text = (tmp_path / "report" / "report.html").read_text()
  alts = re.findall('(?:alt|role="img" aria-label)="([^"]*)"', text)
  assert "accuracy at the end:" in alts[0]
  assert alts[1].startswith("Confusion matrix: 2 of 4 test examples are off the diagonal")
  assert alts[2].startswith("The most confident mistakes: ")


def test_excluded_runs_are_listed(compared):
  _, shown, _ = compared
  (row,) = [row for row in shown.rows if "unfinished" in row]
  assert row[0].endswith("stopped")
  assert row[2] == "at step 200"


def test_single_runs_explain_missing_significance_test(tmp_path):
  finished_runs.write(tmp_path / "runs" / "a", accuracy=0.9, dataset="mnist")
  finished_runs.write(tmp_path / "runs" / "b", accuracy=0.8, dataset="kmnist")
  path, table = _compare(tmp_path)
  text = _Page(path).text
  assert "No test of the differences: scored on other examples." in text
  assert "accuracies aren't comparable" in text
  assert "choosing by it would be choosing on the test set" in text
  assert "p" not in table.header
  assert table.rows[0][0] == "a"


def test_runs_on_several_machines_are_mentioned(tmp_path):
  for seed, processor in enumerate(("A", "B")):
    workdir = finished_runs.write(tmp_path / "runs" / str(seed), accuracy=0.9, seed=seed)
    workdir.write_environment({**workdir.read_environment(), "processor": processor})
  path, _ = _compare(tmp_path)
  assert "2 different machines or versions of TensorFlow" in _Page(path).text


def test_corrupt_environment_is_reported_above_the_table(tmp_path):
  for seed in range(2):
    workdir = finished_runs.write(tmp_path / "runs" / str(seed), accuracy=0.9, seed=seed)
  (workdir.path / "environment.json").write_text("{")
  path, _ = _compare(tmp_path)
  assert "the machine of 1 can't be read: times may not be comparable" in _Page(path).text


def test_many_configs_fit_in_the_report(tmp_path):
  for number in range(42):
    finished_runs.write(
      tmp_path / "runs" / f"{number}", accuracy=number / 100, learning_rate=(number + 1) / 1000
    )
  path, table = _compare(tmp_path)
  assert len(table.rows) == 42
  assert table.rows[0][:2] == ["learning_rate=0.042", "41.00%"]
  assert path.exists()


@pytest.mark.parametrize(
  ("columns", "header"),
  [(None, "abc"), (27, "abc"), (26, "ab"), (21, "ab"), (20, "a"), (5, "a")],
)
def test_last_columns_are_dropped_on_narrow_terminals(columns, header):
  table = Table(["name", *"abc"], [["first", "1", "2", "3"]], texts=1)
  fitting = table.fitting(columns)
  assert fitting.header == ["name", *header]
  assert fitting.rows == [["first", "1", "2", "3"][: 1 + len(header)]]


def test_markdown_escapes_bars_in_cells():
  table = Table(["a", "b"], [["x|y", "1"], ["z", "22"]], texts=1)
  assert table.to_markdown() == (
    "| a    |   b |\n| ---- | --: |\n| x\\|y |   1 |\n| z    |  22 |\n"
  )


def test_page_fetches_nothing(tmp_path):
  finished_runs.write(tmp_path / "run", accuracy=0.5)
  _report(tmp_path)
  text = (tmp_path / "report" / "report.html").read_text()
  without_data = re.sub(r"data:image/png;base64,[^\"]*", "", text)
  outside = r"<script [^>]*src|<link|@import|url\((?!#)|https?://|import\("
  assert not re.search(outside, without_data)
  assert without_data.count("<script>") == 1
  assert text.startswith("<!DOCTYPE html>")


def test_predictions_round_trip(tmp_path):
  workdir = finished_runs.write(tmp_path / "run", accuracy=0.5)
  found = Workdir(workdir.path).read_predictions()
  assert found.label_names == finished_runs.NAMES
  np.testing.assert_array_equal(found.probabilities, finished_runs.PROBABILITIES)


def test_csv_cells_are_never_formulas(tmp_path):
  cells = ["=cmd|'/c calc'!A1", "@SUM(1)", "+1+1", "-2+3", "\tx", "\rx", "-", "a=b", "-0.5",
           "+1e-3", -0.5, 3, None, "-inf", "1 2"]  # fmt: skip
  write_csv(tmp_path / "cells.csv", ["=header", "@x"], [[cell] for cell in cells])
  with (tmp_path / "cells.csv").open(newline="") as file:
    header, *rows = csv.reader(file)
  assert header == ["'=header", "'@x"]
  assert [row[0] if row else "" for row in rows] == [
    "'=cmd|'/c calc'!A1", "'@SUM(1)", "'+1+1", "'-2+3", "'\tx", "' x", "'-", "a=b", "-0.5",
    "+1e-3", "-0.5", "3", "", "-inf", "1 2",
  ]  # fmt: skip
