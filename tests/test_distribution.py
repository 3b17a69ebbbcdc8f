"""Tests of the devices and strategies that a `Config` selects."""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from mnist_research.config import Config, DeviceConfig
from mnist_research.distribution import compiles_with_xla, create_strategy, replica_slices
from mnist_research.runtime.errors import UserError
from mnist_research.workers import (
  Exchange,
  Workers,
  parse_tf_config,
  read_workers,
  report_lost_worker,
  wait_for_others,
)

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
def test_strategy_has_the_requested_devices(settings, kind, devices):
  strategy = create_strategy(Config(**settings), Workers())
  assert type(strategy) is kind
  assert _devices(strategy) == devices
  assert strategy.num_replicas_in_sync == len(devices)


@pytest.mark.skipif(_HAS_GPU, reason="auto takes the GPU")
def test_replica_without_examples_is_rejected():
  with pytest.raises(UserError, match="--batch_size=3 leaves some of the 4 replicas without an ex"):
    create_strategy(Config(device_count=4, batch_size=3), Workers())
  strategy = create_strategy(Config(device_count=4, batch_size=4), Workers())
  assert strategy.num_replicas_in_sync == 4


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
def test_each_example_goes_to_exactly_one_replica(batch_size, replicas, sizes):
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
    # Kubeflow and Vertex AI: the first worker is named chief, and indices may be strings.
    (_tf_config({"chief": ["c:1"], **_TWO}, "worker", 1), Workers(("c:1", "a:1", "b:2"), 2)),
    (_tf_config({"chief": ["c:1"], **_TWO}, "chief", "0"), Workers(("c:1", "a:1", "b:2"), 0)),
    # Their setting for a single process.
    (_tf_config({"chief": ["c:1"]}, "chief", 0), Workers(("c:1",), 0)),
    ("{}", Workers()),
  ],
)
def test_tf_config_is_parsed(text, workers):
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
    _tf_config(_TWO, "worker", True),
    _tf_config(_TWO, "worker", 1.0),
    _tf_config({"worker": ["a:70000", "b:2"]}, "worker", 0),
    _tf_config({"worker": ["a:0", "b:2"]}, "worker", 0),
    _tf_config({"worker": ["a:1", "a:1"]}, "worker", 0),
    "[" * 10_000,
    _tf_config({"worker": ["a", "b:2"]}, "worker", 0),
    _tf_config({"chief": ["c:1", "d:1"], **_TWO}, "worker", 0),
  ],
)
def test_invalid_tf_config_is_rejected(text):
  with pytest.raises(UserError, match="the environment variable TF_CONFIG, such as") as raised:
    parse_tf_config(text)
  assert repr(text) in str(raised.value)


@pytest.mark.parametrize("task", ["master", "ps", "evaluator"])
def test_non_training_task_is_named(task):
  with pytest.raises(
    UserError, match=f'makes this process a {task!r} task.*start it as a "worker"'
  ):
    parse_tf_config(_tf_config({**_TWO, task: ["p:1"]}, task, 0))


def _free_ports(count: int) -> list[int]:
  sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
  ports = [each.getsockname()[1] for each in sockets]
  for each in sockets:
    each.close()
  return ports


def test_workers_wait_for_each_other():
  addresses = tuple(f"127.0.0.1:{port}" for port in _free_ports(3))
  with ThreadPoolExecutor() as threads:
    futures = [
      threads.submit(wait_for_others, Workers(addresses, index), seconds=20) for index in (0, 1)
    ]
    time.sleep(0.5)
    assert not any(future.done() for future in futures)
    # The last one stays up, as TensorFlow's server does.
    with socket.create_server(("127.0.0.1", int(addresses[2].rpartition(":")[2]))):
      # Each answers until it has seen the others, then takes the role of TensorFlow's server.
      done = [future.exception(timeout=20) for future in futures[:1]]
      assert done == [None]


def test_unresponsive_worker_is_named():
  this, other = _free_ports(2)
  workers = Workers((f"127.0.0.1:{this}", f"127.0.0.1:{other}", "no-such-host.invalid:2222"), 0)
  began = time.monotonic()
  with pytest.raises(UserError) as raised:
    wait_for_others(workers, seconds=1)
  assert time.monotonic() - began < 30
  assert str(raised.value).startswith(
    f"no answer from 127.0.0.1:{other}, no-such-host.invalid:2222 within 1 s: start the other"
  )


def test_port_in_use_is_named():
  with socket.create_server(("", 0)) as other:
    port = other.getsockname()[1]
    with pytest.raises(UserError, match=f"can't listen on the port of 127.0.0.1:{port}"):
      wait_for_others(Workers((f"127.0.0.1:{port}", "127.0.0.1:9"), 0), seconds=1)


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
def test_strategy_decides_whether_tf_config_is_used(monkeypatch, strategy, text, several):
  monkeypatch.delenv("TF_CONFIG", raising=False)
  if text:
    monkeypatch.setenv("TF_CONFIG", text)
  workers = read_workers(strategy)
  assert workers == (Workers(("a:1", "b:2"), 1) if several else Workers())


@pytest.mark.parametrize("text", ["", _tf_config({"worker": ["a:1"]}, "worker", 0)])
def test_multi_worker_needs_several_workers(monkeypatch, text):
  monkeypatch.setenv("TF_CONFIG", text)
  with pytest.raises(UserError, match=r"--strategy=multi_worker needs several workers.*TF_CONFIG"):
    read_workers("multi_worker")


def test_cpu_worker_is_one_replica(monkeypatch):
  monkeypatch.setenv("TF_CONFIG", _tf_config(_TWO, "worker", 0))
  with pytest.raises(UserError, match="--device_count=2: a worker on a CPU is one replica"):
    create_strategy(Config(device="cpu", device_count=2), Workers(("a:1", "b:2")))


@pytest.mark.parametrize(
  ("kind", "text", "name"),
  [
    (tf.errors.UnavailableError, "from /job:worker/replica:0/task:1 while", "worker 1 (b:2)"),
    (tf.errors.AbortedError, "/job:worker/task:0: aborted", "another worker"),
  ],
)
def test_lost_worker_is_named(kind, text, name):
  with pytest.raises(UserError) as raised, report_lost_worker(Workers(("a:1", "b:2"), 0)):
    raise kind(None, None, text)
  assert str(raised.value).startswith(f"{name} has ended or can't be reached; see its log, and")


def test_other_errors_are_not_lost_workers():
  alone, pair = Workers(), Workers(("a:1", "b:2"), 0)
  for workers, kind in (
    (alone, tf.errors.UnavailableError),
    (pair, tf.errors.ResourceExhaustedError),
  ):
    with pytest.raises(kind), report_lost_worker(workers):
      raise kind(None, None, "text")


def test_single_worker_exchange_returns_its_input():
  for replicas in (1, 2):
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    assert Exchange(strategy, Workers()).gather([15, 2]) == [(15, 2)]


@pytest.mark.skipif(_HAS_GPU, reason="there is a GPU")
def test_missing_gpu_is_rejected():
  with pytest.raises(UserError, match="--device=gpu: TensorFlow sees no GPU; use --device=auto"):
    create_strategy(Config(device="gpu"), Workers())


@pytest.mark.skipif(_HAS_GPU, reason="auto takes the GPU")
def test_too_many_logical_devices_are_rejected():
  with pytest.raises(UserError, match="--device_count=9: this process already has 4 CPU devices"):
    create_strategy(Config(device_count=9, batch_size=9), Workers())


@pytest.mark.parametrize(
  ("settings", "replicas", "compiled"),
  [
    ({}, 1, True),
    ({"pays": False}, 1, False),
    ({"pays": False, "xla": "on"}, 1, True),
    ({"xla": "on"}, 1, True),
    ({"xla": "off"}, 1, False),
    ({}, 2, False),
    ({"xla": "off"}, 2, False),
  ],
)
def test_xla_auto_compiles_where_it_pays(settings, replicas, compiled):
  if replicas == 1:
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
  else:
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
  pays = settings.pop("pays", True)
  assert compiles_with_xla(DeviceConfig(**settings), strategy, model_gains=pays) == compiled


def test_xla_on_rejects_several_replicas():
  strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
  with pytest.raises(
    UserError, match="--xla=on supports only one replica: use --strategy=one_device"
  ):
    compiles_with_xla(DeviceConfig(xla="on"), strategy, model_gains=True)
