"""Traces some training steps with TensorFlow's profiler, on request."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from mnist_research.runtime.errors import writing


class Profiler:
  """Traces whole blocks of steps, from a process's second block on, because the first warms up."""

  def __init__(self, directory: Path, starts: Sequence[int], num_steps: int):
    """Chooses the blocks.

    Args:
      directory: the workdir's `tensorboard`; the trace goes to `plugins/profile` there.
      starts: the first step of each block. If there is only one block, it is traced.
      num_steps: the minimum number of steps to trace, up to the end of the run; 0 for no trace.
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
    """Returns the context for the block that starts at `step`, a single step in the profile.

    The profiler can't distinguish the steps of a block, because they are compiled together.
    """
    self._start_or_stop(step)
    if not self._tracing:
      return contextlib.nullcontext()
    return tf.profiler.experimental.Trace("train", step_num=step, _r=1)

  def _start_or_stop(self, step: int) -> None:
    """Starts or stops the trace before the block that starts at `step`."""
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
