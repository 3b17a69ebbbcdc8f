"""Tests of `python -m mnist_research.train` as a user runs it."""

import json
import math
import os
import shlex
import shutil
import signal
import subprocess

import commands
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

_PICTURES = ("train/examples", "test/predictions", "test/confusion_matrix", "train/curves")
# The tags of the HParams dashboard.
_SETTINGS = ("_hparams_/session_start_info", "_hparams_/session_end_info")
# 1,500 examples in batches of 50.
_EPOCH_STEPS = 30
_STEPS = 6 * _EPOCH_STEPS


@pytest.fixture(scope="module")
def events(trained):
  return commands.read_events(trained.workdir)


@pytest.fixture(scope="module")
def result(trained):
  return json.loads((trained.workdir / "result.json").read_text())


def test_stdout_holds_only_the_result_to_six_digits(trained, result):
  assert trained.finished.stdout == json.dumps(commands.printed(result)) + "\n"


def test_stderr_describes_the_run(trained):
  stderr = trained.finished.stderr
  assert f"step 0 of {_STEPS}, 50 examples of synthetic_digits/2000_500 per step" in stderr
  accuracy = trained.finished.record["test_accuracy"]
  loss = trained.finished.record["test_loss"]
  assert f"\ntest  loss {loss:.4f}  accuracy {accuracy:.4f}\n" in stderr
  # TensorFlow's messages about the machine would bury it.
  for noise in ("oneDNN", "cuda", "InitializeLog", "WARNING", "warning:"):
    assert noise not in stderr


def test_stderr_has_a_line_per_epoch(trained):
  # At the same steps as the lines of metrics.jsonl: here, a block is as long as an epoch.
  metrics = commands.read_metrics(trained.workdir)
  trains, validations = (
    [record for record in metrics if record["split"] == split] for split in ("train", "validation")
  )
  lines = [
    f"epoch {epoch}/6  loss {train['loss']:.4f}  accuracy {train['accuracy']:.4f}  "
    f"val loss {validation['loss']:.4f}  accuracy {validation['accuracy']:.4f}"
    for epoch, (train, validation) in enumerate(zip(trains, validations, strict=True), start=1)
  ]
  stderr = trained.finished.stderr.splitlines()
  assert [line for line in stderr if line.startswith("epoch")] == lines


def test_lines_fit_a_terminal_of_80_columns(trained):
  lines = trained.finished.stderr.splitlines()
  # Commands stay in one line, so that they can be copied.
  lines = [line for line in lines if str(trained.workdir) not in line]
  assert len(lines) > 10
  assert max(lines, key=len) == next(line for line in lines if len(line) == 80)


def test_final_message_names_figures_and_next_steps(trained):
  workdir = shlex.quote(str(trained.workdir))
  *_, pictures, heading, evaluate, predict, tensorboard = trained.finished.stderr.splitlines()
  assert (pictures, heading) == (f"pictures: {workdir}/figures", "next:")
  assert evaluate == f"  python -m mnist_research.evaluate --workdir={workdir}"
  assert predict == f"  python -m mnist_research.predict --workdir={workdir} --index=0"
  assert tensorboard == f"  tensorboard --logdir={workdir}/tensorboard"


def test_result_holds_the_metrics_of_the_run(result):
  assert result["step"] == _STEPS
  assert result["dataset"] == "synthetic_digits/2000_500"
  assert result["test_accuracy"] > 0.75
  assert 0 < result["test_loss"] < 1
  assert result["train_examples"] == 1500
  assert result["parameters"] == 784 * 32 + 32 + 32 * 10 + 10
  assert result["seed"] == 0
  assert result["train_seconds"] > 0
  assert result["examples_per_second"] == _STEPS * 50 / result["train_seconds"]


def test_result_matches_the_last_metrics(trained, result):
  last = {record["split"]: record for record in commands.read_metrics(trained.workdir)}
  for split in ("validation", "test"):
    assert last[split]["step"] == _STEPS
    for name in ("accuracy", "loss"):
      assert result[f"{split}_{name}"] == last[split][name]


def test_metrics_hold_each_step_of_a_split_once(trained):
  metrics = commands.read_metrics(trained.workdir)
  ends = [(step, split) for step in range(_EPOCH_STEPS, _STEPS + 1, _EPOCH_STEPS)
          for split in ("train", "validation")]  # fmt: skip
  assert [(record["step"], record["split"]) for record in metrics] == [*ends, (_STEPS, "test")]
  for record in metrics:
    assert math.isfinite(record["loss"])
    assert 0 <= record["accuracy"] <= 1


def test_loss_falls_by_half(trained):
  metrics = commands.read_metrics(trained.workdir)
  losses = {
    split: [record["loss"] for record in metrics if record["split"] == split]
    for split in ("train", "validation")
  }
  assert losses["train"][-1] < losses["train"][0] / 2
  # First scored after an epoch.
  assert losses["validation"][-1] < losses["validation"][0] < math.log(10) / 2


def test_learning_rate_ends_where_the_schedule_does(trained):
  rates = {
    record["step"]: record["learning_rate"]
    for record in commands.read_metrics(trained.workdir)
    if record["split"] == "train"
  }
  for step, rate in rates.items():
    expected = 0.01 * (1 + math.cos(math.pi * (step - 1) / _STEPS)) / 2
    assert rate == pytest.approx(expected, abs=1e-8)


def test_metrics_include_epoch_and_speed(trained):
  for record in commands.read_metrics(trained.workdir):
    if record["split"] == "train":
      assert record["epoch"] == record["step"] / _EPOCH_STEPS
      assert record["examples_per_second"] > 0


def test_environment_records_versions_devices_and_command(trained):
  environment = json.loads((trained.workdir / "environment.json").read_text())
  for package in (tf, np, tf.keras):
    assert environment[package.__name__.rpartition(".")[2]] == package.__version__
  assert {"mnist_research", "tensorflow-datasets"} < environment.keys()
  assert environment["python"].count(".") == 2
  assert environment["cores"] == len(os.sched_getaffinity(0))
  assert environment["processor"]
  assert environment["platform"].startswith("Linux")
  assert len(environment["devices"]) == 1
  assert "--hidden_units=32" in environment["command"]
  commit = environment["commit"]
  assert commit is None or len(commit.removesuffix("+changes")) == 40


def test_workdir_contains_nothing_else(trained):
  names = {path.name for path in trained.workdir.iterdir()}
  assert names == {
    ".lock", "config.cfg", "environment.json", "metrics.jsonl", "test_scores.jsonl",
    "result.json", "checkpoints", "tensorboard", "figures", "predictions-test.npz",
  }  # fmt: skip
  checkpoints = sorted(path.name for path in (trained.workdir / "checkpoints").iterdir())
  assert checkpoints == ["00000120", "00000150", "00000180"]


def test_tensorboard_matches_the_metrics(trained, events):
  expected = {}
  for record in commands.read_metrics(trained.workdir):
    for name in set(record) - {"step", "split", "crc32"}:
      progress = ("epoch", "learning_rate", "examples_per_second")
      tag = f"{record['split']}/{'progress/' if name in progress else ''}{name}"
      expected.setdefault(tag, []).append((record["step"], np.float32(record[name])))
  contract = {f"{split}/{name}" for split in ("train", "validation", "test")
              for name in ("loss", "accuracy")}  # fmt: skip
  assert {*contract, "train/progress/learning_rate"} <= expected.keys()
  for tag, values in expected.items():
    assert commands.shown_scalars(events, tag) == values
  assert set(events.tags) == {*expected, *_PICTURES, *_SETTINGS}


@pytest.mark.parametrize("tag", _PICTURES)
def test_figures_are_in_tensorboard_and_in_files(trained, events, tag):
  (event,) = events.tensors(tag)
  assert event.step == (0 if tag == "train/examples" else _STEPS)
  width, height, encoded = tf.make_ndarray(event.tensor_proto)
  shown = tf.io.decode_png(encoded).numpy()
  assert shown.shape == (int(height), int(width), 3)
  assert min(shown.shape[:2]) > 200
  assert shown.std() > 5
  with Image.open(trained.workdir / "figures" / f"{tag.replace('/', '_')}.png") as picture:
    stored = np.asarray(picture.convert("RGB"))
  assert min(stored.shape[:2]) > 200
  assert stored.std() > 5


def test_config_repeats_the_run_bit_for_bit(trained, tmp_path):
  again = tmp_path / "again"
  flagfile = trained.workdir / "config.cfg"
  result = commands.run(f"--flagfile={flagfile}", f"--workdir={again}").record
  assert result["test_accuracy"] == trained.finished.record["test_accuracy"]
  commands.assert_same_run(again, trained.workdir)
  assert (again / "config.cfg").read_text() == flagfile.read_text()


def test_finished_run_says_so_and_changes_nothing(trained):
  before = commands.contents(trained.workdir)
  flags = (f"--flagfile={trained.workdir / 'config.cfg'}", f"--workdir={trained.workdir}")
  again = commands.run(*flags)
  assert again.returncode == 0
  assert again.stdout == trained.finished.stdout
  assert f"{trained.workdir} is finished, at step {_STEPS}" in again.stderr
  assert commands.contents(trained.workdir) == before


def test_other_settings_in_a_workdir_are_rejected_by_name(trained):
  before = commands.contents(trained.workdir)
  flagfile = trained.workdir / "config.cfg"
  error = commands.call(
    f"--flagfile={flagfile}", f"--workdir={trained.workdir}", "--hidden_units=64,16", "--seed=7"
  ).error
  assert "--hidden_units=64,16, not 32" in error
  assert "--seed=7, not 0" in error
  assert error.count(", not ") == 2
  assert str(trained.workdir) in error
  assert commands.contents(trained.workdir) == before


def _stop(process, workdir, step, number):
  """Sends a signal once the run is past `step`."""
  commands.wait_until(lambda: commands.last_step(workdir) > step, process)
  return commands.stop(process, number)


@pytest.mark.slow
def test_repeatedly_stopped_run_resumes_bit_for_bit(prepared, tmp_path):
  # Blocks of three steps, so that it can be stopped between any two of them.
  flags = (
    *commands.SMALL, f"--data_dir={prepared}", "--steps=700", "--steps_per_loop=3",
    "--checkpoint_every=50", "--evaluate_every=100",
  )  # fmt: skip
  uninterrupted, stopped = tmp_path / "uninterrupted", tmp_path / "stopped"
  assert commands.run(*flags, f"--workdir={uninterrupted}").returncode == 0

  for number, step, returncode in (
    (signal.SIGINT, 50, 130),
    (signal.SIGTERM, 210, 143),
    (signal.SIGKILL, 410, -9),
  ):
    before = commands.last_step(stopped)
    ended = _stop(commands.start(*flags, f"--workdir={stopped}"), stopped, step, number)
    assert ended.returncode == returncode, ended.stderr
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    assert not (stopped / "result.json").exists()
    reached = commands.last_step(stopped)
    assert before < step < reached < 700
    if returncode > 0:
      assert f"stopped at step {reached}, saved" in ended.stderr
      assert (stopped / "checkpoints" / f"{reached:08d}").is_dir()

  last = commands.run(*flags, f"--workdir={stopped}")
  assert last.record["step"] == 700
  assert "resuming: step" in last.stderr
  commands.assert_same_run(stopped, uninterrupted)


def test_workdir_is_exclusive_and_second_ctrl_c_stops_at_once(prepared, tmp_path):
  workdir = tmp_path / "busy"
  flags = (
    *commands.SMALL, f"--data_dir={prepared}", f"--workdir={workdir}", "--hidden_units=512,512",
    "--steps=20000", "--steps_per_loop=20000", "--checkpoint_every=20000", "--evaluate_every=20000",
  )  # fmt: skip
  first = commands.start(*flags, "--batch_size=10")
  commands.wait_until((workdir / "environment.json").exists, first)
  first.send_signal(signal.SIGSTOP)
  before = commands.contents(workdir)
  error = commands.run(*flags, "--batch_size=10").error
  assert f"--workdir={workdir}: another process is training there" in error
  assert commands.contents(workdir) == before

  first.send_signal(signal.SIGCONT)
  first.send_signal(signal.SIGINT)
  for line in first.stderr:
    if "Ctrl-C again stops at once" in line:
      break
  first.send_signal(signal.SIGINT)
  try:
    first.wait(timeout=10)
  finally:
    first.kill()
  assert first.returncode == 130
  assert "Traceback" not in first.stderr.read()
  assert not (workdir / "checkpoints").exists()


def test_dense_learns_mnist_in_one_epoch_from_original_files(mnist_dir, tmp_path):
  result = commands.run(
    f"--flagfile={commands.REPOSITORY / 'configs' / 'dense.cfg'}",
    "--epochs=1",
    f"--manual_dir={mnist_dir}",
    f"--data_dir={tmp_path / 'data'}",
    f"--workdir={tmp_path / 'run'}",
    environment=commands.NO_NETWORK,
  ).record
  assert result["dataset"] == "mnist"
  assert result["train_examples"] == 55_000
  assert result["step"] == 1719
  assert result["parameters"] == 784 * 128 + 128 + 128 * 128 + 128 + 128 * 10 + 10
  assert result["test_accuracy"] >= 0.95


def test_no_hidden_layers_give_a_linear_classifier(prepared, tmp_path):
  result = commands.call(
    *commands.SMALL, "--hidden_units=", "--steps=30", "--xla=off", "--summaries=none",
    f"--data_dir={prepared}", f"--workdir={tmp_path / 'run'}",
  ).record  # fmt: skip
  assert result["parameters"] == 784 * 10 + 10
  assert result["test_accuracy"] > 0.3


@pytest.mark.skipif(not shutil.which("make"), reason="make isn't installed")
def test_make_passes_flags_on():
  printed = subprocess.run(
    ["make", "--no-print-directory", "-n", "train", "FLAGS=--seed=3 --epochs=1"],
    cwd=commands.REPOSITORY, capture_output=True, text=True, check=True,
  ).stdout  # fmt: skip
  command = printed.splitlines()[-1]
  assert command.endswith(
    "python -m mnist_research.train --flagfile=configs/dense.cfg --seed=3 --epochs=1"
  )
