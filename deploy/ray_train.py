"""Trains on a Ray cluster: Ray places the workers, and restarts them when one is lost.

  RAY_ADDRESS=auto python deploy/ray_train.py --workers=2 -- --flagfile=configs/dense.cfg \\
      --workdir=/shared/dense

Arguments after `--` are flags of `mnist_research.train` for each worker; --workdir must be on a
disk that all machines share. Each worker is a process next to an actor of Ray Train, which sets
TF_CONFIG for it. When a worker, its actor or its machine is lost, Ray restarts all of them, at most
--restarts times, and they resume from the last checkpoint. Flags that `train` rejects aren't tried
again. SIGTERM to a machine, or Ctrl-C here, saves first. Without RAY_ADDRESS, Ray starts a cluster
on this machine.

Needs the extra `ray` on every machine: python -m pip install -e '.[ray]'.
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

# What `train` prints when it has lost other workers, which Ray restarts.
OTHERS_MISSED = ("start all workers again", "start the other workers")
_PAUSE_SECONDS = 0.2
# How much of a worker's output to show as the reason of its exit.
_MAX_KEPT_BYTES = 10_000
# Runs a command that receives SIGTERM, and saves, however the actor ends. An actor kills its own
# children when it ends, so the command is the child of a shell.
_ENDING_WITH_ACTOR = ("sh", "-c", 'setpriv --pdeathsig TERM -- "$@"; exit $?', "sh")


def define_flags() -> None:
  """Defines the flags: the number of workers, their resources, and the number of restarts."""
  flags.DEFINE_integer("workers", 2, "number of workers", lower_bound=1)
  flags.DEFINE_integer("cpus", 1, "processors that Ray reserves for each worker", lower_bound=1)
  flags.DEFINE_integer("gpus", 0, "GPUs that Ray reserves for each worker", lower_bound=0)
  flags.DEFINE_integer(
    "restarts", 3, "the maximum number of restarts after lost workers", lower_bound=0
  )


def main(arguments: list[str]) -> None:
  """Trains, and exits with 0 when the run is finished."""
  command = [sys.executable, "-m", "mnist_research.train", *arguments[1:]]
  workdir = _workdir(arguments)
  _check_flags(arguments[1:])
  refusal = workdir / f".refusal-{uuid.uuid4().hex}"
  # Imported here because it takes seconds and loads TensorFlow.
  import ray
  from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
  from ray.train.tensorflow import TensorflowTrainer

  values = flags.FLAGS
  # Without its dashboard, Ray warns every second that it can't be reached.
  ray.init(
    logging_config=ray.LoggingConfig(log_level="ERROR"),
    **_local_cluster(values.workers * values.cpus),
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


def _local_cluster(cpus: int) -> dict[str, Any]:
  """Returns the arguments that start a cluster on this machine, unless RAY_ADDRESS names one.

  Args:
    cpus: the processors that the workers need, which may exceed those of this machine.
  """
  if os.environ.get("RAY_ADDRESS"):
    return {}
  return {"num_cpus": cpus, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}


def _workdir(arguments: list[str]) -> Path:
  """Returns the workdir in the workers' flags as an absolute path, the same on all machines."""
  for argument in arguments:
    name, _, value = argument.partition("=")
    if name in ("--workdir", "-workdir") and value:
      return Path(value).expanduser().resolve()
  sys.exit(fail("--workdir=DIR is required after --, on a disk that all workers share"))


def _check_flags(arguments: list[str]) -> None:
  """Exits with 2 if `train` would reject its flags, before Ray starts anything."""
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

  If `train` refuses to run, the reason is written to a file, and the workers that Ray restarts exit
  at once.

  Raises:
    RuntimeError: the worker failed or was stopped; Ray then restarts all workers.
  """
  refusal = Path(config["refusal"])
  if refusal.exists():
    return
  _wait_for_previous(Path(config["workdir"]))
  code, reason = _run([*_ENDING_WITH_ACTOR, *config["command"]])
  if code == 2 and not any(words in reason for words in OTHERS_MISSED):
    refusal.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(refusal, reason)
  if code:
    raise RuntimeError(f"mnist_research.train ended with exit code {code}")


def _run(command: list[str]) -> tuple[int, str]:
  """Runs a command; returns its exit code and the message after its last `error:`.

  The command writes to a file, which outlives the actor, so losing the actor doesn't disturb it.
  """
  output = b""
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
      os.write(2, part)  # Ray prints output of sys.stderr twice.
      output = (output + part)[-_MAX_KEPT_BYTES:]
  _, _, reason = output.decode(errors="replace").rpartition("error: ")
  return process.returncode, reason.partition("\n")[0]


def _wait_for_previous(workdir: Path) -> None:
  """Waits until the worker of a lost actor has saved, or noticed that its peers are gone."""
  with contextlib.suppress(FileNotFoundError), locked(workdir / ".lock", wait=True):
    pass


if __name__ == "__main__":
  define_flags()
  app.run(main)
