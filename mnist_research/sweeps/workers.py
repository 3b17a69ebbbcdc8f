"""Runs of a sweep in separate processes, each on separate cores, with one import for all.

A server process imports TensorFlow once and forks a process for each run, before TensorFlow creates
threads or devices, which don't survive a fork. A run that crashes, leaks memory or changes global
settings doesn't affect the other runs.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterable, Sequence
from multiprocessing import connection, forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from mnist_research.config import Config
from mnist_research.runtime import app, files
from mnist_research.runtime.errors import Interrupted, UserError
from mnist_research.runtime.notes import set_up_log
from mnist_research.workdir import Workdir

# The module that the server imports before it forks.
_PRELOADED = ["mnist_research.sweeps.warm"]
# The exit code after SIGKILL, which Windows lacks.
_KILLED = 128 + 9


class Scored(NamedTuple):
  """The run was scored on the validation examples, and waits for `Training.reply`.

  Attributes:
    scoring: the number of earlier scorings.
    accuracy: the validation accuracy.
  """

  scoring: int
  accuracy: float


class Finished(NamedTuple):
  """The run finished.

  Attributes:
    result: the content of result.json.
    seconds: the time that `train` took in this process.
  """

  result: dict[str, Any]
  seconds: float


class Pruned(NamedTuple):
  """The run was pruned because of its accuracy."""


class Stopped(NamedTuple):
  """A signal stopped the run; its state is saved."""


class Crashed(NamedTuple):
  """The process exited without a message.

  Attributes:
    reason: the signal or the exit code.
  """

  reason: str


class Failed(NamedTuple):
  """The run failed.

  Attributes:
    error: the reason, in one line.
  """

  error: str


Event = Scored | Finished | Pruned | Stopped | Crashed | Failed


class _EndedEarly(Exception):  # noqa: N818 - Not an error: it was requested.
  """Carries the decision to prune a run out of `train`."""


class Training:
  """A run in a separate process."""

  def __init__(self, config: Config, *, cores: Sequence[int], log: Path):
    """Starts the run.

    Args:
      config: the run's settings, with its workdir.
      cores: the cores that it may use.
      log: the file to append its output to.
    """
    self.start_time = time.monotonic()
    self._connection, child_connection = multiprocessing.Pipe()
    context = multiprocessing.get_context("forkserver")
    self._process = context.Process(
      target=_train, args=(config, list(cores), log, child_connection)
    )
    self._process.start()
    child_connection.close()

  def receive(self) -> Event:
    """Returns the next event; call it after `wait` returned this run."""
    try:
      return self._connection.recv()
    except (EOFError, ConnectionResetError):
      self._process.join()
      code = self._process.exitcode or 0
      return Crashed(signal.Signals(-code).name if code < 0 else f"exit code {code}")

  def reply(self, *, prune: bool) -> None:
    """Continues or prunes a run that was scored."""
    with contextlib.suppress(BrokenPipeError):  # It has crashed; `receive` reports that.
      self._connection.send(prune)

  def stop(self) -> None:
    """Makes the run save its state and exit."""
    self._process.terminate()

  def close(self) -> None:
    """Waits until the process has exited."""
    self._process.join()
    self._connection.close()


def wait(runs: Iterable[Training], *, timeout: float) -> list[Training]:
  """Waits for events for at most `timeout` seconds, and returns the runs that have one."""
  by_connection = {training._connection: training for training in runs}
  ready_connections = connection.wait(list(by_connection), timeout)
  return [
    by_connection[ready_connection]
    for ready_connection in ready_connections
    if isinstance(ready_connection, Connection)
  ]


def start_server(log: Path) -> None:
  """Starts the server, which imports TensorFlow in the background.

  Args:
    log: the file for TensorFlow's output while it loads.
  """
  # A run has few cores, and NumPy's threads would compete for them.
  os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
  # A launcher that starts a sweep per machine may set it, but each run uses only one machine.
  os.environ.pop("TF_CONFIG", None)
  multiprocessing.get_context("forkserver").set_forkserver_preload(_PRELOADED)
  with log.open("ab") as file, files.stderr_to(file):
    forkserver.ensure_running()


def prepare(config: Config, log: Path) -> str:
  """Prepares the dataset of `config` in a separate process, and reads it once.

  Returns:
    The name of the dataset: that of `fallback_dataset` if the dataset isn't available.

  Raises:
    UserError: neither dataset is available.
  """
  receiver, sender = multiprocessing.Pipe()
  context = multiprocessing.get_context("forkserver")
  process = context.Process(target=_prepare, args=(config, log, sender))
  process.start()
  sender.close()
  try:
    outcome = receiver.recv()
  except EOFError:
    raise UserError(f"preparing {config.data.dataset} failed; see {log}") from None
  process.join()
  if isinstance(outcome, Failed):
    raise UserError(outcome.error)
  return outcome


def cores_of_jobs(jobs: int) -> list[list[int]]:
  """Divides the cores of this process among `jobs`.

  Raises:
    UserError: there are fewer cores than jobs.
  """
  if hasattr(os, "sched_getaffinity"):
    cores = sorted(os.sched_getaffinity(0))
  else:  # macOS and Windows can't pin processes to cores.
    cores = [*range(os.cpu_count() or 1)]
  if jobs > len(cores):
    raise UserError(f"--jobs={jobs}: there are {len(cores)} cores here, and each job needs one")
  return [cores[len(cores) * job // jobs : len(cores) * (job + 1) // jobs] for job in range(jobs)]


# ---- In the processes ----


def _begin(log: Path) -> None:
  """Sends all output to `log`, and makes this process exit when the sweep's process has exited."""
  with log.open("ab") as file:
    files.send_output_to(file)
  set_up_log()
  parent = multiprocessing.parent_process()
  assert parent is not None

  def exit_with_parent() -> None:
    connection.wait([parent.sentinel])
    os._exit(_KILLED)

  threading.Thread(target=exit_with_parent, daemon=True).start()


def _train(config: Config, cores: Sequence[int], log: Path, pipe: Connection) -> None:
  _begin(log)
  # TensorFlow creates a thread for each core that the process may use.
  if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, cores)
  from mnist_research.training import loop

  workdir = Workdir(config.run.workdir)

  def on_validation(step: int, accuracy: float) -> None:
    del step  # Scorings are counted instead, because steps depend on the batch size.
    before = sum(record["split"] == "validation" for record in workdir.read_metrics()) - 1
    pipe.send(Scored(before, accuracy))
    if pipe.recv():
      raise _EndedEarly

  start = time.monotonic()
  try:
    result = loop.train(config, on_validation=on_validation)
    event: Event = Finished(result, time.monotonic() - start)
  except _EndedEarly:
    event = Pruned()
  except Interrupted:
    event = Stopped()
  except UserError as error:
    app.fail(str(error))
    event = Failed(str(error))
  except Exception as error:  # noqa: BLE001 - The other runs continue.
    traceback.print_exc()
    event = Failed(f"{type(error).__name__}: {error}".splitlines()[0])
  pipe.send(event)


def _prepare(config: Config, log: Path, pipe: Connection) -> None:
  _begin(log)
  from mnist_research.data import datasets, splits

  try:
    source = datasets.prepare(config)
    splits.num_train_examples(source, config)
    splits.read(source, "train")
    pipe.send(source.name)
  except UserError as error:
    pipe.send(Failed(str(error)))
