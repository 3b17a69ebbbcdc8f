"""TensorBoard event files: scalars and pictures under the tags `<split>/<metric>`."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorboard.compat.proto import event_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from mnist_research.errors import UserError, writing


class Summaries:
  """Writes the event files of one run; flushed when it is left as a context."""

  def __init__(self, directory: Path, *, first_step: int):
    """Opens an event file.

    Args:
      directory: the workdir's `tensorboard`.
      first_step: where the run goes on. What an earlier process wrote past it is disowned, as
        TensorBoard does it for a restart: those steps are done again.
    """
    # The first start as well: TensorBoard takes the second one that it reads for a restart.
    self._directory = directory
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

  def flush(self) -> None:
    """Sends what was written to the disk."""
    with self._writing():
      self._writer.flush()

  def _writing(self) -> AbstractContextManager[None]:
    return writing(self._directory, (OSError, tf.errors.OpError))
