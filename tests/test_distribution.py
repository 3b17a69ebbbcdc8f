"""Tests of the devices and strategies that a `Config` asks for."""

import json

import numpy as np
import pytest
import tensorflow as tf

from mnist_research.config import Config
from mnist_research.distribution import (
  Exchange,
  Workers,
  compiles_with_xla,
  create_strategy,
  lost_worker_told,
  parse_tf_config,
  read_workers,
  replica_slices,
)
from mnist_research.errors import UserError

_HAS_GPU = bool(tf.config.list_physical_devices("GPU"))


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
def test_a_replica_without_an_example_is_refused():
  with pytest.raises(UserError, match="--batch_size=3 leaves some of the 4 replicas without an ex"):
    create_strategy(Config(device_count=4, batch_size=3))
  assert create_strategy(Config(device_count=4, batch_size=4)).num_replicas_in_sync == 4


@pytest.mark.parametrize(
  ("batch_size", "replicas", "sizes"),
  [
    (8, 1, [8]),
    (8, 4, [2, 2, 2, 2]),
    (31, 2, [15, 16]),
    (13, 4, [3, 3, 3, 4]),
    (4, 4, [1, 1, 1, 1]),
  ],
)
def test_every_example_of_a_batch_is_that_of_one_replica(batch_size, replicas, sizes):
  strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
  slices = replica_slices(strategy, batch_size)
  examples = np.arange(batch_size)
  assert [len(examples[each]) for each in slices] == sizes
  np.testing.assert_array_equal(np.concatenate([examples[each] for each in slices]), examples)


# ---- Workers ----


def _tf_config(cluster: dict, job: str, index: object) -> str:
  return json.dumps({"cluster": cluster, "task": {"type": job, "index": index}})


_TWO = {"worker": ["a:1", "b:2"]}


@pytest.mark.parametrize(
  ("text", "workers"),
  [
    (_tf_config(_TWO, "worker", 1), Workers(("a:1", "b:2"), 1)),
    # Kubeflow and Vertex AI: the first worker is called the chief, and indices may be text.
    (_tf_config({"chief": ["c:1"], **_TWO}, "worker", 1), Workers(("c:1", "a:1", "b:2"), 2)),
    (_tf_config({"chief": ["c:1"], **_TWO}, "chief", "0"), Workers(("c:1", "a:1", "b:2"), 0)),
    # What they set for a process that is alone.
    (_tf_config({"chief": ["c:1"]}, "chief", 0), Workers(("c:1",), 0)),
    ("{}", Workers()),
  ],
)
def test_tf_config_names_the_workers(text, workers):
  assert parse_tf_config(text) == workers
  assert parse_tf_config(text).is_chief == (workers.index == 0)


@pytest.mark.parametrize(
  "text",
  [
    "worker",
    "[]",
    json.dumps({"cluster": _TWO}),
    json.dumps({"cluster": {"worker": 2}, "task": {"type": "worker", "index": 0}}),
    json.dumps({"cluster": ["a:1"], "task": {"type": "worker", "index": 0}}),
    _tf_config(_TWO, "worker", 2),
    _tf_config(_TWO, "worker", -1),
    _tf_config(_TWO, "worker", None),
    _tf_config(_TWO, "evaluator", 0),
    _tf_config({**_TWO, "ps": ["p:1"]}, "ps", 0),
    _tf_config({"worker": ["a", "b:2"]}, "worker", 0),
    _tf_config({"chief": ["c:1", "d:1"], **_TWO}, "worker", 0),
  ],
)
def test_another_tf_config_is_refused(text):
  with pytest.raises(UserError, match="the environment variable TF_CONFIG, such as") as raised:
    parse_tf_config(text)
  assert repr(text) in str(raised.value)


@pytest.mark.parametrize(
  ("strategy", "text", "several"),
  [
    ("auto", None, False),
    ("auto", "{}", False),
    ("auto", _tf_config({"chief": ["c:1"]}, "chief", 0), False),
    ("auto", _tf_config(_TWO, "worker", 1), True),
    ("multi_worker", _tf_config(_TWO, "worker", 1), True),
    ("mirrored", _tf_config(_TWO, "worker", 1), False),
    ("one_device", "nonsense", False),
  ],
)
def test_the_strategy_says_whether_tf_config_counts(monkeypatch, strategy, text, several):
  monkeypatch.delenv("TF_CONFIG", raising=False)
  if text:
    monkeypatch.setenv("TF_CONFIG", text)
  workers = read_workers(Config(strategy=strategy))
  assert workers == (Workers(("a:1", "b:2"), 1) if several else Workers())


@pytest.mark.parametrize("text", ["", _tf_config({"worker": ["a:1"]}, "worker", 0)])
def test_multi_worker_needs_several(monkeypatch, text):
  monkeypatch.setenv("TF_CONFIG", text)
  with pytest.raises(UserError, match=r"--strategy=multi_worker needs several workers.*TF_CONFIG"):
    read_workers(Config(strategy="multi_worker"))


def test_a_worker_on_a_cpu_is_one_replica(monkeypatch):
  monkeypatch.setenv("TF_CONFIG", _tf_config(_TWO, "worker", 0))
  with pytest.raises(UserError, match="--device_count=2: a worker on a CPU is one replica"):
    create_strategy(Config(device="cpu", device_count=2))


@pytest.mark.parametrize(
  ("kind", "text", "told"),
  [
    (tf.errors.UnavailableError, "from /job:worker/replica:0/task:1 while", "worker 1 (b:2)"),
    (tf.errors.AbortedError, "/job:worker/task:0: aborted", "another worker"),
  ],
)
def test_a_lost_worker_is_named(kind, text, told):
  with pytest.raises(UserError) as raised, lost_worker_told(Workers(("a:1", "b:2"), 0)):
    raise kind(None, None, text)
  assert str(raised.value).startswith(f"{told} has ended or can't be reached; see its log, and")


def test_other_errors_are_no_lost_workers():
  alone, pair = Workers(), Workers(("a:1", "b:2"), 0)
  for workers, kind in (
    (alone, tf.errors.UnavailableError),
    (pair, tf.errors.ResourceExhaustedError),
  ):
    with pytest.raises(kind), lost_worker_told(workers):
      raise kind(None, None, "text")


def test_alone_an_exchange_returns_what_it_was_given():
  for replicas in (1, 2):
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    assert Exchange(strategy, Workers()).gather(15) == [15]


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
