"""Tests of functions that run in a separate process, which may die."""

import os
import signal
import sys
import time

import pytest

from mnist_research.runtime.child_process import ChildProcess, crash_message
from mnist_research.runtime.errors import UserError


def add(left, right):
  print("on stdout")
  os.write(2, b"on stderr\n")
  return {"sum": left + right, "variable": os.environ.get("GIVEN"), "pid": os.getpid()}


def die(number):
  os.write(
    2, b"I0000 a note\nF0101 12:00:00.000000   77 gpu.cc:3] Check failed: no such GPU\n  @ frame\n"
  )
  os.kill(os.getpid(), number)


def refuse():
  raise UserError("--x=1: must be 2")


def fail():
  raise ValueError("first line\nsecond")


def leave():
  sys.exit(3)


def wait():
  time.sleep(60)


@pytest.fixture
def child(monkeypatch):
  monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
  with ChildProcess({"GIVEN": "1"}) as child:
    yield child


def test_function_returns_from_another_process(child):
  first, second = (child.call("test_child_process:add", number, 2) for number in (1, 5))
  assert (first.value["sum"], second.value["sum"]) == (3, 7)
  assert first.value["variable"] == "1"
  assert first.value["pid"] == second.value["pid"] != os.getpid()
  assert first.failure == ""
  # Printed text isn't a result, and the first call's output isn't in the second call's log.
  assert sorted(second.log.split("\n")) == ["", "on stderr", "on stdout"]


@pytest.mark.parametrize(
  ("function", "failure"),
  [
    ("refuse", "--x=1: must be 2"),
    ("fail", "ValueError: first line"),
    ("absent", "AttributeError: module 'test_child_process' has no attribute 'absent'"),
  ],
)
def test_exception_is_reported_and_process_survives(child, function, failure):
  pid = child.call("test_child_process:add", 1, 2).value["pid"]
  assert child.call(f"test_child_process:{function}").failure == failure
  assert child.call("test_child_process:add", 1, 2).value["pid"] == pid


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV, signal.SIGILL])
def test_crash_is_reported_and_process_is_replaced(child, number):
  pid = child.call("test_child_process:add", 1, 2).value["pid"]
  outcome = child.call("test_child_process:die", int(number))
  assert outcome.value is None
  assert outcome.failure == (
    f"the process was killed by {number.name}: gpu.cc:3] Check failed: no such GPU"
  )
  assert child.call("test_child_process:add", 1, 2).value["pid"] != pid


def test_exit_is_reported(child):
  assert child.call("test_child_process:leave").failure == "the process exited with code 3"


def test_slow_call_is_terminated(child):
  child.call("test_child_process:add", 1, 2)
  assert child.call("test_child_process:wait", seconds=0.2).failure == "it took more than 0 s"


@pytest.mark.parametrize(
  ("log", "words"),
  [
    ("", ""),
    ("a\nb\n", "b"),
    ("x\nLLVM ERROR: out of luck\nstack\n", "LLVM ERROR: out of luck"),
    ("terminate called after throwing\n  what(): y\n", "terminate called after throwing"),
  ],
)
def test_crash_message_is_the_fatal_or_last_line(log, words):
  assert crash_message(log) == words
