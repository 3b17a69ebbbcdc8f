"""What of the environment decides how libraries behave, set right before they load."""

import os
import sys

from mnist_research.runtime.errors import UserError

# Of the addresses of a process. Training a small network took 3.2 GiB on two cores; with less than
# 2 GiB, OpenBLAS waits for memory without end as it is loaded.
_LEAST_MIB = 3072

# Variables that `prepare_keras` set otherwise or removed, as they were.
overridden: dict[str, str] = {}


def prepare_command() -> None:
  """Sets what a process needs that runs one command and nothing of a caller's."""
  # TensorFlow's own notes and warnings about the machine; its errors still show.
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  # No command opens a window with matplotlib, which Keras loads, too.
  os.environ["MPLBACKEND"] = "agg"


def prepare_keras() -> None:
  """Has Keras 3 run on TensorFlow, where Keras is not loaded yet.

  This package's networks are TensorFlow's. A Keras that the caller has loaded stays as it is.
  """
  if "keras" not in sys.modules:
    variables = {"KERAS_BACKEND": "tensorflow", "TF_USE_LEGACY_KERAS": ""}
    for name, value in variables.items():
      if os.environ.get(name, value) != value:
        overridden[name] = os.environ[name]
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.pop("TF_USE_LEGACY_KERAS", None)


def check_memory() -> None:
  """Raises UserError where a limit of this process leaves TensorFlow too little memory to load."""
  try:
    import resource
  except ImportError:  # Windows.
    return
  limit, _ = resource.getrlimit(resource.RLIMIT_AS)
  if limit != resource.RLIM_INFINITY and limit < _LEAST_MIB * 2**20:
    raise UserError(
      f"this process may use {limit // 2**20:,} MiB of memory, and TensorFlow needs {_LEAST_MIB:,} "
      f"MiB or more: raise the limit, as by ulimit -v {2 * _LEAST_MIB * 1024}"
    )


def set_up_keras() -> None:
  """Undoes for this process what a user's keras.json says of the layout and type of arrays."""
  import keras

  keras.config.set_image_data_format("channels_last")
  keras.config.set_floatx("float32")
  keras.config.set_epsilon(1e-7)
