"""Tests that any optimizer trains, and resumes like an uninterrupted run."""

import numpy as np
import pytest
import tensorflow as tf

from mnist_research.config import OPTIMIZERS, Config
from mnist_research.training import checkpoints
from mnist_research.training import state as state_lib
from mnist_research.training.loop import train
from mnist_research.training.state import TrainState
from mnist_research.workdir import Workdir

_KERAS = ("Lion", "Adafactor", "Adamax", "Nadam", "Ftrl", "Adadelta", "Adagrad")
_USER_CODE = """
import tensorflow as tf

class Heavy(tf.keras.optimizers.Optimizer):
  def __init__(self, learning_rate, keep=0.9, **kwargs):
    super().__init__(learning_rate=learning_rate, **kwargs)
    self.keep = keep

  def build(self, variables):
    super().build(variables)
    # Keras doesn't know them.
    self.slots = [tf.Variable(tf.zeros(v.shape)) for v in variables]

  def update_step(self, gradient, variable, learning_rate):
    slot = self.slots[self._get_variable_index(variable)]
    slot.assign(self.keep * slot + (1 - self.keep) * gradient)
    self.assign_sub(variable, learning_rate * slot)
"""


@pytest.fixture(params=[*OPTIMIZERS, *_KERAS, "user"])
def optimizer(request, tmp_path):
  """The values of `--optimizer`."""
  if request.param != "user":
    return request.param
  (tmp_path / "mine.py").write_text(_USER_CODE)
  return f"{tmp_path / 'mine.py'}:Heavy"


def _create(config: Config) -> TrainState:
  return state_lib.create_state(
    config, label_names=list("abc"), image_shape=(8, 8, 1), total_steps=20
  )


def _train(state: TrainState, steps: range) -> None:
  """Takes steps with gradients that depend only on the step number."""
  variables = state.model.trainable_variables
  for step in steps:
    generator = np.random.default_rng(step)
    gradients = [tf.constant(generator.normal(size=v.shape), tf.float32) for v in variables]
    state.optimizer.apply(gradients, variables)
    state.step.assign_add(1)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_restored_optimizer_takes_the_same_steps(tmp_path, optimizer, precision):
  config = Config(
    model="cnn", filters=(2, 4), kernel_sizes=(3, 3), pool_sizes=(1, 1), hidden_units=(5,),
    optimizer=optimizer, precision=precision,
  )  # fmt: skip
  state, resumed = _create(config), _create(config.replace(seed=1))
  _train(state, range(4))
  checkpoints.save(state, tmp_path / "checkpoints", train_seconds=1.0)
  assert checkpoints.restore_latest(resumed, tmp_path / "checkpoints") == (4, 1.0)
  for each in (state, resumed):
    _train(each, range(4, 8))
  for one, other in zip(state.model.variables, resumed.model.variables, strict=True):
    np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.path)


@pytest.mark.parametrize(
  ("name", "rate", "settings"),
  [
    ("Lion", 1e-3, ""),
    # By default, a unit that is never active divides by 0 at pixels that are always black.
    ("Adafactor", 1e-2, "epsilon_1=1e-16"),
    ("Nadam", 1e-2, ""),
    ("user", 0.1, "keep=0.8"),
  ],
)
def test_loss_falls_with_keras_and_user_optimizers(tmp_path, prepared, name, rate, settings):
  (tmp_path / "mine.py").write_text(_USER_CODE)
  config = Config(
    dataset="synthetic_digits/2000_500", data_dir=prepared, validation_examples=0, steps=60,
    steps_per_loop=20, hidden_units=(32,), summaries="none", learning_rate=rate,
    optimizer=f"{tmp_path / 'mine.py'}:Heavy" if name == "user" else name,
    optimizer_settings=settings, workdir=str(tmp_path / "run"),
  )  # fmt: skip
  train(config)
  lines = Workdir(tmp_path / "run").read_metrics()
  losses = [line["loss"] for line in lines if line["split"] == "train"]
  assert losses[-1] < 0.9 * losses[0]
