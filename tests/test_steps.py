"""Tests of the compiled steps: gradients by hand, any division into blocks, dropout, scoring."""

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from nets import create_model
from replicas import digits
from tensorflow.python.framework import config as framework

from mnist_research.config import LOSSES, OPTIMIZERS, Config
from mnist_research.data import splits
from mnist_research.data.input_pipeline import empty_block, example_indices, train_blocks
from mnist_research.recording.inspector import create_gradients
from mnist_research.training import checkpoints, losses
from mnist_research.training.state import TrainState, create_state
from mnist_research.training.steps import (
  TrainBlock,
  create_scorer,
  create_train_block,
)

_NAMES = tuple("0123456789")


_SPLIT = digits(200)


class _Run(NamedTuple):
  """A run before its first step."""

  state: TrainState
  train_block: TrainBlock
  config: Config
  strategy: tf.distribute.Strategy

  def compile(self, steps_per_block: int) -> None:
    """Runs an empty block, which traces the step."""
    block = empty_block(
      self.config, steps_per_block=steps_per_block, strategy=self.strategy,
      image_shape=(28, 28, 1), num_classes=10,
    )  # fmt: skip
    self.train_block(*block, tf.constant(0))

  def blocks(self, *counts: int, steps_per_block: int, split: splits.Split = _SPLIT):
    """Trains blocks of `counts` steps; returns the metrics of each step, as in `StepMetrics`."""
    starts = int(self.state.step.numpy()) + np.cumsum([0, *counts[:-1]])
    blocks = train_blocks(
      split,
      self.config,
      first_steps=list(starts),
      steps_per_block=steps_per_block,
      strategy=self.strategy,
      num_classes=10,
    )
    done = [
      self.train_block(*block, tf.constant(count))
      for block, count in zip(blocks, counts, strict=True)
    ]
    return [
      np.concatenate([part.numpy()[:count] for part, count in zip(parts, counts, strict=True)])
      for parts in zip(*done, strict=True)
      if parts[0] is not None
    ]

  def values(self) -> list[np.ndarray]:
    averages = self.state.averages.variables if self.state.averages else []
    variables = [*self.state.model.variables, *averages, *self.state.optimizer.variables]
    return [variable.numpy() for variable in [*variables, self.state.step]]


def _begin(*, replicas: int = 1, xla: bool = False, teacher=None, **settings) -> _Run:
  defaults = {
    "hidden_units": (16,),
    "batch_size": 8,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "learning_rate_schedule": "constant",
  }
  config = Config(**{**defaults, **settings})
  if replicas == 1:
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
  else:
    strategy = tf.distribute.MirroredStrategy(
      [f"CPU:{i}" for i in range(replicas)],
      cross_device_ops=tf.distribute.ReductionToOneDevice(),  # As in `distribution.py`.
    )
  with strategy.scope():
    state = create_state(config, label_names=_NAMES, image_shape=(28, 28, 1), total_steps=1000)
  objective = losses.objective_of(config, teacher)
  train_block = create_train_block(config, state, objective, strategy, xla=xla)
  return _Run(state, train_block, config, strategy)


def _batch(
  config: Config, step: int, split: splits.Split = _SPLIT
) -> tuple[np.ndarray, np.ndarray]:
  """The images, float64 [batch, 784] from 0 to 1, and labels of a step."""
  positions = tf.range(
    step * config.optimization.batch_size,
    (step + 1) * config.optimization.batch_size,
    dtype=tf.int64,
  )
  split = split[
    example_indices(positions, num_examples=split.num_examples, seed=config.run.seed).numpy()
  ]
  return split.images.reshape(-1, 784) / 255, split.labels


def _softmax(logits: np.ndarray) -> np.ndarray:
  exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
  return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.fixture
def deterministic():
  """Turns `enable_op_determinism` on for one test."""
  tf.config.experimental.enable_op_determinism()
  yield
  framework.disable_op_determinism()


# ---- Against NumPy ----


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("xla", [False, True])
def test_linear_network_steps_match_numpy(smoothing, xla):
  run = _begin(hidden_units=(), label_smoothing=smoothing, xla=xla)
  kernel, bias = (np.asarray(w, np.float64) for w in run.state.model.get_weights())
  step_losses, correct, *plain_losses = run.blocks(3, steps_per_block=3)
  assert len(plain_losses) == (smoothing > 0)  # Without smoothing, it equals the loss.
  for step in range(3):
    images, labels = _batch(run.config, step)
    targets = (1 - smoothing) * np.eye(10)[labels] + smoothing / 10
    logits = images @ kernel + bias
    probabilities = _softmax(logits)
    expected = -(targets * np.log(probabilities)).sum(axis=1).mean()
    assert step_losses[step] == pytest.approx(expected, rel=1e-4)
    plain = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    assert [losses[step] for losses in plain_losses] == pytest.approx(
      [plain] * len(plain_losses), rel=1e-4
    )
    assert correct[step] == (logits.argmax(axis=1) == labels).sum()
    kernel = kernel - 0.1 * images.T @ (probabilities - targets) / 8
    bias = bias - 0.1 * (probabilities - targets).mean(axis=0)
  found_kernel, found_bias = run.state.model.get_weights()
  np.testing.assert_allclose(found_kernel, kernel, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(found_bias, bias, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("replicas", "xla"), [(1, False), (1, True), (2, False)])
def test_outlier_steps_match_numpy(replicas, xla):
  run = _begin(replicas=replicas, xla=xla, hidden_units=(), outliers="non_digits")
  noise = np.random.default_rng(1).integers(0, 256, (100, 28, 28, 1)).astype(np.uint8)
  split = _SPLIT + splits.Split(noise, np.full(100, splits.NO_CLASS, np.int32))
  kernel, bias = (np.asarray(w, np.float64) for w in run.state.model.get_weights())
  measured = run.blocks(3, steps_per_block=3, split=split)
  for step, (loss, correct, plain_loss, outliers) in enumerate(zip(*measured, strict=True)):
    images, labels = _batch(run.config, step, split)
    is_outlier = labels == splits.NO_CLASS
    assert outliers == is_outlier.sum() > 0
    logits = images @ kernel + bias
    # Eleven classes, the last of which has no weights.
    probabilities = _softmax(np.concatenate([logits, np.zeros((8, 1))], axis=1))
    targets = np.eye(11)[np.where(is_outlier, 10, labels)]
    assert loss == pytest.approx(-(targets * np.log(probabilities)).sum() / 8, rel=1e-4)
    # Only for the other examples, over their ten classes, as in validation.
    digits = ~is_outlier
    assert correct == (logits.argmax(axis=1) == labels)[digits].sum()
    plain = -np.log(_softmax(logits)[digits, labels[digits]]).sum() / 8
    assert plain_loss == pytest.approx(plain, rel=1e-4)
    gradient = (probabilities - targets)[:, :10]
    kernel = kernel - 0.1 * images.T @ gradient / 8
    bias = bias - 0.1 * gradient.mean(axis=0)
  found_kernel, found_bias = run.state.model.get_weights()
  np.testing.assert_allclose(found_kernel, kernel, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(found_bias, bias, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("replicas", [1, 2, 4])
@pytest.mark.parametrize("norm", [0.3, 1e6])
def test_gradient_is_clipped_by_global_norm(replicas, norm):
  run = _begin(replicas=replicas, hidden_units=(), clip_norm=norm)
  kernel, bias = (np.asarray(w, np.float64) for w in run.state.model.get_weights())
  images, labels = _batch(run.config, 0)
  errors = _softmax(images @ kernel + bias) - np.eye(10)[labels]
  gradients = [images.T @ errors / 8, errors.mean(axis=0)]
  length = np.sqrt(sum((gradient**2).sum() for gradient in gradients))
  assert length > 0.3
  run.blocks(1, steps_per_block=1)
  shortened = min(1.0, norm / length)
  for before, after, gradient in zip(
    (kernel, bias), run.state.model.get_weights(), gradients, strict=True
  ):
    np.testing.assert_allclose(after, before - 0.1 * shortened * gradient, rtol=1e-4, atol=1e-6)


def _copies(variable: tf.keras.Variable, run: _Run) -> list[np.ndarray]:
  """Returns the copy of a variable on each replica."""
  return [copy.numpy() for copy in run.strategy.experimental_local_results(variable.value)]


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_replica_steps_match_numpy(replicas):
  # Seven examples: parts of 3 and 4, or of 1, 2, 2 and 2.
  run = _begin(replicas=replicas, hidden_units=(), batch_size=7, clip_norm=0.3, ema_decay=0.3)
  weights = [np.asarray(w, np.float64) for w in run.state.model.get_weights()]
  averages = weights
  step_losses, correct = run.blocks(4, steps_per_block=4)
  for step in range(4):
    images, labels = _batch(run.config, step)
    logits = images @ weights[0] + weights[1]
    probabilities = _softmax(logits)
    assert step_losses[step] == pytest.approx(
      -np.log(probabilities[np.arange(7), labels]).mean(), rel=1e-4
    )
    assert correct[step] == (logits.argmax(axis=1) == labels).sum()
    errors = (probabilities - np.eye(10)[labels]) / 7
    gradients = [images.T @ errors, errors.sum(axis=0)]
    length = np.sqrt(sum((gradient**2).sum() for gradient in gradients))
    assert length > 0.3
    weights = [w - 0.1 * 0.3 / length * g for w, g in zip(weights, gradients, strict=True)]
    decay = min(0.3, (1 + step) / (10 + step))
    averages = [decay * a + (1 - decay) * w for a, w in zip(averages, weights, strict=True)]
  for model, expected in ((run.state.model, weights), (run.state.averages, averages)):
    for variable, value in zip(model.variables, expected, strict=True):
      copies = _copies(variable, run)
      assert len(copies) == replicas
      for copy in copies:
        np.testing.assert_allclose(copy, value, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(copy, copies[0])


@pytest.mark.parametrize(
  ("units", "settings"),
  [
    (4, {}),
    (4, {"replicas": 2}),
    (4, {"replicas": 4}),
    (16, {"xla": False}),
    (16, {"xla": True}),
    (16, {"replicas": 2}),
  ],
)
def test_batch_norm_over_global_batch_matches_numpy(units, settings):
  """Sixteen units of one replica use the fused operation."""
  run = _begin(
    hidden_units=(units,), batch_size=7, batch_norm=True, activation="tanh", ema_decay=0.5,
    **settings,
  )  # fmt: skip
  block, last = run.state.model.hidden[0], run.state.model.logits
  kernel, gamma, beta, last_kernel, last_bias = (
    np.asarray(v, np.float64)
    for v in (block.dense.kernel, block.norm.gamma, block.norm.beta, last.kernel, last.bias)
  )
  images, labels = _batch(run.config, 0)
  product = images @ kernel
  deviation = np.sqrt(product.var(axis=0) + 1e-3)
  normal = (product - product.mean(axis=0)) / deviation
  hidden = np.tanh(gamma * normal + beta)
  probabilities = _softmax(hidden @ last_kernel + last_bias)
  # The backward pass, with mean and variance as functions of the whole batch.
  errors = (probabilities - np.eye(10)[labels]) / 7
  scaled = errors @ last_kernel.T * (1 - hidden**2)
  to_normal = scaled * gamma
  to_product = to_normal - to_normal.mean(axis=0) - normal * (to_normal * normal).mean(axis=0)
  (loss,), _ = run.blocks(1, steps_per_block=1)
  assert loss == pytest.approx(-np.log(probabilities[np.arange(7), labels]).mean(), rel=1e-4)
  expected = [
    (block.dense.kernel, kernel - 0.1 * images.T @ (to_product / deviation)),
    (block.norm.gamma, gamma - 0.1 * (scaled * normal).sum(axis=0)),
    (block.norm.beta, beta - 0.1 * scaled.sum(axis=0)),
    (last.kernel, last_kernel - 0.1 * hidden.T @ errors),
    (last.bias, last_bias - 0.1 * errors.sum(axis=0)),
    # A tenth of the way from 0 and from 1; the averages of the weights copy them.
    (block.norm.moving_mean, 0.1 * product.mean(axis=0)),
    (block.norm.moving_variance, 0.9 + 0.1 * product.var(axis=0)),
    (run.state.averages.hidden[0].norm.moving_mean, 0.1 * product.mean(axis=0)),
  ]
  for variable, value in expected:
    copies = _copies(variable, run)
    for copy in copies:
      np.testing.assert_allclose(copy, value, rtol=1e-3, atol=1e-5, err_msg=variable.path)
      np.testing.assert_array_equal(copy, copies[0])


def test_step_on_mixed_examples_matches_numpy():
  mixed = {"augment": ("mixup",), "loss": "categorical_crossentropy"}
  run = _begin(hidden_units=(), **mixed)
  kernel, bias = (np.asarray(w, np.float64) for w in run.state.model.get_weights())
  (block,) = train_blocks(
    _SPLIT, run.config, first_steps=[0], steps_per_block=1, strategy=run.strategy, num_classes=10
  )
  images, targets = (values.numpy()[0] for values in block)
  assert ((targets > 0).sum(axis=1) == 2).any()
  logits = images.reshape(8, 784) / 255.0 @ kernel + bias
  expected = -(targets * np.log(_softmax(logits))).sum(axis=1).mean()
  step_losses, correct = run.blocks(1, steps_per_block=1)
  assert step_losses[0] == pytest.approx(expected, rel=1e-4)
  assert correct[0] == (logits.argmax(axis=1) == targets.argmax(axis=1)).sum()


def test_step_and_optimizer_iterations_advance_together():
  run = _begin()
  run.blocks(2, 3, steps_per_block=4)
  assert run.state.step.numpy() == run.state.optimizer.iterations.numpy() == 5


def test_learning_rate_follows_its_schedule():
  # Without hidden layers and with a constant input, the step is the rate times a known gradient.
  run = _begin(hidden_units=(), learning_rate_schedule="linear", warmup_steps=4, learning_rate=1.0)
  for step in range(4):
    before, (images, labels) = run.state.model.get_weights(), _batch(run.config, step)
    gradient = (_softmax(images @ before[0] + before[1]) - np.eye(10)[labels]).mean(axis=0)
    run.blocks(1, steps_per_block=1)
    change = before[1] - run.state.model.get_weights()[1]
    np.testing.assert_allclose(change, (step + 1) / 4 * gradient, rtol=1e-3, atol=1e-6)


def test_averages_match_the_recursion():
  run = _begin(ema_decay=0.3, learning_rate=0.5)
  expected = [weights.astype(np.float64) for weights in run.state.model.get_weights()]
  for step in range(6):
    run.blocks(1, steps_per_block=1)
    # The decay rises as 1/10, 2/11, 3/12, 4/13 and then stays at 0.3.
    decay = min(0.3, (1 + step) / (10 + step))
    weights = run.state.model.get_weights()
    expected = [decay * e + (1 - decay) * w for e, w in zip(expected, weights, strict=True)]
  for average, value in zip(run.state.averages.get_weights(), expected, strict=True):
    np.testing.assert_allclose(average, value, rtol=1e-5, atol=1e-7)


# ---- Division into blocks ----


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize(("optimizer", "xla"), [("adamw", False), ("adamw", True), ("muon", False)])
def test_block_boundaries_do_not_change_bits(optimizer, xla):
  settings = {
    "hidden_units": (16, 16),
    "dropout_rate": 0.3,
    "ema_decay": 0.9,
    "label_smoothing": 0.1,
    "optimizer": optimizer,
    "weight_decay": 0.01,
    "learning_rate": 0.01,
    "learning_rate_schedule": "one_cycle",
  }
  uninterrupted = _begin(xla=xla, **settings)
  expected_metrics = uninterrupted.blocks(12, steps_per_block=12)
  for counts, steps_per_block in (((1,) * 12, 12), ((5, 4, 3), 12), ((1,) * 12, 1)):
    run = _begin(xla=xla, **settings)
    metrics = run.blocks(*counts, steps_per_block=steps_per_block)
    np.testing.assert_array_equal(metrics, expected_metrics)
    for actual, expected in zip(run.values(), uninterrupted.values(), strict=True):
      np.testing.assert_array_equal(actual, expected)


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("xla", [False, True])
def test_restored_run_continues_bit_for_bit(tmp_path, xla):
  settings = {"dropout_rate": 0.3, "ema_decay": 0.9, "optimizer": "adam", "learning_rate": 0.01}
  uninterrupted = _begin(xla=xla, **settings)
  expected_losses, _ = uninterrupted.blocks(5, 5, steps_per_block=5)
  first = _begin(xla=xla, **settings)
  first.blocks(5, steps_per_block=5)
  checkpoints.save(first.state, tmp_path, train_seconds=0.0)
  second = _begin(xla=xla, **settings)
  # A function traced before restoring must read the restored values.
  second.compile(5)
  checkpoints.restore_latest(second.state, tmp_path)
  second_losses, _ = second.blocks(5, steps_per_block=5)
  np.testing.assert_array_equal(second_losses, expected_losses[5:])
  for actual, expected in zip(second.values(), uninterrupted.values(), strict=True):
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("xla", [False, True])
def test_outputs_past_the_last_step_are_zero(xla):
  run = _begin(xla=xla)
  (block,) = train_blocks(
    _SPLIT, run.config, first_steps=[0], steps_per_block=5, strategy=run.strategy, num_classes=10
  )
  step_losses, correct, *_ = run.train_block(*block, tf.constant(2))
  assert (step_losses.numpy() > 0).tolist() == [True, True, False, False, False]
  assert correct.numpy()[2:].tolist() == [0, 0, 0]
  assert run.state.step.numpy() == 2


@pytest.mark.parametrize("xla", [False, True])
def test_zero_steps_change_nothing(xla):
  run = _begin(xla=xla, ema_decay=0.9, optimizer="adam")
  before = run.values()
  run.compile(3)
  for actual, expected in zip(run.values(), before, strict=True):
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("replicas", [1, 2])
def test_any_number_of_steps_compiles_once(replicas):
  run = _begin(replicas=replicas)
  run.compile(4)
  run.blocks(1, 4, 2, 3, steps_per_block=4)
  assert run.train_block.experimental_get_tracing_count() == 1


# ---- XLA and replicas ----


def test_xla_agrees_on_the_first_gradients():
  weights = []
  for xla in (False, True):
    run = _begin(xla=xla, hidden_units=(32, 32), learning_rate=1.0)
    before = run.state.model.get_weights()
    run.blocks(1, steps_per_block=1)
    weights.append([b - a for b, a in zip(before, run.state.model.get_weights(), strict=True)])
  for plain, compiled in zip(*weights, strict=True):
    difference = np.linalg.norm(plain - compiled)
    assert np.linalg.norm(plain) > 0
    assert difference <= 1e-5 * np.linalg.norm(plain)


def test_xla_agrees_on_the_losses_of_a_hundred_steps():
  settings = {"hidden_units": (32, 32), "dropout_rate": 0.1, "learning_rate": 0.05}
  plain, compiled = (
    _begin(xla=xla, **settings).blocks(100, steps_per_block=100)[0] for xla in (False, True)
  )
  np.testing.assert_allclose(compiled, plain, rtol=0, atol=1e-4)
  assert plain[-10:].mean() < plain[:10].mean() / 2


@pytest.mark.parametrize(
  "settings",
  [
    {"learning_rate": 0.05},
    {"optimizer": "adamw", "learning_rate": 0.001, "weight_decay": 0.1, "ema_decay": 0.9},
    {"optimizer": "muon", "learning_rate": 0.005, "weight_decay": 0.1},
    {"dropout_rate": 0.5, "noise": 0.1, "label_smoothing": 0.1, "learning_rate": 0.05},
    {"clip_norm": 0.5, "learning_rate": 0.05},
    {"batch_norm": True, "learning_rate": 0.02, "ema_decay": 0.9},
    {
      "model": "cnn", "filters": (4, 8), "batch_norm": True, "learning_rate": 0.002,
      "activation": "tanh",
      "augment": ("shift", "elastic", "mixup"), "loss": "categorical_crossentropy",
      "dropout_rate": 0.2, "input_dropout_rate": 0.1,
    },
  ],
  ids=["sgd", "adamw", "muon", "dropout", "clipping", "batch_norm", "cnn"],
)  # fmt: skip
def test_two_replicas_match_one_device(settings):
  one, several = (_begin(replicas=count, **settings) for count in (1, 2))
  one_losses, one_correct, *one_plain = one.blocks(50, steps_per_block=50)
  losses, correct, *plain = several.blocks(50, steps_per_block=50)
  np.testing.assert_allclose([losses, *plain], [one_losses, *one_plain], rtol=1e-5)
  assert np.abs(correct - one_correct).max() <= 1
  assert int(correct.sum()) == pytest.approx(int(one_correct.sum()), abs=2)
  for actual, expected in zip(several.values(), one.values(), strict=True):
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-5)


# ---- Dropout ----


def _still(**settings) -> np.ndarray:
  """The losses of four steps on one batch, at a negligible learning rate."""
  run = _begin(dropout_rate=0.5, learning_rate=1e-30, batch_size=8, hidden_units=(64,), **settings)
  return run.blocks(4, steps_per_block=4, split=_SPLIT[np.zeros(8, int)])[0]


def test_each_step_draws_its_own_mask():
  assert len(set(_still().tolist())) == 4


def test_same_seed_draws_the_same_masks():
  np.testing.assert_array_equal(_still(), _still())


def test_other_seed_draws_other_masks():
  # The same weights for both: those of seed 0.
  runs = [_begin(dropout_rate=0.5, learning_rate=1e-30, seed=seed) for seed in (0, 1)]
  runs[1].state.model.set_weights(runs[0].state.model.get_weights())
  first, second = (
    run.blocks(4, steps_per_block=4, split=_SPLIT[np.zeros(8, int)])[0] for run in runs
  )
  assert not np.intersect1d(first, second).size


def test_dropout_is_used_only_in_training():
  dropped, plain = (_begin(dropout_rate=rate) for rate in (0.5, 0.0))
  np.testing.assert_array_equal(
    create_scorer(dropped.state.model)(_SPLIT.images),
    create_scorer(plain.state.model)(_SPLIT.images),
  )
  assert abs(dropped.blocks(1, steps_per_block=1)[0] - plain.blocks(1, steps_per_block=1)[0]) > 1e-3


# ---- Learning ----


@pytest.mark.parametrize(
  ("optimizer", "learning_rate"),
  [
    ("sgd", 0.1),
    ("momentum", 0.02),
    ("nesterov", 0.02),
    ("adam", 0.003),
    ("adamw", 0.003),
    ("rmsprop", 0.002),
    ("lamb", 0.02),
    ("muon", 0.01),
  ],
)
def test_every_optimizer_halves_the_loss(optimizer, learning_rate):
  run = _begin(optimizer=optimizer, learning_rate=learning_rate, hidden_units=(32,), batch_size=32)
  step_losses, correct = run.blocks(60, steps_per_block=60)
  assert step_losses[-5:].mean() < step_losses[:5].mean() / 2
  assert correct[-5:].mean() > 0.8 * 32


def test_optimizer_rates_cover_every_optimizer():
  (mark,) = test_every_optimizer_halves_the_loss.pytestmark
  assert [name for name, _ in mark.args[1]] == list(OPTIMIZERS)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_learns_and_keeps_float32_weights(precision):
  run = _begin(precision=precision, optimizer="adam", learning_rate=0.003, batch_size=32)
  step_losses, _ = run.blocks(60, steps_per_block=60)
  assert step_losses[-5:].mean() < step_losses[:5].mean() / 2
  assert {weights.dtype for weights in run.state.model.get_weights()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("clip_norm", [0.0, 0.3])
def test_float16_loss_scale_does_not_change_steps(clip_norm):
  settings = {"hidden_units": (16,), "clip_norm": clip_norm}
  half, full = (_begin(precision=name, **settings) for name in ("float16", "float32"))
  for run in (half, full):
    run.blocks(1, steps_per_block=1)
  assert half.state.optimizer.dynamic_scale.numpy() == 2.0**15
  for mine, exact in zip(
    half.state.model.get_weights(), full.state.model.get_weights(), strict=True
  ):
    np.testing.assert_allclose(mine, exact, atol=2e-4)


@pytest.mark.parametrize("replicas", [1, 2])
def test_float16_overflow_skips_step_and_halves_loss_scale(replicas):
  run = _begin(precision="float16", hidden_units=(16,), replicas=replicas)
  run.state.optimizer.dynamic_scale.assign(2.0**60)
  before = run.state.model.get_weights()
  run.blocks(1, steps_per_block=1)
  assert run.state.optimizer.dynamic_scale.numpy() == 2.0**59
  for weights, expected in zip(run.state.model.get_weights(), before, strict=True):
    np.testing.assert_array_equal(weights, expected)


def test_overflow_in_one_replica_skips_the_step_in_both():
  run = _begin(replicas=2, precision="float16")
  # The network is sure of class 0, the label on the first replica, whose gradient is 0.
  run.state.model.logits.bias.assign([100.0] + [0.0] * 9)
  split = splits.Split(_SPLIT.images, np.ones_like(_SPLIT.labels))
  positions = tf.range(4, dtype=tf.int64)
  split.labels[example_indices(positions, num_examples=200, seed=0).numpy()] = 0
  before = run.state.model.get_weights()
  run.state.optimizer.dynamic_scale.assign(2.0**40)
  run.blocks(1, steps_per_block=1, split=split)
  for weights, value in zip(run.state.model.get_weights(), before, strict=True):
    np.testing.assert_array_equal(weights, value)
  assert run.state.optimizer.dynamic_scale.numpy() == 2.0**39
  assert run.state.step.numpy() == 1


# ---- Scoring ----


@pytest.mark.parametrize("count", [1, 1999, 2000, 2001, 4003])
def test_each_example_is_scored_once_in_order(count):
  model = create_model(Config(hidden_units=(8,)), 10)
  images = np.random.default_rng(count).integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
  logits = create_scorer(model)(images)
  assert (logits.shape, logits.dtype) == ((count, 10), np.float32)
  kernel, bias, last_kernel, last_bias = model.get_weights()
  hidden = np.maximum(images.reshape(count, 784).astype(np.float32) / 255 @ kernel + bias, 0)
  np.testing.assert_allclose(logits, hidden @ last_kernel + last_bias, rtol=1e-4, atol=1e-4)


def test_scorer_follows_weight_updates():
  run = _begin()
  score = create_scorer(run.state.model)
  before = score(_SPLIT.images[:3])
  run.blocks(1, steps_per_block=1)
  assert np.abs(score(_SPLIT.images[:3]) - before).max() > 1e-4


def test_bfloat16_logits_are_returned_as_float32():
  logits = create_scorer(create_model(Config(precision="bfloat16"), 10))(_SPLIT.images[:3])
  assert logits.dtype == np.float32


@pytest.mark.parametrize("loss", LOSSES)
def test_inspected_gradients_match_numpy(loss):
  config = Config(hidden_units=(), input_dropout_rate=0.5)
  model = create_model(config, 10)
  before = model.get_weights()
  gradients = create_gradients(model, losses.objective_of(Config(loss=loss), None))
  found = gradients(_SPLIT.images[:8], _SPLIT.labels[:8])
  images = _SPLIT.images[:8].reshape(8, 784) / 255
  errors = _softmax(images @ before[0] + before[1]) - np.eye(10)[_SPLIT.labels[:8]]
  assert list(found) == ["logits/kernel", "logits/bias"]
  np.testing.assert_allclose(found["logits/kernel"], images.T @ errors / 8, rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(found["logits/bias"], errors.mean(axis=0), rtol=1e-4, atol=1e-6)
  for value, unchanged in zip(model.get_weights(), before, strict=True):
    np.testing.assert_array_equal(value, unchanged)
