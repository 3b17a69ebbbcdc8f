"""A trace of some training steps, by TensorFlow's profiler, on demand."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from mnist_research.runtime.errors import writing


class Profiler:
  """Traces whole blocks of steps, from the second of a process on: the first one warms up."""

  def __init__(self, directory: Path, starts: Sequence[int], num_steps: int):
    """Chooses the blocks.

    Args:
      directory: the workdir's `tensorboard`; the trace goes to `plugins/profile` there.
      starts: the first step of each block. A single block is traced itself.
      num_steps: the minimum number of steps to trace, up to the end of the run; 0: no trace.
    """
    self._directory = directory
    self._first = self._end = -1
    if num_steps and starts:
      self._first = starts[min(1, len(starts) - 1)]
      self._end = self._first + num_steps
    self._tracing = False

  def __enter__(self) -> "Profiler":
    return self

  def __exit__(self, *exception: object) -> None:
    self._stop()

  def block(self, step: int) -> contextlib.AbstractContextManager[object]:
    """Returns the context of the block that begins at `step`: one step of the profile.

    Its steps are compiled together, and the profiler can't distinguish them.
    """
    self._at(step)
    if not self._tracing:
      return contextlib.nullcontext()
    return tf.profiler.experimental.Trace("train", step_num=step, _r=1)

  def _at(self, step: int) -> None:
    """Starts or stops before the block that begins at `step`."""
    if step == self._first:
      with writing(self._directory):
        self._directory.mkdir(parents=True, exist_ok=True)
        tf.profiler.experimental.start(str(self._directory))
      self._tracing = True
    elif self._tracing and step >= self._end:
      self._stop()

  def _stop(self) -> None:
    if self._tracing:
      self._tracing = False
      tf.profiler.experimental.stop()
