"""Tests of `python -m mnist_research.evaluate` as a user runs it."""

import importlib
import json
import shutil
from pathlib import Path

import commands
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from scipy import special

from mnist_research import protocol
from mnist_research.data import augment
from mnist_research.inference.recognizer import load_recognizer, with_copies
from mnist_research.workdir import Workdir


@pytest.fixture(scope="module")
def scored_on_test(trained):
  return commands.run(f"--workdir={trained.workdir}", module="evaluate")


def _examples(name, split, data_dir):
  """Returns the examples of a split, read by TFDS, with images [N, 784] from 0 to 1."""
  importlib.import_module("mnist_research.data.synthetic_digits")
  examples = list(tfds.as_numpy(tfds.load(name, split=split, data_dir=data_dir)))
  images = np.stack([example["image"] for example in examples])
  return images.reshape(len(images), -1) / 255.0, np.array([e["label"] for e in examples])


def _scores(workdir, images, labels):
  """Scores the averages of the newest checkpoint in float64: loss, accuracy, accuracy per class."""
  logits = commands.averaged_logits(workdir, images)
  shifted = logits - logits.max(axis=1, keepdims=True)
  log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
  correct = logits.argmax(axis=1) == labels
  per_class = [correct[labels == label].mean() for label in range(10)]
  return -log_probabilities[np.arange(len(labels)), labels].mean(), correct.mean(), per_class


def test_test_split_metrics_match_train_exactly(trained, scored_on_test):
  record, result = scored_on_test.record, trained.finished.record
  assert record["loss"] == result["test_loss"]
  assert record["accuracy"] == result["test_accuracy"]
  assert record["dataset"] == "synthetic_digits/2000_500"
  assert record["split"] == "test"
  assert record["num_examples"] == 500


def test_accuracy_is_the_weighted_per_class_accuracy(scored_on_test, prepared):
  record = scored_on_test.record
  _, labels = _examples("synthetic_digits/2000_500", "test", prepared)
  shares = np.bincount(labels, minlength=10) / len(labels)
  assert len(record["accuracy_per_class"]) == 10
  assert np.dot(shares, record["accuracy_per_class"]) == pytest.approx(record["accuracy"], abs=1e-6)
  for label, accuracy in enumerate(record["accuracy_per_class"]):
    assert f"accuracy of {label}: {accuracy:.4f}\n" in scored_on_test.stderr


def test_metrics_match_averaged_weights_in_numpy(trained, scored_on_test, prepared):
  examples = _examples("synthetic_digits/2000_500", "test", prepared)
  loss, accuracy, per_class = _scores(trained.workdir, *examples)
  assert scored_on_test.record["loss"] == pytest.approx(loss, rel=1e-5)
  assert scored_on_test.record["accuracy"] == pytest.approx(accuracy, abs=1e-12)
  assert scored_on_test.record["accuracy_per_class"] == pytest.approx(per_class)


@pytest.mark.parametrize(("split", "num_examples"), [("validation", 500), ("train", 1500)])
def test_other_splits_match_those_of_the_run(trained, prepared, split, num_examples):
  before = commands.contents(trained.workdir)
  record = commands.call(
    f"--workdir={trained.workdir}", f"--split={split}", module="evaluate"
  ).record
  assert (record["split"], record["num_examples"]) == (split, num_examples)
  images, labels = _examples("synthetic_digits/2000_500", "train", prepared)
  part = slice(1500, None) if split == "validation" else slice(0, 1500)
  loss, accuracy, _ = _scores(trained.workdir, images[part], labels[part])
  assert record["loss"] == pytest.approx(loss, rel=1e-5)
  assert record["accuracy"] == pytest.approx(accuracy, abs=1e-6)
  if split == "validation":
    assert record["loss"] == trained.finished.record["validation_loss"]
    assert record["accuracy"] == trained.finished.record["validation_accuracy"]
  assert commands.contents(trained.workdir) == before


def test_other_dataset_is_prepared_and_scored(trained, tmp_path):
  record = commands.call(
    f"--workdir={trained.workdir}",
    "--dataset=synthetic_digits/50_200",
    f"--data_dir={tmp_path}",
    module="evaluate",
  ).record
  assert record["dataset"] == "synthetic_digits/50_200"
  assert record["num_examples"] == 200
  examples = _examples("synthetic_digits/50_200", "test", str(tmp_path))
  loss, accuracy, _ = _scores(trained.workdir, *examples)
  assert record["loss"] == pytest.approx(loss, rel=1e-5)
  assert record["accuracy"] == pytest.approx(accuracy, abs=1e-12)


def test_member_trained_on_validation_examples_is_named(trained, prepared, tmp_path):
  commands.call(
    *commands.SMALL, "--xla=off", "--validation_examples=0", "--steps=2", f"--data_dir={prepared}",
    f"--workdir={tmp_path}",
  )  # fmt: skip
  for first, others in ((trained.workdir, [f"--ensemble={tmp_path}"]), (tmp_path, [])):
    for flag in ("--split=validation", "--temperature=0"):
      error = commands.call(f"--workdir={first}", *others, flag, module="evaluate").error
      assert f"error: {flag}: " in error
      assert str(tmp_path) in error or "held out no validation examples" in error
  error = commands.call(
    f"--workdir={trained.workdir}", "--split=validation", "--temperature=0", module="evaluate"
  ).error
  assert "--temperature=0 is fitted on the validation examples" in error


def test_unscored_run_is_scored_later_and_recorded(prepared, tmp_path):
  record = commands.call(
    *commands.SMALL, "--xla=off", "--steps=20", "--score_test=false", f"--data_dir={prepared}",
    f"--workdir={tmp_path}",
  ).record  # fmt: skip
  assert not [name for name in record if name.startswith("test")]
  assert record["validation_accuracy"] > 0
  assert not (tmp_path / "predictions-test.npz").exists()
  assert "test" not in {line["split"] for line in commands.read_metrics(tmp_path)}
  assert protocol.read_test_scorings(tmp_path) is None
  assert commands.call(f"--workdir={tmp_path}", "--split=validation", module="evaluate").record
  assert protocol.read_test_scorings(tmp_path) is None
  assert commands.call(f"--workdir={tmp_path}", module="evaluate").record
  (scoring,) = protocol.read_test_scorings(tmp_path)
  assert scoring[1:] == ("evaluate", "synthetic_digits/2000_500", 20, 1)
  report = commands.call(tmp_path, f"--data_dir={prepared}", module="report")
  assert report.record["runs"] == 1


# ---- Calibration, ensembles, test-time augmentation ----


@pytest.fixture(scope="module")
def members(prepared, tmp_path_factory) -> list[Path]:
  """Two short augmented runs with different seeds."""
  directory = tmp_path_factory.mktemp("members")
  for seed in (0, 1):
    assert commands.call(
      *commands.SMALL, "--xla=off", "--steps=40", f"--data_dir={prepared}",
      "--augment=shift,rotation", f"--seed={seed}", f"--workdir={directory / str(seed)}",
    ).record  # fmt: skip
  return [directory / str(seed) for seed in (0, 1)]


def test_ensemble_scores_mean_probabilities(members, prepared):
  record = commands.call(
    f"--workdir={members[0]}", f"--ensemble={members[1]}", module="evaluate"
  ).record
  images, labels = _examples("synthetic_digits/2000_500", "test", prepared)
  logits = [commands.averaged_logits(workdir, images) for workdir in members]
  mean = np.mean([special.softmax(each, axis=1) for each in logits], axis=0)
  assert record["accuracy"] == (mean.argmax(axis=1) == labels).mean()
  rows = np.arange(len(labels))
  assert record["loss"] == pytest.approx(-np.log(mean[rows, labels]).mean(), rel=1e-5)
  assert record["temperatures"] == [1.0, 1.0]


def test_temperature_is_fitted_on_validation_examples(members, prepared):
  record = commands.call(f"--workdir={members[0]}", "--temperature=0", module="evaluate").record
  images, labels = _examples("synthetic_digits/2000_500", "train", prepared)
  logits, labels = commands.averaged_logits(members[0], images[1500:]), labels[1500:]

  def loss(temperature):
    log_probabilities = special.log_softmax(logits / temperature, axis=1)
    return -log_probabilities[np.arange(500), labels].mean()

  (temperature,) = record["temperatures"]
  assert loss(temperature) < min(loss(temperature * 1.02), loss(temperature / 1.02), loss(1.0))
  repeated = commands.call(
    f"--workdir={members[0]}", f"--temperature={temperature}", module="evaluate"
  ).record
  # The printed temperature has six digits.
  assert repeated.pop("calibration_error") == pytest.approx(record["calibration_error"], rel=1e-4)
  assert repeated.pop("loss") == pytest.approx(record["loss"], rel=1e-5)
  assert repeated.items() <= record.items()
  plain = commands.call(f"--workdir={members[0]}", module="evaluate").record
  assert record["accuracy"] == plain["accuracy"]
  assert record["calibration_error"] < plain["calibration_error"]


def test_augmented_copies_are_averaged(members):
  workdir = Workdir(members[0])
  recognizer = load_recognizer(workdir, workdir.trained_config())
  images = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1)).astype(np.uint8)
  answers = [recognizer.probabilities(images)]
  for copy in (0, 1):
    positions = tf.range(5 * copy, 5 * copy + 5, dtype=tf.int64)
    changed = augment.augment_images(
      tf.constant(images), positions, recognizer.config.augmentation, 0
    )
    answers.append(recognizer.probabilities(changed.numpy()))
  assert np.abs(answers[0] - answers[1]).max() > 1e-3
  averaged = with_copies(recognizer, 2).probabilities(images)
  np.testing.assert_allclose(averaged, np.mean(answers, axis=0), rtol=1e-9)


@pytest.mark.parametrize(
  ("flag", "message"),
  [
    ("--test_time_augmentation=4", "this run had no --augment"),
    ("--temperature=nan", "--temperature=nan: must be a finite number"),
    ("--temperature=-1", "temperature"),
    ("--ensemble=nowhere", "--workdir=nowhere holds no run"),
  ],
)
def test_unscorable_input_is_rejected(trained, flag, message):
  assert message in commands.call(f"--workdir={trained.workdir}", flag, module="evaluate").error


_USES = {
  "evaluate": ["--split=validation"],
  "predict": ["--index=0"],
  "export": ["--format=tflite"],
}


@pytest.mark.parametrize(
  ("module", "select"), [("evaluate", "last"), ("predict", "best"), ("export", "last")]
)
def test_corrupt_network_is_rejected_unless_requested(trained, tmp_path, caplog, module, select):
  copy = shutil.copytree(trained.workdir, tmp_path / "copy")
  directory = copy / "checkpoints"
  if select == "best":
    # As if the run had selected the best step, and that had been the second to last.
    workdir = Workdir(copy)
    workdir.write_config(workdir.trained_config().replace(select="best"))
    workdir.write_result({**workdir.read_result(), "best_step": 150})
    directory = copy / "best"
    directory.mkdir()
    for name in ("00000120", "00000150"):
      shutil.copytree(copy / "checkpoints" / name, directory / name)
  newest = max(directory.iterdir())
  flipped = bytearray((newest / "state.data-00000-of-00001").read_bytes())
  flipped[1000] ^= 1
  (newest / "state.data-00000-of-00001").write_bytes(flipped)
  flags = [f"--workdir={copy}", *_USES[module]]
  if module == "export":
    flags.append(f"--output={tmp_path / 'exported'}")
  error = commands.call(*flags, module=module).error
  assert f"checkpoint {newest} is corrupt: state.data-00000-of-00001 differs" in error
  assert not (tmp_path / "exported").exists()
  finished = commands.call(*flags, "--step=latest_whole", module=module)
  assert f"checkpoint {newest} is corrupt and skipped" in caplog.text
  assert finished.record["step"] == (120 if select == "best" else 150)


def test_any_saved_step_can_be_evaluated(trained, scored_on_test, tmp_path):
  assert scored_on_test.record["step"] == 180
  assert scored_on_test.record["steps"] == [180]
  flags = (f"--workdir={trained.workdir}", "--split=test")
  earlier = commands.call(*flags, "--step=120", module="evaluate")
  assert earlier.record["step"] == 120
  assert earlier.record["loss"] != scored_on_test.record["loss"]
  assert "no checkpoint of step 7" in commands.call(*flags, "--step=7", module="evaluate").error
  for bad in ("newest", "-1", "1e3", "9" * 40):
    error = commands.call(*flags, f"--step={bad}", module="evaluate").error
    assert f"--step={bad}: must be latest_whole, or an integer from 0" in error
  # A finished run without its newest checkpoint has lost the network of its result.
  copy = shutil.copytree(trained.workdir, tmp_path / "copy")
  shutil.rmtree(max((copy / "checkpoints").iterdir()))
  error = commands.call(f"--workdir={copy}", module="evaluate").error
  assert "checkpoints has no checkpoint of step 180" in error
  assert "choose one of 150, 120 by --step" in error


def test_run_of_previous_version_is_scored(trained, scored_on_test, tmp_path):
  # Records without digests, as in older versions.
  copy = shutil.copytree(trained.workdir, tmp_path / "copy")
  for name in ("result.json", "environment.json"):
    record = json.loads((copy / name).read_text())
    del record["sha256"]
    record.pop("predictions_sha256", None)
    (copy / name).write_text(json.dumps(record, indent=1) + "\n")
  lines = (copy / "config.cfg").read_text().splitlines(keepends=True)
  (copy / "config.cfg").write_text("".join(lines[:-1]))
  assert commands.call(f"--workdir={copy}", module="evaluate").record == scored_on_test.record


@pytest.mark.parametrize(
  "line",
  [
    "--flagfile=/etc/passwd", "--undefok=seed", "--data_dir=gs://bucket/tfds",
    "--dataset=huggingface:mnist", "--fallback_dataset=gs://bucket/x",
    "--manual_dir=https://example.com/x", "--workdir=s3://bucket/run", "--verbosity=1",
  ],
)  # fmt: skip
def test_unsafe_paths_in_foreign_config_are_never_opened(trained, tmp_path, line):
  copy = shutil.copytree(trained.workdir, tmp_path / "copy")
  (copy / "environment.json").unlink()
  lines = (copy / "config.cfg").read_text().splitlines(keepends=True)
  (copy / "config.cfg").write_text("".join(lines[:-1]) + f"{line}\n")
  error = commands.call(f"--workdir={copy}", module="evaluate").error
  assert f"{copy / 'config.cfg'} can't be read as settings" in error
  assert line.partition("=")[0] in error
  assert "root:" not in error
