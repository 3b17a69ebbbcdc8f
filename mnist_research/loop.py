"""The outer loop, plain Python: it runs blocks of steps, and records, evaluates and saves between.

`train(config)` is the whole of `python -m mnist_research.train`, for a notebook or a test to call.
"""

import contextlib
import dataclasses
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from mnist_research import data, distribution, losses, models, optimizers, selection, steps
from mnist_research import state as state_lib
from mnist_research.config import Config
from mnist_research.distribution import Exchange, Workers
from mnist_research.errors import Interrupted, UserError
from mnist_research.evaluation import Evaluation, evaluate_logits
from mnist_research.inspection import Inspector
from mnist_research.plan import Plan, make_plan
from mnist_research.profiling import Profiler
from mnist_research.recording import Recorder, recording
from mnist_research.selection import Scoring
from mnist_research.state import Restored, TrainState
from mnist_research.stopping import StopSignals
from mnist_research.workdir import Predictions, Workdir

# Told of each scoring of the validation examples: the step, and their accuracy. What it raises ends
# the run, which then has no result.
OnValidation = Callable[[int, float], None]


def train(config: Config, *, on_validation: OnValidation | None = None) -> dict[str, Any]:
  """Trains as `config` says, from the newest checkpoint of its workdir if there is one.

  Returns:
    The content of `result.json`; empty in a worker other than the chief.

  Raises:
    UserError: a setting, the data or the workdir isn't as it must be, the loss isn't finite, or
      another worker was lost.
    Interrupted: a signal asked the run to stop; its state is saved.
  """
  workers = distribution.read_workers(config)
  workdir = Workdir(config.workdir or config.default_workdir())
  with workdir.opened() if workers.is_chief else contextlib.nullcontext():
    config = _settle(config, workdir)
    result = workdir.read_result()
    if result is not None:
      logging.info("%s is finished, at step %d", workdir.path, result["step"])
      return result
    with distribution.lost_worker_told(workers):
      return _run(config, workdir, workers, on_validation)


def _settle(config: Config, workdir: Workdir) -> Config:
  """Returns `config` as the run in `workdir` began with it; refuses one that differs from it."""
  stored = workdir.read_config()
  if stored is None:
    if state_lib.checkpoint_directories(workdir.checkpoints):
      raise UserError(
        f"--workdir={workdir.path} holds checkpoints but no config.cfg; choose another --workdir"
      )
    return config
  if stored.dataset == config.fallback_dataset != config.dataset:
    logging.warning("this run began on %s, and goes on with it", stored.dataset)
    config = dataclasses.replace(config, dataset=stored.dataset)
  if config.precision == "auto":
    config = dataclasses.replace(config, precision=stored.precision)
  differences = config.differences(stored)
  if differences:
    raise UserError(
      f"--workdir={workdir.path} holds a run with other settings (here {'; '.join(differences)}); "
      "give those, or another --workdir"
    )
  return config


def _run(
  config: Config, workdir: Workdir, workers: Workers, on_validation: OnValidation | None
) -> dict[str, Any]:
  """One process's part of a run, from its start or a checkpoint to the result."""
  plan = make_plan(config, workers)
  config = plan.config
  exchange = Exchange(plan.strategy, workers)
  _check_same_settings(config, exchange)
  with plan.strategy.scope():
    state = state_lib.create_state(
      config, label_names=plan.label_names, total_steps=plan.total_steps
    )
  restored = state_lib.restore_latest(state, workdir.checkpoints) or Restored(0, 0.0)
  _check_same_checkpoint(restored.step, workdir, exchange)
  scored: list[Scoring] = []  # By the chief alone, which decides for all.
  if workers.is_chief:
    devices = distribution.all_devices(plan.strategy, workers)
    workdir.begin(config, devices=devices, step=restored.step)
    state_lib.drop_after(restored.step, workdir.best)
    scored = selection.scorings(workdir.read_metrics())
  _introduce(state, plan, first_step=restored.step)

  blocks = plan.blocks(restored.step)
  if exchange.any(selection.is_exhausted(scored, config.early_stopping)):
    blocks = []  # It was stopped early, and then interrupted before its result was written.
  loss_function = losses.create_loss(config.loss, config.label_smoothing)
  train_block = steps.create_train_block(config, state, loss_function, plan.strategy, xla=plan.xla)
  score = steps.create_scorer(state.evaluated_model)
  with ThreadPoolExecutor(max_workers=1) as background:
    train_examples = background.submit(data.read, plan.source, "train")
    if blocks:  # They compile while the examples are read.
      train_block(*plan.empty_block(), tf.constant(0))
    examples = train_examples.result()
    train, validation = examples[: plan.num_examples], examples[plan.num_examples :]
    if config.whitens and not restored.step:
      models.whiten(state.model, train.images)
    batches = plan.batches(train, blocks)

    # ---- The loop: every worker goes through it; the chief alone scores and records ----
    opened = recording(config, workdir, first_step=restored.step, total_steps=plan.total_steps)
    profiled_steps = config.profile_steps if workers.is_chief else 0
    with (
      opened if workers.is_chief else contextlib.nullcontext() as recorder,
      Profiler(workdir.tensorboard, blocks, profiled_steps) as profiler,
    ):
      if recorder:
        if config.summaries == "all":
          recorder.inspector = Inspector(
            recorder.summaries, background, state.model, loss_function, train, plan.label_names
          )
          recorder.inspector.run(config, workdir.read_environment(), step=restored.step)
        test_examples = background.submit(data.read, plan.source, "test")
        examples_picture = background.submit(
          recorder.examples, restored.step, config, train, plan.label_names
        )
      train_seconds = restored.train_seconds
      # Before and after it nothing waits to be saved: there a signal ends the process.
      with StopSignals() as stop:
        for start, num_steps in blocks:
          profiler.at(start)
          began = time.perf_counter()
          block_losses, block_correct = train_block(*next(batches), tf.constant(num_steps))
          step_losses = block_losses.numpy()[:num_steps].astype(np.float64)
          seconds = time.perf_counter() - began
          train_seconds += seconds
          step, block_examples = start + num_steps, num_steps * config.batch_size
          _check_finite(step_losses, start, state)
          if recorder:
            recorder.scalars("train", step, {
              "epoch": step * config.batch_size / plan.num_examples,
              "loss": float(step_losses.mean()),
              "accuracy": int(block_correct.numpy().sum()) / block_examples,
              "learning_rate": optimizers.learning_rate(state.optimizer, step - 1),
              "examples_per_second": block_examples / seconds,
            })  # fmt: skip
          last = step == plan.total_steps
          improved = False
          evaluated = last or step % plan.evaluate_every == 0
          if recorder and evaluated:
            recorder.network(step)
          if validation.num_examples and evaluated:
            if recorder:
              evaluation = _evaluate(score, validation)
              recorder.evaluation("validation", step, evaluation, validation.labels)
              scored.append(Scoring(step, evaluation.accuracy))
              improved = config.select == "best" and selection.best_step(scored) == step
              if on_validation:
                on_validation(step, evaluation.accuracy)
            improved = exchange.any(improved)
            last |= exchange.any(selection.is_exhausted(scored, config.early_stopping))
          # Asked once, since a signal comes at any moment; one to any worker stops all.
          stopped = max(exchange.gather(stop.received or 0))
          # Before the other: a run that dies between the two finds and saves its best again.
          if improved:
            _save(state, workdir.best, train_seconds, workers)
          if improved or last or stopped or step % plan.checkpoint_every == 0:
            if recorder:
              recorder.flush()
            _save(state, workdir.checkpoints, train_seconds, workers)
            exchange.wait()  # Nobody goes on, or leaves, before the checkpoint is whole.
          if stopped:
            logging.info("stopped at step %d, saved; the same command goes on from there", step)
            raise Interrupted(stopped)
          if last:
            break

      if not recorder:
        exchange.wait()  # For the chief: a worker that leaves ends the others.
        return {}
      examples_picture.result()
      result = _result(plan, workdir, state, score, recorder, test_examples.result())
  result |= {
    "train_seconds": train_seconds,
    "examples_per_second": result["step"] * config.batch_size / train_seconds,
  }
  workdir.write_result(result)
  exchange.wait()
  return result


def _result(
  plan: Plan,
  workdir: Workdir,
  state: TrainState,
  score: steps.Scorer,
  recorder: Recorder,
  test: data.Split,
) -> dict[str, Any]:
  """Scores the test split, once, with the selected weights; returns what came of the run."""
  config, step, model = plan.config, int(state.step.numpy()), state.evaluated_model
  if config.select == "best":
    best, best_step = state_lib.load_trained(config, workdir.best), _best_step(workdir)
    if best.step != best_step:
      raise UserError(
        f"{workdir.best} has lost step {best_step}, the best on validation; restore it from a "
        "backup, or begin again in another --workdir"
      )
    model, score = best.model, steps.create_scorer(best.model)
  evaluation = _evaluate(score, test)
  recorder.evaluation("test", step, evaluation, test.labels)
  name = f"{config.model} on {config.dataset}"
  recorder.predictions(step, name, test, evaluation, plan.label_names)
  recorder.curves(step, name, config)
  if recorder.inspector:
    recorder.inspector.result(workdir.tensorboard, model, test, evaluation)
    for tag, picture in recorder.inspector.pictures(name, model, test, evaluation):
      recorder.picture(tag, step, picture)
  recorder.summaries.finished(step=step)
  workdir.write_predictions(
    Predictions(test.labels, evaluation.probabilities.astype(np.float32), tuple(plan.label_names))
  )
  return {
    "step": step,
    "dataset": config.dataset,
    "test_accuracy": evaluation.accuracy,
    "test_loss": evaluation.loss,
    **selection.selected(workdir.read_metrics(), config.select),
    "train_examples": plan.num_examples,
    "parameters": state.model.count_params(),
    "seed": config.seed,
  }


def _best_step(workdir: Workdir) -> int:
  return selection.best_step(selection.scorings(workdir.read_metrics()))


def _check_same_settings(config: Config, exchange: Exchange) -> None:
  """Raises UserError where workers would train something else than this one."""
  settings = "\n".join(config.differences(Config()))
  if len(set(exchange.gather(zlib.crc32(settings.encode()) >> 1))) > 1:
    raise UserError(
      "the workers have different settings or datasets: start all with the same flags and data"
    )


def _check_same_checkpoint(step: int, workdir: Workdir, exchange: Exchange) -> None:
  """Raises UserError where workers would go on from another step than this one."""
  found = exchange.gather(step)
  if len(set(found)) > 1:
    raise UserError(
      f"the workers found checkpoints of different steps, {', '.join(map(str, found))}: "
      f"--workdir={workdir.path} must be one directory, on a disk that they share"
    )


def _save(state: TrainState, directory: Path, train_seconds: float, workers: Workers) -> None:
  """Saves a checkpoint, which takes every worker."""
  if workers.is_chief:
    state_lib.save(state, directory, train_seconds=train_seconds)
  else:
    state_lib.save_with_chief(state)


def _evaluate(score: steps.Scorer, split: data.Split) -> Evaluation:
  return evaluate_logits(score(split.images), split.labels)


def _check_finite(losses: np.ndarray, first_step: int, state: TrainState) -> None:
  """Stops the run at a loss that is no number; nothing of this block was saved."""
  bad = np.flatnonzero(~np.isfinite(losses))
  if len(bad):
    step = first_step + int(bad[0])
    raise state_lib.diverged(state, step, f"the loss of step {step} is {losses[bad[0]]}")


def _introduce(state: TrainState, plan: Plan, *, first_step: int) -> None:
  """Says what is about to be trained, on what, and how."""
  state.model.summary(print_fn=lambda text: logging.info("%s", text.rstrip()))
  logging.info(
    "%s: step %d of %d, %d examples of %s a step, on %s",
    "going on" if first_step else "beginning", first_step, plan.total_steps,
    plan.config.batch_size, plan.config.dataset, plan.describe(),
  )  # fmt: skip
