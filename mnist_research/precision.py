"""The arithmetic of the layers: which precision pays on a device, and what Keras calls it."""

from pathlib import Path

import tensorflow as tf

from mnist_research.config import Config

# What a processor can multiply in bfloat16 with, as Linux tells it.
_CPU_BFLOAT16 = {"amx_bf16", "avx512_bf16"}
# Narrower layers cost less than their conversion.
_WIDE_UNITS = 1024
_WIDE_BATCH = 128
_POLICIES = {
  "float32": "float32",
  "bfloat16": "mixed_bfloat16",
  "float16": "mixed_float16",
}


def policy(precision: str) -> str:
  """Returns Keras's name of the policy for `precision`; the weights are float32 in each.

  Args:
    precision: `float32`, `bfloat16` or `float16`; `auto` must have been chosen.
  """
  return _POLICIES[precision]


def choose(config: Config, device: str) -> str:
  """Returns the precision that `config` asks for on `device`; what `auto` stands for there.

  Half the bits pay for convolutions and for wide layers in large batches (twice the speed where
  the device multiplies them faster); the others spend their time elsewhere.

  Args:
    config: the settings.
    device: the name of a logical device, such as `CPU:0`.
  """
  if config.precision != "auto":
    return config.precision
  wide = max(config.hidden_units, default=0) >= _WIDE_UNITS and config.batch_size >= _WIDE_BATCH
  if config.model == "dense" and not wide:
    return "float32"
  return _gpu_half(device) if "GPU" in device else _cpu_half()


def _gpu_half(device: str) -> str:
  """The fast half precision of a GPU: bfloat16 from NVIDIA's compute capability 8 on."""
  gpu = tf.config.list_physical_devices("GPU")[int(device.rpartition(":")[2])]
  capability = tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
  if capability >= (8, 0):
    return "bfloat16"
  return "float16" if capability >= (7, 0) else "float32"


def _cpu_half() -> str:
  """The fast half precision of this machine's processor; float32 where there is none."""
  try:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
  except OSError:
    return "float32"
  return "bfloat16" if _CPU_BFLOAT16 & set(text.split()) else "float32"
