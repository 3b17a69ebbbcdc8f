"""Sets up where a run computes: devices, `tf.distribute` strategy, process settings.

Each worker has one replica per device.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from absl import logging

from mnist_research import probes
from mnist_research.config import Config, DeviceConfig
from mnist_research.runtime.errors import UserError
from mnist_research.workers import Workers, wait_for_others


def create_strategy(config: Config, workers: Workers) -> tf.distribute.Strategy:
  """Configures the process for `config` and returns its strategy; waits for all workers.

  A process can set its devices only once, before its first operation.

  Raises:
    UserError: the device or the number of devices isn't available, a batch has fewer examples than
      there are replicas, or TF_CONFIG is invalid.
  """
  if config.run.deterministic:
    tf.config.experimental.enable_op_determinism()
  if workers.several:
    strategy = _join(config, workers)
  else:
    devices = _devices(config.devices.device, config.devices.device_count)
    is_single = config.devices.strategy == "one_device" or (
      config.devices.strategy == "auto" and len(devices) == 1
    )
    strategy = tf.distribute.OneDeviceStrategy(devices[0]) if is_single else _mirrored(devices)
  replicas = strategy.num_replicas_in_sync
  if config.optimization.batch_size < replicas:
    raise UserError(
      f"--batch_size={config.optimization.batch_size} leaves some of the {replicas} replicas "
      "without an example: choose a larger one, or fewer devices"
    )
  return strategy


def _mirrored(devices: list[str]) -> tf.distribute.Strategy:
  # On CPUs the default uses collective operations, whose keys start at the same number in each
  # strategy, so the second model of a process would collide with the shapes of the first.
  on_cpu = devices[0].startswith("CPU")
  return tf.distribute.MirroredStrategy(
    devices, cross_device_ops=tf.distribute.ReductionToOneDevice() if on_cpu else None
  )


def _join(config: Config, workers: Workers) -> tf.distribute.Strategy:
  devices = _devices(config.devices.device, config.devices.device_count)
  on_cpu = devices[0].startswith("CPU")
  if on_cpu and len(devices) > 1:
    raise UserError(
      f"--device_count={len(devices)}: a worker on a CPU is one replica; start more workers"
    )
  if not on_cpu:
    gpus = tf.config.list_physical_devices("GPU")
    tf.config.set_visible_devices(gpus[: len(devices)], "GPU")
  logging.info(
    "worker %d of %s; waiting for the others", workers.index, ", ".join(workers.addresses)
  )
  wait_for_others(workers)
  resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
    tf.train.ClusterSpec({"worker": list(workers.addresses)}),
    task_type="worker",
    task_id=workers.index,
    num_accelerators={"GPU": 0 if on_cpu else len(devices)},
    rpc_layer="grpc",
  )
  try:
    with _waiting():
      return tf.distribute.MultiWorkerMirroredStrategy(resolver)
  except tf.errors.UnknownError as error:
    raise UserError(
      f"worker {workers.index} can't listen on the port of {workers.addresses[workers.index]}: "
      "choose a free one in TF_CONFIG"
    ) from error


@contextlib.contextmanager
def _waiting() -> Iterator[None]:
  """Lets Ctrl-C end the process at once, and restores the handler of SIGTERM afterward.

  While TensorFlow waits for the other workers, no Python code runs, so no Python handler does. In
  addition, TensorFlow replaces the handler of SIGTERM by one that only records the signal.
  """
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
  signal.signal(signal.SIGINT, signal.SIG_DFL)
  try:
    yield
  finally:
    for number, handler in handlers.items():
      signal.signal(number, handler)


def describe(strategy: tf.distribute.Strategy, workers: Workers) -> str:
  """Describes the devices of a run, such as `CPU:0, CPU:1 (mirrored)`."""
  devices = ", ".join(name.rpartition("device:")[2] for name in strategy.extended.worker_devices)
  if workers.several:
    return f"{devices} of each of {len(workers.addresses)} workers (multi_worker)"
  is_single = isinstance(strategy, tf.distribute.OneDeviceStrategy)
  return f"{devices} ({'one_device' if is_single else 'mirrored'})"


def all_devices(strategy: tf.distribute.Strategy, workers: Workers) -> list[str]:
  """Returns TensorFlow's names of the devices of all workers, which have the same devices."""
  local_devices = list(strategy.extended.worker_devices)
  return [
    name.replace(f"/task:{workers.index}/", f"/task:{index}/")
    for index in range(max(1, len(workers.addresses)))
    for name in local_devices
  ]


def compiles_with_xla(
  devices: DeviceConfig, strategy: tf.distribute.Strategy, *, model_gains: bool
) -> bool:
  """Returns whether XLA compiles the block of steps.

  XLA can't compile a block that reduces gradients over replicas. On a GPU newer than those that
  TensorFlow was built for, `auto` tests XLA in a child process.

  Args:
    devices: the settings.
    strategy: the strategy of this process.
    model_gains: whether XLA makes the steps of the model faster.

  Raises:
    UserError: --xla=on with several replicas.
  """
  several = strategy.num_replicas_in_sync > 1
  if devices.xla == "on" and several:
    raise UserError("--xla=on supports only one replica: use --strategy=one_device or --xla=auto")
  if devices.xla != "auto":
    return devices.xla == "on"
  if several or not model_gains:
    return False
  failure = probes.xla_fails(strategy.extended.worker_devices[0])
  if failure:
    logging.warning(
      "--xla=auto: the GPU is newer than what this TensorFlow was built for, and XLA fails there "
      "(%s): the steps run without it", failure,
    )  # fmt: skip
  return not failure


def first_example(replica: Any, *, batch_size: int, replicas: int) -> Any:
  """Returns the position of a replica's first example in the global batch; integers or tensors.

  A replica's examples end at the next replica's first. If the batch doesn't divide evenly, some
  replicas have one example more; no example is dropped, repeated or padded.
  """
  return replica * batch_size // replicas


def sum_over_workers(value: tf.Tensor, strategy: tf.distribute.Strategy) -> tf.Tensor:
  """Returns the sum of `value` over the processes of a run; for compiled code."""
  if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
    return strategy.reduce("SUM", value, axis=None)
  return value


def replica_slices(strategy: tf.distribute.Strategy, batch_size: int) -> list[slice]:
  """Returns each replica's slice of the global batch, for the replicas of this process in order."""
  replicas = strategy.num_replicas_in_sync
  slices: list[slice] = []

  def record_slice(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
    replica = context.replica_id_in_sync_group
    start, stop = (
      first_example(r, batch_size=batch_size, replicas=replicas) for r in (replica, replica + 1)
    )
    slices.append(slice(start, stop))
    return tf.constant(0)

  strategy.experimental_distribute_values_from_function(record_slice)
  return slices


def _devices(kind: str, count: int) -> list[str]:
  """Returns the names of `count` logical devices; creates them on CPUs."""
  gpus = [] if kind == "cpu" else tf.config.list_physical_devices("GPU")
  if kind == "gpu" and not gpus:
    raise UserError("--device=gpu: TensorFlow sees no GPU; use --device=auto or --device=cpu")
  if gpus:
    if count > len(gpus):
      raise UserError(f"--device_count={count}: TensorFlow sees {len(gpus)} GPUs")
    for gpu in gpus:
      # Otherwise the first process takes all memory on every GPU.
      tf.config.experimental.set_memory_growth(gpu, True)
    return [f"GPU:{i}" for i in range(count or len(gpus))]
  if kind == "cpu":
    tf.config.set_visible_devices([], "GPU")
  cpus = _split_cpu(count or 1)
  return [f"CPU:{i}" for i in range(cpus)]


def _split_cpu(count: int) -> int:
  """Creates `count` logical devices on the CPU, and returns their number."""
  if count > 1:
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
      tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * count
      )
    except RuntimeError:
      existing = len(tf.config.list_logical_devices("CPU"))
      if existing < count:
        raise UserError(
          f"--device_count={count}: this process already has {existing} CPU devices; use a new one"
        ) from None
  return count
