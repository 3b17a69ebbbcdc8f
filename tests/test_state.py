"""Tests of the parts of a training state."""

import numpy as np

from mnist_research.config import Config
from mnist_research.training.state import TrainState, create_state

_NAMES = tuple("abcdefghij")
_CONFIG = Config(hidden_units=(6, 5), ema_decay=0.9, optimizer="adam")


def _create(config: Config = _CONFIG) -> TrainState:
  return create_state(config, label_names=_NAMES, image_shape=(28, 28, 1), total_steps=100)


def test_optimizer_has_slots_for_every_weight():
  state = _create()
  # Adam: two slots for each of six weights, the iterations, and the rate.
  assert len(state.optimizer.variables) >= 2 * 6 + 1
  assert state.optimizer.built


def test_averages_start_as_the_weights_and_are_not_trained():
  state = _create()
  for average, weight in zip(state.averages.get_weights(), state.model.get_weights(), strict=True):
    np.testing.assert_array_equal(average, weight)
  assert not state.averages.trainable_variables
  assert state.evaluated_model is state.averages


def test_model_is_evaluated_without_averages():
  state = _create(Config())
  assert state.averages is None
  assert state.evaluated_model is state.model
