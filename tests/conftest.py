"""Fixtures of all tests: the devices of the process, and datasets that are prepared once."""

import gzip
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest

# Set before TensorFlow is imported: its messages about the machine would bury a test's output.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import commands
import tensorflow as tf

from mnist_research.config import Config
from mnist_research.data import datasets
from mnist_research.inference.recognizer import Recognizer, load_recognizer
from mnist_research.workdir import SHIPPED, Workdir

# Several devices on any machine: the most replicas that any test uses.
_LOGICAL_CPUS = 4

hypothesis.settings.register_profile("tests", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.load_profile("tests")


def pytest_configure() -> None:
  """Creates the logical CPUs, which must happen before the first operation of a process."""
  cpu = tf.config.list_physical_devices("CPU")[0]
  devices = [tf.config.LogicalDeviceConfiguration()] * _LOGICAL_CPUS
  tf.config.set_logical_device_configuration(cpu, devices)


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
  """The directory with the four original files of MNIST; skips the test if there is none."""
  directory = os.environ.get("MNIST_RESEARCH_MNIST_DIR")
  if not directory:
    pytest.skip("MNIST_RESEARCH_MNIST_DIR doesn't name the directory of MNIST's original files")
  return Path(directory)


@pytest.fixture
def default_signals() -> Iterator[None]:
  """Restores all signals for a test's programs: nohup and a shell's `&` ignore some."""
  numbers = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
  ignored = [number for number in numbers if signal.getsignal(number) == signal.SIG_IGN]
  for number in ignored:
    signal.signal(number, signal.SIG_DFL)
  yield
  for number in ignored:
    signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def user_reference(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
  """Returns references to definitions in a user's file, which contains the module's `USER_CODE`."""
  file = tmp_path / "mine.py"
  file.write_text(f"{request.module.USER_CODE}# {tmp_path}")  # Equal files share one module.
  return lambda name: f"{file}:{name}"


@pytest.fixture(scope="session")
def read_mnist(mnist_dir) -> Callable[[str], np.ndarray]:
  """Reads an original file, named without `.gz`, as a uint8 array of its shape."""

  def read(name: str) -> np.ndarray:
    with gzip.open(mnist_dir / f"{name}.gz") as file:
      content = file.read()
    # The last byte of the magic number counts the dimensions; each is a big-endian integer.
    shape = np.frombuffer(content, ">i4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)

  return read


def _shared_directory(tmp_path_factory: pytest.TempPathFactory, name: str) -> Path:
  """A directory of this test session, shared by all pytest-xdist processes."""
  base = tmp_path_factory.getbasetemp()
  if "PYTEST_XDIST_WORKER" in os.environ:
    base = base.parent
  directory = base / name
  directory.mkdir(exist_ok=True)
  return directory


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> str:
  """A data_dir with `synthetic_digits/2000_500`."""
  data_dir = str(_shared_directory(tmp_path_factory, "prepared"))
  datasets.prepare(Config(dataset="synthetic_digits/2000_500", data_dir=data_dir))
  return data_dir


@pytest.fixture(scope="session")
def trained(prepared: str, tmp_path_factory: pytest.TempPathFactory) -> commands.Trained:
  """The small run, trained once per pytest process."""
  workdir = tmp_path_factory.mktemp("trained") / "run"
  finished = commands.run(
    *commands.SMALL, "--epochs=6", f"--data_dir={prepared}", f"--workdir={workdir}"
  )
  return commands.Trained(workdir, finished)


@pytest.fixture(scope="session")
def recognizer() -> Recognizer:
  """The shipped network."""
  workdir = Workdir(SHIPPED)
  return load_recognizer(workdir, workdir.trained_config())


@pytest.fixture(scope="session")
def mnist_data_dir(tmp_path_factory: pytest.TempPathFactory, mnist_dir: Path) -> str:
  """A data_dir with `mnist`, prepared from its original files."""
  data_dir = str(_shared_directory(tmp_path_factory, "mnist"))
  datasets.prepare(Config(dataset="mnist", data_dir=data_dir, manual_dir=str(mnist_dir)))
  return data_dir
