"""Tests of `python -m mnist_research.evaluate` as a user runs it."""

import importlib
import shutil

import commands
import numpy as np
import pytest
import tensorflow_datasets as tfds


@pytest.fixture(scope="module")
def trained(prepared, tmp_path_factory):
  return commands.trained(prepared, tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def on_test(trained):
  return commands.run(f"--workdir={trained.workdir}", module="evaluate")


def _examples(name, split, data_dir):
  """Returns the examples of a split as TFDS reads them, images [N, 784] between 0 and 1."""
  importlib.import_module("mnist_research.synthetic_digits")
  examples = list(tfds.as_numpy(tfds.load(name, split=split, data_dir=data_dir)))
  images = np.stack([example["image"] for example in examples])
  return images.reshape(len(images), -1) / 255.0, np.array([e["label"] for e in examples])


def _scores(workdir, images, labels):
  """Scores the averages of the newest checkpoint in float64: loss, accuracy, accuracy per class."""
  weights = commands.checkpoint_arrays(workdir)

  def layer(name, x):
    return x @ weights[f"averages/{name}.Skernel"] + weights[f"averages/{name}.Sbias"]

  logits = layer("logits", np.maximum(layer("hidden_0.Sdense", images), 0))
  shifted = logits - logits.max(axis=1, keepdims=True)
  log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
  right = logits.argmax(axis=1) == labels
  per_class = [right[labels == label].mean() for label in range(10)]
  return -log_probabilities[np.arange(len(labels)), labels].mean(), right.mean(), per_class


def test_the_test_split_gives_trains_own_figures_to_the_last_digit(trained, on_test):
  record, result = on_test.record, trained.finished.record
  assert record["loss"] == result["test_loss"]
  assert record["accuracy"] == result["test_accuracy"]
  assert record["dataset"] == "synthetic_digits/2000_500"
  assert record["split"] == "test"
  assert record["num_examples"] == 500


def test_accuracy_is_that_of_the_classes_by_their_examples(on_test, prepared):
  record = on_test.record
  _, labels = _examples("synthetic_digits/2000_500", "test", prepared)
  shares = np.bincount(labels, minlength=10) / len(labels)
  assert len(record["accuracy_per_class"]) == 10
  assert np.dot(shares, record["accuracy_per_class"]) == pytest.approx(
    record["accuracy"], abs=1e-12
  )
  for label, accuracy in enumerate(record["accuracy_per_class"]):
    assert f"accuracy of {label}: {accuracy:.4f}\n" in on_test.stderr


def test_figures_are_those_of_the_averages_in_numpy(trained, on_test, prepared):
  examples = _examples("synthetic_digits/2000_500", "test", prepared)
  loss, accuracy, per_class = _scores(trained.workdir, *examples)
  assert on_test.record["loss"] == pytest.approx(loss, rel=1e-5)
  assert on_test.record["accuracy"] == pytest.approx(accuracy, abs=1e-12)
  assert on_test.record["accuracy_per_class"] == pytest.approx(per_class)


@pytest.mark.parametrize(("split", "num_examples"), [("validation", 500), ("train", 1500)])
def test_other_splits_are_the_runs_own(trained, prepared, split, num_examples):
  before = commands.contents(trained.workdir)
  record = commands.run(
    f"--workdir={trained.workdir}", f"--split={split}", module="evaluate"
  ).record
  assert (record["split"], record["num_examples"]) == (split, num_examples)
  images, labels = _examples("synthetic_digits/2000_500", "train", prepared)
  part = slice(1500, None) if split == "validation" else slice(0, 1500)
  loss, accuracy, _ = _scores(trained.workdir, images[part], labels[part])
  assert record["loss"] == pytest.approx(loss, rel=1e-5)
  assert record["accuracy"] == pytest.approx(accuracy, abs=1e-12)
  if split == "validation":
    assert record["loss"] == trained.finished.record["validation_loss"]
    assert record["accuracy"] == trained.finished.record["validation_accuracy"]
  assert commands.contents(trained.workdir) == before


def test_another_dataset_is_prepared_and_scored(trained, tmp_path):
  record = commands.run(
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


def test_a_damaged_newest_checkpoint_is_named_and_passed_over(trained, tmp_path):
  copy = shutil.copytree(trained.workdir, tmp_path / "copy")
  newest = max((copy / "checkpoints").iterdir())
  (newest / "state.index").write_bytes(b"")
  finished = commands.run(f"--workdir={copy}", module="evaluate")
  assert f"warning: checkpoint {newest} is damaged and passed over" in finished.stderr
  assert f"{copy} after 150 steps" in finished.stderr
  assert finished.record["loss"] != trained.finished.record["test_loss"]
