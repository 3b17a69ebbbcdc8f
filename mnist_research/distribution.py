"""Where a run computes: devices, the `tf.distribute` strategy, and what the process is set to."""

import tensorflow as tf

from mnist_research.config import Config
from mnist_research.errors import UserError


def create_strategy(config: Config) -> tf.distribute.Strategy:
  """Sets the process up for `config` and returns its strategy.

  The devices of a process can be set once only, before its first operation.

  Raises:
    UserError: the device or the count of devices isn't there, or the batch doesn't divide.
  """
  if config.deterministic:
    tf.config.experimental.enable_op_determinism()
  devices = _devices(config.device, config.device_count)
  name = config.strategy
  if name == "auto":
    name = "mirrored" if len(devices) > 1 else "one_device"
  if name == "one_device":
    return tf.distribute.OneDeviceStrategy(devices[0])
  if config.batch_size % len(devices):
    raise UserError(
      f"--batch_size={config.batch_size} doesn't divide by {len(devices)} replicas: choose a "
      "multiple, or another --device_count"
    )
  # On CPUs the default reduces by collective operations, whose keys begin at the same number in
  # each strategy: the second network of a process meets the shapes of the first.
  on_cpu = devices[0].startswith("CPU")
  return tf.distribute.MirroredStrategy(
    devices, cross_device_ops=tf.distribute.ReductionToOneDevice() if on_cpu else None
  )


def compiles_with_xla(config: Config, strategy: tf.distribute.Strategy) -> bool:
  """Whether the block of steps goes through XLA.

  Dense networks gain (three times the speed on a CPU at batch 32): their steps are many small
  operations, which XLA fuses. A block that reduces gradients over replicas can't be compiled.

  Raises:
    UserError: --xla=on with several replicas.
  """
  several = strategy.num_replicas_in_sync > 1
  if config.xla == "on" and several:
    raise UserError("--xla=on takes one replica: use --strategy=one_device or --xla=auto")
  if config.xla == "auto":
    return config.model == "dense" and config.precision == "float32" and not several
  return config.xla == "on"


def _devices(kind: str, count: int) -> list[str]:
  """Returns the names of `count` logical devices, and makes them where they are CPUs."""
  gpus = [] if kind == "cpu" else tf.config.list_physical_devices("GPU")
  if kind == "gpu" and not gpus:
    raise UserError("--device=gpu: TensorFlow sees no GPU; use --device=auto or --device=cpu")
  if gpus:
    if count > len(gpus):
      raise UserError(f"--device_count={count}: TensorFlow sees {len(gpus)} GPUs")
    for gpu in gpus:
      # Otherwise the first process takes all the memory of every GPU.
      tf.config.experimental.set_memory_growth(gpu, True)
    return [f"GPU:{i}" for i in range(count or len(gpus))]
  if kind == "cpu":
    tf.config.set_visible_devices([], "GPU")
  cpus = _split_cpu(count or 1)
  return [f"CPU:{i}" for i in range(cpus)]


def _split_cpu(count: int) -> int:
  """Makes `count` logical devices of the one CPU, and returns their number."""
  if count > 1:
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
      tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * count
      )
    except RuntimeError:
      made = len(tf.config.list_logical_devices("CPU"))
      if made < count:
        raise UserError(
          f"--device_count={count}: this process has made its {made} CPU devices; start another"
        ) from None
  return count
