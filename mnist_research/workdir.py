"""The directory of a run: names its files, and reads and writes them."""

import contextlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from mnist_research import run_files
from mnist_research.config import Config
from mnist_research.config import flags as config_flags
from mnist_research.run_files import Predictions
from mnist_research.runtime import arrays, extensions, files, machine, records
from mnist_research.runtime.errors import UserError, writing
from mnist_research.runtime.files import write_atomically

# The trained model that ships with the package; scripts/ship_model.py writes it.
SHIPPED = Path(__file__).parent / "shipped"


class Workdir:
  """A run's directory.

  It contains `config.cfg` (a flagfile that repeats the run), `environment.json`, `metrics.jsonl`
  (one object per line), `predictions-test.npz`, `result.json` (once the run is finished),
  `checkpoints/`, `tensorboard/`, `figures/`, `source/` (custom code), with `--select=best`
  the checkpoints in `best/`, and after `evaluate --corruptions` `corruptions.json`.

  Each record contains its digest, as in `runtime/records.py`. A run of an earlier version has no
  digests; if environment.json has one, every record must.
  """

  def __init__(self, path: str | Path):
    self.path = Path(path)
    self.checkpoints = self.path / "checkpoints"
    self.best = self.path / "best"
    self.tensorboard = self.path / "tensorboard"
    self.figures = self.path / "figures"
    self.sources = self.path / "source"
    self._config = self.path / "config.cfg"
    self._environment = self.path / "environment.json"
    self._metrics = self.path / "metrics.jsonl"
    self._predictions = self.path / "predictions-test.npz"
    self._result = self.path / "result.json"
    self._corruptions = self.path / "corruptions.json"

  @contextlib.contextmanager
  def opened(self) -> Iterator[None]:
    """Creates the directory and locks it for this process.

    Raises:
      UserError: it is a file, it can't be written, or another process trains there.
    """
    with contextlib.ExitStack() as stack:
      try:
        self.path.mkdir(parents=True, exist_ok=True)
        stack.enter_context(files.locked(self.path / ".lock", wait=False))
      except BlockingIOError:
        raise UserError(
          f"--workdir={self.path}: another process is training there; wait for it, or choose "
          "another --workdir"
        ) from None
      except OSError as error:
        raise UserError(
          f"--workdir={self.path}: {error.strerror}; choose a directory that can be written"
        ) from error
      yield

  def selected(self, config: Config) -> Path:
    """Returns the directory whose newest checkpoint `config` selects for testing and use."""
    return self.best if config.run.select == "best" else self.checkpoints

  def read_config(self) -> Config | None:
    """Returns the run's settings, or None if no run has started.

    Raises:
      UserError: `config.cfg` is corrupt.
    """
    if not self._config.exists():
      return None
    try:
      records.check_text(records.read(self._config), required=self._is_sealed())
    except (OSError, ValueError) as error:
      raise UserError(
        f"{self._config} can't be read as settings: {error}; restore it, or start over "
        "in another --workdir"
      ) from error
    return config_flags.from_flagfile(self._config)

  def write_config(self, config: Config) -> None:
    """Writes `config.cfg` atomically."""
    write_atomically(self._config, records.with_digest(config.to_flagfile()))

  def trained_config(self) -> Config:
    """Returns the settings of this run, with custom code read from its copies.

    Raises:
      UserError: there is no run, or `config.cfg` is corrupt.
    """
    config = self.read_config()
    if config is None:
      raise UserError(f"--workdir={self.path} holds no run: name the --workdir of a train command")
    self._check_sources()
    return config.with_copied_sources(self.sources)

  def _check_sources(self) -> None:
    """Checks the copies of custom code against their digests."""
    try:
      digests = self.read_environment().get("sources")
    except UserError:  # This error is reported where config.cfg is shown.
      return
    for name, expected in (digests if isinstance(digests, dict) else {}).items():
      path = self.sources / Path(name).name
      # A missing copy is reported where it is used.
      if path.is_file() and records.digest_of_file(path) != expected:
        raise UserError(f"{path} differs from its digest; restore it, or train again")

  def changed_sources(self, config: Config) -> list[str]:
    """Describes each file of custom code that differs from its copy here.

    Raises:
      UserError: a file can't be read.
    """
    changed = []
    for flag, text in config.references():
      source = extensions.read_source(flag, text)
      copy = self.sources / source.name
      if not copy.is_file() or copy.read_bytes() != source.content:
        changed.append(f"--{flag}={text} has changed; {copy} is the original")
    return changed

  def begin(self, config: Config, *, devices: list[str], step: int) -> None:
    """Records that a run starts at `step`, and drops the metrics of later steps."""
    with writing(self.figures):
      self.figures.mkdir(exist_ok=True)
    digests = {}
    for flag, text in config.references():
      source = extensions.read_source(flag, text)
      with writing(self.sources):
        self.sources.mkdir(exist_ok=True)
      write_atomically(self.sources / source.name, source.content)
      digests[source.name] = records.digest(source.content)
    self.write_config(config)
    self._drop_metrics_after(step)
    # Written last, because from here on all records must have a digest.
    environment = machine.describe(devices)
    self.write_environment({**environment, "sources": digests} if digests else environment)

  def read_result(self) -> dict[str, Any] | None:
    """Returns the result of a finished run, or None.

    Raises:
      UserError: `result.json` is corrupt.
    """
    if not self._result.exists():
      return None
    try:
      result = records.unsealed(records.read(self._result), required=self._is_sealed())
      run_files.check_result(result)
    except (OSError, ValueError) as error:
      raise UserError(
        f"{self._result} is corrupt; delete it, and the same train command rewrites it ({error})"
      ) from error
    return result

  def read_corruptions(self) -> dict[str, Any] | None:
    """Returns the results of `evaluate --corruptions`, or None.

    Raises:
      UserError: `corruptions.json` is corrupt.
    """
    if not self._corruptions.exists():
      return None
    try:
      corruptions = records.unsealed(records.read(self._corruptions), required=True)
      run_files.check_corruptions(corruptions)
    except (OSError, ValueError) as error:
      raise UserError(f"{self._corruptions} is corrupt; delete it ({error})") from error
    corruptions.pop(records.SHA256)
    return corruptions

  def write_corruptions(self, corruptions: Mapping[str, Any]) -> None:
    """Writes `corruptions.json` atomically."""
    write_atomically(self._corruptions, records.to_text(records.sealed(corruptions)))

  def tested_step(self) -> int | None:
    """Returns the step of the model that a finished run tested; None if it is unfinished.

    Raises:
      UserError: `result.json` is corrupt.
    """
    result = self.read_result()
    return None if result is None else result.get("best_step", result["step"])

  def write_result(self, result: Mapping[str, Any]) -> dict[str, Any]:
    """Writes `result.json` atomically, and returns its content."""
    sealed = records.sealed(result)
    write_atomically(self._result, records.to_text(sealed))
    return sealed

  def read_environment(self) -> dict[str, Any]:
    """Returns the content of `environment.json`, without its digest.

    Raises:
      UserError: it is missing or corrupt.
    """
    try:
      environment = records.unsealed(records.read(self._environment), required=False)
    except (OSError, ValueError) as error:
      raise UserError(
        f"{self._environment} can't be read: {error}; restore it, or train again"
      ) from error
    environment.pop(records.SHA256, None)
    return environment

  def write_environment(self, environment: Mapping[str, Any]) -> None:
    """Writes `environment.json` atomically."""
    write_atomically(self._environment, records.to_text(records.sealed(environment)))

  def _is_sealed(self) -> bool:
    """Whether every record of the run must have a digest, as its environment.json does."""
    try:
      return records.SHA256 in records.parse(records.read(self._environment))
    except (OSError, ValueError):
      return False

  def read_predictions(self) -> Predictions | None:
    """Returns the predictions of a finished run; None if there are none.

    Raises:
      UserError: `predictions-test.npz` is corrupt, or doesn't belong to the result.
    """
    if not self._predictions.exists():
      return None
    expected = (self.read_result() or {}).get("predictions_sha256")
    try:
      if expected is not None and records.digest_of_file(self._predictions) != expected:
        raise ValueError("it differs from its digest in result.json")
      stored = arrays.read(self._predictions, Predictions._fields)
      names = tuple(map(str, np.atleast_1d(stored["label_names"]).tolist()))
      predictions = Predictions(stored["labels"], stored["probabilities"], names)
      run_files.check_predictions(predictions)
    except (OSError, ValueError, TypeError) as error:
      raise UserError(
        f"{self._predictions} is corrupt: {error}; delete it for a report without it, or "
        "result.json too, and the same train command rewrites both"
      ) from error
    return predictions

  def write_predictions(self, predictions: Predictions) -> str:
    """Writes `predictions-test.npz` atomically, and returns its digest."""
    file = io.BytesIO()
    np.savez(file, **predictions._asdict())
    write_atomically(self._predictions, file.getvalue())
    return records.digest(file.getvalue())

  def metrics(self) -> Iterator[dict[str, Any]]:
    """Yields the objects of `metrics.jsonl`, one by one.

    Raises:
      UserError: a line is corrupt, other than a last line that was cut off.
    """
    if not self._metrics.exists():
      return
    number, required = 1, self._is_sealed()
    try:
      for line in records.lines(self._metrics):
        yield run_files.checked_metrics(records.from_line(line, required=required))
        number += 1
    except (OSError, ValueError) as error:
      raise UserError(
        f"{self._metrics} is corrupt in line {number}; delete that line and rerun ({error})"
      ) from error

  def read_metrics(self) -> list[dict[str, Any]]:
    """Returns the objects of `metrics.jsonl`.

    Raises:
      UserError: a line is corrupt, other than a last line that was cut off.
    """
    return list(self.metrics())

  def append_metrics(self, *metrics: Mapping[str, Any]) -> None:
    """Appends a line for each of `metrics` to `metrics.jsonl`."""
    with writing(self._metrics), self._metrics.open("a", encoding="utf-8") as file:
      file.writelines(map(records.to_line, metrics))

  def _drop_metrics_after(self, step: int) -> None:
    """Drops the metrics after the checkpoint of `step`, because those steps run again.

    The test split is scored after the last checkpoint, so its line is always dropped.
    """
    remaining = (r for r in self.metrics() if r["step"] <= step and r["split"] != "test")
    write_atomically(self._metrics, "".join(map(records.to_line, remaining)))


def trained_workdir(path: str) -> Workdir:
  """Returns the workdir at `path`; if that is empty, the one that ships with the package."""
  if path:
    return Workdir(path)
  workdir = Workdir(SHIPPED)
  logging.info("no --workdir: using the model that ships with the package, %s", SHIPPED)
  return workdir
