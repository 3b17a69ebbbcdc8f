"""Tests of the behavior and output of `python -m mnist_research.benchmark`, not of its speed."""

import dataclasses
import itertools
import sys
import types

import commands
import numpy as np
import pytest
import tensorflow as tf
from nets import create_model
from tensorflow.python.framework import config as framework

from mnist_research.benchmarks import (
  evaluate,
  keras_fit,
  limit,
  memory,
  pipeline,
  stages,
  startup,
  throughput,
  time_to_accuracy,
)
from mnist_research.benchmarks import training as training_lib
from mnist_research.benchmarks.products import model_products
from mnist_research.benchmarks.time_to_accuracy import SeedRun
from mnist_research.config import Config
from mnist_research.models.networks import whiten
from mnist_research.runtime.errors import UserError
from mnist_research.training import loop
from mnist_research.training.blocks import Block

_SMALL = {
  "dataset": "synthetic_digits/2000_500",
  "validation_examples": 500,
  "hidden_units": (16,),
  "batch_size": 50,
}


@pytest.fixture(scope="module")
def bench(prepared):
  return training_lib.read(Config(**_SMALL, data_dir=prepared, steps_per_loop=10))


# ---- The pieces of a training ----


def _lengths(blocks: list[Block]) -> list[int]:
  return [block.num_steps for block in blocks]


def test_turn_is_one_epoch_in_blocks_of_a_real_run(bench):
  assert bench.turn_steps == 30  # 1,500 examples in batches of 50.
  assert bench.plan.steps_per_block == 10
  assert _lengths(bench.plan.blocks(total_steps=25)) == [8, 8, 9]
  assert bench.with_config(steps=7).turn_steps == 7
  assert bench.with_config(steps=7).plan.steps_per_block == 7
  frequent = bench.with_config(evaluate_every=4)
  assert _lengths(frequent.plan.blocks(total_steps=10)) == [4, 4, 2]
  assert bench.replica_batch == 50
  assert bench.described().record == {
    "dataset": "synthetic_digits/2000_500",
    "precision": "float32",
    "train_examples": 1500,
    "device": "CPU:0",
    "replicas": 1,
    "compiled_by_xla": True,
  }


@pytest.fixture
def deterministic():
  """Undoes what a deterministic run changes in its process."""
  yield
  framework.disable_op_determinism()


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("network", [{}, {"model": "cnn", "batch_norm": True, "whitening": True}])
def test_timed_run_matches_train(prepared, tmp_path, network):
  config = Config(
    **_SMALL, data_dir=prepared, epochs=2, learning_rate=0.01, ema_decay=0.9, deterministic=True,
    xla="off", workdir=str(tmp_path), **network,
  )  # fmt: skip
  result = loop.train(config)
  report = time_to_accuracy.measure(training_lib.read(config), num_seeds=1)
  assert result["step"] == 60
  assert report.record["test_accuracy_mean"] == result["test_accuracy"]
  assert report.record["validation_accuracy_mean"] == result["validation_accuracy"]
  assert report.record["test_accuracy_lowest"] == result["test_accuracy"]
  assert report.record["test_accuracy_std"] is None
  assert 0.5 < result["test_accuracy"] < 1


def test_turns_use_the_batches_and_steps_of_a_run(bench, monkeypatch):
  training = training_lib.build(bench.with_config(learning_rate=0.01))
  clock = itertools.count(0.0, 2.0)
  monkeypatch.setattr(training_lib, "time", types.SimpleNamespace(perf_counter=clock.__next__))
  rates = list(training.turns(2, turn_steps=25))
  # Three blocks of ten steps before each turn; a turn of 25 steps ends with its third block.
  assert training.state.step.numpy() == 2 * (30 + 30)
  # The fake clock advances by two seconds during each turn.
  assert rates == [30 * 50 / 2.0] * 2
  other = training_lib.build(bench.with_config(learning_rate=0.01))
  blocks = bench.plan.blocks(total_steps=120)
  for block, batches in zip(blocks, bench.batches(blocks), strict=True):
    other.run_block(batches, block.num_steps)
  for weights, others in zip(
    training.state.model.get_weights(), other.state.model.get_weights(), strict=True
  ):
    np.testing.assert_allclose(weights, others, rtol=1e-5, atol=1e-6)


# ---- The limit ----


@pytest.mark.parametrize(
  ("layer", "shape"),
  [
    (tf.keras.layers.Dense(5, use_bias=False), (7,)),
    (tf.keras.layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False), (8, 8, 3)),
  ],
  ids=["dense", "convolution"],
)
def test_limit_times_the_matrix_products_of_a_step(layer, shape):
  model = tf.keras.Sequential([tf.keras.Input(shape), layer])
  (product,) = model_products(model)
  inputs, kernel = tf.random.stateless_normal([2, *shape], [0, 1]), layer.kernel.value
  with tf.GradientTape() as tape:
    tape.watch([inputs, kernel])
    outputs = model(inputs)
    # Its gradient with respect to the outputs equals the outputs.
    loss = tf.reduce_sum(outputs**2) / 2
  of_inputs, of_kernel = tape.gradient(loss, [inputs, kernel])
  for actual, expected in [
    (limit._forward(product, inputs, kernel), outputs),
    (limit._input_gradient(product, outputs, kernel, inputs), of_inputs),
    (limit._kernel_gradient(product, outputs, inputs), of_kernel),
  ]:
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_repeated_product_does_not_overflow(training):
  config = Config(model="cnn", filters=(4,), kernel_sizes=(3,), pool_sizes=(2,), hidden_units=(6,))
  products = model_products(create_model(config, 10))
  create = limit._training_loop if training else limit._forward_loop
  for product in products:
    done = [create(product, 8, xla=False)(tf.constant(count)).numpy() for count in (1, 2, 500)]
    assert np.isfinite(done).all()
    # No underflow, and all values differ: every repetition was computed.
    assert (np.abs(done) > 1e-6).all()
    assert np.abs(done).max() < 1e6


# ---- Reports, of made-up times ----


def _products():
  return model_products(create_model(Config(), 10))


def test_throughput_counts_examples_and_operations():
  report = throughput.report_training([100.0, 400.0, 200.0], [0.32, 0.08, 0.16], _products())
  assert report.record == {
    "examples_per_second": 200.0,
    "examples_per_second_lowest": 100.0,
    "examples_per_second_highest": 400.0,
    "step_seconds": 0.16,
    "flops_per_example": 507_392,
    "flops_per_second": 200 * 507_392,
  }


def test_share_of_limit_is_computed_per_round():
  turns = [(0.03, 0.02, 0.01), (0.03, 0.04, 0.01)]
  report = throughput.report_limit(
    turns, [0.24, 0.16], _products(), batch_size=50, replicas_in_turn=2
  )
  assert report.record == pytest.approx(
    {
      "limit_step_seconds": (0.12 + 0.16) / 2,
      "limit_share": (0.5 + 1.0) / 2,
      "limit_share_lowest": 0.5,
      "limit_share_highest": 1.0,
    }
  )
  # 50 examples of 401,408 operations in 0.03 s.
  assert ("  hidden_0/dense", "0.7 GFLOP/s (0.7 GFLOP/s to 0.7 GFLOP/s)") in report.rows


def test_baseline_ratio_is_computed_per_pair():
  report = throughput.report_baseline([300.0, 800.0, 600.0], [100.0, 400.0, 100.0], "keras_fit")
  assert report.record == {
    "baseline": "keras_fit",
    "baseline_examples_per_second": 100.0,
    "baseline_examples_per_second_lowest": 100.0,
    "baseline_examples_per_second_highest": 400.0,
    "ratios": [3.0, 2.0, 6.0],
    "ratio": 3.0,
    "ratio_lowest": 2.0,
    "ratio_highest": 6.0,
  }
  assert ("ratio in each turn", "3.00, 2.00, 6.00") in report.rows
  assert ("ratio", "3.00 (2.00 to 6.00)") in report.rows
  faster = (
    "It is 3.00 (2.00 to 6.00) times as fast as keras_fit: training was faster in every round."
  )
  assert report.text().splitlines()[-1] == faster


@pytest.mark.parametrize(
  ("theirs", "verdict"),
  [((200.0, 400.0), "training was slower in every round"),
   ((200.0, 50.0), "neither was faster in every round")],
)  # fmt: skip
def test_verdict_requires_every_round(theirs, verdict):
  report = throughput.report_baseline([100.0, 100.0], theirs, "keras_fit")
  assert report.verdict.endswith(f"times as fast as keras_fit: {verdict}.")


def test_input_and_evaluation_report_share_of_limit():
  report = pipeline.report([100.0, 300.0], [200.0, 400.0], example_bytes=784)
  assert report.record["bytes_per_second"] == 200 * 28 * 28
  assert report.record["limit_share"] == (0.5 + 0.75) / 2
  report = evaluate.report([10.0, 20.0], [40.0, 40.0], flops=7, first_seconds=1.5)
  assert report.record["flops_per_second"] == 15 * 7
  assert report.record["limit_share"] == (0.25 + 0.5) / 2


def test_accuracy_is_summarized_over_seeds():
  runs = [SeedRun(2.0, 0.97, 0.9, 1.0), SeedRun(1.0, 0.98, 0.8, 0.25), SeedRun(4.0, 0.99, 0.7, 1.0)]
  report = time_to_accuracy.report(runs)
  assert report.record == pytest.approx(
    {
      "test_accuracy_mean": 0.98,
      "test_accuracy_std": 0.01,  # The standard deviation of the three, with n - 1.
      "test_accuracy_lowest": 0.97,
      "validation_accuracy_mean": 0.8,
      "validation_accuracy_std": 0.1,
      "validation_accuracy_lowest": 0.7,
      "num_seeds": 3,
      "train_seconds_median": 2.0,
      "train_seconds_lowest": 1.0,
      "train_seconds_highest": 4.0,
      "limit_share": 0.25,
      "limit_share_lowest": 0.25,
      "limit_share_highest": 0.5,
    }
  )
  assert ("test accuracy", "98.00% +- 1.00%, lowest 97.00%") in report.rows


def _run_of_stages(*seconds):
  names = ["python", "tensorflow", "package", "data", "build", "compile", "first_step", "training"]
  return {
    "bench": {"dataset": "mnist"},
    "stages": [
      {"name": name, "seconds": second, "peak_bytes": 100 * (index + 1)}
      for index, (name, second) in enumerate(zip(names, seconds, strict=False))
    ],
    "weights_bytes": 10, "optimizer_bytes": 20, "data_bytes": 300,
  }  # fmt: skip


def test_startup_times_each_stage():
  runs = [_run_of_stages(1, 2, 1, 1, 1, 1, 1), _run_of_stages(1, 4, 1, 1, 1, 1, 1)]
  record = startup.report(runs).record
  assert record["tensorflow_seconds"] == 3
  assert record["first_step_seconds"] == 1
  assert (record["startup_seconds_lowest"], record["startup_seconds_highest"]) == (8, 10)
  assert (record["limit_share_lowest"], record["limit_share_highest"]) == (3 / 8, 5 / 10)
  assert record["dataset"] == "mnist"


def test_memory_is_reported_relative_to_the_import():
  record = memory.report(_run_of_stages(*[1] * 8)).record
  assert record == {
    "dataset": "mnist", "import_bytes": 200, "peak_bytes": 800, "peak_over_import_bytes": 600,
    "weights_bytes": 10, "optimizer_bytes": 20, "data_bytes": 300, "limit_bytes": 330,
  }  # fmt: skip


# ---- Keras's fit ----


@pytest.mark.parametrize("tuned", [False, True])
def test_keras_fit_takes_the_same_step(bench, tuned):
  """Loss and weights after a batch equal those after a step of this package."""
  settings = bench.with_config(learning_rate=0.01, label_smoothing=0.1, warmup_steps=5)
  fitted = keras_fit.create_fitted(settings, tuned=tuned)
  training = training_lib.build(settings)
  ((images, labels),) = settings.batches([Block(0, 1)])
  (loss,) = training.run_block((images, labels), 1)
  values = fitted.train_on_batch(images[0].numpy(), labels[0].numpy(), return_dict=True)
  assert values["loss"] == pytest.approx(loss, rel=1e-5)
  weights = zip(fitted.get_weights(), training.state.model.get_weights(), strict=True)
  for theirs, ours in weights:
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-5)
  assert fitted.steps_per_execution == (125 if tuned else 1)


def test_keras_fit_trains_on_whitened_features(bench):
  whitened = bench.with_config(model="cnn", filters=(4, 8), whitening=True)
  model = create_model(whitened.config, 10)
  whiten(model, bench.train.images)
  fitted = keras_fit.create_fitted(whitened, tuned=False)
  kernels = [each.convolutions[0].convolution.kernel.numpy() for each in (model, fitted.model)]
  np.testing.assert_array_equal(*kernels)


def test_keras_fit_applies_dropout_only_in_training(bench):
  images = bench.train.images[:50]
  fitted = keras_fit.create_fitted(bench.with_config(dropout_rate=0.5), tuned=False)
  np.testing.assert_array_equal(fitted(images), fitted.model(images))
  assert np.abs(fitted(images, training=True) - fitted(images)).max() > 0.1


def test_keras_fit_turn_is_one_epoch(bench, monkeypatch):
  clock = itertools.count(0.0, 2.0)
  monkeypatch.setattr(keras_fit, "time", types.SimpleNamespace(perf_counter=clock.__next__))
  turns = keras_fit.keras_turns(bench.with_config(batch_size=64), tuned=False)
  # The 23 whole batches of 1,500 examples.
  assert next(turns) == 23 * 64 / 2.0


@pytest.mark.parametrize(
  ("changes", "named"), [({"augment": ("shift",)}, "--augment"), ({"device_count": 2}, "--device")]
)
def test_keras_fit_rejects_unsupported_settings(prepared, changes, named):
  config = Config(**_SMALL, data_dir=prepared, **changes)
  with pytest.raises(UserError, match=f"--baseline .*{named}"):
    keras_fit.create_fitted(training_lib.read(config), tuned=False)


# ---- Whole benchmarks ----


def test_input_and_evaluation_are_measured(bench):
  fast = bench.with_config(augment=("shift", "rotation"))
  record = pipeline.measure(fast, rounds=2).record
  assert record["examples_per_second"] > 0
  report = evaluate.measure(training_lib.build(bench), rounds=2)
  assert report.record["flops_per_example"] == 2 * (784 * 16 + 16 * 10)
  assert report.record["limit_examples_per_second"] > 0


def test_unscored_test_split_reports_validation_accuracy():
  report = time_to_accuracy.report([SeedRun(2.0, None, 0.9, 1.0), SeedRun(1.0, None, 0.8, 0.25)])
  assert report.record["validation_accuracy_mean"] == pytest.approx(0.85)
  assert not any(name.startswith("test_") for name in report.record)


def test_two_replicas_report_all_reduce_bytes(prepared):
  config = Config(**_SMALL, data_dir=prepared, device_count=2, steps=8)
  training = training_lib.build(training_lib.read(config))
  report = throughput.measure(training, rounds=2)
  # Four bytes for each weight and bias.
  assert report.record["gradient_bytes"] == 4 * (784 * 16 + 16 + 16 * 10 + 10)
  assert report.record["all_reduce_seconds"] > 0
  (_, device) = training.bench.described().rows[2]
  assert device == "CPU:0, CPU:1 (mirrored) in float32"


def test_timed_training_can_skip_the_test_split(bench):
  chosen = bench.with_config(epochs=1, score_test=False)
  report = time_to_accuracy.measure(dataclasses.replace(chosen, test=None), num_seeds=1)
  assert 0 < report.record["validation_accuracy_mean"] <= 1
  assert "test_accuracy_mean" not in report.record


def test_accuracy_over_seeds_has_spread(bench):
  report = time_to_accuracy.measure(bench.with_config(epochs=1, seed=3), num_seeds=2)
  assert report.record["num_seeds"] == 2
  assert report.record["test_accuracy_std"] > 0
  assert report.record["test_accuracy_lowest"] < report.record["test_accuracy_mean"]
  assert report.record["train_seconds_lowest"] > 0
  with pytest.raises(UserError, match="--select=best"):
    time_to_accuracy.measure(bench.with_config(select="best"), num_seeds=1)


# ---- The command ----


def _run(prepared, benchmark, *flags):
  settings = [
    f"--{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}"
    for name, value in _SMALL.items()
  ]
  return commands.run(
    *settings, f"--data_dir={prepared}", f"--benchmark={benchmark}", *flags, module="benchmark"
  )


def test_throughput_against_keras_fit_with_trace(prepared, tmp_path):
  finished = _run(
    prepared, "throughput", "--steps=20", "--rounds=3", "--baseline=keras_fit_tuned", "--profile",
    f"--workdir={tmp_path}",
  )  # fmt: skip
  record = finished.record
  assert record["benchmark"] == "throughput"
  assert (record["batch_size"], record["hidden_units"]) == (50, [16])
  assert (record["dataset"], record["train_examples"]) == (_SMALL["dataset"], 1500)
  assert (record["compiled_by_xla"], record["replicas"]) == (True, 1)
  assert record["examples_per_second"] > 0
  assert record["flops_per_example"] == 2 * (2 * 784 * 16 + 3 * 16 * 10)
  assert len(record["ratios"]) == 3
  assert record["ratio"] == sorted(record["ratios"])[1]
  assert (record["ratio_lowest"], record["ratio_highest"]) == (
    min(record["ratios"]),
    max(record["ratios"]),
  )
  assert "data_dir" not in record
  for words in ("keras_fit_tuned, examples per second", "Not timed: reading the data, compilation"):
    assert words in finished.stderr
  (trace,) = tmp_path.glob("tensorboard/plugins/profile/*/*.xplane.pb")
  assert trace.stat().st_size > 10_000


@pytest.mark.parametrize("benchmark", ["startup", "memory"])
def test_startup_and_memory_run_in_new_processes(prepared, benchmark):
  record = _run(prepared, benchmark, "--steps=20", "--rounds=1").record
  assert record["benchmark"] == benchmark
  assert (record["dataset"], record["train_examples"]) == (_SMALL["dataset"], 1500)
  if benchmark == "startup":
    seconds = [record[f"{stage}_seconds"] for stage in startup.STAGES]
    assert min(seconds) > 0
    assert record["startup_seconds"] == pytest.approx(sum(seconds), rel=1e-5)
  else:
    weights = 784 * 16 + 16 + 16 * 10 + 10
    assert record["weights_bytes"] == 4 * weights
    # Adam has two slots for each weight and the step counter; the schedule has no variable.
    assert record["optimizer_bytes"] == 8 * weights + 8
    assert record["data_bytes"] == 2500 * (784 + 4)
    assert record["peak_bytes"] > record["import_bytes"] > 100 * 2**20


@pytest.mark.parametrize(
  ("flags", "error"),
  [
    ([], "--benchmark is missing"),
    (
      ["--benchmark=input", "--baseline=keras_fit"],
      "--baseline is only for --benchmark=throughput",
    ),
    (["--benchmark=memory", "--profile"], "--profile is only for --benchmark=throughput"),
    (["--benchmark=throughput", "--profile"], "--workdir is missing"),
    (["--benchmark=speed"], "benchmark"),
    (["--benchmark=input", "--rounds=0"], "rounds"),
    (["--benchmark=input", "runs/dense"], "'runs/dense' is not a flag"),
  ],
)
def test_bad_flags_are_reported_before_tensorflow_loads(flags, error):
  assert error in commands.run(*flags, module="benchmark").error


def test_failed_start_reports_its_reason(tmp_path, monkeypatch):
  python = tmp_path / "python"
  python.write_text("#!/bin/sh\necho a note >&2\necho error: no such data >&2\nexit 2\n")
  python.chmod(0o755)
  monkeypatch.setattr(sys, "executable", str(python))
  with pytest.raises(UserError, match=r"^no such data$"):
    stages.run_stages(Config(), train=False)
