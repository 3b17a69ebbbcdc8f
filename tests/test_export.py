"""Tests of `python -m mnist_research.export` as a user runs it."""

import os

import commands
import numpy as np
import pytest
import run_exported

from mnist_research.config import Config
from mnist_research.data import datasets, splits
from mnist_research.inference import exporting
from mnist_research.inference.recognizer import load_recognizer
from mnist_research.training.loop import train
from mnist_research.workdir import Workdir


def _export(workdir, file_format, output, *flags, **options):
  return commands.run(
    f"--workdir={workdir}", f"--format={file_format}", f"--output={output}", *flags,
    module="export", **options,
  )  # fmt: skip


def test_int8_is_calibrated_on_training_examples(trained, tmp_path):
  before = commands.contents(trained.workdir)
  output = tmp_path / "new" / "digits.tflite"
  finished = _export(trained.workdir, "tflite_int8", output)
  assert finished.record == {
    "format": "tflite_int8",
    "output": str(output),
    "bytes": output.stat().st_size,
    "label_names": [str(digit) for digit in range(10)],
    "step": 180,
  }
  last_line = finished.stderr.splitlines()[-1]
  assert last_line == f"{trained.workdir} after 180 steps, as tflite_int8 in {output}"
  assert "fully_quantize" not in finished.stderr  # The converter's noise.
  assert [*output.parent.iterdir()] == [output]
  assert commands.contents(trained.workdir) == before

  settings = Workdir(trained.workdir).trained_config()
  model = load_recognizer(Workdir(trained.workdir), settings).trained.model
  source = datasets.prepare(settings)
  train_images, test_images = (splits.read(source, name).images for name in ("train", "test"))
  answers = run_exported.probabilities("tflite_int8", str(output), test_images)
  for examples, same in ((train_images[:500], True), (train_images[500:1000], False)):
    other = tmp_path / f"same {same}"
    exporting.export(
      model, "tflite_int8", other, calibration_images=examples, image_shape=(28, 28, 1)
    )
    others = run_exported.probabilities("tflite_int8", str(other), test_images)
    assert np.array_equal(answers, others) == same


def test_bfloat16_network_is_exported_in_float32(prepared, tmp_path):
  config = Config(
    dataset="synthetic_digits/2000_500", data_dir=prepared, validation_examples=0, steps=100,
    hidden_units=(32,), precision="bfloat16", workdir=str(tmp_path / "trained"),
  )  # fmt: skip
  train(config)
  size = commands.call(
    f"--workdir={config.run.workdir}", "--format=onnx", f"--output={tmp_path / 'digits.onnx'}",
    module="export",
  ).record["bytes"]  # fmt: skip
  assert size > 4 * (784 * 32 + 32 * 10)
  settings = config.replace(precision="float32")
  expected = load_recognizer(Workdir(config.run.workdir), settings)
  images = splits.read(datasets.prepare(config), "test").images
  answers = run_exported.probabilities("onnx", str(tmp_path / "digits.onnx"), images)
  np.testing.assert_allclose(answers, expected.probabilities(images), atol=1e-5)
  rounded = load_recognizer(Workdir(config.run.workdir), config).probabilities(images)
  assert np.abs(answers - rounded).max() > 1e-4


@pytest.mark.parametrize("kind", ["file", "directory"])
@pytest.mark.parametrize("file_format", ["saved_model", "onnx"])
def test_existing_output_is_not_overwritten(trained, tmp_path, kind, file_format):
  output = tmp_path / "mine"
  content = output if kind == "file" else output / "thesis.txt"
  content.parent.mkdir(exist_ok=True)
  content.write_text("mine")
  error = commands.call(
    f"--workdir={trained.workdir}", f"--format={file_format}", f"--output={output}",
    module="export",
  ).error  # fmt: skip
  assert error == f"error: --output={output} already exists: remove it, or choose another --output"
  assert content.read_text() == "mine"


@pytest.mark.parametrize(
  ("flags", "problem"),
  [
    ((), "--output is missing"),
    (("--output=new", "--format=pickle"), "--format=pickle"),
    (("--output=new", "--precision=bfloat16"), "--precision belongs to training"),
    (("new",), "'new' is not a flag"),
  ],
)
def test_invalid_flags_are_rejected(trained, tmp_path, flags, problem):
  finished = commands.run(f"--workdir={trained.workdir}", *flags, module="export", cwd=tmp_path)
  assert problem in finished.error
  assert not [*tmp_path.iterdir()]


def test_directory_without_a_run_is_rejected(tmp_path):
  assert f"--workdir={tmp_path} holds no run" in _export(tmp_path, "onnx", tmp_path / "new").error


def test_onnx_without_its_extra_names_the_extra(trained, tmp_path):
  (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['tf2onnx'] = None")
  path = os.pathsep.join(
    [str(tmp_path), str(commands.REPOSITORY), os.environ.get("PYTHONPATH", "")]
  )
  finished = _export(trained.workdir, "onnx", tmp_path / "new", environment={"PYTHONPATH": path})
  assert finished.error == (
    "error: tf2onnx is not installed: "
    "python -m pip install -e '.[export]' in the repository adds it"
  )
