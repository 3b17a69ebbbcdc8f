"""Trainings in separate processes, each on its own cores, without an import for each.

A server process imports TensorFlow once and forks a process for every training, before TensorFlow
has made a thread or a device: what it makes does not survive a fork. A training that crashes, leaks
or sets its process up in its own way is gone with its process.
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

# What `start_server` has the server import.
_PRELOADED = ["mnist_research.sweeps.warm"]
# The exit code after SIGKILL, which Windows lacks.
_KILLED = 128 + 9


class Scored(NamedTuple):
  """The validation examples were scored; the process waits for `Training.answer`.

  Attributes:
    scoring: how many scorings came before it.
    accuracy: on the validation examples.
  """

  scoring: int
  accuracy: float


class Finished(NamedTuple):
  """The training ended.

  Attributes:
    result: as in result.json.
    seconds: how long `train` took in this process.
  """

  result: dict[str, Any]
  seconds: float


class Pruned(NamedTuple):
  """The training was pruned: the answer to its accuracy was to stop."""


class Stopped(NamedTuple):
  """A signal stopped the training; its state is saved."""


class Died(NamedTuple):
  """The process ended without a message.

  Attributes:
    how: the signal or the exit code.
  """

  how: str


class Failed(NamedTuple):
  """The training can't go on.

  Attributes:
    error: why, in one line.
  """

  error: str


Event = Scored | Finished | Pruned | Stopped | Died | Failed


class _EndedEarly(Exception):  # noqa: N818 - no error: it was asked for.
  """Carries the answer to a scoring out of `train`."""


class Training:
  """A training in a separate process."""

  def __init__(self, config: Config, *, cores: Sequence[int], log: Path):
    """Starts it.

    Args:
      config: what to train, with its workdir.
      cores: what it may compute on.
      log: file that gets what it prints; what was there stays.
    """
    self.began = time.monotonic()
    self._connection, other = multiprocessing.Pipe()
    context = multiprocessing.get_context("forkserver")
    self._process = context.Process(target=_train, args=(config, list(cores), log, other))
    self._process.start()
    other.close()

  def receive(self) -> Event:
    """Returns what happened, after `wait` named this training."""
    try:
      return self._connection.recv()
    except (EOFError, ConnectionResetError):
      self._process.join()
      code = self._process.exitcode or 0
      return Died(signal.Signals(-code).name if code < 0 else f"exit code {code}")

  def answer(self, *, prune: bool) -> None:
    """Lets a training that was scored go on, or end."""
    with contextlib.suppress(BrokenPipeError):  # It died meanwhile: `receive` will tell.
      self._connection.send(prune)

  def stop(self) -> None:
    """Asks the training to save its state and end."""
    self._process.terminate()

  def close(self) -> None:
    """Waits for the end of the process."""
    self._process.join()
    self._connection.close()


def wait(trainings: Iterable[Training], *, timeout: float) -> list[Training]:
  """Returns the trainings of which something happened, at the latest after `timeout` seconds."""
  by_connection = {training._connection: training for training in trainings}
  ready = connection.wait(list(by_connection), timeout)
  return [by_connection[one] for one in ready if isinstance(one, Connection)]


def start_server(log: Path) -> None:
  """Starts the server, which imports TensorFlow meanwhile.

  Args:
    log: file that gets what TensorFlow says of the machine as it loads.
  """
  # A training has a core or a few: NumPy's own threads would stand in each other's way.
  os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
  # A launcher that starts a sweep on each machine may have set it: a training takes one machine.
  os.environ.pop("TF_CONFIG", None)
  multiprocessing.get_context("forkserver").set_forkserver_preload(_PRELOADED)
  with log.open("ab") as file, files.stderr_to(file):
    forkserver.ensure_running()


def prepare(config: Config, log: Path) -> str:
  """Prepares the dataset of `config` in a separate process, and reads it once.

  Returns:
    The name of the dataset that is there: that of `fallback_dataset` where the other is not.

  Raises:
    UserError: there is none.
  """
  mine, other = multiprocessing.Pipe()
  context = multiprocessing.get_context("forkserver")
  process = context.Process(target=_prepare, args=(config, log, other))
  process.start()
  other.close()
  try:
    outcome = mine.recv()
  except EOFError:
    raise UserError(f"the preparation of {config.data.dataset} died; {log} says more") from None
  process.join()
  if isinstance(outcome, Failed):
    raise UserError(outcome.error)
  return outcome


def cores_of_jobs(jobs: int) -> list[list[int]]:
  """Shares the cores that this process may use among `jobs`.

  Raises:
    UserError: there are fewer cores than jobs.
  """
  if hasattr(os, "sched_getaffinity"):
    cores = sorted(os.sched_getaffinity(0))
  else:  # macOS and Windows, where `_train` leaves the jobs to the system.
    cores = [*range(os.cpu_count() or 1)]
  if jobs > len(cores):
    raise UserError(f"--jobs={jobs}: there are {len(cores)} cores here, and each job takes one")
  return [cores[len(cores) * job // jobs : len(cores) * (job + 1) // jobs] for job in range(jobs)]


# ---- In the processes ----


def _begin(log: Path) -> None:
  """Sends all output to `log`, and ends this process when the sweep's is gone."""
  with log.open("ab") as file:
    files.send_output_to(file)
  set_up_log()
  parent = multiprocessing.parent_process()
  assert parent is not None

  def follow() -> None:
    connection.wait([parent.sentinel])
    os._exit(_KILLED)

  threading.Thread(target=follow, daemon=True).start()


def _train(config: Config, cores: Sequence[int], log: Path, answers: Connection) -> None:
  _begin(log)
  # TensorFlow makes as many threads as the process may use cores.
  if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, cores)
  from mnist_research.training import loop

  workdir = Workdir(config.run.workdir)

  def on_validation(step: int, accuracy: float) -> None:
    del step  # Batches of another size have other steps: the scorings are counted.
    before = sum(record["split"] == "validation" for record in workdir.read_metrics()) - 1
    answers.send(Scored(before, accuracy))
    if answers.recv():
      raise _EndedEarly

  began = time.monotonic()
  try:
    result = loop.train(config, on_validation=on_validation)
    event: Event = Finished(result, time.monotonic() - began)
  except _EndedEarly:
    event = Pruned()
  except Interrupted:
    event = Stopped()
  except UserError as error:
    app.fail(str(error))
    event = Failed(str(error))
  except Exception as error:  # noqa: BLE001 - whatever it is, the other trainings go on.
    traceback.print_exc()
    event = Failed(f"{type(error).__name__}: {error}".splitlines()[0])
  answers.send(event)


def _prepare(config: Config, log: Path, answers: Connection) -> None:
  _begin(log)
  from mnist_research.data import datasets, splits

  try:
    source = datasets.prepare(config)
    splits.num_train_examples(source, config)
    splits.read(source, "train")
    answers.send(source.name)
  except UserError as error:
    answers.send(Failed(str(error)))
