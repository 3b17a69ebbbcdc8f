"""Starts N workers of a run on this machine, and exits when they have exited.

  python scripts/launch_local.py --workers=2 -- --flagfile=configs/dense.cfg --workdir=runs/two

Arguments after `--` are flags of `mnist_research.train` (or of the command named by --module) for
each worker. Each gets a separate TF_CONFIG, with free loopback ports. The first worker, the chief,
uses this terminal; the others write to <logs>/worker<n>.log. Ctrl-C or SIGTERM stops all: they
save, and the same command resumes there. When a worker fails, all exit, and the exit code is that
of the failed worker.
"""

import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from absl import flags

from mnist_research.runtime import app, command_line, signals

# A worker notices the loss of a peer within seconds and exits; one that hangs is killed.
GRACE_SECONDS = 30
LAST_LINES = 5


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the number of workers, their command, and the directory of their logs."""
  flags.DEFINE_integer("workers", 2, "number of workers", lower_bound=1, flag_values=flag_values)
  command_line.define_path("logs", "runs/logs", "directory of the logs", flag_values)
  flags.DEFINE_string(
    "module", "train", "command of mnist_research to start", flag_values=flag_values
  )


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Starts the workers, waits for them, and exits with their code."""
  logs = Path(flag_values.logs)
  logs.mkdir(parents=True, exist_ok=True)
  command = [sys.executable, "-m", f"mnist_research.{flag_values.module}", *arguments]
  sys.exit(launch(command, flag_values.workers, logs))


def launch(command: list[str], workers: int, logs: Path) -> int:
  """Runs `command` once for each worker and returns the exit code of the job."""
  with contextlib.ExitStack() as files:
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    processes = []
    for index in range(workers):
      log = None if index == 0 else files.enter_context(log_path(logs, index).open("wb"))
      processes.append(start(command, addresses, index, log))
      if log:
        print(f"worker {index} writes to {log_path(logs, index)}", file=sys.stderr)
    failed = wait(processes, forward_signals(processes))
  if failed is None:
    return 0
  code = exit_code(processes[failed])
  if code in [128 + number for number in signals.handled_signals()]:
    return code  # The workers were stopped on request.
  outcome = f"was killed by signal {code - 128}" if code > 128 else f"ended with exit code {code}"
  print(f"error: worker {failed} {outcome}", file=sys.stderr)
  if failed:
    path = log_path(logs, failed)
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    print(f"the end of {path}:", *lines, sep="\n  ", file=sys.stderr)
  return code


def log_path(logs: Path, index: int) -> Path:
  """Returns the file for a worker's output."""
  return logs / f"worker{index}.log"


def free_ports(count: int) -> list[int]:
  """Returns free loopback ports."""
  with contextlib.ExitStack() as stack:
    sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
    for listener in sockets:
      listener.bind(("127.0.0.1", 0))
    return [listener.getsockname()[1] for listener in sockets]


def start(
  command: list[str], addresses: list[str], index: int, log: BinaryIO | None
) -> subprocess.Popen:
  """Starts a worker in a separate process group, so that signals reach it only from this process.

  Otherwise it would get each signal twice, and a second Ctrl-C stops it at once.
  """
  task = {"type": "worker", "index": index}
  tf_config = json.dumps({"cluster": {"worker": addresses}, "task": task})
  return subprocess.Popen(
    command,
    env={**os.environ, "TF_CONFIG": tf_config},
    stdin=subprocess.DEVNULL,
    stdout=log,
    stderr=log,
    start_new_session=True,
  )


def forward_signals(processes: list[subprocess.Popen]) -> list[int]:
  """Forwards each stop signal to every worker; returns the list of received signals."""
  received: list[int] = []

  def forward(number: int, frame: FrameType | None) -> None:
    del frame
    received.append(number)
    for process in processes:
      process.send_signal(number)

  signal.set_wakeup_fd(-1)  # Otherwise this process would exit in 3 s, before its workers.
  for number in signals.handled_signals():
    signal.signal(number, forward)
  return received


def wait(processes: list[subprocess.Popen], received: list[int]) -> int | None:
  """Waits until all workers have exited; returns the index of the first that failed, or None.

  After a failure, the others get GRACE_SECONDS to exit. If several have failed since the last
  check, one that was killed counts as the first, because the others exit when they lose it.
  """
  failed, deadline = None, math.inf
  while True:
    codes = [process.poll() for process in processes]
    failures = [(code > 0, i) for i, code in enumerate(codes) if code]  # Killed: below 0.
    if failed is None and failures:
      failed = min(failures)[1]
      deadline = time.monotonic() + GRACE_SECONDS
    if None not in codes:
      return failed
    for process in processes:
      if time.monotonic() > deadline:
        process.kill()
      elif signal.SIGTERM in received:  # Resent, because TensorFlow loses it while workers join.
        process.terminate()
    time.sleep(0.1)


def exit_code(process: subprocess.Popen) -> int:
  """Returns the exit code as in a shell: 128 + n after signal n."""
  return process.returncode if process.returncode >= 0 else 128 - process.returncode


if __name__ == "__main__":
  app.run(main, define_flags)
