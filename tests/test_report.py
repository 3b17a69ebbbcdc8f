"""Tests of `python -m mnist_research.report` as a user runs it."""

import re
import shutil

import commands
import finished_runs
import numpy as np
import pytest
from matplotlib.image import imread


def _report(*arguments, **options):
  return commands.run(*arguments, module="report", **options)


def test_page_of_a_run_shows_its_mistakes(trained, tmp_path):
  record = _report(trained.workdir, f"--output={tmp_path / 'out'}").record
  assert record == {
    "report": str(tmp_path / "out" / "report.html"), "runs": 1, "configs": 1, "left_out": 0
  }  # fmt: skip
  text = (tmp_path / "out" / "report.html").read_text()
  assert f"{trained.finished.record['test_accuracy']:.2%}" in text
  assert "Pictures are missing" not in text
  # The grid contains the digits: most of it is black, with orange frames.
  grid = imread(tmp_path / "out" / "mistakes.png")[..., :3]
  assert (grid.max(axis=2) == 0).mean() > 0.2
  errors = round(500 * (1 - trained.finished.record["test_accuracy"]))
  assert len((tmp_path / "out" / "mistakes.csv").read_text().splitlines()) == 1 + errors
  with np.load(trained.workdir / "predictions-test.npz") as arrays:
    assert len(arrays["labels"]) == 500


def test_missing_dataset_omits_only_the_pictures(trained, tmp_path):
  workdir = shutil.copytree(trained.workdir, tmp_path / "run")
  finished = commands.call(workdir, f"--data_dir={tmp_path / 'empty'}", module="report")
  assert finished.record["report"] == str(workdir / "report" / "report.html")
  text = (workdir / "report" / "report.html").read_text()
  assert "synthetic_digits/2000_500 is not prepared here; --data_dir says where it is" in text
  assert not (workdir / "report" / "mistakes.png").exists()
  assert (workdir / "report" / "reliability_diagram.png").exists()
  assert not (tmp_path / "empty").exists()  # No dataset was prepared for the report.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """A folder with six runs of two configs, and other files."""
  root = tmp_path_factory.mktemp("folder")
  for seed, (relu, gelu) in enumerate(((0.5, 0.75), (0.52, 0.76), (0.54, 0.80))):
    finished_runs.write(root / f"r{seed}", accuracy=relu, seed=seed)
    finished_runs.write(root / f"g{seed}", accuracy=gelu, seed=seed, activation="gelu")
  finished_runs.write(root / "stopped", accuracy=None, seed=9)
  (finished_runs.write(root / "bad", accuracy=0.9).path / "result.json").write_text("{")
  (root / "photos").mkdir()
  return root


def test_comparison_needs_no_tensorflow(folder, tmp_path):
  # A broken module with this name shadows the real one.
  (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')")
  finished = _report(folder, environment={"PYTHONPATH": f"{commands.REPOSITORY}:{tmp_path}"})
  assert finished.record == {
    "report": str(folder / "report" / "report.html"), "runs": 7, "configs": 2, "left_out": 3
  }  # fmt: skip
  # The workdirs are g0 to g2.
  assert re.search(r"^\| g +\| 77\.00 ± 2\.65% \|", finished.stderr, re.MULTILINE)
  assert "photos, foreign: holds no run" in finished.stderr
  assert "stopped, unfinished: at step 200" in finished.stderr
  assert "bad, corrupt: " in finished.stderr


def test_report_on_several_directories_is_written_here(folder, tmp_path):
  record = _report(folder / "r0", folder / "g0", cwd=tmp_path).record
  assert record["report"] == "report/report.html"
  assert (tmp_path / "report" / "configs.csv").exists()


@pytest.mark.parametrize(
  ("arguments", "error"),
  [
    ([], "name a workdir, or a folder of workdirs"),
    (["absent"], "absent is not a directory"),
    (["empty"], "empty holds no run"),
    (["stopped", "stopped2"], "unfinished, at step 200"),
    (["stopped", "--output=file/report"], "file/report can't be written"),
  ],
)
def test_unreportable_input_is_rejected(tmp_path, arguments, error):
  finished_runs.write(tmp_path / "stopped", accuracy=None)
  finished_runs.write(tmp_path / "stopped2", accuracy=None, seed=1)
  (tmp_path / "empty").mkdir()
  (tmp_path / "file").write_text("")
  assert error in _report(*arguments, cwd=tmp_path).error
