"""Tests of the losses against values computed by hand."""

import numpy as np
import pytest
import tensorflow as tf

from mnist_research.config import LOSSES, Config
from mnist_research.data.splits import NO_CLASS
from mnist_research.runtime.errors import UserError
from mnist_research.training.losses import create_loss, loss_of

# The probabilities are 1/8, 2/8 and 5/8, whose negative logarithms are these.
_LOGITS = np.log([[1.0, 2.0, 5.0]]).astype(np.float32)
_NATS = [2.0794415, 1.3862944, 0.4700036]


def _gradient(name: str, smoothing: float, labels, logits) -> np.ndarray:
  logits = tf.constant(logits)
  with tf.GradientTape() as tape:
    tape.watch(logits)
    loss = create_loss(name, smoothing)(tf.constant(labels), logits)
  return tape.gradient(loss, logits).numpy()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("label", [0, 1, 2])
def test_loss_is_negative_log_probability(name, label):
  loss = create_loss(name)(tf.constant([label]), tf.constant(_LOGITS))
  np.testing.assert_allclose(loss, [_NATS[label]], rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
  ("label", "smoothing", "expected"),
  # (1 - s) times the label's nats, plus s times the mean, 1.3119132.
  [(0, 0.1, 2.0026887), (2, 0.1, 0.5541946), (2, 0.75, 1.1014358)],
)
def test_smoothing_spreads_the_target_over_all_classes(name, label, smoothing, expected):
  loss = create_loss(name, smoothing)(tf.constant([label]), tf.constant(_LOGITS))
  np.testing.assert_allclose(loss, [expected], rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_each_example_has_its_own_loss(name):
  logits = np.repeat(_LOGITS, 3, axis=0)
  loss = create_loss(name)(tf.constant([2, 0, 1]), tf.constant(logits))
  np.testing.assert_allclose(loss, [_NATS[2], _NATS[0], _NATS[1]], rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.05, 0.9])
def test_both_losses_are_equal(smoothing):
  generator = np.random.default_rng(0)
  logits = tf.constant(generator.normal(0, 5, (64, 10)), tf.float32)
  labels = tf.constant(generator.integers(0, 10, 64), tf.int32)
  sparse, one_hot = (create_loss(name, smoothing)(labels, logits) for name in LOSSES)
  np.testing.assert_allclose(sparse, one_hot, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
  ("smoothing", "target"), [(0.0, [0, 1, 0]), (0.3, [0.1, 0.8, 0.1])], ids=["hard", "smooth"]
)
def test_gradient_is_probability_minus_target(name, smoothing, target):
  gradient = _gradient(name, smoothing, [1], _LOGITS)
  np.testing.assert_allclose(gradient, [np.array([0.125, 0.25, 0.625]) - target], atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits_give_finite_losses_and_gradients(name):
  logits = np.array([[1e4, -1e4, 0.0]] * 2, np.float32)
  loss = create_loss(name)(tf.constant([0, 1]), tf.constant(logits))
  np.testing.assert_allclose(loss, [0, 2e4])
  np.testing.assert_allclose(_gradient(name, 0.0, [0, 1], logits), [[0, 0, 0], [1, -1, 0]])


@pytest.mark.parametrize("name", LOSSES)
def test_bfloat16_logits_are_summed_in_float32(name):
  logits = tf.constant([[0.0] * 10], tf.bfloat16)
  loss = create_loss(name, 0.1)(tf.constant([3]), logits)
  assert loss.dtype == tf.float32
  np.testing.assert_allclose(loss, [np.log(10)], rtol=1e-6)


# ---- Users' losses ----

USER_CODE = """
import tensorflow as tf

def power(labels, logits, exponent=2):
  targets = labels if labels.dtype.is_floating else tf.one_hot(labels, logits.shape[-1])
  return tf.reduce_sum((tf.nn.softmax(logits) - targets) ** exponent, axis=-1)

class Power:
  def __init__(self, exponent):
    self.exponent = exponent

  def __call__(self, labels, logits):
    return power(labels, logits, self.exponent)

def mean(labels, logits):
  return tf.reduce_mean(power(labels, logits))

def integers(labels, logits):
  return labels

def broken(labels, logits):
  raise ValueError("a line\\nand another")

number = 3
"""
# For target 0 and the probabilities above.
_SQUARE, _CUBE = (7**2 + 2**2 + 5**2) / 64, (-(7**3) + 2**3 + 5**3) / 512


@pytest.mark.parametrize(
  ("name", "settings", "expected"),
  [("power", "", _SQUARE), ("power", "exponent=3", _CUBE), ("Power", "exponent=3", _CUBE)],
)
@pytest.mark.parametrize("labels", [[0, 0], [[1.0, 0, 0]] * 2], ids=["labels", "targets"])
def test_user_loss_is_called_with_its_settings(user_reference, name, settings, expected, labels):
  loss = create_loss(user_reference(name), settings=settings)
  logits = tf.constant(np.repeat(_LOGITS, 2, axis=0), tf.float32)
  for function in (loss, tf.function(loss, autograph=False)):
    found = function(tf.constant(labels), logits)
    np.testing.assert_allclose(found, [expected] * 2, rtol=1e-6)


def test_user_loss_gets_float32_logits(user_reference):
  logits = tf.constant(_LOGITS, tf.bfloat16)
  assert create_loss(user_reference("power"))(tf.constant([0]), logits).dtype == tf.float32


def test_keras_loss_is_used_like_a_user_loss():
  loss = create_loss(
    "keras.losses:SparseCategoricalCrossentropy", settings="from_logits=true,reduction=None"
  )
  np.testing.assert_allclose(loss(tf.constant([1]), tf.constant(_LOGITS)), [_NATS[1]], rtol=1e-6)


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("mean", r"one loss for each example, floats of shape \[batch\], not float32 of shape \(\)"),
    ("integers", r"floats of shape \[batch\], not int32 of shape \(2,\)"),
    ("broken", r"ValueError: a line and another \(line 22 of .*mine\.py\)"),
  ],
)
def test_invalid_loss_is_reported_when_traced(user_reference, name, message):
  loss = tf.function(create_loss(user_reference(name)), autograph=False)
  with pytest.raises(UserError, match=message) as raised:
    loss(tf.constant([0, 1]), tf.constant(np.repeat(_LOGITS, 2, axis=0)))
  assert "\n" not in str(raised.value)


def test_batch_mean_is_rejected_with_remedy():
  loss = create_loss("keras.losses:SparseCategoricalCrossentropy", settings="from_logits=true")
  with pytest.raises(UserError, match="reduction=None"):
    loss(tf.constant([1]), tf.constant(_LOGITS))


@pytest.mark.parametrize(
  ("name", "arguments", "message"),
  [
    ("power", {"label_smoothing": 0.1}, "--label_smoothing=0.1: .*use 0"),
    ("Power", {"settings": "sharpness=2"}, "TypeError: .*sharpness"),
    ("number", {}, "must be a function, or a class"),
    ("absent", {}, "defines no absent"),
  ],
)
def test_bad_user_loss_is_reported_at_once(user_reference, name, arguments, message):
  with pytest.raises(UserError, match=message):
    create_loss(user_reference(name), **arguments)


@pytest.mark.parametrize("name", LOSSES)
def test_built_in_losses_take_no_settings(name):
  with pytest.raises(UserError, match=f"--loss_settings=gamma=2: --loss={name} takes none"):
    create_loss(name, settings="gamma=2")


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("label", "share"), [(0, 1), (2, 5), (NO_CLASS, 1)])
def test_outliers_add_a_class_with_zero_logit(name, label, share):
  loss = loss_of(Config(loss=name, outliers="non_digits"))
  # exp(0) = 1 is the share of no class, next to 1, 2 and 5.
  found = loss(tf.constant([label]), tf.constant(_LOGITS))
  np.testing.assert_allclose(found, [-np.log(share / 9)], rtol=1e-6)


def test_smoothing_includes_the_outlier_class():
  loss = loss_of(Config(label_smoothing=0.4, outliers="non_digits"))
  found = loss(tf.constant([NO_CLASS]), tf.constant(_LOGITS))
  targets = np.array([0.1, 0.1, 0.1, 0.7])
  np.testing.assert_allclose(found, [-targets @ np.log(np.array([1, 2, 5, 1]) / 9)], rtol=1e-6)
