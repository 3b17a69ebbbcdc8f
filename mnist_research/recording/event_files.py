"""TensorBoard event files, continued after a restart.

TensorBoard reads the files of a directory in the order of their names, which start with a time. At
a `SessionLog.START` it discards what it has read for that step and later ones. So a new file's name
sorts after all existing ones, whatever the clock says, and events that remain valid aren't
repeated.
"""

import contextlib
import os
import platform
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from tensorboard.compat.proto import event_pb2

from mnist_research.runtime.errors import writing

_NAME = re.compile(r"events\.out\.tfevents\.(\d{1,10})\.")
_VERSION = "brain.Event:2"
# The tag under which TensorBoard shows a graph.
_GRAPH = "__run_graph__"
# The maximum delay until events become visible.
_FLUSH_SECONDS = 2.0
# The smallest difference between the times of two events.
_TICK = 1e-6


class EventFile:
  """An event file that this process writes; thread-safe."""

  def __init__(self, directory: Path, *, first_step: int):
    """Opens the file; events after `first_step` are discarded, because those steps run again.

    Args:
      directory: the directory of this file and earlier ones; created if missing.
      first_step: the step at which the run resumes; 0 discards everything.

    Raises:
      UserError: the file can't be written.
    """
    self._directory = directory
    self._lock = threading.Lock()
    start = first_step + 1 if first_step else 0
    with self._writing():
      directory.mkdir(parents=True, exist_ok=True)
      self._shown, self._wall_time, second = _read_before(directory, start)
      second = max(int(time.time()), second + 1)
      name = f"events.out.tfevents.{second:010d}.{platform.node()}.{os.getpid()}.v2"
      self._file = tf.io.TFRecordWriter(str(directory / name))
      self._flushed = time.monotonic()
    self._add(event_pb2.Event(file_version=_VERSION))
    log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    self._add(event_pb2.Event(step=start, session_log=log))
    self.flush()

  def shows(self, tag: str) -> bool:
    """Whether events of an earlier process under a tag remain valid."""
    return any(shown == tag for shown, _ in self._shown)

  def add(self, summary: bytes, *, step: int) -> None:
    """Writes a serialized `Summary`, unless that of an earlier process remains valid."""
    event = event_pb2.Event(step=step)
    event.summary.ParseFromString(summary)
    new = [value for value in event.summary.value if (value.tag, step) not in self._shown]
    if not new:
      return
    del event.summary.value[:]
    event.summary.value.extend(new)
    self._add(event)

  def add_graph(self, graph: bytes) -> None:
    """Writes a serialized `GraphDef`, unless there already is one."""
    if (_GRAPH, 0) not in self._shown:
      self._add(event_pb2.Event(graph_def=graph))

  def flush(self) -> None:
    """Flushes events to disk."""
    with self._lock, self._writing():
      self._flush()

  def close(self) -> None:
    """Flushes events to disk, and closes the file."""
    with self._lock, self._writing():
      self._file.close()

  def _add(self, event: event_pb2.Event) -> None:
    with self._lock, self._writing():
      # Never earlier than existing events, even if the clock was set back.
      self._wall_time = max(time.time(), self._wall_time + _TICK)
      event.wall_time = self._wall_time
      self._file.write(event.SerializeToString())
      if time.monotonic() - self._flushed > _FLUSH_SECONDS:
        self._flush()

  def _flush(self) -> None:
    self._file.flush()
    self._flushed = time.monotonic()

  def _writing(self) -> contextlib.AbstractContextManager[None]:
    return writing(self._directory, (OSError, tf.errors.OpError))


def _read_before(directory: Path, start: int) -> tuple[set[tuple[str, int]], float, int]:
  """Reads the existing event files.

  Returns:
    The tag and step of everything before step `start`, which remains valid; the time of the latest
    event; and the time in the last file's name.
  """
  shown: set[tuple[str, int]] = set()
  wall_time, second = 0.0, 0
  for path in sorted(directory.iterdir()):
    match = _NAME.match(path.name)
    if not match or not path.is_file():
      continue
    second = max(second, int(match[1]))
    for event in _events(path):
      wall_time = max(wall_time, event.wall_time)
      if event.session_log.status == event_pb2.SessionLog.START:
        shown = {(tag, step) for tag, step in shown if step < event.step}
      tags = [value.tag for value in event.summary.value]
      shown.update((tag, event.step) for tag in ([_GRAPH] if event.graph_def else tags))
  return {(tag, step) for tag, step in shown if step < start}, wall_time, second


def _events(path: Path) -> Iterator[event_pb2.Event]:
  """Yields the complete events of a file; the last one may be cut off, if its writer was killed."""
  with contextlib.suppress(tf.errors.DataLossError):
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
      yield event_pb2.Event.FromString(record)
