"""Calls functions in a child process, so that a crash there doesn't end this process.

TensorFlow may crash on an unexpected library or device: with an illegal instruction while it loads,
or an abort in the compiler on an unknown GPU.
"""

import contextlib
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mnist_research.runtime.errors import UserError

# TensorFlow's import takes two seconds, or minutes from a slow disk with a cold cache.
_SECONDS = 180.0
# The last message of a crashing process. TensorFlow's fatal messages start with F and the date.
_CRASH_MESSAGE = re.compile(r"F\d{4} |.*(Check failed|LLVM ERROR|terminate called)")
_FATAL_PREFIX = re.compile(r"F\d{4} \S+\s+\d+ ")
_LONGEST = 300


class Outcome(NamedTuple):
  """The outcome of a call.

  Attributes:
    value: the result of the function; None if it failed.
    failure: the reason for the failure, in one line; empty on success.
    log: the output of the process on stdout and stderr.
  """

  value: Any
  failure: str
  log: str


class ChildProcess:
  """A child process that calls functions; after a crash the next call starts another."""

  def __init__(self, environment: Mapping[str, str] | None = None):
    """Stores its argument; the first call starts the process.

    Args:
      environment: additional environment variables for the process.
    """
    self._environment = {**os.environ, **(environment or {})}
    self._process: subprocess.Popen | None = None
    self._directory = tempfile.TemporaryDirectory()
    self._log = Path(self._directory.name) / "log"
    self._log.touch()

  def __enter__(self) -> "ChildProcess":
    return self

  def __exit__(self, *exception: object) -> None:
    if self._process is not None:
      self._process.kill()  # It has no state to save.
      self._process.communicate()
    self._directory.cleanup()

  def call(self, function: str, *arguments: Any, seconds: float = _SECONDS) -> Outcome:
    """Calls a function and waits for its result.

    Args:
      function: `module:name`.
      arguments: anything that JSON can represent; the same holds for the result.
      seconds: the time limit, after which the process is killed.
    """
    if self._process is None:
      self._process = self._start()
    process = self._process
    assert process.stdin is not None and process.stdout is not None
    log_start = self._log.stat().st_size
    timed_out = threading.Event()

    def kill() -> None:
      timed_out.set()
      process.kill()

    timer = threading.Timer(seconds, kill)
    timer.start()
    try:
      with contextlib.suppress(BrokenPipeError):  # It has crashed; its exit code says why.
        process.stdin.write(json.dumps([function, *arguments]) + "\n")
        process.stdin.flush()
      reply = process.stdout.readline()
    finally:
      timer.cancel()
    if reply.endswith("\n"):
      return Outcome(**json.loads(reply), log=self._read_log(log_start))
    self._process = None
    process.communicate()
    reason = (
      f"it took more than {seconds:.0f} s"
      if timed_out.is_set()
      else _exit_reason(process.returncode)
    )
    log = self._read_log(log_start)
    message = "" if timed_out.is_set() else crash_message(log)
    return Outcome(None, f"{reason}{': ' if message else ''}{message}", log)

  def _start(self) -> subprocess.Popen:
    with self._log.open("ab") as log:
      return subprocess.Popen(
        [sys.executable, "-u", "-m", __name__],
        env=self._environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
      )

  def _read_log(self, start: int) -> str:
    return self._log.read_bytes()[start:].decode(errors="replace")


def crash_message(log: str) -> str:
  """Returns the line in which a process logged why it crashed; empty if there is none."""
  lines = [line.strip() for line in log.splitlines() if line.strip()]
  fatal = [line for line in lines if _CRASH_MESSAGE.match(line)]
  line = (fatal or lines[-1:] or [""])[0]
  return _FATAL_PREFIX.sub("", line)[:_LONGEST]


def _exit_reason(returncode: int) -> str:
  if returncode < 0:
    return f"the process was killed by {signal.Signals(-returncode).name}"
  return f"the process exited with code {returncode}"


def _reply(function: str, *arguments: Any) -> dict[str, Any]:
  module, _, name = function.partition(":")
  try:
    return {"value": getattr(importlib.import_module(module), name)(*arguments), "failure": ""}
  except UserError as error:
    return {"value": None, "failure": str(error)}
  except Exception as error:  # noqa: BLE001 - The caller handles every error.
    lines = str(error).strip().splitlines() or [""]
    return {"value": None, "failure": f"{type(error).__name__}: {lines[0]}"[:_LONGEST]}


def _serve() -> None:
  """Replies to each line of stdin with a line on stdout, which is reserved for replies."""
  with os.fdopen(os.dup(1), "w", encoding="utf-8") as replies:
    os.dup2(2, 1)
    for request in sys.stdin:
      print(json.dumps(_reply(*json.loads(request))), file=replies, flush=True)


if __name__ == "__main__":
  _serve()
