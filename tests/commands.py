"""Runs commands as a user types them, and reads their workdirs.

`run` starts a process, which takes seconds to load TensorFlow. `call` runs a command in the process
of the test: for what doesn't depend on how a process starts and ends, or on its log.
"""

import contextlib
import gc
import hashlib
import importlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from mnist_research.runtime import app

REPOSITORY = Path(__file__).resolve().parents[1]

# Fields of metrics.jsonl and result.json that may differ when the same run is repeated.
_WALL_CLOCK = ("examples_per_second", "train_seconds", "sha256", "crc32")
# A local port that nobody listens on, so that the network is unreachable on any machine.
NO_NETWORK = {
  name: "http://127.0.0.1:9"
  for upper in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
  for name in (upper, upper.lower())
} | {"NO_PROXY": "", "no_proxy": ""}


class Finished(NamedTuple):
  """A command that has exited.

  Attributes:
    returncode: its exit code; negative if a signal killed it.
    stdout: the output for programs.
    stderr: the output for people.
  """

  returncode: int
  stdout: str
  stderr: str

  @property
  def records(self) -> list[dict[str, Any]]:
    """The objects on stdout, one per line, of a successful command."""
    assert self.returncode == 0, self.stderr
    return [json.loads(line) for line in self.stdout.splitlines()]

  @property
  def record(self) -> dict[str, Any]:
    """The only object on stdout: there may be nothing else."""
    (record,) = self.records
    return record

  @property
  def error(self) -> str:
    """The single `error:` line of a command that refused, the last line on stderr."""
    assert self.returncode == 2, self.stderr
    assert self.stdout == ""
    assert "Traceback" not in self.stderr
    *before, line = self.stderr.splitlines()
    assert line.startswith("error: ")
    assert not any("error:" in other for other in before)
    return line


def enforcing_permissions(path: Path) -> list[str]:
  """Returns the command prefix under which not even root can read `path`; skips without one."""
  prefix = []
  if os.access(path, os.R_OK) and shutil.which("setpriv"):
    # Drops only root's capability to override permissions.
    rights = "-dac_override,-dac_read_search"
    prefix = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"]
  if subprocess.run([*prefix, "test", "-r", path], check=False).returncode != 1:
    pytest.skip("this user reads everything, and setpriv can't change that")
  return prefix


def start(
  *arguments: str | Path,
  module: str = "train",
  environment: dict[str, str] | None = None,
  stdin: Any = None,
  stdout: Any = subprocess.PIPE,
  cwd: Path | None = None,
  prefix: Sequence[str] = (),
) -> subprocess.Popen:
  """Starts `python -m mnist_research.<module> ARGUMENTS`, behind the command `prefix`."""
  # This variable configures the tests, not the command.
  variables = {name: text for name, text in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
  path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
  return subprocess.Popen(
    [*prefix, sys.executable, "-m", f"mnist_research.{module}", *map(str, arguments)],
    env={**variables, "PYTHONPATH": path, **(environment or {})},
    stdin=stdin,
    stdout=stdout,
    stderr=subprocess.PIPE,
    text=True,
    cwd=cwd,
  )


def finish(process: subprocess.Popen, timeout: float = 240) -> Finished:
  """Waits until a command exits."""
  try:
    stdout, stderr = process.communicate(timeout=timeout)
  finally:
    process.kill()
  return Finished(process.returncode, stdout or "", stderr)


def stop(process: subprocess.Popen, number: signal.Signals) -> Finished:
  """Sends a signal to a command, which must exit within ten seconds."""
  process.send_signal(number)
  return finish(process, timeout=10)


def run(*arguments: str | Path, module: str = "train", **options: Any) -> Finished:
  """Runs a command to its end; `options` are those of `start`."""
  return finish(start(*arguments, module=module, **options))


def call(*arguments: str | Path, module: str = "train") -> Finished:
  """Runs a command in this process; stderr has its error line, and `caplog` its log."""
  command = importlib.import_module(f"mnist_research.{module}")
  with (
    contextlib.redirect_stdout(io.StringIO()) as stdout,
    contextlib.redirect_stderr(io.StringIO()) as stderr,
  ):
    returncode = app.call(command.main, command.define_flags, [*map(str, arguments)])
  gc.unfreeze()  # `train` freezes all objects.
  return Finished(returncode, stdout.getvalue(), stderr.getvalue())


def run_python(
  program: str,
  *,
  stdout: Any = subprocess.PIPE,
  path: str | Path = REPOSITORY,
  prefix: Sequence[str] = (),
) -> Finished:
  """Runs `python -c PROGRAM` to its end, with modules from `path`; `prefix` as for `start`."""
  process = subprocess.Popen(
    [*prefix, sys.executable, "-c", program],
    env={**os.environ, "PYTHONPATH": str(path)},
    stdout=stdout,
    stderr=subprocess.PIPE,
    text=True,
  )
  return finish(process)


def printed(result: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a result.json as `train` prints it: floats with six digits, without the digest."""
  return {
    name: float(f"{value:.6g}") if isinstance(value, float) else value
    for name, value in result.items()
    if name != "sha256"
  }


def wait_until(condition: Callable[[], bool], process: subprocess.Popen) -> None:
  """Waits until `condition` holds while `process` lives."""
  while not condition():
    assert process.poll() is None, f"the command ended too early: {process.stderr.read()}"
    time.sleep(0.005)


# A small run that learns, with every feature that resuming could get wrong.
SMALL = (
  "--dataset=synthetic_digits/2000_500",
  "--validation_examples=500",
  "--hidden_units=32",
  "--dropout_rate=0.1",
  "--ema_decay=0.9",
  "--learning_rate=0.01",
  "--batch_size=50",
  "--deterministic",
)


class Trained(NamedTuple):
  """A finished run; a test that changes its workdir must copy it.

  Attributes:
    workdir: its directory.
    finished: what the command printed.
  """

  workdir: Path
  finished: Finished


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
  """Returns the lines of metrics.jsonl."""
  return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def without_wall_clock(record: dict[str, Any]) -> dict[str, Any]:
  """Returns a line of metrics, or a result, without the fields that depend on the clock."""
  return {key: value for key, value in record.items() if key not in _WALL_CLOCK}


def last_step(workdir: Path) -> int:
  """The step of the last complete line of metrics; 0 if there is none."""
  try:
    text = (workdir / "metrics.jsonl").read_text()
  except FileNotFoundError:
    return 0
  lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
  return json.loads(lines[-1])["step"] if lines else 0


def checkpoint_arrays(workdir: Path) -> dict[str, np.ndarray]:
  """Returns every array of the newest checkpoint."""
  with tempfile.TemporaryDirectory() as directory:
    # TensorFlow would interpret brackets in a path as a glob.
    copy = shutil.copytree(max((workdir / "checkpoints").iterdir()), Path(directory) / "copy")
    reader = tf.train.load_checkpoint(str(copy / "state"))
    names = [name for name in reader.get_variable_to_shape_map() if not name.startswith("_")]
    return {
      name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE"): reader.get_tensor(name) for name in names
    }


def averaged_logits(workdir: Path, images: np.ndarray) -> np.ndarray:
  """Computes the logits of the small run's averages in NumPy; images are [N, 784] from 0 to 1."""
  arrays = checkpoint_arrays(workdir)

  def layer(name: str, x: np.ndarray) -> np.ndarray:
    return x @ arrays[f"averages/{name}.Skernel"] + arrays[f"averages/{name}.Sbias"]

  return layer("logits", np.maximum(layer("hidden_0.Sdense", images), 0))


class Events:
  """What TensorBoard shows of a run; the scalars of a split are under `<split>/<tag>`."""

  def __init__(self, directory: Path):
    """Reads the event files of `directory` and of its splits."""
    self._parts = {
      prefix: EventAccumulator(str(directory / prefix), size_guidance={"tensors": 0}).Reload()
      for prefix in ("", "train/", "validation/", "test/")
      if (directory / prefix).is_dir()
    }

  @property
  def tags(self) -> list[str]:
    """All tags; every event is a tensor."""
    return [p + tag for p, part in self._parts.items() for tag in part.Tags()["tensors"]]

  def tensors(self, tag: str) -> list[Any]:
    """Returns the events of a tag."""
    prefix = f"{tag.partition('/')[0]}/"
    own = self._parts.get(prefix)
    if own and tag.removeprefix(prefix) in own.Tags()["tensors"]:
      return own.Tensors(tag.removeprefix(prefix))
    return self._parts[""].Tensors(tag)

  def of_plugin(self, name: str) -> dict[str, bytes]:
    """Returns the content of each tag for the plugin of a dashboard."""
    found = {}
    for prefix, part in self._parts.items():
      with contextlib.suppress(KeyError):  # It has none.
        found.update({prefix + t: c for t, c in part.PluginTagToContent(name).items()})
    return found

  def graph(self) -> Any:
    """Returns the graph."""
    return self._parts[""].Graph()


def read_events(workdir: Path) -> Events:
  """Returns what TensorBoard shows of a run."""
  return Events(workdir / "tensorboard")


def shown_scalars(events: Events, tag: str) -> list[tuple[int, float]]:
  """Returns the steps and values of a tag of scalars."""
  return [(event.step, tf.make_ndarray(event.tensor_proto).item()) for event in events.tensors(tag)]


def assert_same_run(workdir: Path, other: Path) -> None:
  """Asserts that two runs ended with the same bits and recorded the same metrics."""
  arrays, others = checkpoint_arrays(workdir), checkpoint_arrays(other)
  assert arrays.keys() == others.keys()
  assert len(arrays) > 4
  for name, array in arrays.items():
    np.testing.assert_array_equal(array, others[name], err_msg=name)
  metrics = [[*map(without_wall_clock, read_metrics(path))] for path in (workdir, other)]
  assert metrics[0] == metrics[1]
  results = [json.loads((path / "result.json").read_text()) for path in (workdir, other)]
  assert without_wall_clock(results[0]) == without_wall_clock(results[1])
  events = [read_events(path) for path in (workdir, other)]
  for tag in ("train/loss", "validation/accuracy"):
    assert shown_scalars(events[0], tag) == shown_scalars(events[1], tag)
  # A run that is stopped after scoring the test split scores it again, but shows it once.
  once = [tag for tag in events[1].tags if tag.startswith(("test/", "_hparams_"))]
  for tag in [*once, "train/examples"]:
    steps = [[event.step for event in each.tensors(tag)] for each in events]
    assert steps[0] == steps[1], tag
  assert shown_scalars(events[0], "test/loss") == shown_scalars(events[1], "test/loss")


def contents(directory: Path) -> dict[str, tuple[int, str]]:
  """Returns the modification time and the digest of each file under `directory`.

  The lock is excluded, because acquiring it opens the file.
  """
  return {
    str(path.relative_to(directory)): (
      path.stat().st_mtime_ns,
      hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    for path in sorted(directory.rglob("*"))
    if path.is_file() and path.name != ".lock"
  }


def copy_digits(prepared: str, data_dir: Path) -> None:
  """Copies only `synthetic_digits/2000_500`: other tests add more to a data_dir."""
  name = "synthetic_digits/2000_500"
  shutil.copytree(
    Path(prepared) / name,
    data_dir / name,
    ignore=shutil.ignore_patterns(".*.partial"),
  )
