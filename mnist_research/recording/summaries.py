"""TensorBoard event files of a run.

Each split has a directory, which TensorBoard shows as a run, so the `loss` of train and validation
are two lines in one chart, as with Keras's callback. Everything else is in the parent directory,
under tags that start with the split.
"""

import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import summary as hparams_summary
from tensorboard.plugins.hparams import summary_v2 as hparams_summary_v2
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.pr_curve import summary as pr_curve_summary
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.util.tensor_util import make_tensor_proto

from mnist_research.recording.event_files import EventFile
from mnist_research.run_files import SPLITS
from mnist_research.runtime.errors import UserError

HISTOGRAM_BINS = 30
PR_THRESHOLDS = 201  # 0, 0.005, ..., 1
# TensorBoard sorts charts by name and opens the first two groups, accuracy and loss.
_PROGRESS = {name: f"progress/{name}" for name in ("epoch", "examples_per_second", "learning_rate")}
# Names of scalars if the training loss differs from the loss on other splits.
_COMPARABLE = {"loss": "objective", "plain_loss": "loss"}


class Summaries:
  """Writes the event files of a run; thread-safe. Flushes when the context exits."""

  def __init__(self, directory: Path, *, first_step: int, enabled: bool = True):
    """Opens the event files.

    Args:
      directory: the workdir's `tensorboard`.
      first_step: the step at which the run resumes. TensorBoard discards later events of an earlier
        process, because those steps run again. Events that remain valid aren't repeated.
      enabled: whether to write anything.
    """
    self._directory = directory
    self._first_step = first_step
    self._lock = threading.Lock()
    # By split; the file in the parent directory has an empty name.
    self._files: dict[str, EventFile] = {}
    self._is_flat = False
    if enabled:
      parent = self._files[""] = EventFile(directory, first_step=first_step)
      # A run from an earlier version keeps its scalars in the parent directory.
      self._is_flat = parent.shows("train/loss")
      for split in SPLITS:  # Opened now, to discard events after the first step.
        if (directory / split).is_dir():
          self._files[split] = EventFile(directory / split, first_step=first_step)

  def __enter__(self) -> "Summaries":
    return self

  def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
    try:
      for file in self._files.values():
        file.close()
    except UserError:
      if kind is None:  # Otherwise the pending exception is more useful.
        raise

  def scalars(self, split: str, values: Mapping[str, float], *, step: int) -> None:
    """Writes each value under its name in the run of its split; progress as `progress/<name>`.

    A training loss that isn't comparable with other splits is called `objective`; `plain_loss` then
    becomes `loss`.
    """
    if self._is_flat:
      for name, value in values.items():
        self._write(scalar_pb(f"{split}/{name}", value), step)
      return
    if "plain_loss" in values:
      values = {_COMPARABLE.get(name, name): value for name, value in values.items()}
    file = self._file_of(split)
    if file is None:
      return
    for name, value in values.items():
      file.add(scalar_pb(_PROGRESS.get(name, name), value).SerializeToString(), step=step)

  def _file_of(self, split: str) -> EventFile | None:
    """Returns the file of a split; creates it for the first scalar."""
    with self._lock:
      if self._files and split not in self._files:
        self._files[split] = EventFile(self._directory / split, first_step=self._first_step)
      return self._files.get(split)

  def image(self, tag: str, picture: np.ndarray, *, step: int) -> None:
    """Writes a picture, uint8 [height, width, 3]."""
    height, width, _ = picture.shape
    png = tf.io.encode_png(picture).numpy()
    metadata = image_metadata.create_summary_metadata(display_name=None, description=None)
    self._tensor(tag, np.array([b"%d" % width, b"%d" % height, png], object), metadata, step)

  def text(self, tag: str, markdown: str, *, step: int) -> None:
    """Writes a text, which TensorBoard renders as Markdown."""
    self._write(text_pb(tag, markdown), step)

  def histogram(self, tag: str, values: np.ndarray, *, step: int) -> None:
    """Writes a histogram of the finite `values`, floats of any shape, in 30 equal bins.

    TensorBoard's function takes 30 times the memory of `values`.
    """
    counts, edges = np.histogram(values[np.isfinite(values)], HISTOGRAM_BINS)
    buckets = np.stack([edges[:-1], edges[1:], counts], axis=1)
    metadata = histogram_metadata.create_summary_metadata(display_name=None, description=None)
    self._tensor(tag, buckets, metadata, step)

  def pr_curve(self, tag: str, labels: np.ndarray, probabilities: np.ndarray, *, step: int) -> None:
    """Writes a class's precision and recall at thresholds from 0 to 1.

    Args:
      tag: the name of the chart.
      labels: bool [N], whether each example belongs to the class.
      probabilities: floats [N] from 0 to 1; the class is predicted at or above a threshold.
      step: the model's step.
    """
    summary = pr_curve_summary.pb(tag, labels, probabilities, num_thresholds=PR_THRESHOLDS)
    summary.value[0].tag = tag  # Without the suffix `/pr_curves`.
    self._write(summary, step)

  def hyperparameters(
    self, values: Mapping[str, bool | float | str], *, name: str, step: int
  ) -> None:
    """Writes the settings that the HParams dashboard shows next to the run's metrics.

    Args:
      values: the settings.
      name: the run's name in the dashboard; runs with the same name share a row.
      step: the step of the event.
    """
    self._write(hparams_summary_v2.hparams_pb(dict(values), trial_id=name), step)

  def finished(self, *, step: int) -> None:
    """Reports to the HParams dashboard that the run succeeded."""
    self._write(hparams_summary.session_end_pb(api_pb2.STATUS_SUCCESS), step)

  def graph(self, graph: tf.Graph) -> None:
    """Writes the operations of a model."""
    if self._files:
      definition = graph.as_graph_def(add_shapes=True)
      # Otherwise the attributes of a node have a different order in each process.
      self._files[""].add_graph(definition.SerializeToString(deterministic=True))

  def flush(self) -> None:
    """Flushes events to disk."""
    for file in list(self._files.values()):
      file.flush()

  def _tensor(
    self, tag: str, values: np.ndarray, metadata: summary_pb2.SummaryMetadata, step: int
  ) -> None:
    summary = summary_pb2.Summary()
    summary.value.add(tag=tag, metadata=metadata, tensor=make_tensor_proto(values))
    self._write(summary, step)

  def _write(self, summary, step: int) -> None:
    """Writes a `Summary` protocol buffer, of TensorBoard's class or TensorFlow's."""
    if self._files:
      self._files[""].add(summary.SerializeToString(), step=step)
