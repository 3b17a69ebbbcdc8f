"""Tests of the losses against numbers worked by hand."""

import numpy as np
import pytest
import tensorflow as tf

from mnist_research.config import LOSSES
from mnist_research.losses import create_loss

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
def test_the_loss_is_the_negative_logarithm_of_the_probability(name, label):
  loss = create_loss(name)(tf.constant([label]), tf.constant(_LOGITS))
  np.testing.assert_allclose(loss, [_NATS[label]], rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
  ("label", "smoothing", "expected"),
  # (1 - s) of the label's nats and s of their mean, 1.3119132.
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
def test_the_gradient_is_probability_less_target(name, smoothing, target):
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
