"""Trains on a Ray cluster: Ray places the workers, and starts them again when one is lost.

  python deploy/ray_train.py --workers=2 -- --flagfile=configs/dense.cfg --workdir=/shared/dense

The flags after `--` are those of `mnist_research.train`, for each worker; --workdir must be on a
disk that all machines share. Each worker is a process beside an actor of Ray Train, which sets
TF_CONFIG for it. When a worker, its actor or its machine is lost, Ray starts all of them again,
--restarts times at most, and they resume from the last checkpoint. What `train` refuses is not
tried again. SIGTERM to a machine, or Ctrl-C here, has them save first. Without a cluster
(RAY_ADDRESS), Ray runs on this machine alone.

Needs the extra `ray`: python -m pip install -e '.[ray]'.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from absl import app, flags

from mnist_research import train
from mnist_research.config import flags as config_flags
from mnist_research.runtime import command_line
from mnist_research.runtime.app import fail
from mnist_research.runtime.errors import UserError
from mnist_research.runtime.files import locked, write_atomically

# What `train` says where it misses other workers, which Ray starts again.
OTHERS_MISSED = ("start all workers again", "start the other workers")
_PAUSE_SECONDS = 0.2
# Of what a worker says, for the reason of its end.
_MOST_KEPT = 10_000
# Runs a command that stops, and saves, when the actor ends, however that ends. An actor that ends
# kills its own children, so the command is a shell's child, and SIGTERM is what it then gets.
_ENDING_WITH_ACTOR = ("sh", "-c", 'setpriv --pdeathsig TERM -- "$@"; exit $?', "sh")


def define_flags() -> None:
  """Defines the flags: how many workers, what each takes, and how often they are started again."""
  flags.DEFINE_integer("workers", 2, "how many", lower_bound=1)
  flags.DEFINE_integer("cpus", 1, "processors that Ray keeps for each worker", lower_bound=1)
  flags.DEFINE_integer("gpus", 0, "GPUs that Ray keeps for each worker", lower_bound=0)
  flags.DEFINE_integer("restarts", 3, "how often lost workers are started again", lower_bound=0)


def main(arguments: list[str]) -> None:
  """Trains, and exits with 0 when the run is finished."""
  command = [sys.executable, "-m", "mnist_research.train", *arguments[1:]]
  workdir = _workdir(arguments)
  _check_flags(arguments[1:])
  refusal = workdir / f".refusal-{uuid.uuid4().hex}"
  # Here: it takes seconds, and loads TensorFlow.
  import ray
  from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
  from ray.train.tensorflow import TensorflowTrainer

  values = flags.FLAGS
  # Without its dashboard, Ray warns each second that it can't be asked.
  ray.init(
    logging_config=ray.LoggingConfig(log_level="ERROR"),
    **_own_cluster(values.workers * values.cpus),
  )
  resources = {"CPU": values.cpus, **({"GPU": values.gpus} if values.gpus else {})}
  trainer = TensorflowTrainer(
    run_worker,
    train_loop_config={"command": command, "workdir": str(workdir), "refusal": str(refusal)},
    scaling_config=ScalingConfig(
      num_workers=values.workers, use_gpu=values.gpus > 0, resources_per_worker=resources
    ),
    run_config=RunConfig(
      name="ray",
      storage_path=str(workdir),
      failure_config=FailureConfig(max_failures=values.restarts),
    ),
  )
  failure = None
  try:
    trainer.fit()
  except TrainingFailedError as error:
    failure = str(error).strip().splitlines()[-1]
  if refusal.exists():
    reason = refusal.read_text(encoding="utf-8")
    refusal.unlink()
    sys.exit(fail(reason))
  if failure:
    sys.exit(fail(f"{failure}; the same command resumes from the last checkpoint"))


def _own_cluster(cpus: int) -> dict[str, Any]:
  """Returns the arguments of a cluster on this machine alone, where RAY_ADDRESS names no other.

  Args:
    cpus: that the workers need; they may be more than there are.
  """
  if os.environ.get("RAY_ADDRESS"):
    return {}
  return {"num_cpus": cpus, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}


def _workdir(arguments: list[str]) -> Path:
  """Returns the workdir that the flags of the workers name, as all machines see it."""
  for argument in arguments:
    name, _, value = argument.partition("=")
    if name in ("--workdir", "-workdir") and value:
      return Path(value).expanduser().resolve()
  sys.exit(fail("--workdir=DIR is needed behind --, on a disk that all workers share"))


def _check_flags(arguments: list[str]) -> None:
  """Exits with 2 where `train` would refuse its flags, before Ray starts anything."""
  flag_values = flags.FlagValues()
  command_line.define_general(flag_values)
  train.define_flags(flag_values)
  try:
    command_line.parse(flag_values, arguments)
    config_flags.from_flags(flag_values)
  except UserError as error:
    sys.exit(fail(str(error)))


def run_worker(config: dict[str, Any]) -> None:
  """Runs one worker to its end, in an actor of Ray Train, which has set TF_CONFIG.

  Where `train` refuses to run, the reason is left in a file, and the workers that Ray starts again
  end at once.

  Raises:
    RuntimeError: it failed, or was told to stop; Ray then starts all workers again.
  """
  refusal = Path(config["refusal"])
  if refusal.exists():
    return
  _wait_for_former(Path(config["workdir"]))
  code, reason = _run([*_ENDING_WITH_ACTOR, *config["command"]])
  if code == 2 and not any(words in reason for words in OTHERS_MISSED):
    refusal.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(refusal, reason)
  if code:
    raise RuntimeError(f"mnist_research.train ended with exit code {code}")


def _run(command: list[str]) -> tuple[int, str]:
  """Runs a command; returns its exit code and what it said after the last `error:`.

  It writes to a file, which is still there when the actor is lost: nothing disturbs its end.
  """
  said = b""
  with (
    tempfile.NamedTemporaryFile() as log,
    open(log.name, "rb") as written,
    subprocess.Popen(command, stderr=log) as process,
  ):
    is_ended = False
    while not is_ended:
      time.sleep(_PAUSE_SECONDS)
      is_ended = process.poll() is not None
      part = written.read()
      os.write(2, part)  # Ray shows twice what goes through sys.stderr.
      said = (said + part)[-_MOST_KEPT:]
  _, _, reason = said.decode(errors="replace").rpartition("error: ")
  return process.returncode, reason.partition("\n")[0]


def _wait_for_former(workdir: Path) -> None:
  """Waits for the worker of an actor that was lost: it saves, or misses its peers, and ends."""
  with contextlib.suppress(FileNotFoundError), locked(workdir / ".lock", wait=True):
    pass


if __name__ == "__main__":
  define_flags()
  app.run(main)
