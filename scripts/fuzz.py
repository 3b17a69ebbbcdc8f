"""Runs commands with malformed flags, files and environments, for a given time.

  python scripts/fuzz.py --minutes=60 --seed=0 --workdir=runs/fuzz --data_dir=DIR

The inputs come from tests/malformed.py. Case N of a seed is always the same, and `--first=N` starts
with it. The kinds of cases are

  flags, flagfile, tf_config   parsed as by `train`: rejected, or accepted and, after a round trip
                               through a flagfile, equal
  run                          one file of a finished run is corrupt, and train, evaluate, predict
                               or report must reject it, or answer as before
  picture                      `predict` of a corrupt picture
  environment                  evaluate, in a new process, with an odd variable

An outcome is `refused` (exit code 2 and one line), `answered` (as for intact files), or a defect:
`wrong` (a different answer), `traceback`, `late` (over two minutes), or `exit N`. The last line on
stdout is one JSON object with the number of each outcome by kind. The exit code is 1 if there was a
defect, which is described on stderr.
"""

import collections
import contextlib
import hashlib
import importlib
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from mnist_research.config import flags as config_flags
from mnist_research.runtime import app
from mnist_research.runtime.errors import UserError
from mnist_research.runtime.notes import set_up_log
from mnist_research.sweeps import workers

# The code that generates the inputs belongs to the tests.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
import malformed

_SECONDS = 120.0
_DATASET = "synthetic_digits/2000_500"
_TRAIN = (
  f"--dataset={_DATASET}", "--validation_examples=500", "--hidden_units=8", "--steps=40",
  "--checkpoint_every=20", "--evaluate_every=20", "--select=best", "--summaries=none",
)  # fmt: skip
_NO_DEFECT = ("refused", "answered")
_VARIABLES = (
  "TF_USE_LEGACY_KERAS", "KERAS_BACKEND", "KERAS_HOME", "MPLBACKEND", "MPLCONFIGDIR", "COLUMNS",
  "LINES", "TERM", "LANG", "LC_ALL", "TZ", "HOME", "TMPDIR",
  "XDG_CACHE_HOME", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS",
  "XLA_FLAGS", "TF_XLA_FLAGS", "TF_CONFIG", "TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS",
  "TF_DETERMINISTIC_OPS", "CUDA_VISIBLE_DEVICES", "TFDS_DATA_DIR", "HTTP_PROXY", "NO_COLOR",
  "FORCE_COLOR", "NO_PROXY",
)  # fmt: skip
_VALUES = (
  "", "0", "1", "-1", "12", "x", "jax", "torch", "channels_first", "/nonexistent", "/dev/null",
  "99999999999", "true", "C", "de_DE.UTF-8", "ascii", "module://nothing", "--no_such_flag=1", "{}",
  "é", " ", "~", "[]", '{"cluster": 3}', "http://127.0.0.1:9", "\U0001f642",
)  # fmt: skip


# Messages of a report about a corrupt file whose content it only shows.
_REPORTED = (
  b"environment.json can", b"test_scores.jsonl is corrupt", b"test_scores.jsonl can",
  b"metrics.jsonl is missing",
)  # fmt: skip


class Output(NamedTuple):
  """The output of a command.

  Attributes:
    code: its exit code; None if it was killed after `_SECONDS`.
    stdout: its output for programs.
    stderr: its output for people.
    files: a digest of the pages that it wrote.
  """

  code: int | None
  stdout: str
  stderr: str
  files: str = ""


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the time, the inputs, and the workdir."""
  config_flags.define(flag_values, ["workdir", "data_dir"])
  flags.DEFINE_float("minutes", 1.0, "time to run", lower_bound=0.0, flag_values=flag_values)
  flags.DEFINE_integer("seed", 0, "seed of the inputs", lower_bound=0, flag_values=flag_values)
  flags.DEFINE_integer("first", 0, "first case", lower_bound=0, flag_values=flag_values)


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Fuzzes for the given time, and prints the outcomes."""
  app.refuse_arguments(arguments)
  directory = Path(app.required(flag_values, "workdir")).resolve()
  shutil.rmtree(directory, ignore_errors=True)
  directory.mkdir(parents=True)
  fuzzer = Fuzzer(directory, flag_values.data_dir)
  end = time.monotonic() + 60 * flag_values.minutes
  kinds = list(CASES)
  outcomes = {kind: collections.Counter[str]() for kind in kinds}
  defects, number = 0, flag_values.first
  while time.monotonic() < end:
    values = random.Random(f"{flag_values.seed} {number}")
    kind = values.choices(kinds, [share for _, share in CASES.values()])[0]
    outcome, description = CASES[kind][0](fuzzer, values)
    outcomes[kind][outcome] += 1
    if outcome not in _NO_DEFECT:
      defects += 1
      print(f"case {number}, {kind}: {outcome}: {description}", file=sys.stderr, flush=True)
    number += 1
  app.print_json(
    {
      "seed": flag_values.seed,
      "cases": number - flag_values.first,
      "outcomes": {kind: dict(sorted(counts.items())) for kind, counts in outcomes.items()},
      "defects": defects,
    }
  )
  sys.exit(1 if defects else 0)


class Fuzzer:
  """A finished run, and the output of the commands for it."""

  def __init__(self, directory: Path, data_dir: str):
    """Trains the run in `directory`, on a dataset that is prepared in `data_dir`."""
    self._directory, self._data_dir = directory, data_dir
    workers.start_server(directory / "server.log")
    self._intact, self._run = directory / "whole", directory / "run"
    trained = self._call("train", [*_TRAIN, f"--workdir={self._intact}"])
    if trained.code:
      raise UserError(f"the training to be corrupted ended with {trained.code}: {trained.stderr}")
    self._commands = {
      "train": [f"--flagfile={self._intact / 'config.cfg'}", f"--workdir={self._run}"],
      "evaluate": [f"--workdir={self._run}"],
      "predict": [f"--workdir={self._run}", "--index=3"],
      "report": [str(self._run)],
    }
    self._expected = {name: self._run_on_copy(name, lambda _: None) for name in self._commands}

  def flags(self, values: random.Random) -> tuple[str, str]:
    """Parses odd flags."""
    arguments = malformed.any_flags(values)
    return self._read(arguments, str(arguments)[:500])

  def flagfile(self, values: random.Random) -> tuple[str, str]:
    """Parses an odd flagfile, as the user's and as a workdir's."""
    content = malformed.flagfile(values)
    path = self._directory / "odd.cfg"
    path.write_bytes(content)
    outcome, description = self._read([f"--flagfile={path}"], str(content)[:500])
    if outcome in _NO_DEFECT:
      stored, stored_description = _outcome_of_parsing(lambda: config_flags.from_flagfile(path))
      if stored not in _NO_DEFECT:
        return stored, f"{stored_description} {content[:500]!r}"
    return outcome, description

  def tf_config(self, values: random.Random) -> tuple[str, str]:
    """Parses an odd TF_CONFIG."""
    from mnist_research.workers import parse_tf_config

    text = malformed.tf_config(values)
    outcome, description = _outcome_of_parsing(lambda: parse_tf_config(text))
    return outcome, f"{description} {text[:500]!r}"

  def corrupt_run(self, values: random.Random) -> tuple[str, str]:
    """Runs a command on a run with a corrupt file."""
    name = values.choice(list(self._commands))
    description = ""

    def corrupt(workdir: Path) -> None:
      nonlocal description
      description = malformed.corrupt_run(workdir, values)

    output = self._run_on_copy(name, corrupt)
    return self._classify(output, self._expected[name], f"{name}: {description}")

  def picture(self, values: random.Random) -> tuple[str, str]:
    """Reads a corrupt picture; any prediction counts as `answered`."""
    path = self._directory / "picture.png"
    path.write_bytes(malformed.any_picture(values))
    output = self._call("predict", [f"--workdir={self._intact}", str(path)])
    return self._classify(output, output, "picture")

  def environment(self, values: random.Random) -> tuple[str, str]:
    """Runs evaluate with odd variables."""
    variables = {values.choice(_VARIABLES): values.choice(_VALUES) for _ in range(2)}
    shutil.rmtree(self._run, ignore_errors=True)
    shutil.copytree(self._intact, self._run)
    try:
      process = subprocess.run(
        [sys.executable, "-m", "mnist_research.evaluate", *self._commands["evaluate"],
         f"--data_dir={self._data_dir}"],
        env={**os.environ, **variables}, capture_output=True, text=True, errors="replace",
        check=False, timeout=_SECONDS,
      )  # fmt: skip
    except subprocess.TimeoutExpired:
      return "late", str(variables)
    output = Output(process.returncode, process.stdout, process.stderr)
    return self._classify(output, self._expected["evaluate"], str(variables))

  def _read(self, arguments: list[str], description: str) -> tuple[str, str]:
    """Parses settings as `train` does; accepted ones must survive a flagfile."""
    path = self._directory / "written.cfg"

    def read() -> None:
      config = malformed.read_settings(arguments)
      path.write_text(config.to_flagfile(), encoding="utf-8")
      stored = config_flags.from_flagfile(path)
      if stored != config:
        raise _DifferentError(f"{stored.differences(config)}")

    outcome, reason = _outcome_of_parsing(read)
    return outcome, f"{reason} {description}"

  def _run_on_copy(self, name: str, change: Any) -> Output:
    """Runs a command on a changed copy of the run."""
    shutil.rmtree(self._run, ignore_errors=True)
    shutil.copytree(self._intact, self._run)
    change(self._run)
    output = self._call(name, self._commands[name])
    pages = [path.read_bytes() for path in sorted((self._run / "report").glob("*"))]
    if any(sign in page for page in pages for sign in _REPORTED):
      return output._replace(files="reported")  # Only the display of the file differs.
    return output._replace(files=hashlib.sha256(b"".join(pages)).hexdigest())

  def _call(self, name: str, arguments: list[str]) -> Output:
    """Runs a command line in a process that was forked with TensorFlow loaded."""
    arguments = [*arguments, f"--data_dir={self._data_dir}"]
    outputs = (self._directory / "stdout", self._directory / "stderr")
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=_run_command, args=(name, arguments, outputs))
    process.start()
    process.join(_SECONDS)
    if process.exitcode is None:
      process.kill()
      process.join()
      return Output(None, "", "")
    stdout, stderr = (path.read_text(errors="replace") for path in outputs)
    return Output(process.exitcode, stdout, stderr)

  def _classify(self, output: Output, expected: Output, description: str) -> tuple[str, str]:
    """Names the outcome of a command."""
    message = f"{description}: {output.stdout} {output.stderr[-2000:]}"
    if output.code is None:
      return "late", message
    if "Traceback" in output.stderr:
      return "traceback", message
    if output.code == 2 and not output.stdout:
      lines = output.stderr.splitlines() or [""]
      return ("refused" if lines[-1].startswith("error: ") else "exit 2, no message"), message
    if output.code:
      return f"exit {output.code}", message
    if output.files == "reported":
      return "refused", message
    same_files = not output.files or output.files == expected.files
    return ("answered" if output.stdout == expected.stdout and same_files else "wrong"), message


CASES: Mapping[str, tuple[Any, int]] = {
  "flags": (Fuzzer.flags, 40),
  "flagfile": (Fuzzer.flagfile, 40),
  "tf_config": (Fuzzer.tf_config, 20),
  "run": (Fuzzer.corrupt_run, 12),
  "picture": (Fuzzer.picture, 4),
  "environment": (Fuzzer.environment, 2),
}


class _DifferentError(Exception):
  """A setting was read back differently."""


def _outcome_of_parsing(read: Any) -> tuple[str, str]:
  """Names the outcome of parsing in this process."""
  try:
    read()
  except UserError as error:
    return "refused", str(error)
  except _DifferentError as error:
    return "wrong", str(error)
  except Exception:  # noqa: BLE001 - Any exception is a defect.
    return "traceback", traceback.format_exc()
  return "answered", ""


def _run_command(name: str, arguments: list[str], outputs: tuple[Path, Path]) -> None:
  """Runs a command line in this process, and ends it."""
  for descriptor, path in enumerate(outputs, start=1):
    with path.open("wb") as file:
      os.dup2(file.fileno(), descriptor)
  set_up_log()
  module = importlib.import_module(f"mnist_research.{name}")
  code = 1
  with contextlib.suppress(Exception):
    try:
      code = app.call(module.main, module.define_flags, arguments)
    except Exception:
      traceback.print_exc()
      raise
  sys.stdout.flush()
  os._exit(code)


if __name__ == "__main__":
  app.run(main, define_flags)
