"""Tests of the TensorBoard files: what is read back is what was written."""

import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from mnist_research.errors import UserError
from mnist_research.summaries import Summaries


def _accumulated(directory: Path) -> EventAccumulator:
  accumulator = EventAccumulator(str(directory), size_guidance={"tensors": 0})
  accumulator.Reload()
  return accumulator


def _scalars(directory: Path) -> dict[str, list[tuple[int, float]]]:
  """Returns the step and value of each event, by its tag."""
  accumulator = _accumulated(directory)
  return {
    tag: [
      (event.step, float(tf.make_ndarray(event.tensor_proto))) for event in accumulator.Tensors(tag)
    ]
    for tag in accumulator.Tags()["tensors"]
  }


def test_scalars_are_read_back_under_split_and_name(tmp_path):
  with Summaries(tmp_path, first_step=0) as summaries:
    summaries.scalars("train", {"loss": 2.5, "accuracy": 0.25}, step=10)
    summaries.scalars("train", {"loss": 1.5, "accuracy": 0.75}, step=20)
    summaries.scalars("validation", {"loss": 1.25}, step=20)
  assert _scalars(tmp_path) == {
    "train/loss": [(10, 2.5), (20, 1.5)],
    "train/accuracy": [(10, 0.25), (20, 0.75)],
    "validation/loss": [(20, 1.25)],
  }


def test_tensorboard_shows_them_as_scalars(tmp_path):
  with Summaries(tmp_path, first_step=0) as summaries:
    summaries.scalars("train", {"loss": 2.5}, step=10)
  assert list(_accumulated(tmp_path).PluginTagToContent("scalars")) == ["train/loss"]


def test_a_picture_is_decoded_as_it_was(tmp_path):
  picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
  with Summaries(tmp_path, first_step=0) as summaries:
    summaries.image("test/confusion_matrix", picture, step=7)
  (event,) = _accumulated(tmp_path).Tensors("test/confusion_matrix")
  width, height, png = tf.make_ndarray(event.tensor_proto)
  assert (event.step, width, height) == (7, b"30", b"20")
  np.testing.assert_array_equal(tf.io.decode_png(png), picture)


def test_what_is_flushed_can_be_read_while_the_run_goes_on(tmp_path):
  with Summaries(tmp_path, first_step=0) as summaries:
    summaries.scalars("train", {"loss": 2.5}, step=10)
    summaries.flush()
    assert _scalars(tmp_path) == {"train/loss": [(10, 2.5)]}


def test_a_restart_disowns_the_later_steps(tmp_path):
  for run, (first, last) in enumerate([(0, 5), (3, 6), (4, 7)]):
    if run:
      # The names of event files begin with the second, and TensorBoard reads them in that order.
      time.sleep(1.1)
    with Summaries(tmp_path, first_step=first) as summaries:
      for step in range(first + 1, last + 1):
        summaries.scalars("train", {"loss": 10 * run + step}, step=step)
  # Steps 1 to 3 of the first run, 4 of the second, 5 to 7 of the third.
  assert _scalars(tmp_path) == {
    "train/loss": [(1, 1), (2, 2), (3, 3), (4, 14), (5, 25), (6, 26), (7, 27)]
  }


def test_a_directory_that_can_not_be_written_is_told(tmp_path):
  (tmp_path / "tensorboard").write_text("a file")
  with pytest.raises(UserError, match="tensorboard can't be written"):
    Summaries(tmp_path / "tensorboard", first_step=0)
