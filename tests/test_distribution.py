"""Tests of the devices and strategies that a `Config` asks for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from mnist_research.config import Config
from mnist_research.distribution import compiles_with_xla, create_strategy
from mnist_research.errors import UserError

_REPOSITORY = Path(__file__).resolve().parents[1]
_HAS_GPU = bool(tf.config.list_physical_devices("GPU"))

# A process takes part in groups of one size only, and makes its devices once.
_FOUR_REPLICAS = """
import json
import numpy as np
import tensorflow as tf
from mnist_research import data, losses, state, steps
from mnist_research.config import Config
from mnist_research.distribution import create_strategy

generator = np.random.default_rng(0)
split = data.Split(
  generator.integers(0, 256, (64, 28, 28, 1), dtype=np.uint8),
  generator.integers(0, 10, 64).astype(np.int32),
)

def train(strategy, config):
  with strategy.scope():
    made = state.create_state(config, label_names=list("0123456789"), total_steps=50)
  train_block = steps.create_train_block(
    config, made, losses.create_loss(config.loss), strategy, xla=False
  )
  (block,) = data.train_blocks(
    split, config, first_steps=[0], room=50, strategy=strategy, num_classes=10
  )
  return train_block(*block, tf.constant(50))[0].numpy().tolist()

settings = dict(hidden_units=(16,), batch_size=8, optimizer="sgd", learning_rate=0.05)
four = create_strategy(Config(device_count=4, deterministic=True, **settings))
config = Config(**settings)
print(json.dumps({
  "replicas": four.num_replicas_in_sync,
  "devices": len(tf.config.list_logical_devices("CPU")),
  "one": train(tf.distribute.OneDeviceStrategy("CPU:0"), config),
  "four": train(four, config),
}))
"""


def _devices(strategy: tf.distribute.Strategy) -> list[str]:
  return [name.rpartition("device:")[2] for name in strategy.extended.worker_devices]


@pytest.mark.skipif(_HAS_GPU, reason="auto takes the GPU")
@pytest.mark.parametrize(
  ("settings", "kind", "devices"),
  [
    ({}, tf.distribute.OneDeviceStrategy, ["CPU:0"]),
    ({"device": "cpu"}, tf.distribute.OneDeviceStrategy, ["CPU:0"]),
    ({"device_count": 1}, tf.distribute.OneDeviceStrategy, ["CPU:0"]),
    ({"device_count": 2}, tf.distribute.MirroredStrategy, ["CPU:0", "CPU:1"]),
    ({"device_count": 4}, tf.distribute.MirroredStrategy, [f"CPU:{i}" for i in range(4)]),
    (
      {"device_count": 2, "strategy": "one_device"},
      tf.distribute.OneDeviceStrategy,
      ["CPU:0"],
    ),
    ({"strategy": "mirrored"}, tf.distribute.MirroredStrategy, ["CPU:0"]),
  ],
)
def test_a_strategy_has_the_devices_asked_for(settings, kind, devices):
  strategy = create_strategy(Config(**settings))
  assert type(strategy) is kind
  assert _devices(strategy) == devices
  assert strategy.num_replicas_in_sync == len(devices)


@pytest.mark.skipif(_HAS_GPU, reason="auto takes the GPU")
def test_a_batch_that_does_not_divide_is_refused():
  with pytest.raises(UserError, match="--batch_size=31 doesn't divide by 2 replicas"):
    create_strategy(Config(device_count=2, batch_size=31))


@pytest.mark.skipif(_HAS_GPU, reason="auto takes the GPU")
def test_any_batch_fits_one_device():
  assert create_strategy(Config(batch_size=31)).num_replicas_in_sync == 1


@pytest.mark.skipif(_HAS_GPU, reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused():
  with pytest.raises(UserError, match="--device=gpu: TensorFlow sees no GPU; use --device=auto"):
    create_strategy(Config(device="gpu"))


@pytest.mark.skipif(_HAS_GPU, reason="auto takes the GPU")
def test_more_devices_than_the_process_made_are_refused():
  with pytest.raises(UserError, match="--device_count=9: this process has made its 4 CPU devices"):
    create_strategy(Config(device_count=9, batch_size=9))


@pytest.mark.parametrize(
  ("settings", "replicas", "compiled"),
  [
    ({}, 1, True),
    ({"xla": "on"}, 1, True),
    ({"xla": "off"}, 1, False),
    ({"precision": "bfloat16"}, 1, False),
    ({"precision": "bfloat16", "xla": "on"}, 1, True),
    ({}, 2, False),
    ({"xla": "off"}, 2, False),
  ],
)
def test_xla_compiles_where_it_pays(settings, replicas, compiled):
  if replicas == 1:
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
  else:
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
  assert compiles_with_xla(Config(**settings), strategy) == compiled


def test_xla_refuses_several_replicas():
  strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
  with pytest.raises(UserError, match="--xla=on takes one replica: use --strategy=one_device"):
    compiles_with_xla(Config(xla="on"), strategy)


def test_four_replicas_of_a_new_process_train_as_one_device_does():
  finished = subprocess.run(
    [sys.executable, "-c", _FOUR_REPLICAS],
    capture_output=True,
    text=True,
    cwd=_REPOSITORY,
    env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
    check=False,
  )
  assert finished.returncode == 0, finished.stderr
  told = json.loads(finished.stdout.splitlines()[-1])
  assert (told["replicas"], told["devices"]) == (4, 4)
  assert len(told["one"]) == 50
  np.testing.assert_allclose(told["four"], told["one"], rtol=1e-5)
