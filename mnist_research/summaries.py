"""TensorBoard event files: what a run shows, under the tags `<split>/<metric>`."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorboard.compat.proto import event_pb2
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as layout_summary
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import summary as hparams_summary
from tensorboard.plugins.hparams import summary_v2 as hparams_summary_v2
from tensorboard.plugins.pr_curve import summary as pr_curve_summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from mnist_research.errors import UserError, writing

HISTOGRAM_BINS = 30
PR_THRESHOLDS = 201  # 0, 0.005, ..., 1
_SPLITS = "(train|validation|test)"


class Summaries:
  """Writes the event files of one run, from any thread; flushed when it is left as a context."""

  def __init__(self, directory: Path, *, first_step: int, enabled: bool = True):
    """Opens an event file.

    Args:
      directory: the workdir's `tensorboard`.
      first_step: where the run goes on. What an earlier process wrote past it is disowned, as
        TensorBoard does it for a restart: those steps are done again.
      enabled: whether anything is written.
    """
    self._directory = directory
    if not enabled:
      self._writer = tf.summary.create_noop_writer()
      return
    # The first start as well: TensorBoard takes the second one that it reads for a restart.
    with self._writing():
      start = EventFileWriter(str(directory))
      start.add_event(
        event_pb2.Event(
          step=first_step + 1,
          session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START),
        )
      )
      start.close()
      self._writer = tf.summary.create_file_writer(str(directory))

  def __enter__(self) -> "Summaries":
    return self

  def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
    try:
      with self._writing():
        self._writer.close()
    except UserError:
      if kind is None:  # Otherwise what is already on its way says more.
        raise

  def scalars(self, split: str, values: Mapping[str, float], *, step: int) -> None:
    """Writes each value under the tag `<split>/<its name>`."""
    with self._writing(), self._writer.as_default(step=step):
      for name, value in values.items():
        tf.summary.scalar(f"{split}/{name}", value)

  def image(self, tag: str, picture: np.ndarray, *, step: int) -> None:
    """Writes a picture, uint8 [height, width, 3]."""
    with self._writing(), self._writer.as_default(step=step):
      tf.summary.image(tag, picture[None])

  def text(self, tag: str, markdown: str, *, step: int) -> None:
    """Writes a text, which TensorBoard renders as Markdown."""
    with self._writing(), self._writer.as_default(step=step):
      tf.summary.text(tag, markdown)

  def histogram(self, tag: str, values: np.ndarray, *, step: int) -> None:
    """Writes how the finite ones of `values`, floats of any shape, fall into 30 equal bins.

    TensorBoard's own function takes 30 times the memory of `values`.
    """
    counts, edges = np.histogram(values[np.isfinite(values)], HISTOGRAM_BINS)
    buckets = np.stack([edges[:-1], edges[1:], counts], axis=1)
    metadata = histogram_metadata.create_summary_metadata(display_name=None, description=None)
    with self._writing(), self._writer.as_default(step=step):
      tf.summary.write(tag, buckets, metadata=metadata)

  def pr_curve(self, tag: str, labels: np.ndarray, probabilities: np.ndarray, *, step: int) -> None:
    """Writes precision and recall at thresholds from 0 to 1, of two classes.

    Args:
      tag: where it is shown.
      labels: bool [N], which examples are of the class.
      probabilities: floats [N] from 0 to 1, that they are; predicted from a threshold on.
      step: of the network.
    """
    summary = pr_curve_summary.pb(tag, labels, probabilities, num_thresholds=PR_THRESHOLDS)
    summary.value[0].tag = tag  # It adds `/pr_curves`.
    self._message(summary, step)

  def hyperparameters(self, values: Mapping[str, bool | float | str], *, step: int) -> None:
    """Writes the settings that the HParams dashboard shows beside the metrics of the run."""
    self._message(hparams_summary_v2.hparams_pb(dict(values)), step)

  def finished(self, *, step: int) -> None:
    """Tells the HParams dashboard that the run ended well."""
    self._message(hparams_summary.session_end_pb(api_pb2.STATUS_SUCCESS), step)

  def layout(self, *metrics: str, step: int) -> None:
    """Puts each metric into one chart, `Custom Scalars`, with a line for each split."""
    charts = [
      layout_pb2.Chart(
        title=metric, multiline=layout_pb2.MultilineChartContent(tag=[f"^{_SPLITS}/{metric}$"])
      )
      for metric in metrics
    ]
    category = layout_pb2.Category(title="train, validation and test", chart=charts)
    self._message(layout_summary.pb(layout_pb2.Layout(category=[category])), step)

  def graph(self, graph: tf.Graph) -> None:
    """Writes the operations of a network."""
    with self._writing(), self._writer.as_default(step=0):
      tf.summary.graph(graph)

  def flush(self) -> None:
    """Sends what was written to the disk."""
    with self._writing():
      self._writer.flush()

  def _message(self, summary, step: int) -> None:
    """Writes a `Summary` protocol buffer, which TensorBoard and TensorFlow each have as a class."""
    with self._writing(), self._writer.as_default(step=step):
      tf.summary.experimental.write_raw_pb(summary.SerializeToString())

  def _writing(self) -> AbstractContextManager[None]:
    return writing(self._directory, (OSError, tf.errors.OpError))
