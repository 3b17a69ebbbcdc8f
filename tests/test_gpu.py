"""Tests of training on a GPU: placement, memory, precision, and bit-exact resuming."""

import json
import signal
import time

import commands
import pytest
import tensorflow as tf

from mnist_research.benchmarks import training
from mnist_research.config import Config

pytestmark = [
  pytest.mark.gpu,
  pytest.mark.skipif(not tf.config.list_physical_devices("GPU"), reason="TensorFlow sees no GPU"),
]

_RUN = (*commands.SMALL, "--device=gpu", "--epochs=6")


def _train(prepared, workdir, *settings):
  return commands.run(*_RUN, f"--data_dir={prepared}", f"--workdir={workdir}", *settings)


def test_weights_and_batches_are_on_the_gpu(prepared):
  config = Config(
    dataset="synthetic_digits/2000_500", data_dir=prepared, validation_examples=500, device="gpu"
  )
  bench = training.read(config)
  built = training.build(bench)
  blocks = bench.plan.blocks()[:1]
  (batch,) = bench.batches(blocks)
  built.run_block(batch, blocks[0].num_steps)
  for value in (*(each.value for each in built.state.model.weights), *batch):
    assert "GPU" in value.device


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("xla", ["on", "off"])
def test_training_learns(prepared, tmp_path, precision, xla):
  settings = (f"--precision={precision}", f"--xla={xla}", "--nodeterministic")
  record = _train(prepared, tmp_path / "run", *settings).record
  assert record["test_accuracy"] > 0.8


def test_convolutions_learn(prepared, tmp_path):
  settings = ("--model=cnn", "--precision=auto", "--nodeterministic")
  assert _train(prepared, tmp_path / "run", *settings).record["test_accuracy"] > 0.8


@pytest.mark.parametrize("xla", ["on", "off"])
def test_resumed_run_matches_uninterrupted_run_bit_for_bit(prepared, tmp_path, xla):
  _train(prepared, tmp_path / "uninterrupted", f"--xla={xla}")
  stopped = commands.start(
    *_RUN, f"--xla={xla}", f"--data_dir={prepared}", f"--workdir={tmp_path / 'stopped'}"
  )
  commands.wait_until(lambda: commands.last_step(tmp_path / "stopped") > 0, stopped)
  commands.stop(stopped, signal.SIGTERM)
  _train(prepared, tmp_path / "stopped", f"--xla={xla}")
  commands.assert_same_run(tmp_path / "uninterrupted", tmp_path / "stopped")


def test_run_does_not_reserve_all_gpu_memory(prepared, tmp_path):
  first = commands.start(
    *_RUN, "--epochs=200", f"--data_dir={prepared}", f"--workdir={tmp_path / 'first'}"
  )
  try:
    commands.wait_until(lambda: commands.last_step(tmp_path / "first") > 0, first)
    time.sleep(1)
    assert _train(prepared, tmp_path / "second").returncode == 0
    assert first.poll() is None
  finally:
    first.kill()
    first.communicate()


def test_doctor_finds_the_gpu(prepared):
  finished = commands.run(*_RUN[:2], "--device=gpu", f"--data_dir={prepared}", module="doctor")
  record = json.loads(finished.stdout.splitlines()[-1])
  assert record["can_train"], finished.stderr
  assert record["run"]["devices"][0] == "GPU:0"
  assert record["tensorflow"]["libraries"]["libcuda.so.1"]
