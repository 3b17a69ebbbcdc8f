"""Chooses the precision of the layers for a device, and sets it in Keras."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from absl import logging

# Processor features for bfloat16 multiplication, as Linux reports them.
_CPU_BFLOAT16 = {"amx_bf16", "avx512_bf16"}
_POLICIES = {
  "float32": "float32",
  "bfloat16": "mixed_bfloat16",
  "float16": "mixed_float16",
}


@contextlib.contextmanager
def default_policy(precision: str) -> Iterator[None]:
  """Makes layers created inside the context compute in `precision`, with float32 weights.

  Args:
    precision: `float32`, `bfloat16` or `float16`, but not `auto`.
  """
  before = tf.keras.config.dtype_policy()
  tf.keras.config.set_dtype_policy(_POLICIES[precision])
  try:
    yield
  finally:
    tf.keras.config.set_dtype_policy(before)


def choose(precision: str, device: str, *, model_gains: bool) -> str:
  """Returns the requested precision; for `auto`, the best one for a device.

  Warns of a slow one.

  16 bits pay off for convolutions and for wide layers in large batches, which are twice as fast if
  the device multiplies 16 bits faster; other models spend their time elsewhere.

  Args:
    precision: the setting.
    device: the name of a logical device, such as `CPU:0`.
    model_gains: whether 16 bits make the model faster on a device that multiplies them faster.
  """
  if precision == "bfloat16" and "CPU" in device and _cpu_half() != "bfloat16":
    logging.warning(
      "--precision=bfloat16: this processor has no instructions for it, and trains convolutions "
      "several times slower than in float32; --precision=auto chooses by the processor"
    )
  if precision != "auto":
    return precision
  if not model_gains:
    return "float32"
  return _gpu_half(device) if "GPU" in device else _cpu_half()


def _gpu_half(device: str) -> str:
  """Returns a GPU's fast half precision: bfloat16 from NVIDIA's compute capability 8 on."""
  gpu = tf.config.list_physical_devices("GPU")[int(device.rpartition(":")[2])]
  capability = tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
  if capability >= (8, 0):
    return "bfloat16"
  return "float16" if capability >= (7, 0) else "float32"


def _cpu_half() -> str:
  """Returns the processor's fast half precision; float32 if it has none."""
  try:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
  except OSError:
    return "float32"
  return "bfloat16" if _CPU_BFLOAT16 & set(text.split()) else "float32"
