"""Tests of the shipped network, and of the script that ships a run."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import commands
import numpy as np
import pytest
import ship_model
import tensorflow as tf
from PIL import Image, ImageDraw

from mnist_research.config import Config
from mnist_research.data import datasets, splits
from mnist_research.inference.recognizer import load_recognizer
from mnist_research.runtime.errors import UserError
from mnist_research.training import loop
from mnist_research.workdir import SHIPPED, Workdir

_COMMAND = [
  "python3.11", "/home/me/mnist_research/train.py", "--flagfile=/home/me/configs/dense.cfg",
  "--data_dir", "/home/me/data", "--seed=3", "--workdir=/home/me/run", "--manual_dir=files",
]  # fmt: skip


@pytest.fixture(params=["last", "best"])
def run(request, prepared, tmp_path):
  """A finished run with averages, as if made by a command of the repository."""
  config = Config(
    dataset="synthetic_digits/2000_500", data_dir=prepared, validation_examples=500,
    hidden_units=(16,), steps=40, evaluate_every=20, checkpoint_every=20, ema_decay=0.9, seed=3,
    select=request.param, workdir=str(tmp_path / "run"),
  )  # fmt: skip
  loop.train(config)
  _write_command(tmp_path / "run", _COMMAND)
  return Workdir(tmp_path / "run")


def _write_command(path, command):
  run = Workdir(path)
  run.write_environment({**run.read_environment(), "command": command})


def _files(path):
  return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


def test_run_is_trimmed_to_what_inference_needs(run, tmp_path):
  output = tmp_path / "shipped"
  output.mkdir()
  (output / "older").write_text("to be removed")
  before = commands.contents(run.path)
  summary = ship_model.ship(run, output)
  assert commands.contents(run.path) == before
  shipped, config = Workdir(output), run.trained_config()
  checkpoint = f"{run.selected(config).name}/{summary.get('best_step', 40):08d}"
  names = ("manifest.json", "state.data-00000-of-00001", "state.index")
  assert _files(output) == [
    *(f"{checkpoint}/{name}" for name in names), "config.cfg", "environment.json", "result.json"
  ]  # fmt: skip
  size = sum(path.stat().st_size for path in output.rglob("*.*"))
  assert summary == {"bytes": size, **run.read_result()}
  assert shipped.trained_config() == config.replace(data_dir="", workdir="")
  assert shipped.read_result() == run.read_result()
  images = splits.read(datasets.prepare(config), "test").images[:50]
  np.testing.assert_array_equal(
    load_recognizer(shipped, config).score(images), load_recognizer(run, config).score(images)
  )
  # The averages of two layers, without the trained weights and the optimizer's slots.
  weights = tf.train.load_checkpoint(str(output / checkpoint / "state"))
  shapes = [shape for name, shape in weights.get_variable_to_shape_map().items() if name[0] != "_"]
  assert sorted(shapes) == [[10], [16], [16, 10], [784, 16]]
  environment = json.loads((output / "environment.json").read_text())
  assert environment["command"] == [
    "python", "-m", "mnist_research.train", "--flagfile=configs/dense.cfg", "--seed=3"
  ]  # fmt: skip
  assert "/home/me" not in "".join(
    (output / name).read_text() for name in ("environment.json", "config.cfg", "result.json")
  )


@pytest.mark.parametrize("run", ["last"], indirect=True)
def test_unshippable_runs_are_rejected(run, tmp_path, monkeypatch):
  output = tmp_path / "shipped"

  def message():
    with pytest.raises(UserError) as raised:
      ship_model.ship(run, output)
    assert not output.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    return str(raised.value)

  monkeypatch.setattr(ship_model, "_MAX_BYTES", 10_000)
  assert "bytes; the limit is 10,000" in message()
  monkeypatch.undo()
  for other in (["python", "seeds.py", "--flagfile=configs/dense.cfg"], [*_COMMAND[:2], "--seed=3"],
                [*_COMMAND[:2], "--flagfile=configs/mine.cfg"]):  # fmt: skip
    _write_command(run.path, other)
    assert "doesn't train one of" in message()
  _write_command(run.path, _COMMAND)
  (run.path / "checkpoints" / "00000040" / "state.index").write_bytes(b"")
  assert "00000040 is corrupt: state.index differs from its digest" in message()
  (run.path / "result.json").unlink()
  assert "is not finished" in message()


def test_shipped_network_is_complete_and_small():
  size = sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file())
  assert size <= 2_000_000
  workdir = Workdir(SHIPPED)
  recognizer = load_recognizer(workdir, workdir.trained_config())
  assert recognizer.label_names == tuple("0123456789")
  result = workdir.read_result()
  assert recognizer.trained.step == result.get("best_step", result["step"])
  assert recognizer.trained.model.count_params() >= result["parameters"]
  config = (SHIPPED / "config.cfg").read_text()
  assert "--data_dir=\n" in config
  assert "--manual_dir=\n" in config
  command = json.loads((SHIPPED / "environment.json").read_text())["command"]
  assert command[:3] == ["python", "-m", "mnist_research.train"]
  assert (commands.REPOSITORY / command[3].removeprefix("--flagfile=")).is_file()


def test_shipped_network_matches_its_result(mnist_data_dir):
  record = commands.call(f"--data_dir={mnist_data_dir}", module="evaluate").record
  result = Workdir(SHIPPED).read_result()
  assert record["accuracy"] == pytest.approx(result["test_accuracy"], abs=2e-4)
  assert record["loss"] == pytest.approx(result["test_loss"], rel=1e-3)


def test_wheel_contains_the_network_and_predicts(tmp_path):
  source = tmp_path / "source"
  ignored = shutil.ignore_patterns("__pycache__")
  shutil.copytree(commands.REPOSITORY / "mnist_research", source / "mnist_research", ignore=ignored)
  for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
    shutil.copy(commands.REPOSITORY / name, source)
  build = f"from setuptools.build_meta import build_wheel; build_wheel({str(tmp_path)!r})"
  subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, check=True)
  (wheel,) = tmp_path.glob("*.whl")
  installed = tmp_path / "installed"
  zipfile.ZipFile(wheel).extractall(installed)
  assert _files(installed / "mnist_research" / "shipped") == _files(SHIPPED)
  page = commands.REPOSITORY / "mnist_research" / "live" / "page" / "static"
  assert _files(installed / "mnist_research" / "live" / "page" / "static") == _files(page)

  picture = Image.new("L", (300, 300), 240)
  ImageDraw.Draw(picture).line([(150, 50), (150, 250)], 20, 24)
  picture.save(tmp_path / "one.png")
  process = subprocess.run(
    [sys.executable, "-m", "mnist_research.predict", "one.png"],
    env={**os.environ, "PYTHONPATH": str(installed)},
    capture_output=True, text=True, check=True, cwd=tmp_path,
  )  # fmt: skip
  assert str(installed) in process.stderr
  assert json.loads(process.stdout)["label"] == 1
