"""Tests of the schedules at steps worked by hand, and of three steps of each optimizer."""

import numpy as np
import pytest
import tensorflow as tf

from mnist_research.config import OPTIMIZERS, Config
from mnist_research.optimizers import Schedule, create_optimizer, learning_rate

_RATE, _STEPS, _DECAY = 0.1, 4, 0.25
# The linear schedule over four steps: a step that is off by one is seen.
_RATES = [0.1, 0.075, 0.05]


# ---- Schedules ----


@pytest.mark.parametrize(
  ("name", "warmup", "total", "rates"),
  [
    ("constant", 0, 10, {0: 0.1, 5: 0.1, 9: 0.1, 10: 0.1}),
    ("constant", 4, 12, {0: 0.025, 1: 0.05, 3: 0.1, 4: 0.1, 11: 0.1}),
    ("linear", 0, 10, {0: 0.1, 1: 0.09, 9: 0.01, 10: 0.0}),
    ("linear", 4, 12, {0: 0.025, 3: 0.1, 4: 0.1, 5: 0.0875, 8: 0.05, 11: 0.0125, 12: 0.0}),
    ("cosine", 0, 10, {0: 0.1, 5: 0.05, 9: 0.00244717, 10: 0.0}),
    ("cosine", 4, 12, {0: 0.025, 3: 0.1, 4: 0.1, 6: 0.0853553, 8: 0.05, 11: 0.00380602, 12: 0.0}),
    ("exponential", 0, 2, {0: 0.1, 1: 0.01, 2: 0.001}),
    ("exponential", 4, 12, {2: 0.075, 3: 0.1, 4: 0.1, 8: 0.01, 12: 0.001}),
    ("one_cycle", 4, 12, {0: 0.028, 1: 0.052, 3: 0.1, 4: 0.1, 8: 0.05, 12: 0.0}),
    # No warm-up given: it rises over 30% of the run.
    ("one_cycle", 0, 10, {0: 0.036, 1: 0.068, 2: 0.1, 3: 0.1, 10: 0.0}),
    # The run ends while the rate still rises.
    ("cosine", 10, 5, {0: 0.01, 4: 0.05}),
  ],
)
def test_a_schedule_has_the_rates_worked_by_hand(name, warmup, total, rates):
  schedule = Schedule(name, peak=0.1, warmup_steps=warmup, total_steps=total)
  found = [float(schedule(tf.constant(step, tf.int64))) for step in rates]
  np.testing.assert_allclose(found, list(rates.values()), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("name", ["linear", "cosine", "exponential", "one_cycle"])
def test_a_schedule_only_falls_after_its_warm_up(name):
  schedule = Schedule(name, peak=1.0, warmup_steps=10, total_steps=100)
  rates = np.array([float(schedule(step)) for step in range(100)])
  assert (np.diff(rates[:10]) > 0).all()
  assert (np.diff(rates[10:]) < 0).all()
  assert rates.min() > 0


def test_the_learning_rate_is_that_of_the_optimizer():
  config = Config(learning_rate=0.1, learning_rate_schedule="linear")
  optimizer = create_optimizer(config, 10)
  assert [learning_rate(optimizer, step) for step in (0, 4, 10)] == pytest.approx([0.1, 0.06, 0])


# ---- Optimizers ----


class _Variables:
  """A hidden layer and the last one, with gradients for three steps."""

  def __init__(self, optimizer: str, weight_decay: float = 0.0, steps: int = 3):
    config = Config(
      optimizer=optimizer,
      learning_rate=_RATE,
      learning_rate_schedule="linear",
      weight_decay=weight_decay,
    )
    generator = np.random.default_rng(0)
    layers = [tf.keras.layers.Dense(3, name="hidden_0"), tf.keras.layers.Dense(2, name="logits")]
    for layer, inputs in zip(layers, (4, 3), strict=True):
      layer.build((None, inputs))
      layer.set_weights([generator.normal(size=weight.shape) for weight in layer.get_weights()])
    variables = [variable for layer in layers for variable in layer.variables]
    self.names = ("hidden_0/kernel", "hidden_0/bias", "logits/kernel", "logits/bias")
    self.before = dict(zip(self.names, [v.numpy().astype(float) for v in variables], strict=True))
    self.gradients = {
      name: [generator.normal(size=value.shape) for _ in range(steps)]
      for name, value in self.before.items()
    }
    self.optimizer = create_optimizer(config, _STEPS)
    self.optimizer.build(variables)
    for step in range(steps):
      gradients = [tf.constant(self.gradients[name][step], tf.float32) for name in self.names]
      self.optimizer.apply(gradients, variables)
    self.after = dict(zip(self.names, [v.numpy() for v in variables], strict=True))


def _sgd(_, gradients):
  return gradients[-1]


def _momentum(_, gradients):
  return sum(
    rate / _RATES[len(gradients) - 1] * 0.9 ** (len(gradients) - 1 - i) * g
    for i, (rate, g) in enumerate(zip(_RATES, gradients, strict=False))
  )


def _nesterov(weights, gradients):
  return gradients[-1] + 0.9 * _momentum(weights, gradients)


def _adam(_, gradients):
  count = len(gradients)
  first = sum(0.1 * 0.9 ** (count - 1 - i) * g for i, g in enumerate(gradients))
  second = sum(0.001 * 0.999 ** (count - 1 - i) * g**2 for i, g in enumerate(gradients))
  return first / (1 - 0.9**count) / np.sqrt(second / (1 - 0.999**count))


def _rmsprop(_, gradients):
  count = len(gradients)
  mean_square = sum(0.1 * 0.9 ** (count - 1 - i) * g**2 for i, g in enumerate(gradients))
  return gradients[-1] / np.sqrt(mean_square + 1e-7)


def _lamb(weights, gradients):
  direction = _adam(weights, gradients)
  return np.linalg.norm(weights) / np.linalg.norm(direction) * direction


# What each optimizer multiplies by the learning rate and subtracts from the weights, from all
# gradients until now. (Only rmsprop adds its epsilon under the root; elsewhere it is lost in the
# tolerance.)
_DIRECTIONS = {
  "sgd": _sgd,
  "momentum": _momentum,
  "nesterov": _nesterov,
  "adam": _adam,
  "adamw": _adam,
  "rmsprop": _rmsprop,
  "lamb": _lamb,
}


def _expected(direction, variables: _Variables, name: str, weight_decay: float) -> np.ndarray:
  weights = variables.before[name]
  for step, rate in enumerate(_RATES):
    if name.endswith("kernel"):
      weights = weights - rate * weight_decay * weights
    weights = weights - rate * direction(weights, variables.gradients[name][: step + 1])
  return weights


def test_every_optimizer_is_tested():
  assert {*_DIRECTIONS, "muon"} == set(OPTIMIZERS)


@pytest.mark.parametrize("weight_decay", [0.0, _DECAY])
@pytest.mark.parametrize("optimizer", _DIRECTIONS)
def test_three_steps_are_those_of_the_formula(optimizer, weight_decay):
  variables = _Variables(optimizer, weight_decay)
  for name in variables.names:
    expected = _expected(_DIRECTIONS[optimizer], variables, name, weight_decay)
    np.testing.assert_allclose(variables.after[name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weight_decay_shrinks_kernels_and_leaves_biases(optimizer):
  plain, decayed = (_Variables(optimizer, decay, steps=1) for decay in (0.0, _DECAY))
  for name in plain.names:
    # lamb's step is as long as the weights, so it shrinks by the same share.
    shrunk = plain.after[name] if optimizer == "lamb" else plain.before[name]
    share = _RATE * _DECAY if name.endswith("kernel") else 0
    np.testing.assert_allclose(
      plain.after[name] - decayed.after[name], share * shrunk, rtol=1e-3, atol=1e-6
    )


def test_muon_orthogonalises_the_update_of_a_hidden_kernel():
  variables = _Variables("muon", steps=1)
  gradient = variables.gradients["hidden_0/kernel"][0]
  update = variables.before["hidden_0/kernel"] - variables.after["hidden_0/kernel"]
  # Scaled by 0.2 times the root of the longer side (Liu et al. 2025, arXiv:2502.16982).
  left, _, right = np.linalg.svd(gradient, full_matrices=False)
  singular_values = left.T @ (update / (_RATE * 0.2 * np.sqrt(4))) @ right.T
  off_diagonal = singular_values - np.diag(np.diag(singular_values))
  np.testing.assert_allclose(off_diagonal, 0, atol=1e-4)
  # Five iterations of Newton and Schulz bring them near one.
  assert ((np.diag(singular_values) > 0.65) & (np.diag(singular_values) < 1.25)).all()


@pytest.mark.skipif(
  not hasattr(tf.keras.optimizers.Muon, "lr_adjust"), reason="the Muon of Keras 3.12 doesn't run"
)
@pytest.mark.parametrize("shape", [(4, 7), (7, 4)])
def test_muon_steps_as_that_of_keras(shape):
  generator = np.random.default_rng(0)
  first = generator.normal(size=shape)
  gradients = [tf.constant(generator.normal(size=shape), tf.float32) for _ in range(3)]
  config = Config(
    optimizer="muon", learning_rate=_RATE, learning_rate_schedule="constant", weight_decay=_DECAY
  )
  theirs = tf.keras.optimizers.Muon(learning_rate=_RATE, weight_decay=_DECAY)
  results = []
  for optimizer in (create_optimizer(config, _STEPS), theirs):
    variable = tf.keras.Variable(first, dtype="float32", name="kernel")
    optimizer.build([variable])
    for gradient in gradients:
      optimizer.apply([gradient], [variable])
    results.append(variable.numpy())
  np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weight_decay", [0.0, _DECAY])
@pytest.mark.parametrize("name", ["hidden_0/bias", "logits/kernel", "logits/bias"])
def test_muon_leaves_biases_and_the_last_layer_to_adam(name, weight_decay):
  variables = _Variables("muon", weight_decay)
  expected = _expected(_adam, variables, name, weight_decay)
  np.testing.assert_allclose(variables.after[name], expected, rtol=1e-4, atol=1e-5)
