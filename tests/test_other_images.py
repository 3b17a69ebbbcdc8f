"""Tests of whole commands on images of other shapes than MNIST's, from users' builders."""

from pathlib import Path

import commands
import numpy as np
import pytest
import run_exported
from PIL import Image

from mnist_research.data import datasets, splits
from mnist_research.inference.recognizer import load_recognizer
from mnist_research.workdir import Workdir

_USER_CODE = Path(__file__).parent / "user_code"
_BRIGHTEN = f"{_USER_CODE}/my_augmentations.py:brighten"
_RUNS = {
  "colors": [
    f"--dataset={_USER_CODE}/my_data.py:ColoredShapes", "--model=cnn", "--filters=8,16",
    f"--augment=shift,elastic,{_BRIGHTEN}", "--augment_settings=strength=0.2",
  ],
  "oblong": [
    f"--dataset={_USER_CODE}/my_data.py:GreyBars", "--hidden_units=32",
    "--augment=rotation,erasing",
  ],
}  # fmt: skip
_SHAPES = {"colors": (32, 32, 3), "oblong": (20, 24, 1)}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module", params=_RUNS)
def run(request, data_dir, tmp_path_factory):
  """The name of a run, its workdir and its result."""
  workdir = tmp_path_factory.mktemp("run") / request.param
  result = commands.run(
    *_RUNS[request.param], f"--data_dir={data_dir}", f"--workdir={workdir}", "--steps=150",
    "--batch_size=20", "--validation_examples=100", "--learning_rate=0.003", "--summaries=all",
  ).record  # fmt: skip
  return request.param, workdir, result


@pytest.fixture(scope="module")
def network(run):
  """Its network, and the test split."""
  workdir = Workdir(run[1])
  config = workdir.trained_config()
  return load_recognizer(workdir, config), splits.read(datasets.prepare(config), "test")


def test_other_images_are_learned_and_drawn(run):
  name, workdir, result = run
  assert result["test_accuracy"] > 0.9
  assert result["train_examples"] == 300
  drawn = {path.stem for path in (workdir / "figures").iterdir()}
  assert {"train_examples", "test_predictions", "test_weights"} <= drawn
  sprite = Image.open(next(workdir.rglob("*sprite.png")))
  height, width, channels = _SHAPES[name]
  # A hundred test examples are ten by ten.
  assert (sprite.size, len(sprite.getbands())) == ((10 * width, 10 * height), channels)


def test_other_images_are_evaluated_and_reported(run, tmp_path):
  _, workdir, result = run
  record = commands.call(f"--workdir={workdir}", module="evaluate").record
  assert record["accuracy"] == result["test_accuracy"]
  finished = commands.call(f"--output={tmp_path / 'report.html'}", workdir, module="report")
  assert finished.returncode == 0, finished.stderr


def test_examples_and_files_are_predicted(run, network, tmp_path):
  name, workdir, _ = run
  recognizer, test = network
  assert recognizer.image_shape == _SHAPES[name]
  expected = recognizer.probabilities(test.images[7:8])[0]
  figure = tmp_path / "seen.png"
  record = commands.call(
    f"--workdir={workdir}", "--index=7", f"--figure={figure}", module="predict"
  ).record
  np.testing.assert_allclose(record["probabilities"], expected, atol=1e-6)
  assert figure.is_file()
  # Twice as large, with a margin on both sides to be cropped.
  image = test.images[7].squeeze()
  large = image.repeat(2, 0).repeat(2, 1)
  margins = [(0, 0), (9, 9), (0, 0)][: image.ndim]
  Image.fromarray(np.pad(large, margins)).save(tmp_path / "picture.png")
  file = commands.call(f"--workdir={workdir}", tmp_path / "picture.png", module="predict").record
  assert file["label"] == record["label"]


def test_digit_only_features_reject_other_images(run, tmp_path):
  name, workdir, _ = run
  Image.new("L", (60, 60)).save(tmp_path / "picture.png")
  finished = commands.call(
    f"--workdir={workdir}", "--digits", tmp_path / "picture.png", module="predict"
  )
  shape = str(_SHAPES[name])
  assert finished.error == (
    "error: --digits prepares digits as MNIST's images of (28, 28, 1), but this model takes "
    f"{shape}; name another --workdir"
  )
  demo = commands.call(f"--workdir={workdir}", "--port=0", module="demo")
  assert demo.error.startswith("error: the page prepares digits as MNIST's images of (28, 28, 1)")


@pytest.mark.parametrize("file_format", ["saved_model", "tflite", "tflite_int8", "onnx"])
def test_exported_network_answers_alike(run, network, tmp_path, file_format):
  _, workdir, _ = run
  recognizer, test = network
  if file_format == "onnx":
    pytest.importorskip("tf2onnx")
  output = tmp_path / "exported"
  commands.call(
    f"--workdir={workdir}", f"--format={file_format}", f"--output={output}", module="export"
  )
  answers = run_exported.probabilities(file_format, str(output), test.images[:20])
  tolerance = 0.2 if file_format == "tflite_int8" else 1e-5
  np.testing.assert_allclose(answers, recognizer.probabilities(test.images[:20]), atol=tolerance)


def test_examples_of_another_shape_are_rejected(run, data_dir):
  name, workdir, _ = run
  other = "GreyBars" if name == "colors" else "ColoredShapes"
  finished = commands.call(
    f"--workdir={workdir}", f"--dataset={_USER_CODE}/my_data.py:{other}", f"--data_dir={data_dir}",
    module="evaluate",
  )  # fmt: skip
  assert "classes, but this model has" in finished.error


def test_failing_augmentation_ends_the_run_in_one_line(data_dir, tmp_path):
  finished = commands.run(
    *_RUNS["colors"], f"--data_dir={data_dir}", f"--workdir={tmp_path / 'run'}",
    f"--augment={_USER_CODE}/my_augmentations.py:fail", "--augment_settings=",
    "--validation_examples=9",
  )  # fmt: skip
  assert "RuntimeError: no paint left" in finished.error
