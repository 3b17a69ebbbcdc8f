"""Optimizers: built-in, Keras's, and custom."""

import inspect
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from mnist_research.config import Config
from mnist_research.config.setting import parse_keywords
from mnist_research.runtime.errors import UserError
from mnist_research.training import classes
from mnist_research.training.muon import Muon
from mnist_research.training.schedules import create_schedule

_MOMENTUM = 0.9
# These wrap other optimizers, which a name alone can't specify.
_WRAPPERS = ("LossScaleOptimizer", "MultiOptimizer")


def create_optimizer(config: Config, total_steps: int) -> tf.keras.optimizers.Optimizer:
  """Returns the optimizer that `config` specifies, with its schedule over `total_steps`.

  Weight decay is decoupled for every optimizer (Loshchilov and Hutter 2017, arXiv:1711.05101): each
  step shrinks kernels by the fraction `learning_rate * weight_decay`; biases and the scales of
  batch normalization are exempt.

  Keras's momentum includes the learning rate in the velocity, `v = momentum * v - rate * g`, so
  when the rate falls, the velocity still contains earlier, higher rates. PyTorch multiplies the
  whole velocity by the current rate, so the same schedule acts sooner there.

  A class of `tf.keras.optimizers` or a custom one is called with `learning_rate`, a schedule, with
  `weight_decay` if it takes that, and with the optimizer's settings.

  Raises:
    UserError: there is no such optimizer or schedule, it can't be created, or the optimizer takes
      no weight decay.
  """
  optimization = config.optimization
  name, text = optimization.optimizer, optimization.optimizer_settings
  settings = parse_keywords("optimizer_settings", text)
  for flag in ("learning_rate", "weight_decay"):
    if flag in settings:
      raise UserError(f"--optimizer_settings={text}: use --{flag}, which is a flag")
  optimizers = tf.keras.optimizers
  kind, implied = _kind(name)
  arguments = {
    "learning_rate": create_schedule(optimization, total_steps),
    **_weight_decay(name, kind, optimization.weight_decay),
    **implied,
    **settings,
  }
  optimizer = classes.create("optimizer", name, kind, arguments)
  if not isinstance(optimizer, optimizers.Optimizer):
    raise UserError(f"--optimizer={name}: it must be a tf.keras.optimizers.Optimizer")
  optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
  if config.devices.precision == "float16":
    # Otherwise small gradients would round to 0 (Micikevicius et al. 2017, arXiv:1710.03740).
    return optimizers.LossScaleOptimizer(optimizer)
  return optimizer


def learning_rate(optimizer: tf.keras.optimizers.Optimizer, step: int) -> float:
  """Returns the learning rate that `optimizer` uses in `step` (0 is the first)."""
  rate = getattr(optimizer, "inner_optimizer", optimizer)._learning_rate
  if isinstance(rate, tf.keras.optimizers.schedules.LearningRateSchedule):
    return float(rate(tf.constant(step, tf.int64)))
  # A custom optimizer may apply the schedule itself, and report another rate to Keras.
  return float(rate() if callable(rate) else rate)


def variables(optimizer: tf.keras.optimizers.Optimizer) -> list[tf.Variable]:
  """Returns all state that `optimizer` carries from step to step, in a fixed order.

  `optimizer.variables` lacks variables that an optimizer creates without registering them, such as
  the product of momenta in Keras's Nadam. Without them, the steps after a restore would differ.

  Args:
    optimizer: the optimizer, built.
  """
  registered = list(optimizer.variables)
  inner = getattr(optimizer, "inner_optimizer", optimizer)
  trained = [*optimizer._trainable_variables, *inner._trainable_variables]
  known = {id(variable) for variable in (*registered, *trained)}
  unregistered: list[tf.Variable] = []
  seen: set[int] = set()

  def collect(value: Any) -> None:
    if id(value) in known or id(value) in seen:
      return
    seen.add(id(value))
    if isinstance(value, tf.Variable | tf.keras.Variable):
      unregistered.append(value)
    elif isinstance(value, Mapping):
      for key in sorted(value, key=str):
        collect(value[key])
    elif isinstance(value, list | tuple):
      for entry in value:
        collect(entry)
    elif isinstance(value, tf.keras.optimizers.Optimizer | tf.Module):
      collect(vars(value))

  collect(optimizer)
  return registered + unregistered


def _kind(name: str) -> tuple[Any, dict[str, Any]]:
  """Returns an optimizer's class, and the arguments that its name implies."""
  optimizers = tf.keras.optimizers
  built_in: dict[str, tuple[Any, dict[str, Any]]] = {
    "sgd": (optimizers.SGD, {}),
    "momentum": (optimizers.SGD, {"momentum": _MOMENTUM}),
    "nesterov": (optimizers.SGD, {"momentum": _MOMENTUM, "nesterov": True}),
    "adam": (optimizers.Adam, {}),
    "adamw": (optimizers.AdamW, {}),
    "rmsprop": (optimizers.RMSprop, {}),
    "lamb": (optimizers.Lamb, {}),
    "muon": (Muon, {}),
  }
  if name in built_in:
    return built_in[name]
  kind = classes.load(
    "optimizer",
    name,
    built_in=built_in,
    keras=optimizers,
    base=optimizers.Optimizer,
    excluded=_WRAPPERS,
  )
  return kind, {}


def _weight_decay(name: str, kind: Any, weight_decay: float) -> dict[str, float | None]:
  """Returns the arguments that set an optimizer's weight decay.

  Raises:
    UserError: weight decay is requested, but the optimizer takes none.
  """
  parameters = inspect.signature(kind).parameters
  # Keras's Muon has a second weight decay, for the variables that it leaves to Adam.
  accepted = [
    parameter for parameter in parameters if parameter in ("weight_decay", "adam_weight_decay")
  ]
  if accepted:
    # None disables the decay; classes whose default is a rate reject it.
    off = {
      parameter: None if parameters[parameter].default is None else 0.0 for parameter in accepted
    }
    return {parameter: weight_decay or off[parameter] for parameter in accepted}
  if not weight_decay:
    return {}
  accepts_any = any(
    parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()
  )
  if not accepts_any:
    raise UserError(
      f"--weight_decay={weight_decay}: --optimizer={name} takes no weight_decay; use 0, or another "
      "optimizer"
    )
  return {"weight_decay": weight_decay}
