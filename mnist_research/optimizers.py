"""Learning-rate schedules and optimizers."""

import math

import tensorflow as tf

from mnist_research.config import Config

# The exponential schedule ends at this share of the highest learning rate.
_EXPONENTIAL_END = 0.01
# As in Smith and Topin 2017 (arXiv:1708.07120) and the common implementations of it.
_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_RISE = 0.3
_MOMENTUM = 0.9
_MUON_MOMENTUM = 0.95
# Of the odd polynomial whose iterates draw singular values to one, with the steepest start.
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


class Schedule(tf.keras.optimizers.schedules.LearningRateSchedule):
  """A linear warm-up, then a decay to the last step.

  With W steps of warm-up in a run of T, step s has the rate `peak * (s + 1) / W` while s < W, and
  after that `peak * decay(p)` at the progress `p = (s - W) / (T - W)`:

    constant     1
    linear       1 - p
    cosine       (1 + cos(pi p)) / 2         (Loshchilov and Hutter 2016, arXiv:1608.03983)
    exponential  0.01 ** p
    one_cycle    as cosine, after a rise from a 25th of the peak
  """

  def __init__(self, name: str, *, peak: float, warmup_steps: int, total_steps: int):
    """Makes the schedule.

    Args:
      name: one of `config.SCHEDULES`.
      peak: the highest learning rate.
      warmup_steps: W; for one_cycle, 0 stands for 30% of the run.
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


class Muon(tf.keras.optimizers.Adam):
  """Momentum made orthogonal for the hidden kernels; Adam for the last layer and the biases.

  Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon), scaled as in Liu et al. 2025
  (arXiv:2502.16982) so that Adam's learning rates fit. `tf.keras.optimizers.Muon` is the same, but
  that of Keras 3.12, the last for Python 3.10, doesn't run on TensorFlow.
  """

  def build(self, variables: list[tf.keras.Variable]) -> None:
    """Makes the slots, and notes which variables are hidden kernels."""
    super().build(variables)
    self._is_hidden = [len(v.shape) == 2 and "logits" not in v.path for v in variables]

  def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor):
    """Does one step of one variable; Keras calls it."""
    index = self._get_variable_index(variable)
    if not self._is_hidden[index]:
      super().update_step(gradient, variable, learning_rate)
      return
    momentum = _MUON_MOMENTUM * tf.convert_to_tensor(self._momentums[index]) + gradient
    self.assign(self._momentums[index], momentum)
    scale = 0.2 * max(variable.shape) ** 0.5
    update = _orthogonalize(gradient + _MUON_MOMENTUM * momentum)
    self.assign_sub(variable, learning_rate * scale * update)


def _orthogonalize(matrix: tf.Tensor) -> tf.Tensor:
  """Returns about U V^T of the matrix U S V^T, by five iterations of Newton and Schulz."""
  a, b, c = _NEWTON_SCHULZ
  tall = matrix.shape[0] > matrix.shape[1]
  x = tf.transpose(matrix) if tall else matrix
  x = x / (tf.norm(x) + 1e-7)
  for _ in range(5):
    square = x @ tf.transpose(x)
    x = a * x + (b * square + c * square @ square) @ x
  return tf.transpose(x) if tall else x


def learning_rate(optimizer: tf.keras.optimizers.Optimizer, step: int) -> float:
  """Returns the learning rate that `optimizer` uses in `step` (0 is the first)."""
  return float(getattr(optimizer, "inner_optimizer", optimizer)._learning_rate(step))


def create_optimizer(config: Config, total_steps: int) -> tf.keras.optimizers.Optimizer:
  """Returns the optimizer that `config` names, its schedule laid out over `total_steps`.

  Weight decay is decoupled for every optimizer (Loshchilov and Hutter 2017, arXiv:1711.05101):
  a kernel loses `learning_rate * weight_decay` of itself in each step; biases and the
  scales of batch normalisation are left out.
  """
  schedule = Schedule(
    config.learning_rate_schedule,
    peak=config.learning_rate,
    warmup_steps=config.warmup_steps,
    total_steps=total_steps,
  )
  optimizers = tf.keras.optimizers
  shared = {"learning_rate": schedule, "weight_decay": config.weight_decay or None}
  create = {
    "sgd": lambda: optimizers.SGD(**shared),
    "momentum": lambda: optimizers.SGD(momentum=_MOMENTUM, **shared),
    "nesterov": lambda: optimizers.SGD(momentum=_MOMENTUM, nesterov=True, **shared),
    "adam": lambda: optimizers.Adam(**shared),
    "adamw": lambda: optimizers.AdamW(learning_rate=schedule, weight_decay=config.weight_decay),
    "rmsprop": lambda: optimizers.RMSprop(**shared),
    "lamb": lambda: optimizers.Lamb(**shared),
    "muon": lambda: Muon(**shared),
  }[config.optimizer]
  optimizer = create()
  optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
  if config.precision == "float16":
    # Small gradients would round to 0 (Micikevicius et al. 2017, arXiv:1710.03740).
    return optimizers.LossScaleOptimizer(optimizer)
  return optimizer
