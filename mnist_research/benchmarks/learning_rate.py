"""Proposes a learning rate, from the losses of a pass in which the rate rises."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from mnist_research.benchmarks import training as training_lib
from mnist_research.benchmarks.report import Report
from mnist_research.benchmarks.training import Bench
from mnist_research.figures import canvas
from mnist_research.figures.scale import range_test
from mnist_research.models.networks import whiten
from mnist_research.runtime.errors import UserError, writing

LOWEST, HIGHEST = 1e-6, 10.0
# A shorter pass is repeated, so that each factor of ten gets at least 50 steps.
_MIN_STEPS = 350
# The window of the moving average, as a share of the pass: about a fifth of a factor of ten.
_WINDOW = 1 / 35
# The test ends when the average is this many times its lowest value.
_DIVERGED = 4.0
# The proposal is this share of the rate at the lowest loss, which is on the verge of divergence.
_SHARE = 0.1

_NOTES = [
  "From the initial weights, the rate rises by the same factor in each step (Smith 2015,",
  "arXiv:1506.01186). The proposal is a tenth of the rate at which the moving average of the loss",
  "is lowest: a starting point for a search.",
]


class Rising(tf.keras.optimizers.schedules.LearningRateSchedule):
  """Rises from `LOWEST` in the first step to `learning_rate` in the last, by a constant factor."""

  def __init__(self, learning_rate: float, total_steps: int):
    """Takes the highest rate and the number of steps."""
    self._total_steps = total_steps
    self._factor = math.log(learning_rate / LOWEST) / max(1, total_steps - 1)

  def __call__(self, step: tf.Tensor) -> tf.Tensor:
    """Returns the learning rate of `step` (0 is the first), float32 []."""
    return LOWEST * tf.exp(self._factor * tf.cast(step, tf.float32))

  def rates(self) -> np.ndarray:
    """Returns the learning rate of every step, float64 [steps]."""
    return LOWEST * np.exp(self._factor * np.arange(self._total_steps))


class RangeTest(NamedTuple):
  """The result of the pass.

  Attributes:
    rates: float64 [steps], the rate of each step, ascending.
    losses: float64 [steps], the loss before its update.
    averages: float64 [steps], the moving average of the losses.
  """

  rates: np.ndarray
  losses: np.ndarray
  averages: np.ndarray

  @property
  def lowest(self) -> float:
    """The rate at which the average is lowest."""
    return float(self.rates[np.argmin(self.averages)])

  @property
  def proposal(self) -> float:
    """The proposed rate, to one digit."""
    return float(f"{_SHARE * self.lowest:.0e}")


def measure(bench: Bench, picture: Path) -> Report:
  """Trains through the rising rates, draws the losses, and proposes a rate.

  Args:
    bench: provides config and examples.
    picture: the path of the drawing.

  Raises:
    UserError: the first loss isn't finite, or the picture can't be written.
  """
  steps = max(_MIN_STEPS, bench.plan.epoch_steps)
  rising = bench.with_config(
    learning_rate=HIGHEST, learning_rate_schedule=f"{__name__}:{Rising.__name__}",
    learning_rate_schedule_settings="", warmup_steps=0, steps=steps,
  )  # fmt: skip
  result = range_of(Rising(HIGHEST, steps).rates(), _losses(rising))
  with writing(picture):
    canvas.save(range_test(*result, proposal=result.proposal), picture)
  return Report(
    {
      "range_steps": len(result.rates),
      "proposed_learning_rate": result.proposal,
      "picture": str(picture),
    },
    [
      ("steps", f"{len(result.rates):,}, to a rate of {result.rates[-1]:.2g}"),
      ("lowest average loss", f"{result.averages.min():.4g}, at a rate of {result.lowest:.2g}"),
      ("picture", str(picture)),
    ],
    _NOTES,
    f"Start with --learning_rate={result.proposal:g}.",
  )


def _losses(bench: Bench) -> np.ndarray:
  """Returns the loss of each step, float64 [steps], up to the block in which they diverge."""
  training = training_lib.build(bench)
  training.compile()
  if bench.config.model.whitens:
    whiten(training.state.model, bench.train.images)
  blocks = bench.plan.blocks()
  losses = np.zeros(0)
  for block, examples in zip(blocks, bench.batches(blocks), strict=True):
    losses = np.concatenate([losses, training.run_block(examples, block.num_steps)])
    if _steps_before_divergence(losses, bench.plan.total_steps) < len(losses):
      break
  return losses


def range_of(rates: np.ndarray, losses: np.ndarray) -> RangeTest:
  """Returns the range test of these losses, up to the step where they diverge.

  Args:
    rates: float64 [steps], the rate of each step.
    losses: float64 [steps] or shorter, the loss before the update of each step.

  Raises:
    UserError: the first loss isn't finite.
  """
  count = _steps_before_divergence(losses, len(rates))
  if not count:
    raise UserError(
      f"the first loss is {losses[0]}: no learning rate helps; check the model and its inputs"
    )
  return RangeTest(rates[:count], losses[:count], _averages(losses[:count], len(rates)))


def _averages(losses: np.ndarray, total_steps: int) -> np.ndarray:
  """Returns the moving average at each step, without a bias toward zero at the start."""
  decay = 1 - 1 / max(1, _WINDOW * total_steps)
  weighted, total = 0.0, 0.0
  averages = []
  for loss in losses:
    weighted, total = decay * weighted + loss, decay * total + 1
    averages.append(weighted / total)
  return np.array(averages)


def _steps_before_divergence(losses: np.ndarray, total_steps: int) -> int:
  """Returns how many losses are finite before the average rises far above its lowest value."""
  with np.errstate(invalid="ignore", over="ignore"):
    averages = _averages(losses, total_steps)
    is_over = ~(averages <= _DIVERGED * np.fmin.accumulate(averages))
  return int(np.argmax(is_over)) if is_over.any() else len(losses)
