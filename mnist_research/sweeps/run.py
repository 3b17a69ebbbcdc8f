"""Runs the trials of a sweep, several at a time, until all are done."""

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import logging
from optuna.trial import Trial

from mnist_research.config import flags as config_flags
from mnist_research.runtime.errors import UserError
from mnist_research.runtime.progress import Progress
from mnist_research.runtime.signals import StopSignals
from mnist_research.sweeps import workers
from mnist_research.sweeps.space import SweepPlan
from mnist_research.sweeps.storage import open_storage
from mnist_research.sweeps.study import Record, SweepStudy
from mnist_research.sweeps.summary import Summary, summarize
from mnist_research.sweeps.workers import Training

# The maximum delay until a signal takes effect.
_POLL_SECONDS = 0.2
# File systems allow names of 255 bytes.
_LONGEST_NAME = 120


class Overhead(NamedTuple):
  """The overhead of a trial: medians over the trials that ran here from start to end.

  Attributes:
    process_seconds: the time of its process before and after `train`.
    train_seconds: the time in `train` outside of steps: compiling, reading, scoring, checkpoints,
      pictures.
  """

  process_seconds: float
  train_seconds: float


class _Running(NamedTuple):
  trial: Trial
  texts: Mapping[str, str]
  cores: list[int]
  is_new: bool


class Outcome(NamedTuple):
  """The result of a sweep.

  Attributes:
    records: every trial, on all machines.
    seconds: the time from the first start of a trial by this process to the last end.
    overhead: the overhead of this process's trials; None if none ran from start to end.
    summary: the page, the best settings and the table.
  """

  records: Sequence[Record]
  seconds: float
  overhead: Overhead | None
  summary: Summary


def run_sweep(
  plan: SweepPlan, *, directory: Path, storage: str, study_name: str, jobs: int
) -> Outcome:
  """Runs the remaining trials of a sweep, and reports on the whole sweep.

  Args:
    plan: the trials.
    directory: the parent of the workdirs; no other process trains there.
    storage: any database URL that Optuna supports.
    study_name: the study's name, the same on every machine.
    jobs: the number of simultaneous runs, each on separate cores.

  Raises:
    Interrupted: a signal stopped the sweep; the runs have saved their state.
    UserError: the dataset, storage or directory can't be used, or no trial finished.
  """
  if (directory / "config.cfg").exists():
    raise UserError(f"--workdir={directory} holds a run; choose a separate directory for the sweep")
  cores = workers.cores_of_jobs(jobs)
  database = open_storage(storage)
  log = directory / "log.txt"
  workers.start_server(log)
  dataset = workers.prepare(plan.base, log)
  if dataset != plan.base.data.dataset:
    logging.warning("%s isn't available: %s is used instead", plan.base.data.dataset, dataset)
    base = plan.base.replace(dataset=dataset, fallback_dataset="")
    plan = plan._replace(base=base)
  study = SweepStudy(plan, storage=database, name=study_name, directory=directory)
  start = time.monotonic()
  overhead = _run_trials(plan, study, directory=directory, cores=cores)
  seconds = time.monotonic() - start
  records = study.records()
  return Outcome(
    records, seconds, overhead, summarize(plan, records, study.importances(), directory)
  )


def _run_trials(
  plan: SweepPlan, study: SweepStudy, *, directory: Path, cores: list[list[int]]
) -> Overhead | None:
  """Runs the study's remaining trials, one at a time on each of `cores`."""
  running: dict[Training, _Running] = {}
  overheads: list[Overhead] = []
  has_more, is_stopping = True, False
  progress = Progress(total=plan.size, first=study.num_ended(), unit="trial", task="sweep")
  with progress, StopSignals() as stop:
    while True:
      while cores and has_more and not stop.received:
        trial = study.next()
        if trial is None:
          has_more = False
          break
        try:
          training, started = _start(plan, study, trial, directory, cores[-1])
        except UserError as error:  # Incompatible settings.
          study.fail(trial, str(error))
          progress.line(f"trial {trial.number:04d}: failed: {error}")
          continue
        cores.pop()
        running[training] = started
      if not running:
        break
      if stop.received and not is_stopping:
        is_stopping = True
        for training in running:
          training.stop()
      for training in workers.wait(running, timeout=_POLL_SECONDS):
        description = _handle_event(
          study, training, running[training], overheads, stopping=bool(stop.received)
        )
        if description:
          cores.append(running.pop(training).cores)
          progress.line(f"trial {description}")
          progress.update(study.num_ended())
    if stop.received:  # The exit of `stop` raises Interrupted.
      logging.info("stopped; the same command resumes there")
  if not overheads:
    return None
  return Overhead(*(statistics.median(seconds) for seconds in zip(*overheads, strict=True)))


def _start(
  plan: SweepPlan, study: SweepStudy, trial: Trial, directory: Path, cores: list[int]
) -> tuple[Training, _Running]:
  texts = study.texts(trial)
  workdir = directory / _workdir_name(trial.number, texts)
  is_new = not workdir.exists()
  workdir.mkdir(exist_ok=True)
  config = config_flags.with_texts(plan.base, {**texts, "workdir": str(workdir)})
  training = Training(config, cores=cores, log=workdir / "log.txt")
  return training, _Running(trial, texts, cores, is_new)


def _workdir_name(number: int, texts: Mapping[str, str]) -> str:
  """Returns the name of a trial's workdir: its number and its settings."""
  settings = ",".join(f"{name}={text}" for name, text in texts.items())
  return f"{number:04d}-{settings}".replace("/", "-")[:_LONGEST_NAME]


def _handle_event(
  study: SweepStudy,
  training: Training,
  running: _Running,
  overheads: list[Overhead],
  *,
  stopping: bool,
) -> str:
  """Handles an event of a run; describes the outcome if the run ended, and else returns ''."""
  event = training.receive()
  trial = running.trial
  if isinstance(event, workers.Scored):
    prune = study.report(trial, scoring=event.scoring, accuracy=event.accuracy)
    training.reply(prune=prune and not stopping)
    return ""
  training.close()
  seconds = time.monotonic() - training.start_time
  if isinstance(event, workers.Finished):
    accuracy = event.result["validation_accuracy"]
    study.finish(trial, accuracy)
    outcome = f"validation accuracy {accuracy:.2%}"
    if running.is_new:
      steps = event.result["train_seconds"]
      overheads.append(Overhead(seconds - event.seconds, event.seconds - steps))
  elif isinstance(event, workers.Pruned):
    study.prune(trial)
    outcome = "pruned"
  elif isinstance(event, workers.Failed):
    study.fail(trial, event.error)
    outcome = f"failed: {event.error}"
  elif stopping:
    outcome = (
      "stopped"  # Its state in the study stays `running`, so that this directory resumes it.
    )
  else:
    reason = event.reason if isinstance(event, workers.Crashed) else "a signal"
    study.fail(trial, f"its process ended with {reason}")
    outcome = f"failed: its process ended with {reason}"
  settings = ", ".join(f"{name}={text}" for name, text in running.texts.items())
  return f"{trial.number:04d}, {settings}: {outcome}, {seconds:.1f} s"
