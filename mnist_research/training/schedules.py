"""Learning-rate schedules: built-in, Keras's, and custom."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from mnist_research.config import SCHEDULES, OptimizationConfig
from mnist_research.config.setting import parse_keywords
from mnist_research.runtime import extensions
from mnist_research.runtime.errors import UserError
from mnist_research.training import classes

# The final value of the exponential schedule, relative to the highest learning rate.
_EXPONENTIAL_END = 0.01
# As in Smith and Topin 2017 (arXiv:1708.07120) and its common implementations.
_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_RISE = 0.3
_FLAG = "learning_rate_schedule"


class Schedule(tf.keras.optimizers.schedules.LearningRateSchedule):
  """A linear warmup, then a decay to the last step.

  With W warmup steps in a run of T steps, the rate of step s is `peak * (s + 1) / W` for s < W, and
  `peak * decay(p)` after that, with the progress `p = (s - W) / (T - W)`:

    constant     1
    linear       1 - p
    cosine       (1 + cos(pi p)) / 2         (Loshchilov and Hutter 2016, arXiv:1608.03983)
    exponential  0.01 ** p
    one_cycle    like cosine, after a rise from a 25th of the peak

  The rise of one_cycle is linear, as in the paper; that of `torch.optim.lr_scheduler.OneCycleLR` is
  a cosine by default.
  """

  def __init__(self, name: str, *, peak: float, warmup_steps: int, total_steps: int):
    """Stores the arguments.

    Args:
      name: one of `config.SCHEDULES`.
      peak: the highest learning rate.
      warmup_steps: W; for one_cycle, 0 means 30% of the run.
      total_steps: T.
    """
    self._name = name
    self._peak = peak
    self._start = _ONE_CYCLE_START if name == "one_cycle" else 0.0
    if name == "one_cycle" and not warmup_steps:
      warmup_steps = round(_ONE_CYCLE_RISE * total_steps)
    self._warmup_steps = warmup_steps
    self._decay_steps = max(1, total_steps - warmup_steps)

  def __call__(self, step: tf.Tensor) -> tf.Tensor:
    """Returns the learning rate of `step` (0 is the first), float32 []."""
    step = tf.cast(step, tf.float32)
    rise = tf.minimum(1.0, (step + 1) / max(1, self._warmup_steps))
    warmup = self._start + (1 - self._start) * rise
    progress = tf.clip_by_value((step - self._warmup_steps) / self._decay_steps, 0.0, 1.0)
    return self._peak * warmup * self._decay(progress)

  def _decay(self, progress: tf.Tensor) -> tf.Tensor:
    if self._name == "constant":
      return tf.ones_like(progress)
    if self._name == "linear":
      return 1 - progress
    if self._name == "exponential":
      return tf.pow(_EXPONENTIAL_END, progress)
    return 0.5 * (1 + tf.cos(math.pi * progress))


class WarmedUp(tf.keras.optimizers.schedules.LearningRateSchedule):
  """Another schedule times a linear warmup, `(s + 1) / W` in each step s before W."""

  def __init__(self, name: str, schedule: Callable[[tf.Tensor], Any], *, warmup_steps: int):
    """Stores the arguments.

    Args:
      name: the value of `--learning_rate_schedule`, for error messages.
      schedule: a function from the step, int64 [], to the learning rate.
      warmup_steps: W; 0 for no warmup.
    """
    self._name = name
    self._schedule = schedule
    self._warmup_steps = warmup_steps

  def __call__(self, step: tf.Tensor) -> tf.Tensor:
    """Returns the learning rate of `step` (0 is the first), float32 [].

    Raises:
      UserError: the schedule fails, or doesn't return a number.
    """
    with extensions.attribute_errors(_FLAG, self._name):
      rate = tf.cast(tf.convert_to_tensor(self._schedule(tf.cast(step, tf.int64))), tf.float32)
    if rate.shape.rank != 0:
      raise UserError(
        f"--{_FLAG}={self._name}: it must return one number for a step, not a tensor of shape "
        f"{rate.shape}"
      )
    return rate * tf.minimum(1.0, (tf.cast(step, tf.float32) + 1) / max(1, self._warmup_steps))


def create_schedule(
  optimization: OptimizationConfig, total_steps: int
) -> tf.keras.optimizers.schedules.LearningRateSchedule:
  """Returns the schedule that the settings specify.

  A class of `tf.keras.optimizers.schedules` is called with `initial_learning_rate`, from the
  setting `learning_rate`, and with `decay_steps`, the length of the run, if it takes these
  arguments and the schedule's settings don't contain them. A custom schedule is created by
  `MySchedule(learning_rate=..., total_steps=..., **settings)`; the result is called with each step,
  int64 [].

  Args:
    optimization: the settings.
    total_steps: the length of the run.

  Raises:
    UserError: there is no such schedule, or it can't be created or called.
  """
  name, text = optimization.learning_rate_schedule, optimization.learning_rate_schedule_settings
  settings = parse_keywords(f"{_FLAG}_settings", text)
  if name in SCHEDULES:
    if settings:
      raise UserError(f"--{_FLAG}_settings={text}: --{_FLAG}={name} takes none")
    return Schedule(
      name,
      peak=optimization.learning_rate,
      warmup_steps=optimization.warmup_steps,
      total_steps=total_steps,
    )
  schedules = tf.keras.optimizers.schedules
  kind = classes.load(
    _FLAG, name, built_in=SCHEDULES, keras=schedules, base=schedules.LearningRateSchedule
  )
  if extensions.is_reference(name):
    arguments = {"learning_rate": optimization.learning_rate, "total_steps": total_steps}
  else:
    offered = {
      "initial_learning_rate": optimization.learning_rate,
      "decay_steps": total_steps,
    }
    parameters = inspect.signature(kind).parameters
    arguments = {key: value for key, value in offered.items() if key in parameters}
  schedule = classes.create(_FLAG, name, kind, {**arguments, **settings})
  if not callable(schedule):
    raise UserError(f"--{_FLAG}={name}: the object that it returns can't be called with a step")
  warmed_up = WarmedUp(name, schedule, warmup_steps=optimization.warmup_steps)
  warmed_up(tf.constant(0, tf.int64))  # Its errors should appear before the first step.
  return warmed_up
