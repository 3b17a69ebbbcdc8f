"""Environment settings that libraries read while they load."""

import contextlib
import os
import sys
from collections.abc import Iterator

from mnist_research.runtime.errors import UserError

# Address space. Training a small model took 3.2 GiB on two cores; below 2 GiB, OpenBLAS hangs while
# it loads.
_LEAST_MIB = 3072

_OPTIONAL_IMPORTS = ("IPython", "cv2", "jax", "matplotlib", "pandas")

# The original values of variables that `prepare_keras` changed or removed.
overridden: dict[str, str] = {}


def prepare_command() -> None:
  """Prepares a process that runs one command and no caller's code."""
  # Hides TensorFlow's info lines and warnings about the machine; errors still show.
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  # No command opens a window with matplotlib.
  os.environ["MPLBACKEND"] = "agg"


def prepare_keras() -> None:
  """Makes Keras 3 use TensorFlow, unless Keras is already loaded.

  This package's models need TensorFlow. If the caller has already loaded Keras, nothing changes.
  """
  if "keras" not in sys.modules:
    variables = {"KERAS_BACKEND": "tensorflow", "TF_USE_LEGACY_KERAS": ""}
    for name, value in variables.items():
      if os.environ.get(name, value) != value:
        overridden[name] = os.environ[name]
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.pop("TF_USE_LEGACY_KERAS", None)


def check_memory() -> None:
  """Raises UserError if a limit of this process leaves TensorFlow too little memory to load."""
  try:
    import resource
  except ImportError:  # Windows.
    return
  limit, _ = resource.getrlimit(resource.RLIMIT_AS)
  if limit != resource.RLIM_INFINITY and limit < _LEAST_MIB * 2**20:
    raise UserError(
      f"this process may use only {limit // 2**20:,} MiB of memory, but TensorFlow needs at least "
      f"{_LEAST_MIB:,} MiB: raise the limit, for example with ulimit -v {2 * _LEAST_MIB * 1024}"
    )


@contextlib.contextmanager
def without_optional_imports() -> Iterator[None]:
  """Stops TensorFlow and Keras from importing optional packages.

  If all are installed, they take a third of the import time. Nothing here uses them through
  TensorFlow or Keras, and imports after this context find them again.
  """
  hidden = [name for name in _OPTIONAL_IMPORTS if name not in sys.modules]
  for name in hidden:
    sys.modules[name] = None  # type: ignore[assignment]  # Makes the import fail.
  try:
    yield
  finally:
    for name in hidden:
      del sys.modules[name]


def set_up_keras() -> None:
  """Overrides, for this process, the layout and type of arrays in a user's keras.json."""
  import keras

  keras.config.set_image_data_format("channels_last")
  keras.config.set_floatx("float32")
  keras.config.set_epsilon(1e-7)
