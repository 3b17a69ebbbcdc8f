"""Tests of three steps of each optimizer by its formula, and of Keras's and users' optimizers."""

import numpy as np
import pytest
import tensorflow as tf

from mnist_research.config import OPTIMIZERS, Config
from mnist_research.runtime.errors import UserError
from mnist_research.training.optimizers import create_optimizer, learning_rate, variables

_RATE, _STEPS, _DECAY = 0.1, 4, 0.25
# The linear schedule over four steps, which reveals an off-by-one step.
_RATES = [0.1, 0.075, 0.05]


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


# The value that each optimizer multiplies by the learning rate and subtracts, from all
# gradients so far. (Only rmsprop adds its epsilon under the root; elsewhere it is within the
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


@pytest.mark.parametrize("weight_decay", [0.0, _DECAY])
@pytest.mark.parametrize("optimizer", _DIRECTIONS)
def test_three_steps_match_the_formula(optimizer, weight_decay):
  variables = _Variables(optimizer, weight_decay)
  for name in variables.names:
    expected = _expected(_DIRECTIONS[optimizer], variables, name, weight_decay)
    np.testing.assert_allclose(variables.after[name], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weight_decay_shrinks_kernels_and_leaves_biases(optimizer):
  plain, decayed = (_Variables(optimizer, decay, steps=1) for decay in (0.0, _DECAY))
  for name in plain.names:
    # lamb's step is as long as the weights, so it shrinks by the same fraction.
    shrunk = plain.after[name] if optimizer == "lamb" else plain.before[name]
    share = _RATE * _DECAY if name.endswith("kernel") else 0
    np.testing.assert_allclose(
      plain.after[name] - decayed.after[name], share * shrunk, rtol=1e-3, atol=1e-6
    )


def test_muon_orthogonalizes_hidden_kernel_update():
  variables = _Variables("muon", steps=1)
  gradient = variables.gradients["hidden_0/kernel"][0]
  update = variables.before["hidden_0/kernel"] - variables.after["hidden_0/kernel"]
  # Scaled by 0.2 times the root of the longer side (Liu et al. 2025, arXiv:2502.16982).
  left, _, right = np.linalg.svd(gradient, full_matrices=False)
  singular_values = left.T @ (update / (_RATE * 0.2 * np.sqrt(4))) @ right.T
  off_diagonal = singular_values - np.diag(np.diag(singular_values))
  np.testing.assert_allclose(off_diagonal, 0, atol=1e-4)
  # Five Newton-Schulz iterations bring them close to one.
  assert ((np.diag(singular_values) > 0.65) & (np.diag(singular_values) < 1.25)).all()


@pytest.mark.skipif(
  not hasattr(tf.keras.optimizers.Muon, "lr_adjust"), reason="the Muon of Keras 3.12 doesn't run"
)
@pytest.mark.parametrize("shape", [(4, 7), (7, 4)])
def test_muon_matches_keras(shape):
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


# ---- Muon for convolutions ----


def _stepped(shape: tuple[int, ...], kernel: np.ndarray, gradients: list[np.ndarray]) -> np.ndarray:
  """Returns a hidden kernel after a Muon step for each gradient, in one common shape."""
  config = Config(optimizer="muon", learning_rate=_RATE, learning_rate_schedule="constant")
  optimizer = create_optimizer(config, _STEPS)
  variable = tf.keras.Variable(kernel.reshape(shape), dtype="float32", name="kernel")
  optimizer.build([variable])
  for gradient in gradients:
    optimizer.apply([tf.constant(gradient.reshape(shape), tf.float32)], [variable])
  return variable.numpy()


# Height, width, channels and filters, with fewer filters than rows and with more.
@pytest.mark.parametrize("shape", [(3, 3, 2, 4), (2, 2, 1, 6)])
def test_muon_orthogonalizes_convolution_update(shape):
  generator = np.random.default_rng(0)
  kernel, gradient = generator.normal(size=(2, *shape))
  rows, filters = np.prod(shape[:3]), shape[3]
  after = _stepped(shape, kernel, [gradient])
  update = (kernel - after).reshape(rows, filters) / (_RATE * 0.2 * np.sqrt(max(rows, filters)))
  left, _, right = np.linalg.svd(gradient.reshape(rows, filters), full_matrices=False)
  singular_values = left.T @ update @ right.T
  np.testing.assert_allclose(singular_values - np.diag(np.diag(singular_values)), 0, atol=1e-3)
  assert ((np.diag(singular_values) > 0.65) & (np.diag(singular_values) < 1.25)).all()


def test_muon_treats_a_convolution_as_a_matrix():
  generator = np.random.default_rng(0)
  kernel, *gradients = generator.normal(size=(4, 3, 3, 2, 4))
  after = _stepped((3, 3, 2, 4), kernel, gradients)
  as_matrix = _stepped((18, 4), kernel, gradients)
  np.testing.assert_array_equal(after.reshape(18, 4), as_matrix)


# ---- Keras's and users' optimizers ----

USER_CODE = """
import tensorflow as tf

class Heavy(tf.keras.optimizers.Optimizer):
  def __init__(self, learning_rate, keep=0.5, **kwargs):
    super().__init__(learning_rate=learning_rate, **kwargs)
    self.keep = keep

  def build(self, variables):
    super().build(variables)
    # Neither is registered with Keras.
    self.slots = {i: tf.Variable(tf.zeros(v.shape)) for i, v in enumerate(variables)}
    self.count = [tf.Variable(0.0)]

  def update_step(self, gradient, variable, learning_rate):
    slot = self.slots[self._get_variable_index(variable)]
    slot.assign(self.keep * slot + gradient)
    self.count[0].assign_add(1.0)
    self.assign_sub(variable, learning_rate * slot)

class Plain(tf.keras.optimizers.Optimizer):
  def __init__(self, learning_rate):
    super().__init__(learning_rate=learning_rate)

def no_optimizer(learning_rate, weight_decay=None):
  return learning_rate

def broken(learning_rate, weight_decay=None):
  raise RuntimeError("a line\\nand another")
"""


def _after(optimizer: tf.keras.optimizers.Optimizer, steps: int = 3) -> np.ndarray:
  variable = tf.keras.Variable([1.0, -2.0, 3.0], name="kernel")
  optimizer.build([variable])
  for step in range(steps):
    optimizer.apply([tf.constant([1.0, -1.0, 0.5]) * (step + 1)], [variable])
  return variable.numpy()


def test_keras_class_matches_keras():
  config = Config(
    optimizer="Lion", optimizer_settings="beta_1=0.5", learning_rate=0.1,
    learning_rate_schedule="constant", weight_decay=0.25,
  )  # fmt: skip
  theirs = tf.keras.optimizers.Lion(learning_rate=0.1, beta_1=0.5, weight_decay=0.25)
  np.testing.assert_array_equal(_after(create_optimizer(config, 4)), _after(theirs))


@pytest.mark.parametrize("name", ["AdamW", "Muon"])
def test_keras_class_decays_only_if_requested(name):
  kernel = tf.keras.Variable([[1.0, 2.0]], name="kernel")
  bias = tf.keras.Variable([1.0, 2.0], name="offset")
  optimizer = create_optimizer(Config(optimizer=name), 4)
  optimizer.build([kernel, bias])
  optimizer.apply([tf.zeros([1, 2]), tf.zeros([2])], [kernel, bias])
  np.testing.assert_array_equal(kernel, [[1.0, 2.0]])
  np.testing.assert_array_equal(bias, [1.0, 2.0])


def test_settings_change_built_in_optimizers():
  config = Config(
    optimizer="momentum", optimizer_settings="momentum=0.5", learning_rate=0.1,
    learning_rate_schedule="constant",
  )  # fmt: skip
  theirs = tf.keras.optimizers.SGD(learning_rate=0.1, momentum=0.5)
  np.testing.assert_array_equal(_after(create_optimizer(config, 4)), _after(theirs))


def test_user_optimizer_gets_rate_decay_and_settings(user_reference):
  config = Config(
    optimizer=user_reference("Heavy"), optimizer_settings="keep=0.25", learning_rate=0.5,
    learning_rate_schedule="constant", weight_decay=0.5,
  )  # fmt: skip
  optimizer = create_optimizer(config, 4)
  # 1 - 0.25 - 0.5 = 0.25, then the slot is 0.25 + 2 = 2.25: 0.25 - 0.0625 - 1.125.
  np.testing.assert_allclose(_after(optimizer, 2)[0], -0.9375)
  assert learning_rate(optimizer, 3) == 0.5


def test_user_optimizer_keeps_all_its_variables(user_reference):
  optimizer = create_optimizer(Config(optimizer=user_reference("Heavy")), 4)
  _after(optimizer)
  # Keras's count of steps, the optimizer's, and 3 + (2 + 1 / 2) / 2.
  assert sorted(float(np.max(v)) for v in variables(optimizer)) == [3.0, 3.0, 4.25]


@pytest.mark.parametrize("optimizer", ["adam", "muon", "Lion"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_variables_are_those_the_optimizer_registered(optimizer, precision):
  made = create_optimizer(Config(optimizer=optimizer, precision=precision), 4)
  made.build([tf.keras.Variable([[1.0, 2.0]], name="kernel")])
  assert [id(v) for v in variables(made)] == [id(v) for v in made.variables]


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"optimizer": "Lyon"}, "--optimizer=Lyon: Keras has no such class.*; did you mean Lion?"),
    ({"optimizer": "MultiOptimizer"}, "--optimizer=MultiOptimizer: Keras has no such class"),
    ({"optimizer": "Optimizer"}, "--optimizer=Optimizer: Keras has no such class"),
    ({"optimizer_settings": "beta=1"}, "--optimizer=adam: ValueError: .*beta"),
    ({"optimizer_settings": "weight_decay=1"}, "use --weight_decay, which is a flag"),
    ({"optimizer": "Lion", "optimizer_settings": "learning_rate=1"}, "use --learning_rate, which"),
  ],
)
def test_unknown_keras_optimizer_is_reported_in_one_line(settings, message):
  with pytest.raises(UserError, match=message) as raised:
    create_optimizer(Config(**settings), 4)
  assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
  ("name", "settings", "message"),
  [
    ("absent", {}, r"mine\.py defines no absent"),
    ("tf", {}, "must be a class or a function"),
    ("no_optimizer", {}, r"must be a tf\.keras\.optimizers\.Optimizer"),
    ("Plain", {"weight_decay": 0.1}, "--weight_decay=0.1: --optimizer=.*takes no weight_decay"),
    ("Plain", {"optimizer_settings": "rate=1"}, "TypeError: .*rate"),
    ("broken", {}, r"RuntimeError: a line and another \(line 29 of .*mine\.py\)"),
  ],
)
def test_bad_user_optimizer_is_reported_in_one_line(user_reference, name, settings, message):
  with pytest.raises(UserError, match=message) as raised:
    create_optimizer(Config(optimizer=user_reference(name), **settings), 4)
  assert "\n" not in str(raised.value)
