"""Tests of the training step as StableHLO under JAX: its losses equal TensorFlow's."""

import json
import subprocess
import sys

import commands
import numpy as np
import pytest

_SCRIPTS = commands.REPOSITORY / "scripts"
_SETTINGS = (
  "--dataset=synthetic_digits/2000_500", "--validation_examples=500", "--batch_size=50",
  "--epochs=3", "--steps_per_loop=10", "--learning_rate=0.01",
)  # fmt: skip

pytest.importorskip("jax", reason="the extra stablehlo is not installed")


def _run(script, *arguments):
  process = subprocess.Popen(
    [sys.executable, _SCRIPTS / script, *map(str, arguments)],
    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
  )  # fmt: skip
  return commands.finish(process)


def _export(prepared, output, *settings):
  return _run(
    "export_step.py", *_SETTINGS, f"--data_dir={prepared}", f"--output={output}", *settings
  )


@pytest.fixture(scope="module")
def exported(prepared, tmp_path_factory):
  """The exported step of a small run with dropout and averages, with three blocks."""
  output = tmp_path_factory.mktemp("stablehlo") / "step"
  finished = _export(
    prepared, output, "--hidden_units=32", "--dropout_rate=0.1", "--ema_decay=0.9",
    "--clip_norm=1", "--label_smoothing=0.1", "--weight_decay=0.01", "--optimizer=adamw",
  )  # fmt: skip
  return output, finished.record


def test_step_is_exported_as_named_stablehlo(exported):
  output, record = exported
  assert record["steps"] == 30
  content = (output / "block.stablehlo").read_bytes()
  assert content.startswith(b"ML\xefR")
  assert b"StableHLO_v" in content[:40]
  assert len(content) == record["bytes"]
  manifest = json.loads((output / "manifest.json").read_text())
  assert manifest["takes"][:4] == ["images", "labels", "num_steps", "step"]
  assert manifest["returns"][:4] == ["losses", "correct", "plain_losses", "step"]
  with np.load(output / "state.npz") as state:
    assert [*state] == manifest["takes"][3:]
    assert state["model/hidden_0/dense/kernel"].shape == (784, 32)
    assert state["averages/logits/bias"].shape == (10,)
    assert int(state["step"]) == 0
  # The results include everything that training changes.
  assert set(manifest["returns"][3:]) == set(manifest["takes"][3:])


def test_jax_reproduces_tensorflow_losses(exported):
  output, record = exported
  finished = _run("run_stablehlo.py", output, "--rounds=2")
  result = finished.record
  assert finished.stderr == ""
  assert result["steps"] == 30
  assert 0 <= result["largest_difference"] < 1e-5
  assert result["different_hits"] == 0
  np.testing.assert_allclose(result["final_loss"], record["final_loss"], rtol=1e-5)
  assert result["examples_per_second"] > 0
  with np.load(output / "blocks.npz") as blocks:
    losses = blocks["losses"]
    assert losses[0, 0] > 2  # Ten classes by chance; then it learns.
    assert losses[2, 9] < losses[0, 0] - 0.5


def test_other_losses_are_rejected(exported, tmp_path):
  output, _ = exported
  for name in ("block.stablehlo", "manifest.json", "blocks.npz"):
    (tmp_path / name).write_bytes((output / name).read_bytes())
  with np.load(output / "state.npz") as state:
    arrays = dict(state)
  arrays["model/logits/bias"][3] += 0.01
  np.savez(tmp_path / "state.npz", **arrays)
  finished = _run("run_stablehlo.py", tmp_path, "--rounds=1")
  assert finished.returncode == 2
  assert json.loads(finished.stdout)["largest_difference"] > 1e-5
  assert finished.stderr.startswith("error: losses differ from TensorFlow's by ")


def test_convolutional_bfloat16_step_is_exported(prepared, tmp_path):
  settings = ("--model=cnn", "--filters=4", "--kernel_sizes=5", "--pool_sizes=2")
  finished = _export(
    prepared, tmp_path / "step", *settings, "--precision=bfloat16", "--optimizer=muon",
    "--blocks=1", "--batch_norm", "--learning_rate=0.001",
  )  # fmt: skip
  assert finished.record["steps"] == 10
  result = _run("run_stablehlo.py", tmp_path / "step", "--rounds=0").record
  assert result["examples_per_second"] is None
  assert 0 < result["largest_difference"] < result["tolerance"] == 1e-2


def test_unexportable_settings_are_reported(prepared, tmp_path):
  for settings, message in (
    ("--device_count=2", "2 replicas: the exported block is that of one"),
    ("--blocks=1000", "--blocks=1000: the run has 9; "),
    ("--stablehlo_version=99.0.0", "--stablehlo_version=99.0.0: the steps can't be written in it"),
  ):
    finished = _export(prepared, tmp_path / "step", settings)
    assert finished.returncode == 2
    # TensorFlow's messages come first.
    assert finished.stderr.splitlines()[-1].startswith(f"error: {message}")
  assert _export(prepared, tmp_path).stderr.endswith(
    f"error: --output={tmp_path} already exists: remove it, or choose another --output\n"
  )
  assert not list(tmp_path.iterdir())
  absent = _run("run_stablehlo.py", tmp_path / "absent")
  assert absent.error.startswith(f"error: {tmp_path / 'absent'} is not what export_step.py writes")
