"""A process's part in a run: the events of the training loop."""

import contextlib
import dataclasses
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from mnist_research import distribution
from mnist_research.config import Config
from mnist_research.data import input_pipeline, splits
from mnist_research.metrics.evaluation import Evaluation, evaluate_logits
from mnist_research.models.networks import whiten
from mnist_research.recording.inspector import Inspected
from mnist_research.recording.profiler import Profiler
from mnist_research.recording.recorder import NullRecorder, Recorder, open_recorder
from mnist_research.runtime.errors import UserError
from mnist_research.training import checkpoints, losses, optimizers, results, selection, steps
from mnist_research.training.blocks import Block
from mnist_research.training.checkpoints import Restored
from mnist_research.training.plan import Plan, make_plan
from mnist_research.training.selection import Scoring
from mnist_research.training.state import TrainState, create_state
from mnist_research.workdir import Workdir
from mnist_research.workers import Exchange, Workers

# Called after each scoring of the validation examples with the step and the accuracy.
OnValidation = Callable[[int, float], None]


class Decision(NamedTuple):
  """The decision of all workers after a block.

  Attributes:
    improved: whether the newest scoring is the best, and the run keeps the best.
    exhausted: whether the run stops because validation no longer improves.
    signal: the number of a stop signal that any worker received; 0 for none.
  """

  improved: bool
  exhausted: bool
  signal: int


@dataclasses.dataclass
class Session:
  """A process's part in a run, from the start or a checkpoint to the result.

  Attributes:
    plan: the decisions of the run.
    workdir: the run's directory.
    exchange: exchanges values with the other workers.
    state: the model and everything else that training changes.
    blocks: the remaining blocks.
    batches: the examples of each block.
    train_block: the compiled steps.
    score: a function from images to the logits of the evaluated model.
    validation: the held-out examples.
    read_test: returns the test split; None if the run doesn't score it.
    scored: the validation results so far; only the chief, which decides, knows them.
    recorder: records metrics; on workers other than the chief it records nothing.
    profiler: traces some blocks, if requested.
    train_seconds: the time spent in steps so far.
    on_validation: called after each scoring of the validation examples.
  """

  plan: Plan
  workdir: Workdir
  exchange: Exchange
  state: TrainState
  blocks: Sequence[Block]
  batches: Iterator[input_pipeline.Batches]
  train_block: steps.TrainBlock
  score: steps.Scorer
  validation: splits.Split
  read_test: Callable[[], splits.Split] | None
  scored: list[Scoring]
  recorder: Recorder | NullRecorder
  profiler: Profiler
  train_seconds: float
  on_validation: OnValidation | None

  def train(self, block: Block) -> dict[str, float]:
    """Runs the steps of a block, and returns the metrics to record.

    Raises:
      UserError: a loss isn't finite; nothing from this block was saved.
    """
    with self.profiler.block(block.start):
      start = time.perf_counter()
      done = self.train_block(*next(self.batches), tf.constant(block.num_steps))
      step_losses = done.losses.numpy()[: block.num_steps].astype(np.float64)
    seconds = time.perf_counter() - start
    self.train_seconds += seconds
    not_finite = np.flatnonzero(~np.isfinite(step_losses))
    if len(not_finite):
      step = block.start + int(not_finite[0])
      problem = f"the loss of step {step} is {step_losses[not_finite[0]]}"
      raise checkpoints.diverged(self.state, step, problem)
    batch_size = self.plan.config.optimization.batch_size
    examples = block.num_steps * batch_size
    # Without outliers, loss and accuracy are comparable with those of other splits.
    outliers = 0 if done.outliers is None else int(done.outliers.numpy().sum())
    classified = max(1, examples - outliers)
    plain = {}
    if done.plain_losses is not None:
      plain_losses = done.plain_losses.numpy()[: block.num_steps].astype(np.float64)
      plain["plain_loss"] = float(plain_losses.sum()) * batch_size / classified
    return {
      "epoch": block.end * batch_size / self.plan.num_examples,
      "loss": float(step_losses.mean()),
      **plain,
      "accuracy": int(done.correct.numpy().sum()) / classified,
      "learning_rate": optimizers.learning_rate(self.state.optimizer, block.end - 1),
      "examples_per_second": examples / seconds,
    }

  def validate(self, block: Block) -> Scoring | None:
    """Scores the validation examples; returns None if there are none, or if another worker does."""
    self.recorder.model(block.end)
    if not (self.plan.workers.is_chief and self.validation.num_examples):
      self.recorder.line(None)
      return None
    evaluation = self._evaluate(self.validation)
    self.recorder.evaluation("validation", block.end, evaluation, self.validation.labels)
    self.recorder.line(evaluation)
    scoring = Scoring(block.end, evaluation.accuracy)
    self.scored.append(scoring)
    if self.on_validation:
      self.on_validation(*scoring)
    return scoring

  def agree(self, scoring: Scoring | None, signal: int | None) -> Decision:
    """Decides, together with the other workers, what all of them do next.

    Args:
      scoring: the score after this block, if this worker computed it.
      signal: the number of the signal that this worker received, if any.
    """
    run = self.plan.config.run
    improved = exhausted = False
    if scoring is not None:
      best = selection.best_step(self.scored)
      improved = run.select == "best" and best == scoring.step
      exhausted = selection.is_exhausted(self.scored, run.early_stopping)
    gathered = self.exchange.gather([int(improved), int(exhausted), signal or 0])
    any_improved, any_exhausted, any_signal = map(max, zip(*gathered, strict=True))
    return Decision(bool(any_improved), bool(any_exhausted), any_signal)

  def save_best(self) -> None:
    """Saves the state as the best on the validation examples; every worker takes part."""
    self._save(best=True)

  def save_checkpoint(self) -> None:
    """Saves the state; returns when the checkpoint and all earlier records are on disk."""
    self.recorder.flush()
    self._save(best=False)
    self.exchange.wait()  # No worker continues before the checkpoint is complete.

  def finish(self) -> dict[str, Any]:
    """Ends the run, writes its result and returns it; empty on workers other than the chief.

    The test split is scored once, unless `--score_test=false` is set.

    Raises:
      UserError: the best checkpoint is missing, or a file can't be written.
    """
    if not isinstance(self.recorder, Recorder):
      self.exchange.wait()  # Waits for the chief, because a worker that exits ends the others.
      return {}
    result = results.conclude(
      self.plan, self.workdir, self.state, self.score, self.recorder,
      self.read_test() if self.read_test else None,
    )  # fmt: skip
    done = result["step"] * self.plan.config.optimization.batch_size
    result |= {
      "train_seconds": self.train_seconds,
      "examples_per_second": done / self.train_seconds,
    }
    self.recorder.flush()  # A run with a result never writes again.
    result = self.workdir.write_result(result)
    self.exchange.wait()
    return result

  def _evaluate(self, split: splits.Split) -> Evaluation:
    return evaluate_logits(self.score(split.images), split.labels)

  def _save(self, *, best: bool) -> None:
    directory = self.workdir.best if best else self.workdir.checkpoints
    if self.plan.workers.is_chief:
      checkpoints.save(self.state, directory, train_seconds=self.train_seconds)
    else:
      checkpoints.save_with_chief(self.state)


@contextlib.contextmanager
def open_session(
  config: Config, workdir: Workdir, workers: Workers, on_validation: OnValidation | None = None
) -> Iterator[Session]:
  """Prepares a process's part in a run, from the start or a checkpoint.

  When the context exits, all records are on disk.

  Raises:
    UserError: a setting is invalid, the data or the workdir can't be used, or the workers disagree.
  """
  plan = make_plan(config, workers)
  exchange = Exchange(plan.strategy, workers)
  state, restored, scored = _restore(plan, workdir, exchange)
  blocks = plan.blocks(restored.step)
  exhausted = selection.is_exhausted(scored, plan.config.run.early_stopping)
  if any(gathered for (gathered,) in exchange.gather([int(exhausted)])):
    blocks = []  # The run stopped early, but was interrupted before it wrote its result.
  objective = plan.objective()
  train_block = steps.create_train_block(plan.config, state, objective, plan.strategy, xla=plan.xla)
  with ThreadPoolExecutor(max_workers=1) as background:
    reading = background.submit(plan.read_train)
    if blocks:  # The steps compile while the examples are read.
      train_block(*plan.empty_block(), tf.constant(0))
    train, validation = reading.result()
    if plan.config.model.whitens and not restored.step:
      whiten(state.model, train.images)
    batches = plan.batches(train, blocks)
    with _recording(plan, workdir, state, objective, train, blocks, background, restored.step) as (
      recorder,
      profiler,
    ):
      scores_test = plan.config.run.score_test
      reading_test = background.submit(splits.read, plan.source, "test") if scores_test else None
      recorder.examples(train)
      yield Session(
        plan, workdir, exchange, state, blocks, batches, train_block,
        steps.create_scorer(state.evaluated_model), validation,
        reading_test.result if reading_test else None, scored, recorder, profiler,
        restored.train_seconds, on_validation,
      )  # fmt: skip


def _restore(
  plan: Plan, workdir: Workdir, exchange: Exchange
) -> tuple[TrainState, Restored, list[Scoring]]:
  """Returns the state to train from, its origin, and the scorings so far."""
  check_same_settings(plan.config, exchange)
  with plan.strategy.scope():
    state = create_state(
      plan.config,
      label_names=plan.label_names,
      image_shape=plan.image_shape,
      total_steps=plan.total_steps,
    )
  restored = checkpoints.restore_latest(state, workdir.checkpoints) or Restored(0, 0.0)
  check_same_checkpoint(restored.step, workdir, exchange)
  scored: list[Scoring] = []
  if plan.workers.is_chief:
    devices = distribution.all_devices(plan.strategy, plan.workers)
    workdir.begin(plan.config, devices=devices, step=restored.step)
    checkpoints.drop_after(restored.step, workdir.best)
    scored = selection.scorings(workdir.read_metrics())
  _log_start(state, plan, first_step=restored.step)
  return state, restored, scored


@contextlib.contextmanager
def _recording(
  plan: Plan,
  workdir: Workdir,
  state: TrainState,
  objective: losses.Objective,
  train: splits.Split,
  blocks: Sequence[Block],
  background: Executor,
  first_step: int,
) -> Iterator[tuple[Recorder | NullRecorder, Profiler]]:
  """Opens the records of a run; workers other than the chief record nothing."""
  if not plan.workers.is_chief:
    yield NullRecorder(), Profiler(workdir.tensorboard, [], 0)
    return
  starts = [block.start for block in blocks]
  with (
    open_recorder(
      plan.config,
      workdir,
      Inspected(state.model, objective, train, tuple(plan.label_names)),
      background,
      first_step=first_step,
      total_steps=plan.total_steps,
    ) as recorder,
    Profiler(workdir.tensorboard, starts, plan.config.run.profile_steps) as profiler,
  ):
    yield recorder, profiler


def check_same_settings(config: Config, exchange: Exchange) -> None:
  """Raises UserError if the workers have different settings or data."""
  settings = "\n".join(config.differences(Config()))
  gathered = exchange.gather([zlib.crc32(settings.encode()) >> 1])
  if len(set(gathered)) > 1:
    raise UserError(
      "the workers have different settings or datasets: start all with the same flags and data"
    )


def check_same_checkpoint(step: int, workdir: Workdir, exchange: Exchange) -> None:
  """Raises UserError if the workers would resume from different steps."""
  found_steps = [gathered for (gathered,) in exchange.gather([step])]
  if len(set(found_steps)) > 1:
    raise UserError(
      f"the workers found checkpoints of different steps, {', '.join(map(str, found_steps))}: "
      f"--workdir={workdir.path} must be one directory on a shared disk"
    )


def _log_start(state: TrainState, plan: Plan, *, first_step: int) -> None:
  """Logs the model, the data and the devices before training."""
  state.model.summary(line_length=80, print_fn=lambda text: logging.info("%s", text.rstrip()))
  logging.info(
    "%s: step %d of %d, %d examples of %s per step",
    "resuming" if first_step else "starting", first_step, plan.total_steps,
    plan.config.optimization.batch_size, plan.source.short_name,
  )  # fmt: skip
  logging.info("on %s", plan.describe())
