"""Tests of the profiler: which blocks are traced, and that a trace is written."""

import contextlib
import itertools

import pytest
import tensorflow as tf

from mnist_research.recording.profiler import Profiler

_STARTS = [0, 20, 40, 60]


@pytest.fixture
def calls(monkeypatch):
  """Records the calls to the profiler instead of profiling."""

  @contextlib.contextmanager
  def trace(name, *, step_num, _r):
    calls.append((name, step_num))
    yield

  calls = []
  monkeypatch.setattr(tf.profiler.experimental, "Trace", trace)
  monkeypatch.setattr(tf.profiler.experimental, "start", lambda _: calls.append("start"))
  monkeypatch.setattr(tf.profiler.experimental, "stop", lambda: calls.append("stop"))
  return calls


@pytest.mark.parametrize(
  ("plan", "num_steps", "expected"),
  [
    (_STARTS, 0, [0, 20, 40, 60]),
    (_STARTS, 1, [0, "start", 20, "stop", 40, 60]),
    (_STARTS, 20, [0, "start", 20, "stop", 40, 60]),
    (_STARTS, 21, [0, "start", 20, 40, "stop", 60]),
    (_STARTS, 1000, [0, "start", 20, 40, 60, "stop"]),
    (_STARTS[:1], 1, ["start", 0, "stop"]),
    ([], 1, []),
  ],
)
def test_whole_blocks_after_the_first_are_traced(tmp_path, calls, plan, num_steps, expected):
  with Profiler(tmp_path, plan, num_steps) as profiler:
    for start in plan:
      with profiler.block(start):
        calls.append(start)
  assert [call for call in calls if not isinstance(call, tuple)] == expected
  # Only traced blocks are steps of the profile.
  is_traced = False
  for call, following in itertools.pairwise([*calls, None]):
    is_traced = call == "start" or (is_traced and call != "stop")
    if isinstance(call, tuple):
      assert is_traced
      assert call == ("train", following)
  traced = expected[expected.index("start") : expected.index("stop")] if "start" in expected else []
  assert [call[1] for call in calls if isinstance(call, tuple)] == traced[1:]


def test_failing_run_ends_its_trace(tmp_path, calls):
  with pytest.raises(ZeroDivisionError), Profiler(tmp_path, _STARTS, 100) as profiler:
    profiler.block(20)
    raise ZeroDivisionError
  assert calls == ["start", "stop"]
