"""Small operations that test TensorFlow and a device, and may crash their process.

They run in a child process, so they take and return only values that JSON can represent.
"""

import contextlib
import ctypes
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mnist_research.runtime.child_process import ChildProcess

# Relative to the largest entry. TensorFloat-32, which GPUs use, has a 10-bit mantissa.
_TOLERANCE = 1e-2
# Matches CUDA's libraries in the memory map of a process.
_CUDA_LIBRARY = re.compile(r"/lib(cu|nv|nccl)[^/]*\.so[^/]*$")


def describe() -> dict[str, Any]:
  """Returns the versions of TensorFlow and Keras, and the visible GPUs.

  `libraries` has the path of each loaded CUDA library, `built_for` the compute capabilities that
  TensorFlow was built for, such as `sm_89`, and `capability` that of a GPU, such as (9, 0).
  """
  build = tf.sysconfig.get_build_info()
  built_for = list(build.get("cuda_compute_capabilities", []))
  return {
    "tensorflow": tf.__version__,
    "keras": keras.__version__,
    "cuda_build": bool(build["is_cuda_build"]),
    "cuda": build.get("cuda_version"),
    "cudnn": build.get("cudnn_version"),
    "built_for": built_for,
    "gpus": [_describe_gpu(gpu, built_for) for gpu in _gpus()],
    "libraries": _loaded_libraries(),
    "driver_cuda": _cuda_of_driver(),
  }


def multiply(device: str) -> None:
  """Multiplies two matrices on a device and compares the product with NumPy's.

  Raises:
    ArithmeticError: they differ.
  """
  left, right = _random(96, 128), _random(128, 64)
  with _on(device):
    product = tf.matmul(left, right).numpy()
  _compare(product, left @ right)


def convolve(device: str) -> None:
  """Convolves images with kernels on a device and compares the result with NumPy's.

  Raises:
    ArithmeticError: they differ.
  """
  images, kernels = _random(4, 12, 12, 3), _random(3, 3, 3, 8)
  with _on(device):
    convolved = tf.nn.conv2d(images, kernels, strides=1, padding="VALID").numpy()
  windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(1, 2))
  _compare(convolved, np.einsum("nyxcij,ijco->nyxo", windows, kernels))


def compile_block(device: str) -> None:
  """Compiles a loop of products with XLA, runs it on a device, and compares with NumPy.

  Raises:
    ArithmeticError: they differ.
  """
  start, factor = _random(16, 16), _random(16, 16) / 16

  @tf.function(jit_compile=True, autograph=False)
  def block(value, steps):
    return tf.while_loop(
      lambda index, _: index < steps,
      lambda index, current: (index + 1, tf.nn.relu(current @ factor) + start),
      (tf.constant(0), value),
    )[1]

  with _on(device):
    result = block(tf.constant(start), tf.constant(3)).numpy()
  expected = start
  for _ in range(3):
    expected = np.maximum(expected @ factor, 0) + start
  _compare(result, expected)


def is_newer(capability: Sequence[int], built_for: Sequence[str]) -> bool:
  """Returns whether a GPU is newer than all those that TensorFlow was built for.

  Args:
    capability: the GPU's compute capability, such as (12, 0).
    built_for: the capabilities, such as `sm_89` or `compute_90`; if empty, no GPU counts as newer.
  """
  numbers = [int(number) for name in built_for for number in re.findall(r"_(\d+)", name)]
  return bool(numbers) and 10 * capability[0] + capability[1] > max(numbers)


def xla_fails(device: str) -> str:
  """Returns why XLA can't be used on a device; empty if it can.

  Tests XLA only on a GPU newer than those that this TensorFlow was built for, where XLA may abort
  the process (tensorflow#111958). The test takes as long as starting TensorFlow.
  """
  if "GPU" not in device:
    return ""
  index = int(device.rpartition(":")[2])
  details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[index])
  capability = details.get("compute_capability", (0, 0))
  built_for = tf.sysconfig.get_build_info().get("cuda_compute_capabilities", [])
  if not is_newer(capability, built_for):
    return ""
  with ChildProcess() as child:
    return child.call(f"{__name__}:compile_block", f"GPU:{index}").failure


def _random(*shape: int) -> np.ndarray:
  return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _compare(value: np.ndarray, expected: np.ndarray) -> None:
  error = float(np.max(np.abs(value - expected)) / np.max(np.abs(expected)))
  if not error <= _TOLERANCE:
    raise ArithmeticError(f"the result is off by {error:.2g} of its largest entry")


@contextlib.contextmanager
def _on(device: str) -> Iterator[None]:
  """Places operations on a device, and takes only as much GPU memory as they need."""
  _gpus()
  with tf.device(device):
    yield


def _describe_gpu(gpu: Any, built_for: list[str]) -> dict[str, Any]:
  details = tf.config.experimental.get_device_details(gpu)
  capability = details.get("compute_capability", (0, 0))
  return {
    "name": details.get("device_name", gpu.name),
    "capability": capability,
    "newer": is_newer(capability, built_for),
  }


def _gpus() -> list[Any]:
  gpus = tf.config.list_physical_devices("GPU")
  for gpu in gpus:
    with contextlib.suppress(RuntimeError):  # The GPU is in use, and memory growth is set.
      tf.config.experimental.set_memory_growth(gpu, True)
  return gpus


def _loaded_libraries() -> dict[str, str]:
  """Returns the paths of CUDA's libraries in this process, by name; empty except on Linux."""
  try:
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
  except OSError:
    return {}
  paths = {line.split(maxsplit=5)[-1] for line in lines if _CUDA_LIBRARY.search(line)}
  return {Path(path).name: path for path in sorted(paths)}


def _cuda_of_driver() -> str | None:
  """Returns the newest CUDA version that the driver supports, such as 12.4, or None."""
  version = ctypes.c_int()
  try:
    get_version: Callable[..., int] = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion
  except (OSError, AttributeError):
    return None
  if get_version(ctypes.byref(version)):
    return None
  return f"{version.value // 1000}.{version.value % 1000 // 10}"
