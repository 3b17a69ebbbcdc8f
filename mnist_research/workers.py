"""The worker processes of a run, and the messages between them.

A run is one process, or several workers that TF_CONFIG names. The first worker, the chief, writes
the workdir.
"""

import contextlib
import dataclasses
import json
import os
import re
import socket
import time
from collections.abc import Iterator, Sequence

import tensorflow as tf

from mnist_research.runtime.errors import UserError

_TF_CONFIG = (
  'TF_CONFIG, such as {"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": '
  '"worker", "index": 0}}'
)


# Tasks of TensorFlow's other strategies.
_OTHER_TASKS = ("master", "ps", "evaluator")
# The machines of a cluster start minutes apart. Their names can't be resolved before that.
WAIT_SECONDS = 600.0
_POLL_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Workers:
  """The processes that train together.

  Attributes:
    addresses: the `host:port` of each worker, chief first; empty if this process trains alone.
    index: the index of this process among them.
  """

  addresses: tuple[str, ...] = ()
  index: int = 0

  @property
  def several(self) -> bool:
    """Whether there are several workers."""
    return len(self.addresses) > 1

  @property
  def is_chief(self) -> bool:
    """Whether this process writes the workdir."""
    return self.index == 0


def read_workers(strategy: str) -> Workers:
  """Returns the workers of a run, from TF_CONFIG if `strategy` uses it.

  Raises:
    UserError: TF_CONFIG is invalid, or it is required and missing.
  """
  if strategy not in ("auto", "multi_worker"):
    return Workers()
  text = os.environ.get("TF_CONFIG", "")
  workers = parse_tf_config(text) if text else Workers()
  if workers.several:
    return workers
  if strategy == "multi_worker":
    raise UserError(
      "--strategy=multi_worker needs several workers, each with its environment variable "
      f"{_TF_CONFIG}; scripts/launch_local.py sets it on one machine"
    )
  return Workers()  # Launchers also set TF_CONFIG for a single process.


def parse_tf_config(text: str) -> Workers:
  """Returns the workers that TF_CONFIG names.

  A cluster may have a separate `chief`, which is how Kubeflow and Vertex AI name the first worker.

  Raises:
    UserError: it is invalid, or this process isn't a worker.
  """
  try:
    tf_config = json.loads(text)
    cluster = tf_config.get("cluster", {})
    chiefs, others = (list(cluster.get(job, [])) for job in ("chief", "worker"))
    if not cluster:
      return Workers()
    job, index = tf_config["task"]["type"], _index(tf_config["task"]["index"])
    if job in _OTHER_TASKS:
      raise UserError(
        f"the environment variable TF_CONFIG makes this process a {job!r} task, which doesn't "
        'train here: start it as a "worker", or remove it'
      )
    tasks = {"chief": chiefs, "worker": others}[job]
    addresses = (*chiefs, *others)
    if len(chiefs) > 1 or index >= len(tasks) or len(set(addresses)) < len(addresses):
      raise ValueError
    for address in addresses:
      _split_address(address)
  except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
    raise UserError(f"the environment variable {_TF_CONFIG}: this one is {text!r}") from None
  return Workers(addresses, index + (len(chiefs) if job == "worker" else 0))


def _index(value: int | str) -> int:
  """Returns the index of a task, which launchers write as a number or as text."""
  if isinstance(value, bool) or not re.fullmatch(r"\d{1,6}", str(value)):
    raise ValueError
  return int(value)


def _split_address(address: str) -> tuple[str, int]:
  """Returns the host and port of an address; raises ValueError if it is invalid."""
  host, _, port = address.rpartition(":")
  if not host or not re.fullmatch(r"\d{1,5}", port) or not 0 < int(port) < 2**16:
    raise ValueError
  return host.strip("[]"), int(port)


def wait_for_others(workers: Workers, *, seconds: float = WAIT_SECONDS) -> None:
  """Waits until every other worker has answered, for a limited time.

  TensorFlow would wait forever, and run no Python code meanwhile.

  Args:
    workers: all workers.
    seconds: the time limit.

  Raises:
    UserError: the port of this worker is taken, or a worker didn't answer in time.
  """
  own_address = workers.addresses[workers.index]
  missing = [address for address in workers.addresses if address != own_address]
  end = time.monotonic() + seconds
  with _listening(workers) as listener:
    while missing:
      missing = [address for address in missing if not _answers(address)]
      if missing and time.monotonic() > end:
        raise UserError(
          f"no answer from {', '.join(missing)} within {seconds:.0f} s: start the other workers, "
          "or correct the addresses in TF_CONFIG"
        )
      # The timeout is the pause between attempts; accepting a connection is answer enough.
      with contextlib.suppress(TimeoutError):
        listener.accept()[0].close()


@contextlib.contextmanager
def _listening(workers: Workers) -> Iterator[socket.socket]:
  """Answers on this worker's port until TensorFlow takes over."""
  own_address = workers.addresses[workers.index]
  try:
    listener = socket.create_server(("", _split_address(own_address)[1]))
  except OSError as error:
    raise UserError(
      f"worker {workers.index} can't listen on the port of {own_address}: "
      "choose a free one in TF_CONFIG"
    ) from error
  with listener:
    listener.settimeout(_POLL_SECONDS)
    yield listener


def _answers(address: str) -> bool:
  """Whether anything listens at an address; a name that can't be resolved counts as no answer."""
  try:
    socket.create_connection(_split_address(address), timeout=_POLL_SECONDS).close()
  except OSError:
    return False
  return True


class Exchange:
  """Messages between the processes of a run, which all make the same calls in the same order."""

  def __init__(self, strategy: tf.distribute.Strategy, workers: Workers):
    self._strategy = strategy
    self._several = workers.several

    @tf.function
    def gather(values):
      return strategy.gather(values, axis=0)

    self._gather = gather

  def gather(self, numbers: Sequence[int]) -> list[tuple[int, ...]]:
    """Waits for the numbers of every replica's process, and returns them."""
    if not self._several:
      return [tuple(numbers)]
    values = self._strategy.experimental_distribute_values_from_function(
      lambda _: tf.constant([list(numbers)])
    )
    return [tuple(row) for row in self._gather(values).numpy().tolist()]

  def wait(self) -> None:
    """Waits until every process has made this call."""
    self.gather([0])


# Errors of collective operations when a worker is lost.
_LOST = (
  tf.errors.UnavailableError,
  tf.errors.AbortedError,
  tf.errors.CancelledError,
  tf.errors.DeadlineExceededError,
  tf.errors.FailedPreconditionError,
)


@contextlib.contextmanager
def report_lost_worker(workers: Workers) -> Iterator[None]:
  """Turns TensorFlow's errors about a lost worker into a UserError."""
  try:
    yield
  except _LOST as error:
    if not workers.several:
      raise
    lost = re.findall(r"/job:worker/(?:replica:0/)?task:(\d+)", str(error))
    names = [f"worker {i} ({workers.addresses[int(i)]})" for i in lost if int(i) != workers.index]
    raise UserError(
      f"{names[-1] if names else 'another worker'} has ended or can't be reached; see its log, and "
      "start all workers again: they resume from the last checkpoint"
    ) from error
