"""Tests of the schedules at steps computed by hand, and of Keras's and users' schedules."""

import numpy as np
import pytest
import tensorflow as tf

from mnist_research.config import Config
from mnist_research.runtime.errors import UserError
from mnist_research.training.optimizers import create_optimizer, learning_rate
from mnist_research.training.schedules import Schedule, create_schedule


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
    # Without warmup steps it rises over 30% of the run.
    ("one_cycle", 0, 10, {0: 0.036, 1: 0.068, 2: 0.1, 3: 0.1, 10: 0.0}),
    # The run ends while the rate is still rising.
    ("cosine", 10, 5, {0: 0.01, 4: 0.05}),
  ],
)
def test_schedules_match_hand_computed_rates(name, warmup, total, rates):
  schedule = Schedule(name, peak=0.1, warmup_steps=warmup, total_steps=total)
  found = [float(schedule(tf.constant(step, tf.int64))) for step in rates]
  np.testing.assert_allclose(found, list(rates.values()), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("name", ["linear", "cosine", "exponential", "one_cycle"])
def test_schedules_only_decrease_after_warmup(name):
  schedule = Schedule(name, peak=1.0, warmup_steps=10, total_steps=100)
  rates = np.array([float(schedule(step)) for step in range(100)])
  assert (np.diff(rates[:10]) > 0).all()
  assert (np.diff(rates[10:]) < 0).all()
  assert rates.min() > 0


def test_optimizer_uses_the_scheduled_rate():
  config = Config(learning_rate=0.1, learning_rate_schedule="linear")
  optimizer = create_optimizer(config, 10)
  assert [learning_rate(optimizer, step) for step in (0, 4, 10)] == pytest.approx([0.1, 0.06, 0])


# ---- Keras's and users' schedules ----

USER_CODE = """
import tensorflow as tf

class Halving:
  def __init__(self, learning_rate, total_steps, share=0.5):
    self.rates = [learning_rate, share * learning_rate]
    self.half = total_steps // 2

  def __call__(self, step):
    return tf.where(step < self.half, *self.rates)

def pair(learning_rate, total_steps):
  return lambda step: [learning_rate, learning_rate]

def broken(learning_rate, total_steps):
  return lambda step: step.nothing

def number(learning_rate, total_steps):
  return learning_rate
"""


def _rates(total_steps: int, steps, **settings) -> list[float]:
  config = Config(learning_rate=0.1, **settings)
  optimizer = create_optimizer(config, total_steps)
  return [learning_rate(optimizer, step) for step in steps]


@pytest.mark.parametrize(
  ("name", "settings", "rates"),
  [
    # From 0.1 to 0.0001 over the run.
    ("PolynomialDecay", "", [0.1, 0.05005, 0.0001, 0.0001]),
    ("PolynomialDecay", "decay_steps=5,end_learning_rate=0", [0.1, 0.0, 0.0, 0.0]),
    ("ExponentialDecay", "decay_rate=0.25", [0.1, 0.05, 0.025, 0.00625]),
    ("CosineDecay", "", [0.1, 0.05, 0.0, 0.0]),
    ("PiecewiseConstantDecay", "boundaries=[4,9],values=[1.0,0.5,0.25]", [1.0, 0.5, 0.25, 0.25]),
    ("InverseTimeDecay", "decay_steps=5,decay_rate=1", [0.1, 0.05, 0.1 / 3, 0.02]),
    ("CosineDecayRestarts", "first_decay_steps=10", [0.1, 0.05, 0.1, 0.05]),
  ],
)
def test_keras_schedule_spans_the_run(name, settings, rates):
  found = _rates(
    10, (0, 5, 10, 20), learning_rate_schedule=name, learning_rate_schedule_settings=settings
  )
  np.testing.assert_allclose(found, rates, rtol=1e-5, atol=1e-8)


def test_warmup_multiplies_a_keras_schedule():
  settings = {"learning_rate_schedule": "PolynomialDecay", "warmup_steps": 4}
  settings["learning_rate_schedule_settings"] = "end_learning_rate=0"
  found = _rates(10, (0, 1, 3, 4, 5), **settings)
  np.testing.assert_allclose(found, [0.025, 0.045, 0.07, 0.06, 0.05], rtol=1e-5)


def test_user_schedule_gets_rate_length_and_settings(user_reference):
  settings = {"learning_rate_schedule": user_reference("Halving"), "warmup_steps": 2}
  found = _rates(8, (0, 1, 3, 4), **settings)
  np.testing.assert_allclose(found, [0.05, 0.1, 0.1, 0.05])
  found = _rates(8, (0, 4), **settings, learning_rate_schedule_settings="share=0.1")
  np.testing.assert_allclose(found, [0.05, 0.01])


def test_optimizer_follows_a_user_schedule(user_reference):
  config = Config(
    optimizer="sgd", learning_rate=0.5, learning_rate_schedule=user_reference("Halving")
  )
  optimizer = create_optimizer(config, 4)
  variable = tf.keras.Variable([0.0], name="kernel")
  optimizer.build([variable])
  step = tf.function(lambda: optimizer.apply([tf.constant([1.0])], [variable]), jit_compile=True)
  found = []
  for _ in range(4):
    step()
    found.append(float(variable[0]))
  np.testing.assert_allclose(found, [-0.5, -1.0, -1.25, -1.5])


@pytest.mark.parametrize(
  ("name", "settings", "message"),
  [
    ("CosinDecay", "", "--learning_rate_schedule=CosinDecay: .*; did you mean CosineDecay?"),
    ("LearningRateSchedule", "", "Keras has no such class"),
    ("ExponentialDecay", "", "TypeError: .*decay_rate"),
    ("CosineDecay", "speed=2", "TypeError: .*speed"),
    ("cosine", "power=2", "--learning_rate_schedule_settings=power=2: .*takes none"),
    ("user:pair", "", r"must return one number for a step, not a tensor of shape \(2,\)"),
    ("user:broken", "", r"AttributeError: .*nothing.* \(line 16 of .*mine\.py\)"),
    ("user:number", "", "can't be called with a step"),
  ],
)
def test_bad_schedule_is_reported_in_one_line(user_reference, name, settings, message):
  name = user_reference(name.removeprefix("user:")) if name.startswith("user:") else name
  config = Config(learning_rate_schedule=name, learning_rate_schedule_settings=settings)
  with pytest.raises(UserError, match=message) as raised:
    create_schedule(config.optimization, 10)
  assert "\n" not in str(raised.value)
