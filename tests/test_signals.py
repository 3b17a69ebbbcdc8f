"""Tests of the signals that stop a run, each in a separate process."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mnist_research.runtime.signals import StopSignals

pytestmark = pytest.mark.usefixtures("default_signals")

_REPOSITORY = Path(__file__).resolve().parents[1]

# Prints when it is ready for a signal, the signal that it received, and how it ends.
_LOOP = """
import sys, time
from mnist_research.runtime.errors import Interrupted
from mnist_research.runtime.signals import StopSignals
try:
  with StopSignals() as stop:
    for _ in range({signals}):
      print("ready", flush=True)
      sys.stdin.readline()
      time.sleep(0.1)
    print(stop.received)
  print("done")
except Interrupted as interrupted:
  print("interrupted by", interrupted.signal_number)
"""
# A call that returns to Python only after a minute, so that nothing else can handle a signal.
_BUSY = """
import hashlib
from mnist_research.runtime.signals import StopSignals
with StopSignals():
  print("ready", flush=True)
  hashlib.pbkdf2_hmac("sha256", b"", b"", 200_000_000)
"""
# A command in such a call.
_LONG_CALL = """
import hashlib
from mnist_research.runtime import signals
from mnist_research.runtime.errors import Interrupted
def call():
  hashlib.pbkdf2_hmac("sha256", b"", b"", 200_000_000)
signals._SECONDS_TO_END = {seconds}
with signals.ended_by_signals():
  try:
    print("ready", flush=True)
    call()
  except Interrupted:
    call()  # The signal came before the first.
"""
# Handles all errors, and cleans up.
_COMMAND = """
import sys
from mnist_research.runtime.errors import Interrupted
from mnist_research.runtime.signals import ended_by_signals
with ended_by_signals():
  try:
    print("ready", flush=True)
    sys.stdin.readline()
  except Exception:
    print("handled")
  except Interrupted as interrupted:
    print("interrupted by", interrupted.signal_number)
"""
# A signal arrives where Python drops exceptions.
_DROPPED = """
import gc, sys, time
from mnist_research.runtime.errors import Interrupted
from mnist_research.runtime.signals import ended_by_signals
def collecting(phase, info):
  if phase == "start":
    print("ready", flush=True)
    sys.stdin.readline()
with ended_by_signals():
  try:
    gc.callbacks.append(collecting)
    gc.collect()
    gc.callbacks.clear()
    for _ in range(200):  # One long sleep would be a long call.
      time.sleep(0.1)
    print("went on")
  except Interrupted as interrupted:
    print("interrupted by", interrupted.signal_number)
"""
# A signal arrives after its work is done.
_END = """
import os, signal
from mnist_research.runtime.signals import ended_by_signals
with ended_by_signals():
  pass
os.kill(os.getpid(), signal.SIGTERM)
print("done")
"""
# A shell starts background jobs with SIGINT ignored.
_AFTERWARDS = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from mnist_research.runtime.signals import StopSignals
with StopSignals():
  pass
try:
  print("ready", flush=True)
  sys.stdin.readline()
except KeyboardInterrupt:
  print("interrupted")
"""


class _Process:
  """A program that waits for signals."""

  def __init__(self, program: str):
    self._process = subprocess.Popen(
      [sys.executable, "-c", program],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      cwd=_REPOSITORY,
    )

  def send(self, number: signal.Signals) -> None:
    """Sends a signal once the program is ready."""
    assert self._process.stdout.readline() == "ready\n"
    self._process.send_signal(number)

  def send_again(self, number: signal.Signals) -> None:
    """Sends another signal without waiting."""
    time.sleep(0.3)
    self._process.send_signal(number)

  def proceed(self) -> None:
    """Lets the program continue."""
    self._process.stdin.write("\n")
    self._process.stdin.flush()

  def finish(self) -> tuple[int, str, str]:
    """Returns the exit code, stdout and stderr."""
    try:
      output, errors = self._process.communicate(timeout=30)
    finally:
      self._process.kill()
    return self._process.returncode, output.strip(), errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signal_is_recorded_and_program_continues(number):
  process = _Process(_LOOP.format(signals=1))
  process.send(number)
  process.proceed()
  returncode, output, errors = process.finish()
  assert (returncode, output) == (0, f"{int(number)}\ninterrupted by {int(number)}")
  assert "stopping after this block of steps; Ctrl-C again stops at once" in errors


def test_no_signal_is_recorded_without_one():
  process = _Process(_LOOP.format(signals=0))
  assert process.finish() == (0, "None\ndone", "")


def test_second_sigterm_is_ignored():
  process = _Process(_LOOP.format(signals=2))
  process.send(signal.SIGINT)
  process.proceed()
  process.send(signal.SIGTERM)
  process.proceed()
  returncode, output, _ = process.finish()
  assert (returncode, output) == (0, "2\ninterrupted by 2")


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_second_sigint_stops_a_long_call_at_once(first):
  process = _Process(_BUSY)
  process.send(first)
  process.send_again(signal.SIGINT)
  began = time.monotonic()
  returncode, _, _ = process.finish()
  assert returncode == 130
  assert time.monotonic() - began < 10


def test_previous_handler_is_restored():
  process = _Process(_AFTERWARDS)
  process.send(signal.SIGINT)
  assert process.finish()[:2] == (0, "interrupted")


def test_handlers_threads_and_files_are_restored():
  def resources():
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    return handlers, threading.active_count(), len(os.listdir("/proc/self/fd"))

  before = resources()
  with StopSignals() as stop:
    assert resources() != before
    assert stop.received is None
  assert resources() == before


def test_other_threads_receive_no_signals():
  received = []

  def enter():
    with StopSignals() as stop:
      received.append(stop.received)

  thread = threading.Thread(target=enter)
  thread.start()
  thread.join()
  assert received == [None]


# ---- Outside the loop ----


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_command_is_interrupted_anywhere(number):
  process = _Process(_COMMAND)
  process.send(number)
  assert process.finish() == (0, f"interrupted by {int(number)}", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_is_interrupted_where_python_drops_exceptions(number):
  process = _Process(_DROPPED)
  process.send(number)
  assert process.finish() == (0, f"interrupted by {int(number)}", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_command_ends_even_inside_a_long_call(number):
  process = _Process(_LONG_CALL.format(seconds=0.5))
  process.send(number)
  assert process.finish()[0] == 128 + number


def test_second_signal_ends_a_command_at_once():
  process = _Process(_LONG_CALL.format(seconds=1000))
  process.send(signal.SIGTERM)
  process.send_again(signal.SIGTERM)
  assert process.finish()[0] == 143


def test_signal_at_exit_is_harmless():
  assert _Process(_END).finish() == (0, "done", "")
