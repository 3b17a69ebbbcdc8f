"""The outer loop, plain Python: it runs blocks of steps, and records, evaluates and saves between.

`train(config)` is the whole of `python -m mnist_research.train`, for a notebook or a test to call.
"""

import contextlib
import dataclasses
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from mnist_research import data, distribution, figures, losses, optimizers, precision, steps
from mnist_research import state as state_lib
from mnist_research.config import Config
from mnist_research.distribution import Exchange, Workers
from mnist_research.errors import Interrupted, UserError, writing
from mnist_research.evaluation import Evaluation, evaluate_logits
from mnist_research.inspection import Inspector
from mnist_research.profiling import Profiler
from mnist_research.progress import Progress
from mnist_research.state import Restored, TrainState
from mnist_research.stopping import StopSignals
from mnist_research.summaries import Summaries
from mnist_research.workdir import Predictions, Workdir

_PICTURED_EXAMPLES = 40


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


def plan_blocks(
  first_step: int, total_steps: int, block_steps: int, *intervals: int
) -> list[tuple[int, int]]:
  """Cuts the steps into blocks: at every `block_steps`, and at the multiples of each interval.

  The cuts depend on the step alone, so a resumed run has the same ones.

  Returns:
    (first step, number of steps) of each block that is still to do.
  """
  lengths = (block_steps, *intervals)
  cuts = {cut for length in lengths for cut in range(0, total_steps, length)} | {total_steps}
  ends = sorted(cut for cut in cuts if cut > first_step)
  starts = [first_step, *ends][: len(ends)]
  return [(start, end - start) for start, end in zip(starts, ends, strict=True)]


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
  # ---- Devices, data, state ----
  strategy = distribution.create_strategy(config)
  exchange = Exchange(strategy, workers)
  device = strategy.extended.worker_devices[0]
  config = dataclasses.replace(config, precision=precision.choose(config, device))
  xla = distribution.compiles_with_xla(config, strategy)
  source = data.prepare(config)
  # A fallback is written down as the dataset of this run: the figures are its figures.
  config = dataclasses.replace(config, dataset=source.name, fallback_dataset="")
  num_examples = data.num_train_examples(source, config)
  total_steps = config.total_steps(num_examples)
  _check_same_settings(config, exchange)
  with strategy.scope():
    state = state_lib.create_state(config, label_names=source.label_names, total_steps=total_steps)
  restored = state_lib.restore_latest(state, workdir.checkpoints) or Restored(0, 0.0)
  _check_same_checkpoint(restored.step, workdir, exchange)
  validations: list[tuple[int, float]] = []  # Of the chief alone, which decides for all.
  if workers.is_chief:
    workdir.begin(config, devices=distribution.all_devices(strategy, workers), step=restored.step)
    state_lib.drop_after(restored.step, workdir.best)
    validations = _validations(workdir.read_metrics())
  devices = distribution.describe(strategy, workers)
  _introduce(
    state, config, f"{devices} in {config.precision}{', compiled by XLA' if xla else ''}",
    first_step=restored.step, total_steps=total_steps,
  )  # fmt: skip

  num_classes = len(source.label_names)

  # ---- Steps: they compile while the examples are read ----
  epoch_steps = config.epoch_steps(num_examples)
  evaluate_every = config.evaluate_every or epoch_steps
  checkpoint_every = config.checkpoint_every or epoch_steps
  plan = plan_blocks(
    restored.step, total_steps, config.block_steps(), evaluate_every, checkpoint_every
  )
  room = min(config.block_steps(), evaluate_every, checkpoint_every, total_steps)
  with ThreadPoolExecutor(max_workers=1) as background:
    train_examples = background.submit(data.read, source, "train")
    loss_function = losses.create_loss(config.loss, config.label_smoothing)
    train_block = steps.create_train_block(config, state, loss_function, strategy, xla=xla)
    score = steps.create_scorer(state.evaluated_model)
    if exchange.any(_is_exhausted(validations, config)):
      plan = []  # It was stopped early, and then interrupted before its result was written.
    if plan:
      train_block(
        *data.empty_block(config, room, strategy, num_classes=num_classes), tf.constant(0)
      )
    examples = train_examples.result()
    split, validation = examples[:num_examples], examples[num_examples:]
    blocks = data.train_blocks(
      split,
      config,
      first_steps=[start for start, _ in plan],
      room=room,
      strategy=strategy,
      num_classes=num_classes,
    )

    # ---- The loop: every worker goes through it; the chief alone scores and records ----
    recording = _recording(config, workdir, first_step=restored.step, total_steps=total_steps)
    profiled_steps = config.profile_steps if workers.is_chief else 0
    with (
      recording if workers.is_chief else contextlib.nullcontext() as recorder,
      Profiler(workdir.tensorboard, plan, profiled_steps) as profiler,
    ):
      if recorder:
        if config.summaries == "all":
          recorder.inspector = Inspector(
            recorder.summaries, background, state.model, loss_function, split, source.label_names
          )
          recorder.inspector.run(config, workdir.read_environment(), step=restored.step)
        test_examples = background.submit(data.read, source, "test")
        examples_picture = background.submit(
          _picture_examples, recorder, restored.step, config, split, source.label_names
        )
      train_seconds = restored.train_seconds
      # Before and after it nothing waits to be saved: there a signal ends the process.
      with StopSignals() as stop:
        for start, num_steps in plan:
          profiler.at(start)
          began = time.perf_counter()
          block_losses, block_correct = train_block(*next(blocks), tf.constant(num_steps))
          step_losses = block_losses.numpy()[:num_steps].astype(np.float64)
          seconds = time.perf_counter() - began
          train_seconds += seconds
          step, block_examples = start + num_steps, num_steps * config.batch_size
          _check_finite(step_losses, start, state)
          if recorder:
            recorder.scalars("train", step, {
              "epoch": step * config.batch_size / num_examples,
              "loss": float(step_losses.mean()),
              "accuracy": int(block_correct.numpy().sum()) / block_examples,
              "learning_rate": optimizers.learning_rate(state.optimizer, step - 1),
              "examples_per_second": block_examples / seconds,
            })  # fmt: skip
          last = step == total_steps
          improved = False
          evaluated = last or step % evaluate_every == 0
          if recorder and evaluated:
            recorder.network(step)
          if validation.num_examples and evaluated:
            if recorder:
              evaluation = _evaluate(score, validation)
              recorder.evaluation("validation", step, evaluation, validation.labels)
              validations.append((step, evaluation.accuracy))
              improved = config.select == "best" and _best_step(validations) == step
              if on_validation:
                on_validation(step, evaluation.accuracy)
            improved = exchange.any(improved)
            last |= exchange.any(_is_exhausted(validations, config))
          # Asked once, since a signal comes at any moment; one to any worker stops all.
          stopped = max(exchange.gather(stop.received or 0))
          # Before the other: a run that dies between the two finds and saves its best again.
          if improved:
            _save(state, workdir.best, train_seconds, workers)
          if improved or last or stopped or step % checkpoint_every == 0:
            if recorder:
              recorder.flush()
            _save(state, workdir.checkpoints, train_seconds, workers)
            exchange.wait()  # Nobody goes on, or leaves, before the checkpoint is whole.
          if stopped:
            logging.info("stopped at step %d, saved; the same command goes on from there", step)
            raise Interrupted(stopped)
          if last:
            break

      # ---- The result: the test split is scored once, with the selected weights ----
      if not recorder:
        exchange.wait()  # For the chief: a worker that leaves ends the others.
        return {}
      step = int(state.step.numpy())
      model = state.evaluated_model
      if config.select == "best":
        best = state_lib.load_trained(config, workdir.best)
        if best.step != _best_step(validations):
          raise UserError(
            f"{workdir.best} has lost step {_best_step(validations)}, the best on validation; "
            "restore it from a backup, or begin again in another --workdir"
          )
        model = best.model
        score = steps.create_scorer(model)
      test = test_examples.result()
      evaluation = _evaluate(score, test)
      recorder.evaluation("test", step, evaluation, test.labels)
      name = f"{config.model} on {config.dataset}"
      examples_picture.result()
      _picture_results(recorder, step, name, test, evaluation, source.label_names)
      metrics = workdir.read_metrics()
      # The other splits are scored without it: their losses would seem lower than they are.
      smoothed = f", trained with label smoothing {config.label_smoothing:g}"
      title = name + (smoothed if config.label_smoothing else "")
      curves = figures.training_curves(metrics, title=title)
      recorder.picture("train/curves", step, curves)
      if recorder.inspector:
        recorder.inspector.result(workdir.tensorboard, model, test, evaluation, step=step)
        for tag, picture in recorder.inspector.pictures(name, model, test, evaluation):
          recorder.picture(tag, step, picture)
  result = {
    "step": step,
    "dataset": config.dataset,
    "test_accuracy": evaluation.accuracy,
    "test_loss": evaluation.loss,
    **_selected_validation(metrics, config),
    "train_examples": num_examples,
    "parameters": state.model.count_params(),
    "seed": config.seed,
    "train_seconds": train_seconds,
    "examples_per_second": step * config.batch_size / train_seconds,
  }
  workdir.write_predictions(
    Predictions(test.labels, evaluation.probabilities.astype(np.float32), tuple(source.label_names))
  )
  workdir.write_result(result)
  exchange.wait()
  return result


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


@contextlib.contextmanager
def _recording(
  config: Config, workdir: Workdir, *, first_step: int, total_steps: int
) -> Iterator["_Recorder"]:
  enabled = config.summaries != "none"
  with (
    Summaries(workdir.tensorboard, first_step=first_step, enabled=enabled) as summaries,
    Progress(first=first_step, total=total_steps) as progress,
  ):
    yield _Recorder(workdir, summaries, progress)


class _Recorder:
  """Writes each figure everywhere it belongs: metrics.jsonl, TensorBoard, the progress.

  Attributes:
    summaries: what goes to TensorBoard.
    inspector: what looks at the network for it, with `--summaries=all`.
  """

  inspector: Inspector | None = None

  def __init__(self, workdir: Workdir, summaries: Summaries, progress: Progress):
    self.summaries = summaries
    self._workdir = workdir
    self._progress = progress

  def scalars(self, split: str, step: int, values: dict[str, float]) -> None:
    """Records a line of metrics; those of train move the progress."""
    self._workdir.append_metrics({"step": step, "split": split, **values})
    self.summaries.scalars(split, values, step=step)
    text = f"loss {values['loss']:.4f}  accuracy {values['accuracy']:.4f}"
    if split == "train":
      rate = f"{values['examples_per_second']:,.0f} examples/s"
      self._progress.update(step, f"epoch {values['epoch']:.1f}  {text}  {rate}")
    else:
      self._progress.line(step, f"{split}  {text}")

  def flush(self) -> None:
    """Returns when all that was recorded is on the disk: a checkpoint vouches for it."""
    if self.inspector:
      self.inspector.wait()
    self.summaries.flush()

  def evaluation(self, split: str, step: int, evaluation: Evaluation, labels: np.ndarray) -> None:
    """Records the loss and accuracy of a whole split."""
    self.scalars(split, step, {"loss": evaluation.loss, "accuracy": evaluation.accuracy})
    if self.inspector:
      self.inspector.evaluation(split, evaluation, labels, step=step)

  def network(self, step: int) -> None:
    """Records what the inspector sees in the network, if there is one."""
    if self.inspector:
      self.inspector.network(step=step)

  def picture(self, tag: str, step: int, figure: figures.Figure) -> None:
    """Records a picture in TensorBoard, and as `figures/<split>_<name>.png`."""
    self.summaries.image(tag, figures.to_array(figure), step=step)
    path = self._workdir.figures / f"{tag.replace('/', '_')}.png"
    with writing(path):
      figures.save(figure, path)


def _evaluate(score: steps.Scorer, split: data.Split) -> Evaluation:
  return evaluate_logits(score(split.images), split.labels)


def _picture_examples(
  recorder: _Recorder, step: int, config: Config, split: data.Split, label_names: list[str]
) -> None:
  """Draws the first examples in the order in which they are trained on."""
  first = data.first_batch(split, config, _PICTURED_EXAMPLES)
  title = f"{config.dataset}: the first training examples"
  recorder.picture(
    "train/examples",
    step,
    figures.example_grid(first.images, first.labels, label_names=label_names, title=title),
  )


def _picture_results(
  recorder: _Recorder, step: int, name: str, test: data.Split, evaluation: Evaluation,
  label_names: list[str],
) -> None:  # fmt: skip
  """Draws some predictions, the first mistakes among them, and the confusion matrix."""
  wrong = np.flatnonzero(evaluation.probabilities.argmax(axis=1) != test.labels)
  shown = np.arange(test.num_examples)[: _PICTURED_EXAMPLES // 2]
  shown = np.union1d(shown, wrong[: _PICTURED_EXAMPLES // 2])
  recorder.picture("test/predictions", step, figures.prediction_grid(
    test.images[shown], test.labels[shown], evaluation.probabilities[shown],
    label_names=label_names, title=f"{name}: the first test examples, and the first mistakes",
  ))  # fmt: skip
  recorder.picture("test/confusion_matrix", step, figures.confusion_matrix(
    evaluation.confusion, label_names=label_names, title=f"{name}: test examples"
  ))  # fmt: skip


def _validations(metrics: list[dict[str, Any]]) -> list[tuple[int, float]]:
  """Returns step and accuracy of each scoring of the validation examples."""
  return [(r["step"], r["accuracy"]) for r in metrics if r["split"] == "validation"]


def _best_step(validations: list[tuple[int, float]]) -> int:
  """The step with the highest accuracy, the first of equals."""
  return max(validations, key=lambda validation: validation[1])[0]


def _is_exhausted(validations: list[tuple[int, float]], config: Config) -> bool:
  """Whether as many scorings as `--early_stopping` says brought nothing better."""
  if not config.early_stopping or not validations:
    return False
  best = _best_step(validations)
  return sum(step > best for step, _ in validations) >= config.early_stopping


def _selected_validation(metrics: list[dict[str, Any]], config: Config) -> dict[str, float]:
  """Returns the result's entries for the validation examples, none where none were held out."""
  records = {record["step"]: record for record in metrics if record["split"] == "validation"}
  if not records:
    return {}
  best = config.select == "best"
  step = _best_step(_validations(metrics)) if best else max(records)
  entries = {f"validation_{key}": records[step][key] for key in ("accuracy", "loss")}
  return {"best_step": step, **entries} if best else entries


def _check_finite(losses: np.ndarray, first_step: int, state: TrainState) -> None:
  """Stops the run at a loss that is no number; nothing of this block was saved."""
  bad = np.flatnonzero(~np.isfinite(losses))
  if len(bad):
    step = first_step + int(bad[0])
    raise state_lib.diverged(state, step, f"the loss of step {step} is {losses[bad[0]]}")


def _introduce(
  state: TrainState, config: Config, devices: str, *, first_step: int, total_steps: int
) -> None:
  """Says what is about to be trained, on what, and how."""
  state.model.summary(print_fn=lambda text: logging.info("%s", text.rstrip()))
  logging.info(
    "%s: step %d of %d, %d examples of %s a step, on %s",
    "going on" if first_step else "beginning", first_step, total_steps, config.batch_size,
    config.dataset, devices,
  )  # fmt: skip
