"""The directory of a run: what each file in it is called, and how it is read and written."""

import contextlib
import fcntl
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from mnist_research import __version__
from mnist_research import config as config_lib
from mnist_research.config import Config
from mnist_research.errors import UserError, writing

# A trained network that comes with the package; scripts/ship_model.py makes it.
SHIPPED = Path(__file__).parent / "shipped"

_PACKAGES = ("tensorflow", "keras", "numpy", "tensorflow-datasets")


class Predictions(NamedTuple):
  """What a network predicted for the test examples, in their order.

  Attributes:
    labels: int32 [N], the true classes.
    probabilities: float32 [N, classes].
    label_names: what each class is called.
  """

  labels: np.ndarray
  probabilities: np.ndarray
  label_names: tuple[str, ...]


class Workdir:
  """A run's directory.

  It holds `config.cfg` (a flagfile that repeats the run), `environment.json`, `metrics.jsonl` (one
  object a line), `predictions-test.npz`, `result.json` (there when the run is finished),
  `checkpoints/`, `tensorboard/`, `figures/`, and with `--select=best` the checkpoints of `best/`.
  """

  def __init__(self, path: str | Path):
    self.path = Path(path)
    self.checkpoints = self.path / "checkpoints"
    self.best = self.path / "best"
    self.tensorboard = self.path / "tensorboard"
    self.figures = self.path / "figures"
    self._config = self.path / "config.cfg"
    self._metrics = self.path / "metrics.jsonl"
    self._predictions = self.path / "predictions-test.npz"
    self._result = self.path / "result.json"

  @contextlib.contextmanager
  def opened(self) -> Iterator[None]:
    """Makes the directory and holds it for this process alone.

    Raises:
      UserError: it is a file, it can't be written, or another process trains in it.
    """
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      lock = (self.path / ".lock").open("w")
    except OSError as error:
      raise UserError(
        f"--workdir={self.path}: {error.strerror}; choose a directory that can be written"
      ) from error
    with lock:
      try:
        # A lock of the operating system: a process that died, however it died, holds none.
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        raise UserError(
          f"--workdir={self.path}: another process is training there; wait for it, or choose "
          "another --workdir"
        ) from None
      yield

  def selected(self, config: Config) -> Path:
    """The directory whose newest checkpoint is the one that `config` has tested and used."""
    return self.best if config.select == "best" else self.checkpoints

  def read_config(self) -> Config | None:
    """Returns the run's settings, or None where no run has begun.

    Raises:
      UserError: `config.cfg` is damaged.
    """
    return config_lib.from_flagfile(self._config) if self._config.exists() else None

  def trained_config(self) -> Config:
    """Returns the settings of the run that is here.

    Raises:
      UserError: there is none, or `config.cfg` is damaged.
    """
    config = self.read_config()
    if config is None:
      raise UserError(f"--workdir={self.path} holds no run: name the --workdir of a train command")
    return config

  def begin(self, config: Config, *, devices: list[str], step: int) -> None:
    """Writes down what runs here, from `step` on, and drops the metrics of later steps."""
    with writing(self.figures):
      self.figures.mkdir(exist_ok=True)
    write_atomically(self._config, config.to_flagfile())
    self._write_environment(devices)
    self._drop_metrics_after(step)

  def read_result(self) -> dict[str, Any] | None:
    """Returns the result of a finished run, or None.

    Raises:
      UserError: `result.json` is damaged.
    """
    if not self._result.exists():
      return None
    try:
      result = json.loads(self._result.read_text(encoding="utf-8"))
      return {"step": int(result["step"]), **result}
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
      raise UserError(
        f"{self._result} is damaged; delete it, and the same train command makes it again"
      ) from error

  def write_result(self, result: Mapping[str, Any]) -> None:
    """Writes `result.json`, whole or not at all."""
    write_atomically(self._result, json.dumps(result, indent=1) + "\n")

  def read_environment(self) -> dict[str, Any]:
    """Returns the content of `environment.json`.

    Raises:
      UserError: it is missing or damaged.
    """
    path = self.path / "environment.json"
    try:
      return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
      raise UserError(f"{path} can't be read: {error}") from error

  def read_predictions(self) -> Predictions | None:
    """Returns what a finished run predicted; None where it left nothing.

    Raises:
      UserError: `predictions-test.npz` is damaged.
    """
    if not self._predictions.exists():
      return None
    try:
      with np.load(self._predictions) as arrays:  # A zip file: its checksums guard every byte.
        names = tuple(map(str, arrays["label_names"]))
        predictions = Predictions(arrays["labels"], arrays["probabilities"], names)
    # RuntimeError: damage that reads as an encrypted zip file.
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
      raise UserError(f"{self._predictions} is damaged: {error}") from error
    labels, probabilities, _ = predictions
    if (
      labels.dtype != np.int32
      or probabilities.dtype != np.float32
      or probabilities.shape != (*labels.shape, len(names))
      or not np.isin(labels, range(len(names))).all()
      or not np.isfinite(probabilities).all()
      or not labels.size
    ):
      raise UserError(f"{self._predictions} is damaged: its arrays don't fit each other")
    return predictions

  def write_predictions(self, predictions: Predictions) -> None:
    """Writes `predictions-test.npz`, whole or not at all."""
    file = io.BytesIO()
    np.savez(file, **predictions._asdict())
    write_atomically(self._predictions, file.getvalue())

  def read_metrics(self) -> list[dict[str, Any]]:
    """Returns the objects of `metrics.jsonl`.

    Raises:
      UserError: a line other than a last one that was cut off is damaged.
    """
    if not self._metrics.exists():
      return []
    try:
      lines = self._metrics.read_text(encoding="utf-8").splitlines(keepends=True)
    except UnicodeDecodeError as error:
      raise UserError(f"{self._metrics} is damaged: {error}") from error
    records = []
    for number, line in enumerate(lines, start=1):
      if not line.endswith("\n"):
        break  # The process was killed while it wrote this line.
      try:
        record = json.loads(line)
        records.append({"step": int(record["step"]), "split": str(record["split"]), **record})
      except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise UserError(
          f"{self._metrics} is damaged in line {number}; delete that line and run again"
        ) from error
    return records

  def append_metrics(self, *records: Mapping[str, Any]) -> None:
    """Adds one line for each of `records` to `metrics.jsonl`."""
    with writing(self._metrics), self._metrics.open("a", encoding="utf-8") as file:
      file.writelines(json.dumps(record) + "\n" for record in records)

  def _drop_metrics_after(self, step: int) -> None:
    """Drops what was written past the checkpoint of `step`: those steps are done again.

    The test split is scored after the last checkpoint, so its line always goes.
    """
    kept = [r for r in self.read_metrics() if r["step"] <= step and r["split"] != "test"]
    write_atomically(self._metrics, "".join(json.dumps(record) + "\n" for record in kept))

  def _write_environment(self, devices: list[str]) -> None:
    """Writes `environment.json`: versions, devices, command and commit of this process."""
    environment = {
      "python": sys.version.split()[0],
      "mnist_research": __version__,
      **{name: metadata.version(name) for name in _PACKAGES},
      "platform": os.uname().sysname + " " + os.uname().machine,
      "processor": _processor(),
      "cores": os.cpu_count(),
      "devices": devices,
      "command": [Path(sys.executable).name, *sys.argv],
      "commit": _commit(),
    }
    write_atomically(self.path / "environment.json", json.dumps(environment, indent=1) + "\n")


def trained_workdir(path: str) -> Workdir:
  """Returns the workdir at `path`; where that is empty, the one that comes with the package."""
  if path:
    return Workdir(path)
  workdir = Workdir(SHIPPED)
  logging.info("no --workdir: the network that comes with the package, %s", SHIPPED)
  return workdir


def write_atomically(path: Path, content: str | bytes) -> None:
  """Writes `content` under another name and renames it: a reader sees the old or the new file."""
  partial = path.with_name(f".{path.name}.partial")
  try:
    with writing(path), partial.open("wb") as file:
      file.write(content.encode() if isinstance(content, str) else content)
      file.flush()
      os.fsync(file.fileno())
  except UserError:
    partial.unlink(missing_ok=True)
    raise
  partial.replace(path)


def _processor() -> str:
  """The name of the processor, as Linux tells it."""
  try:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
  except OSError:
    return os.uname().machine
  names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
  return names[0] if names else os.uname().machine


def _commit() -> str | None:
  """The commit of the package's checkout; None where it is none."""
  command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
  try:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return None
