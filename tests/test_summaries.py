"""Tests of the TensorBoard files: the data read back equals the data written."""

import time
from pathlib import Path

import commands
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.scalar.summary_v2 import scalar_pb

from mnist_research.recording.event_files import EventFile
from mnist_research.recording.summaries import Summaries
from mnist_research.runtime.errors import UserError


def _accumulated(directory: Path) -> commands.Events:
  return commands.Events(directory)


def _scalars(directory: Path) -> dict[str, list[tuple[int, float]]]:
  """Returns the step and value of each event, by tag."""
  accumulator = _accumulated(directory)
  return {
    tag: [
      (event.step, float(tf.make_ndarray(event.tensor_proto))) for event in accumulator.tensors(tag)
    ]
    for tag in accumulator.tags
  }


def test_scalars_round_trip_by_split_and_name(tmp_path):
  with Summaries(tmp_path, first_step=0) as summaries:
    summaries.scalars("train", {"loss": 2.5, "accuracy": 0.25}, step=10)
    summaries.scalars("train", {"loss": 1.5, "accuracy": 0.75}, step=20)
    summaries.scalars("validation", {"loss": 1.25}, step=20)
  assert _scalars(tmp_path) == {
    "train/loss": [(10, 2.5), (20, 1.5)],
    "train/accuracy": [(10, 0.25), (20, 0.75)],
    "validation/loss": [(20, 1.25)],
  }


def test_tensorboard_recognizes_scalars(tmp_path):
  with Summaries(tmp_path, first_step=0) as summaries:
    summaries.scalars("train", {"loss": 2.5}, step=10)
  assert list(_accumulated(tmp_path).of_plugin("scalars")) == ["train/loss"]


def test_image_round_trips(tmp_path):
  picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
  with Summaries(tmp_path, first_step=0) as summaries:
    summaries.image("test/confusion_matrix", picture, step=7)
  (event,) = _accumulated(tmp_path).tensors("test/confusion_matrix")
  width, height, png = tf.make_ndarray(event.tensor_proto)
  assert (event.step, width, height) == (7, b"30", b"20")
  np.testing.assert_array_equal(tf.io.decode_png(png), picture)


def test_histogram_counts_values_per_bin(tmp_path):
  # From 0 to 30 in 30 bins of width 1. Non-finite values are in none.
  values = np.array([[0, 0.5, 1.5], [1.75, 1.25, 30], [29.5, np.nan, np.inf]])
  with Summaries(tmp_path, first_step=0) as summaries:
    summaries.histogram("train/weights/logits/kernel", values, step=3)
  (event,) = _accumulated(tmp_path).tensors("train/weights/logits/kernel")
  buckets = tf.make_ndarray(event.tensor_proto)
  np.testing.assert_allclose(buckets[:, 0], np.arange(30))
  np.testing.assert_allclose(buckets[:, 1], np.arange(1, 31))
  np.testing.assert_array_equal(buckets[:, 2], [2, 3, *[0] * 27, 2])
  assert [*_accumulated(tmp_path).of_plugin("histograms")] == ["train/weights/logits/kernel"]


def test_pr_curve_matches_hand_computed_counts(tmp_path):
  labels = np.array([True, False, True, False])
  probabilities = np.array([0.9, 0.8, 0.4, 0.1])
  with Summaries(tmp_path, first_step=0) as summaries:
    summaries.pr_curve("test/pr_curve/7", labels, probabilities, step=5)
  accumulator = _accumulated(tmp_path)
  (event,) = accumulator.tensors("test/pr_curve/7")
  curve = tf.make_ndarray(event.tensor_proto)
  assert (event.step, curve.shape) == (5, (6, 201))
  # True and false positives, true and false negatives, precision, recall; a threshold is 0.005.
  np.testing.assert_allclose(curve[:, 0], [2, 2, 0, 0, 1 / 2, 1])
  np.testing.assert_allclose(curve[:, 50], [2, 1, 1, 0, 2 / 3, 1], rtol=1e-6)
  np.testing.assert_allclose(curve[:, 100], [1, 1, 1, 1, 1 / 2, 1 / 2])
  np.testing.assert_allclose(curve[:, 170], [1, 0, 2, 1, 1, 1 / 2])
  np.testing.assert_allclose(curve[:, 200], [0, 0, 2, 2, 0, 0])
  assert list(accumulator.of_plugin("pr_curves")) == ["test/pr_curve/7"]


def test_hyperparameters_keep_names_and_types(tmp_path):
  values = {"learning_rate": 0.01, "batch_size": 50, "hidden_units": "64,32", "batch_norm": True}
  with Summaries(tmp_path, first_step=0) as summaries:
    summaries.hyperparameters(values, name="a", step=0)
    summaries.finished(step=60)
  contents = _accumulated(tmp_path).of_plugin("hparams")
  start = hparams_metadata.parse_session_start_info_plugin_data(
    contents["_hparams_/session_start_info"]
  )
  assert {name: getattr(v, v.WhichOneof("kind")) for name, v in start.hparams.items()} == values
  end = hparams_metadata.parse_session_end_info_plugin_data(contents["_hparams_/session_end_info"])
  assert (start.group_name, end.status) == ("a", api_pb2.STATUS_SUCCESS)


def test_splits_are_separate_runs_with_common_tags(tmp_path):
  with Summaries(tmp_path, first_step=0) as summaries:
    summaries.scalars("train", {"epoch": 1.0, "loss": 2.5, "plain_loss": 1.5}, step=10)
    summaries.scalars("validation", {"loss": 1.25}, step=10)
  assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [
    "train", "validation"
  ]  # fmt: skip
  # The loss that is comparable to validation shares its chart; the other has its own.
  assert _scalars(tmp_path / "train") == {
    "loss": [(10, 1.5)], "objective": [(10, 2.5)], "progress/epoch": [(10, 1.0)]
  }  # fmt: skip
  assert _scalars(tmp_path / "validation") == {"loss": [(10, 1.25)]}


def test_run_of_previous_version_keeps_its_layout(tmp_path):
  file = EventFile(tmp_path, first_step=0)
  for step in range(1, 11):
    file.add(scalar_pb("train/loss", step).SerializeToString(), step=step)
  file.close()
  with Summaries(tmp_path, first_step=8) as summaries:
    summaries.scalars("train", {"loss": 90.0, "epoch": 0.9}, step=9)
    summaries.scalars("validation", {"loss": 91.0}, step=9)
  assert not any(path.is_dir() for path in tmp_path.iterdir())
  shown = _scalars(tmp_path)
  assert shown["train/loss"] == [*((step, float(step)) for step in range(1, 9)), (9, 90.0)]
  assert shown["validation/loss"] == [(9, 91.0)]
  # From the beginning, it is written like any other.
  with Summaries(tmp_path, first_step=0) as summaries:
    summaries.scalars("train", {"loss": 2.5}, step=1)
  assert _scalars(tmp_path / "train") == {"loss": [(1, 2.5)]}


def test_text_round_trips(tmp_path):
  with Summaries(tmp_path, first_step=0) as summaries:
    summaries.text("run/config", "    --seed=3\n", step=4)
  (event,) = _accumulated(tmp_path).tensors("run/config")
  assert (event.step, tf.make_ndarray(event.tensor_proto).item()) == (4, b"    --seed=3\n")


def test_graph_round_trips(tmp_path):
  double = tf.function(lambda x: x * 2).get_concrete_function(tf.TensorSpec([], tf.float32, "x"))
  with Summaries(tmp_path, first_step=0) as summaries:
    summaries.graph(double.graph)
  assert {"x", "mul"} <= {node.name for node in _accumulated(tmp_path).graph().node}


def test_disabled_summaries_write_no_file(tmp_path):
  with Summaries(tmp_path / "tensorboard", first_step=0, enabled=False) as summaries:
    summaries.scalars("train", {"loss": 2.5}, step=10)
    summaries.image("test/predictions", np.zeros((2, 2, 3), np.uint8), step=10)
    summaries.flush()
  assert list(tmp_path.iterdir()) == []


def test_flushed_events_are_readable_during_the_run(tmp_path):
  with Summaries(tmp_path, first_step=0) as summaries:
    summaries.scalars("train", {"loss": 2.5}, step=10)
    summaries.flush()
    assert _scalars(tmp_path) == {"train/loss": [(10, 2.5)]}


@pytest.mark.parametrize("set_back", [-5, 0, 0.1, 60, 86_400])
def test_restart_discards_later_steps(tmp_path, monkeypatch, set_back):
  now = time.time()
  # Also within the same second, which names event files, and with a clock that is set back.
  for run, (first, last) in enumerate([(0, 5), (3, 6), (4, 7)]):
    monkeypatch.setattr(time, "time", lambda run=run: now - run * set_back)
    with Summaries(tmp_path, first_step=first) as summaries:
      for step in range(first + 1, last + 1):
        summaries.scalars("train", {"loss": 10 * run + step}, step=step)
  # Steps 1 to 3 of the first run, 4 of the second, 5 to 7 of the third.
  assert _scalars(tmp_path) == {
    "train/loss": [(1, 1), (2, 2), (3, 3), (4, 14), (5, 25), (6, 26), (7, 27)]
  }


def test_unwritable_directory_is_reported(tmp_path):
  (tmp_path / "tensorboard").write_text("a file")
  with pytest.raises(UserError, match="tensorboard can't be written"):
    Summaries(tmp_path / "tensorboard", first_step=0)


def test_restart_from_zero_discards_everything(tmp_path):
  for run in (1, 2):
    with Summaries(tmp_path, first_step=0) as summaries:
      summaries.hyperparameters({"seed": run}, name="a", step=0)
      summaries.text("run/config", f"run {run}", step=0)
      summaries.scalars("train", {"loss": run}, step=5)
  events = _accumulated(tmp_path)
  for tag, value in (("train/loss", 2.0), ("run/config", b"run 2")):
    (event,) = events.tensors(tag)
    assert tf.make_ndarray(event.tensor_proto).item() == value


def test_events_are_not_written_twice(tmp_path):
  picture = np.zeros((2, 2, 3), np.uint8)
  for first in (0, 10, 10, 4, 10):
    with Summaries(tmp_path, first_step=first) as summaries:
      summaries.hyperparameters({"seed": 1}, name="a", step=0)
      summaries.image("train/examples", picture, step=0)
      for step in range(first + 1, 11):
        summaries.scalars("train", {"loss": step}, step=step)
      # As after a kill beyond the last checkpoint: the test split is scored again.
      summaries.scalars("test", {"loss": 1.0}, step=10)
      summaries.image("test/predictions", picture, step=10)
      summaries.finished(step=10)
  events = _accumulated(tmp_path)
  for tag in events.tags:
    steps = [event.step for event in events.tensors(tag)]
    expected = [*range(1, 11)] if tag == "train/loss" else [0] if tag in _ONCE else [10]
    assert steps == expected, tag


_ONCE = ("train/examples", "_hparams_/session_start_info")


def test_truncated_file_can_be_continued(tmp_path):
  with Summaries(tmp_path, first_step=0) as summaries:
    for step in range(1, 11):
      summaries.scalars("train", {"loss": step}, step=step)
  (path,) = (tmp_path / "train").iterdir()
  path.write_bytes(path.read_bytes()[:-5])
  with Summaries(tmp_path, first_step=9) as summaries:
    summaries.scalars("train", {"loss": 10}, step=10)
  assert [step for step, _ in _scalars(tmp_path)["train/loss"]] == [*range(1, 11)]


@pytest.mark.parametrize("name", ["run [v2]", "a*b", "a?b", "a\\b"])
def test_directory_may_have_any_name(tmp_path, name):
  for first in (0, 1):
    with Summaries(tmp_path / name, first_step=first) as summaries:
      summaries.scalars("train", {"loss": 2.5}, step=first + 1)
  assert _scalars(tmp_path / name) == {"train/loss": [(1, 2.5), (2, 2.5)]}
