"""The end of a run: scores the test split at most once, and records the results."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from mnist_research import protocol
from mnist_research.config import Config
from mnist_research.data import splits
from mnist_research.metrics.evaluation import evaluate_logits
from mnist_research.recording.recorder import Recorder
from mnist_research.run_files import Predictions
from mnist_research.runtime.errors import UserError
from mnist_research.training import selection, steps
from mnist_research.training.checkpoints import load_trained
from mnist_research.training.plan import Plan
from mnist_research.training.state import TrainState
from mnist_research.workdir import Workdir


def conclude(
  plan: Plan,
  workdir: Workdir,
  state: TrainState,
  score: steps.Scorer,
  recorder: Recorder,
  test: splits.Split | None,
) -> dict[str, Any]:
  """Scores the test split with the selected weights, and records the result.

  Args:
    plan: the plan of the run.
    workdir: its workdir.
    state: the state after the last step.
    score: the scorer of the state's evaluated model.
    recorder: records metrics and pictures.
    test: the test split; None to skip scoring it.

  Returns:
    The content of `result.json`, without the times.

  Raises:
    UserError: the best checkpoint is missing, or a file can't be written.
  """
  config, step, model = plan.config, int(state.step.numpy()), state.evaluated_model
  if config.run.select == "best":
    model = _best_model(config, workdir)
    score = steps.create_scorer(model)
  metrics: dict[str, Any] = {}
  digests: dict[str, Any] = {}
  _log_better_epoch(plan, selection.scorings(workdir.read_metrics()))
  if test is None:
    recorder.untested_result(step)
  else:
    # Recorded before anyone can see the score.
    protocol.record_test_scoring(workdir.path, "train", dataset=config.data.dataset, step=step)
    evaluation = evaluate_logits(score(test.images), test.labels)
    recorder.evaluation("test", step, evaluation, test.labels)
    recorder.test_line(evaluation)
    recorder.result(step, model, test, evaluation)
    probabilities = evaluation.probabilities.astype(np.float32)
    digest = workdir.write_predictions(
      Predictions(test.labels, probabilities, tuple(plan.label_names))
    )
    metrics = {f"test_{name}": value for name, value in evaluation.metrics.items()}
    digests = {"predictions_sha256": digest}
  return {
    "step": step,
    "dataset": config.data.dataset,
    **metrics,
    **selection.selected(workdir.read_metrics(), config.run.select),
    "train_examples": plan.num_examples - plan.num_outliers,
    **({"outlier_examples": plan.num_outliers} if plan.outliers else {}),
    "parameters": state.model.count_params(),
    "seed": config.run.seed,
    **digests,
  }


def _log_better_epoch(plan: Plan, scored: Sequence[selection.Scoring]) -> None:
  """Logs the best epoch on the validation examples, unless it is the selected one."""
  config = plan.config
  if not scored or config.run.select == "best":
    return
  best = max(scored, key=lambda scoring: scoring.accuracy)
  if best.accuracy > scored[-1].accuracy:
    logging.info(
      "highest validation accuracy: %.4f after epoch %g; --select=best keeps it",
      best.accuracy, round(best.step * config.optimization.batch_size / plan.num_examples, 2),
    )  # fmt: skip


def _best_model(config: Config, workdir: Workdir) -> tf.keras.Model:
  """Returns the model that was best on validation.

  Raises:
    UserError: its checkpoint is missing.
  """
  step = selection.best_step(selection.scorings(workdir.read_metrics()))
  try:
    return load_trained(config, workdir.best, step=step).model
  except UserError as error:
    raise UserError(
      f"{workdir.best} is missing step {step}, the best on validation; restore it from a backup, "
      "or start over in another --workdir"
    ) from error
