"""The checks of scripts/check_versions.py: the commands, as a user types them."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "number.jpg"
_SETTINGS = (
  "--dataset=synthetic_digits/200_100", "--data_dir=data", "--validation_examples=50",
  "--hidden_units=16", "--steps=20", "--checkpoint_every=5",
)  # fmt: skip
_SECONDS = 300
# Variables that could select another package, another TensorFlow or the user's data.
_NOT_INHERITED = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "TFDS_DATA_DIR", "KERAS_BACKEND")


class CheckError(Exception):
  """A program failed; the message is the last line that it wrote."""


class Environment(NamedTuple):
  """An environment with the package installed.

  Attributes:
    python: its interpreter.
    directory: the directory in which commands run.
  """

  python: Path
  directory: Path

  def run(self, module: str, *arguments: str, **variables: str) -> str:
    """Runs a command of the package and returns the last line of its output."""
    command = [str(self.python), "-m", f"mnist_research.{module}", *arguments]
    output = call(command, {**self.variables(), **variables}, self.directory)
    return output.splitlines()[-1]

  def variables(self) -> dict[str, str]:
    """Returns the environment variables of a new user."""
    return {
      name: value
      for name, value in os.environ.items()
      if name not in _NOT_INHERITED and not name.startswith("MNIST_RESEARCH_")
    }


Check = Callable[[Environment], Any]


def call(
  command: Sequence[str], variables: Mapping[str, str], directory: Path | None = None
) -> str:
  """Returns the output of a program.

  Raises:
    CheckError: it can't be started, takes too long, or fails.
  """
  try:
    finished = subprocess.run(
      command, env=variables, cwd=directory, capture_output=True, text=True, timeout=_SECONDS,
      check=False,
    )  # fmt: skip
  except (OSError, subprocess.TimeoutExpired) as error:
    raise CheckError(str(error)) from error
  if finished.returncode:
    line = last_line(finished.stderr).removeprefix("error: ")
    raise CheckError(line or f"exit code {finished.returncode}")
  return finished.stdout


def last_line(text: str) -> str:
  """Returns the last non-empty line."""
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  return lines[-1] if lines else ""


def expect(name: str, actual: object, expected: object) -> None:
  """Raises CheckError unless the two values are equal."""
  if actual != expected:
    raise CheckError(f"{name} is {actual!r}, not {expected!r}")


def result_of(environment: Environment, workdir: str) -> dict[str, Any]:
  """Returns the content of result.json."""
  return json.loads((environment.directory / workdir / "result.json").read_text(encoding="utf-8"))


def doctor(environment: Environment) -> None:
  output = json.loads(environment.run("doctor", *_SETTINGS, "--workdir=run"))
  expect("the number of warnings", output["warnings"], 0)


def train(environment: Environment) -> None:
  environment.run("train", *_SETTINGS, "--workdir=run")


def resume(environment: Environment) -> None:
  """Resumes from an earlier checkpoint, as after a kill, to the same predictions."""
  run, resumed = environment.directory / "run", environment.directory / "resumed"
  shutil.copytree(run, resumed)
  (resumed / "result.json").unlink()
  shutil.rmtree(max((resumed / "checkpoints").iterdir()))
  environment.run("train", *_SETTINGS, "--workdir=resumed")
  digests = (result_of(environment, name)["predictions_sha256"] for name in ("resumed", "run"))
  expect("the digest of the resumed run's predictions", *digests)


def evaluate(environment: Environment) -> None:
  output = json.loads(environment.run("evaluate", "--workdir=run", "--data_dir=data"))
  # Commands print six significant digits.
  loss = float(f"{result_of(environment, 'run')['test_loss']:.6g}")
  expect("the test loss", output["loss"], loss)


def predict(environment: Environment) -> None:
  """Reads a photographed number with the model that ships with the package."""
  output = json.loads(environment.run("predict", "--digits", str(PICTURE)))
  expect("the number in the picture", output["number"], "407")


def report(environment: Environment) -> None:
  environment.run("report", "run", "resumed", "--output=report")


def export(environment: Environment) -> None:
  environment.run("export", "--workdir=run", "--format=saved_model", "--output=saved")


def replicas(environment: Environment) -> None:
  """Trains two replicas with another program's Keras settings in the environment."""
  variables = {"TF_USE_LEGACY_KERAS": "1", "KERAS_BACKEND": "jax"}
  environment.run("train", *_SETTINGS, "--device_count=2", "--workdir=replicas", **variables)


def tensorboard(environment: Environment) -> None:
  """Starts TensorBoard and requests the names of the charts."""
  program = environment.python.with_name("tensorboard")
  command = [str(program), "--logdir=run/tensorboard", "--port=0", "--host=127.0.0.1"]
  with served(environment, command) as url:
    end = time.monotonic() + 60
    # TensorBoard answers before it has read the events.
    while not (tags := fetch(f"{url}data/plugin/scalars/tags")) or not json.loads(tags):
      if time.monotonic() > end:
        raise CheckError("TensorBoard shows no charts of the run")
      time.sleep(0.5)


def export_onnx(environment: Environment) -> None:
  environment.run("export", "--workdir=run", "--format=onnx", "--output=digits.onnx")
  environment.run("export", "--workdir=run", "--format=tflite", "--output=digits.tflite")


def sweep(environment: Environment) -> None:
  search = ["--search=learning_rate=log(1e-4,1e-2)", "--trials=2", "--workdir=sweep"]
  environment.run("sweep", *_SETTINGS, *search)


def demo(environment: Environment) -> None:
  command = [str(environment.python), "-m", "mnist_research.demo", "--port=0"]
  with served(environment, command) as url:
    page = fetch(url)
  if "<canvas" not in page:
    raise CheckError("the page has no field to draw on")


# In order; the name of a check is that of the command it runs.
CHECKS: dict[str, Check] = {
  "doctor": doctor, "train": train, "resume": resume, "evaluate": evaluate, "predict": predict,
  "report": report, "export": export, "tensorboard": tensorboard, "replicas": replicas,
}  # fmt: skip
# By the extra that a check needs.
EXTRA_CHECKS: dict[str, Check] = {"export": export_onnx, "sweep": sweep, "demo": demo}
AFTER_TRAINING = frozenset(
  {"resume", "evaluate", "report", "export", "tensorboard", "extra export"}
)


@contextlib.contextmanager
def served(environment: Environment, command: Sequence[str]) -> Iterator[str]:
  """Starts a server and yields the URL that it prints.

  Raises:
    CheckError: it exited, or printed no URL within a minute.
  """
  process = subprocess.Popen(
    command, env=environment.variables(), cwd=environment.directory, stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT, text=True,
  )  # fmt: skip
  # Otherwise a server that hangs without output would block the loop below.
  timer = threading.Timer(_SECONDS, process.kill)
  timer.start()
  lines: list[str] = []
  assert process.stdout is not None
  try:
    for line in process.stdout:
      lines.append(line)
      if match := re.search(r"http://[^\s\"',)]+", line):
        yield match[0]
        return
    raise CheckError(last_line("".join(lines)) or "it exited and printed nothing")
  finally:
    timer.cancel()
    process.terminate()
    process.communicate()


def fetch(url: str) -> str:
  """Returns the answer of a local server; empty while there is none."""
  # Bypasses any proxy in the environment.
  opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
  try:
    with opener.open(url, timeout=10) as response:
      return response.read().decode()
  except (urllib.error.URLError, TimeoutError):
    return ""
