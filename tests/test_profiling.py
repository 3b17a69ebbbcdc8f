"""Tests of the profiler: which blocks are in the trace, and that there is one."""

import pytest
import tensorflow as tf

from mnist_research.profiling import Profiler

_PLAN = [(0, 20), (20, 20), (40, 20), (60, 20)]


@pytest.fixture
def calls(monkeypatch):
  """What the profiler is told, in place of its work."""
  told = []
  monkeypatch.setattr(tf.profiler.experimental, "start", lambda _: told.append("start"))
  monkeypatch.setattr(tf.profiler.experimental, "stop", lambda: told.append("stop"))
  return told


@pytest.mark.parametrize(
  ("plan", "num_steps", "expected"),
  [
    (_PLAN, 0, [0, 20, 40, 60]),
    (_PLAN, 1, [0, "start", 20, "stop", 40, 60]),
    (_PLAN, 20, [0, "start", 20, "stop", 40, 60]),
    (_PLAN, 21, [0, "start", 20, 40, "stop", 60]),
    (_PLAN, 1000, [0, "start", 20, 40, 60, "stop"]),
    (_PLAN[:1], 1, ["start", 0, "stop"]),
    ([], 1, []),
  ],
)
def test_whole_blocks_after_the_first_are_traced(tmp_path, calls, plan, num_steps, expected):
  with Profiler(tmp_path, plan, num_steps) as profiler:
    for start, _ in plan:
      profiler.at(start)
      calls.append(start)
  assert calls == expected


def test_a_run_that_fails_ends_its_trace(tmp_path, calls):
  with pytest.raises(ZeroDivisionError), Profiler(tmp_path, _PLAN, 100) as profiler:
    profiler.at(20)
    raise ZeroDivisionError
  assert calls == ["start", "stop"]
