"""The training loop: plain Python around compiled blocks of steps.

A notebook or test calls `train(config)`, which does what `python -m mnist_research.train` does.
`session.py` implements the events of the loop, and `steps.py` the step.
"""

import contextlib
from typing import Any

from absl import logging

from mnist_research import workers
from mnist_research.config import Config
from mnist_research.runtime.errors import Interrupted
from mnist_research.runtime.signals import StopSignals
from mnist_research.training import teachers
from mnist_research.training.resuming import reconcile
from mnist_research.training.session import OnValidation, Session, open_session
from mnist_research.workdir import Workdir


def train(config: Config, *, on_validation: OnValidation | None = None) -> dict[str, Any]:
  """Trains as `config` specifies, from the newest checkpoint in its workdir if there is one.

  Args:
    config: the settings.
    on_validation: called with the step and the accuracy after each validation. An exception from it
      ends the run without a result.

  Returns:
    The content of `result.json`; empty for a worker other than the chief.

  Raises:
    UserError: a setting is invalid, the data or the workdir can't be used, the loss isn't finite,
      or another worker was lost.
    Interrupted: a signal stopped the run; its state is saved.
  """
  config = teachers.pinned(config.with_pinned_data())
  processes = workers.read_workers(config.devices.strategy)
  workdir = Workdir(config.run.workdir or config.default_workdir())
  with workdir.opened() if processes.is_chief else contextlib.nullcontext():
    config = reconcile(config, workdir)
    result = workdir.read_result()
    if result is not None:
      logging.info("%s is finished, at step %d", workdir.path, result["step"])
      return result
    with (
      workers.report_lost_worker(processes),
      open_session(config, workdir, processes, on_validation) as session,
    ):
      run_blocks(session)
      return session.finish()


def run_blocks(session: Session) -> None:
  """Trains block by block to the end of the run, or until it is stopped.

  Every worker runs the same loop; only the chief scores, records and writes.

  Raises:
    Interrupted: a signal stopped the run; its state is saved.
  """
  # Outside this context there is nothing to save, so a signal ends the process.
  with StopSignals() as stop:
    for block in session.blocks:
      metrics = session.train(block)  # Raises UserError when the loss diverges.
      session.recorder.train(block.end, metrics)
      score = session.validate(block) if block.evaluate else None
      decision = session.agree(score, stop.received)  # The one exchange between workers.
      if decision.improved:
        # Before the checkpoint, so that a run killed between the two repeats both.
        session.save_best()
      if block.checkpoint or decision.improved or decision.exhausted or decision.signal:
        session.save_checkpoint()
      if decision.signal:
        logging.info("stopped at step %d, saved; the same command resumes there", block.end)
        raise Interrupted(decision.signal)
      if decision.exhausted:
        break
