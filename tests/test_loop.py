"""Tests of `train(config)`, called from Python as in a notebook."""

import itertools
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any, NamedTuple

import commands
import numpy as np
import pytest
import tensorflow as tf
from nets import create_model

from mnist_research import config as config_lib
from mnist_research.config import Config
from mnist_research.data import datasets, splits
from mnist_research.inference.recognizer import load_recognizer
from mnist_research.models.networks import whiten
from mnist_research.recording import event_files
from mnist_research.recording.summaries import Summaries
from mnist_research.runtime.errors import Interrupted, UserError
from mnist_research.training import checkpoints, session
from mnist_research.training.loop import train
from mnist_research.workdir import Workdir

# Each choice at least once, in varying combinations.
_CHOICES = list(
  itertools.islice(
    zip(
      config_lib.OPTIMIZERS,
      config_lib.ACTIVATIONS,
      itertools.cycle(config_lib.SCHEDULES),
      itertools.cycle(config_lib.LOSSES),
      strict=False,
    ),
    max(len(config_lib.OPTIMIZERS), len(config_lib.ACTIVATIONS)),
  )
)
# For optimizers whose steps differ in size from Adam's.
_LEARNING_RATES = {"sgd": 0.3, "momentum": 0.05, "nesterov": 0.05, "lamb": 0.05}


def _settings(data_dir: str, workdir: Path) -> Config:
  """A run of 60 steps with every feature that resuming could get wrong."""
  return Config(
    dataset="synthetic_digits/2000_500",
    data_dir=data_dir,
    validation_examples=500,
    hidden_units=(32,),
    dropout_rate=0.1,
    ema_decay=0.9,
    learning_rate=0.01,
    batch_size=50,
    steps=60,
    steps_per_loop=5,
    checkpoint_every=20,
    evaluate_every=30,
    deterministic=True,
    xla="off",  # Compiling takes longer than these steps; tests of whole commands cover it.
    workdir=str(workdir),
  )


class _Trained(NamedTuple):
  """An uninterrupted run.

  Attributes:
    workdir: its directory, which no test may change.
    result: its result.
  """

  workdir: Path
  result: dict[str, Any]


@pytest.fixture
def settings(prepared, tmp_path):
  return _settings(prepared, tmp_path / "run")


@pytest.fixture(scope="module")
def uninterrupted(prepared, tmp_path_factory):
  """A run of `settings`."""
  workdir = tmp_path_factory.mktemp("uninterrupted") / "run"
  return _Trained(workdir, train(_settings(prepared, workdir)))


@pytest.fixture(scope="module")
def selected(prepared, tmp_path_factory):
  """A run of `settings` that selects the best of 12 steps."""
  workdir = tmp_path_factory.mktemp("selected") / "run"
  settings = _settings(prepared, workdir).replace(select="best", evaluate_every=5)
  return _Trained(workdir, train(settings))


def test_choices_cover_every_option():
  for index, names in enumerate(
    (config_lib.OPTIMIZERS, config_lib.ACTIVATIONS, config_lib.SCHEDULES, config_lib.LOSSES)
  ):
    assert {choice[index] for choice in _CHOICES} == set(names)


@pytest.mark.parametrize(("optimizer", "activation", "schedule", "loss"), _CHOICES)
def test_loss_falls_with_every_option(prepared, tmp_path, optimizer, activation, schedule, loss):
  config = Config(
    dataset="synthetic_digits/2000_500", data_dir=prepared, validation_examples=0,
    hidden_units=(32,), optimizer=optimizer, activation=activation, loss=loss,
    learning_rate_schedule=schedule, learning_rate=_LEARNING_RATES.get(optimizer, 0.01),
    label_smoothing=0.05, weight_decay=0.001, batch_size=50, steps=60, steps_per_loop=10,
    xla="off", workdir=str(tmp_path),
  )  # fmt: skip
  result = train(config)
  losses = [record["loss"] for record in commands.read_metrics(tmp_path)]
  assert len(losses) == 60 / 10 + 1
  assert losses[0] > 1.5
  assert losses[-2] < 0.75 * losses[0]
  assert result["test_accuracy"] > 0.4


def test_train_returns_result_and_restores_signals(settings):
  handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
  result = train(settings)
  assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
  with open(f"{settings.run.workdir}/result.json") as file:
    assert json.load(file) == result
  assert train(settings) == result


def test_train_runs_in_a_thread_without_signals(settings):
  results = []
  thread = threading.Thread(target=lambda: results.append(train(settings)))
  thread.start()
  thread.join()
  assert results[0]["step"] == 60


def _stop_at(monkeypatch, owner, name, is_time):
  """Sends this process SIGTERM in the first call of a function with matching arguments."""
  original, sent = getattr(owner, name), []

  def stopping(*arguments, **options):
    if not sent and is_time(*arguments, **options):
      sent.append(True)
      os.kill(os.getpid(), signal.SIGTERM)
    return original(*arguments, **options)

  monkeypatch.setattr(owner, name, stopping)


_AT_STEP_25 = (Summaries, "scalars", lambda *_, step: step == 25)


def _stop_and_resume(
  settings, uninterrupted, monkeypatch, *, moment=_AT_STEP_25, damage=lambda _: None
) -> int:
  """Stops and resumes a run, which must end like the uninterrupted one.

  Args:
    settings: the settings of both runs.
    uninterrupted: the workdir of the uninterrupted run.
    monkeypatch: sends the signal.
    moment: the arguments of `_stop_at`.
    damage: called with the newest checkpoint before resuming.

  Returns:
    The step of the stop.
  """
  with monkeypatch.context() as patch:
    _stop_at(patch, *moment)
    with pytest.raises(Interrupted) as raised:
      train(settings)
  assert raised.value.signal_number == signal.SIGTERM
  workdir = Path(settings.run.workdir)
  newest = max((workdir / "checkpoints").iterdir())
  step = int(newest.name)
  assert step == commands.last_step(workdir)
  assert not (workdir / "result.json").exists()
  damage(newest)
  assert train(settings)["step"] == 60
  commands.assert_same_run(workdir, uninterrupted)
  return step


@pytest.mark.parametrize(
  ("moment", "step"),
  [
    ((session.Session, "validate", lambda *_: True), 30),
    # It had checked for stops before saving, so it stops after the next block.
    ((session.checkpoints, "save", lambda state, *_, **__: state.step == 20), 25),
    ((session.checkpoints, "save", lambda state, *_, **__: state.step == 60), 60),
  ],
  ids=["while it evaluates", "while it saves", "while it saves for the last time"],
)
def test_stop_takes_effect_after_the_block(settings, uninterrupted, monkeypatch, moment, step):
  stopped = _stop_and_resume(settings, uninterrupted.workdir, monkeypatch, moment=moment)
  assert stopped in (step, step + 5)  # A thread receives the signal, maybe late.


@pytest.mark.parametrize(
  "changes",
  [
    {},
    {"device_count": 2},
    {"device_count": 2, "precision": "bfloat16"},
    {
      "model": "cnn", "filters": (4, 8), "batch_norm": True, "select": "best",
      "evaluate_every": 10, "augment": ("shift", "elastic", "mixup"),
      "loss": "categorical_crossentropy",
    },
    {"model": "cnn", "filters": (4, 8), "whitening": True, "noise": 0.1, "device_count": 2},
    {"outliers": "non_digits/100_10"},
  ],
  ids=["on one device", "on two devices", "on two devices in bfloat16", "convolutions, best",
       "whitening on two devices", "outliers"],
)  # fmt: skip
def test_stopped_run_resumes_bit_for_bit(settings, uninterrupted, monkeypatch, tmp_path, changes):
  workdir, settings = uninterrupted.workdir, settings.replace(**changes)
  if changes:
    workdir = tmp_path / "uninterrupted"
    train(settings.replace(workdir=str(workdir)))
  assert 25 <= _stop_and_resume(settings, workdir, monkeypatch) < 60


def test_outliers_are_trained_on_and_scored_separately(settings, tmp_path):
  # Two passes over 1,500 digits and 100 outliers.
  settings = settings.replace(outliers="non_digits/100_10", steps=64, summaries="all")
  result = train(settings)
  assert result["train_examples"] == 1500
  assert result["outlier_examples"] == 100
  lines = [line for line in Workdir(tmp_path / "run").read_metrics() if line["split"] == "train"]
  assert lines[-1]["epoch"] == 2
  # The loss includes the eleventh class; the plain loss covers only digits.
  assert all(line["plain_loss"] < line["loss"] for line in lines[:3])
  assert (tmp_path / "run" / "figures" / "train_examples.png").is_file()


def test_outliers_of_another_size_are_rejected(settings):
  bars = f"{commands.REPOSITORY}/tests/user_code/my_data.py:GreyBars"
  with pytest.raises(UserError, match=r"--outliers=non_digits/100_10 has images of \(28, 28, 1\)"):
    train(settings.replace(dataset=bars, validation_examples=0, outliers="non_digits/100_10"))


def test_corrupt_checkpoint_costs_steps_but_no_bits(settings, uninterrupted, monkeypatch, caplog):
  def damage(checkpoint):
    (data,) = checkpoint.glob("state.data-*")
    data.write_bytes(data.read_bytes()[:-100])
    assert checkpoint.name not in ("00000000", "00000020")

  _stop_and_resume(settings, uninterrupted.workdir, monkeypatch, damage=damage)
  assert "is corrupt and skipped" in caplog.text


# ---- Selection by validation ----


def _validation_accuracies(workdir) -> dict[int, float]:
  records = commands.read_metrics(workdir)
  return {r["step"]: r["accuracy"] for r in records if r["split"] == "validation"}


def test_best_validation_weights_are_tested_and_used(settings, tmp_path):
  # At this high rate the accuracy rises and falls.
  settings = settings.replace(
    select="best", evaluate_every=5, learning_rate=0.1, ema_decay=0.0, optimizer="adam",
    learning_rate_schedule="constant", seed=2,
  )  # fmt: skip
  result = train(settings)
  accuracies = _validation_accuracies(tmp_path / "run")
  best = max(accuracies, key=accuracies.get)
  assert best < 60
  assert result["best_step"] == best
  assert result["validation_accuracy"] == accuracies[best] > accuracies[60]
  until_best = settings.replace(select="last", steps=best, workdir=str(tmp_path / "until_best"))
  expected = train(until_best)
  assert (result["test_loss"], result["test_accuracy"]) == (
    expected["test_loss"],
    expected["test_accuracy"],
  )
  workdir = Workdir(tmp_path / "run")
  used = load_recognizer(workdir, workdir.trained_config()).trained
  assert used.step == best
  (tmp_path / "run" / "result.json").unlink()
  assert train(settings)["best_step"] == best


@pytest.mark.parametrize("directory", ["checkpoints", "best"])
def test_crash_while_saving_best_resumes_to_the_same_best(
  settings, selected, monkeypatch, tmp_path, directory
):
  settings = settings.replace(select="best", evaluate_every=5)
  best = selected.result["best_step"]
  save = session.checkpoints.save

  def crash(state, path, **options):
    if state.step == best and path.name == directory:
      raise RuntimeError("killed")
    return save(state, path, **options)

  with monkeypatch.context() as patch:
    patch.setattr(session.checkpoints, "save", crash)
    with pytest.raises(RuntimeError, match="killed"):
      train(settings)
  result, expected = map(commands.without_wall_clock, (train(settings), selected.result))
  assert result == expected
  newest = max((tmp_path / "run" / "best").iterdir())
  assert newest.name == f"{best:08d}"

  # Another checkpoint in its place would be tested instead.
  (tmp_path / "run" / "result.json").unlink()
  (newest / "state.index").write_bytes(b"")
  with pytest.raises(UserError, match=f"best is missing step {best}, the best on validation"):
    train(settings)


def test_run_stops_early_without_improvement(settings, tmp_path):
  # Nothing changes, so the first scoring stays the best.
  settings = settings.replace(
    early_stopping=2, evaluate_every=10, learning_rate=1e-30, ema_decay=0.0
  )
  result = train(settings)
  assert result["step"] == 30
  accuracies = _validation_accuracies(tmp_path / "run")
  assert list(accuracies) == [10, 20, 30]
  assert len(set(accuracies.values())) == 1
  (tmp_path / "run" / "result.json").unlink()  # As if it had been killed before writing that.
  again = train(settings)
  assert commands.without_wall_clock(again) == commands.without_wall_clock(result)
  assert list(_validation_accuracies(tmp_path / "run")) == [10, 20, 30]


def test_block_length_does_not_change_the_result(settings, tmp_path):
  results = [
    train(settings.replace(steps_per_loop=steps, workdir=str(tmp_path / str(steps))))
    for steps in (1, 7, 1000)
  ]
  for result in results[1:]:
    assert result["test_loss"] == results[0]["test_loss"]
    assert result["test_accuracy"] == results[0]["test_accuracy"]


def test_seed_changes_the_result(settings, uninterrupted):
  assert train(settings.replace(seed=1))["test_loss"] != uninterrupted.result["test_loss"]


def test_whitened_layer_is_computed_from_train_and_frozen(settings):
  changes = {"model": "cnn", "filters": (4, 8), "whitening": True}
  settings = settings.replace(**changes)
  train(settings)
  source = datasets.prepare(settings)
  model = create_model(settings, 10)
  whiten(model, splits.read(source, "train").images[:1500])
  trained = checkpoints.load_trained(settings, Workdir(settings.run.workdir).checkpoints).model
  kernels = [each.convolutions[0].convolution.kernel.numpy() for each in (model, trained)]
  np.testing.assert_array_equal(*kernels)


def test_averages_differ_from_the_trained_weights(uninterrupted):
  arrays = commands.checkpoint_arrays(uninterrupted.workdir)
  for name in ("hidden_0.Sdense.Skernel", "logits.Sbias"):
    assert not np.array_equal(arrays[f"model/{name}"], arrays[f"averages/{name}"])
  assert arrays["step"] == 60


def test_no_validation_examples_give_no_validation_metrics(settings, tmp_path):
  result = train(settings.replace(validation_examples=0))
  assert result["train_examples"] == 2000
  assert not {"validation_loss", "validation_accuracy"} & result.keys()
  assert {record["split"] for record in commands.read_metrics(tmp_path / "run")} == {
    "train",
    "test",
  }


def test_validation_callback_may_stop_the_run(settings, tmp_path):
  scored = []

  def stop_at_the_second(step, accuracy):
    scored.append((step, accuracy))
    if step == 60:
      raise KeyError("enough")

  with pytest.raises(KeyError, match="enough"):
    train(settings, on_validation=stop_at_the_second)
  metrics = commands.read_metrics(tmp_path / "run")
  assert scored == [(r["step"], r["accuracy"]) for r in metrics if r["split"] == "validation"]
  assert [step for step, _ in scored] == [30, 60]
  assert not (tmp_path / "run" / "result.json").exists()
  assert train(settings)["step"] == 60  # It resumes like any stopped run.


def test_test_predictions_are_saved(uninterrupted):
  result = uninterrupted.result
  labels, probabilities, names = Workdir(uninterrupted.workdir).read_predictions()
  assert (probabilities.argmax(axis=1) == labels).mean() == result["test_accuracy"]
  losses = -np.log(probabilities[np.arange(500), labels].astype(np.float64))
  assert losses.mean() == pytest.approx(result["test_loss"], rel=1e-6)
  assert names == tuple("0123456789")


def test_records_are_flushed_before_the_result_is_written(settings, monkeypatch):
  # A run that dies immediately afterwards is finished, and writes nothing more.
  written = []

  def write_result(workdir, result):
    events = commands.read_events(workdir.path)
    tags = ("test/loss", "train/curves", "_hparams_/session_end_info")
    written.extend((event.step, tag) for tag in tags for event in events.tensors(tag))
    return dict(result)

  monkeypatch.setattr(Workdir, "write_result", write_result)
  monkeypatch.setattr(event_files, "_FLUSH_SECONDS", 1e9)
  train(settings)
  assert written == [(60, "test/loss"), (60, "train/curves"), (60, "_hparams_/session_end_info")]


def test_nonfinite_loss_ends_the_run_unsaved(settings, tmp_path):
  diverging = settings.replace(
    optimizer="sgd", learning_rate=1e30, learning_rate_schedule="constant"
  )
  with pytest.raises(UserError, match=r"the loss of step \d+ is (nan|inf).*--learning_rate"):
    train(diverging)
  workdir = tmp_path / "run"
  assert not (workdir / "result.json").exists()
  assert not (workdir / "checkpoints").exists()
  for record in commands.read_metrics(workdir):
    assert tf.math.is_finite(record["loss"])
