"""Times how long each command takes until its first output on a terminal.

  python scripts/first_output.py
  python scripts/first_output.py --commands=train,report --repeats=9

Each command starts in a new folder, on a pseudo-terminal, and is killed after its first output.
Prints a JSON object for each on stdout: command, seconds_median, seconds_lowest, first (the
output), and a table on stderr.
"""

import os
import pty
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags

from mnist_research.runtime import app
from mnist_research.workdir import SHIPPED

REPOSITORY = Path(__file__).resolve().parents[1]
_DENSE = f"--flagfile={REPOSITORY / 'configs' / 'dense.cfg'}"
# The arguments of each command; {run} is a finished workdir, {picture} a picture.
ARGUMENTS: Mapping[str, str] = {
  "train": f"{_DENSE} --workdir=run",
  "evaluate": "",
  "predict": "{picture}",
  "report": "{run}",
  "sweep": f"{_DENSE} --sweep=seed=0..1 --workdir=sweep",
  "benchmark": f"{_DENSE} --benchmark=throughput",
  "export": "--format=saved_model --output=saved",
  "demo": "--port=0",
  "camera": "--source={picture}",
  "doctor": "",
}


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the commands, and the number of starts."""
  flags.DEFINE_list(
    "commands", list(ARGUMENTS), f"any of {', '.join(ARGUMENTS)}", flag_values=flag_values
  )
  flags.DEFINE_integer(
    "repeats", 5, "number of starts of each", lower_bound=1, flag_values=flag_values
  )


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Times the commands, and prints the results."""
  app.refuse_arguments(arguments)
  print(f"{'command':<10} {'median':>8} {'lowest':>8}  first output", file=sys.stderr)
  for command in flag_values.commands:
    times, first = time_command(command, flag_values.repeats)
    median, lowest = statistics.median(times), min(times)
    print(f"{command:<10} {median:>6.2f} s {lowest:>6.2f} s  {first}", file=sys.stderr)
    app.print_json(
      {"command": command, "seconds_median": median, "seconds_lowest": lowest, "first": first}
    )


def time_command(command: str, repeats: int) -> tuple[list[float], str]:
  """Starts a command several times; returns the seconds to its first output, and that output."""
  times, first = [], ""
  for _ in range(repeats):
    with tempfile.TemporaryDirectory() as folder:
      options = ARGUMENTS[command].format(**_files(Path(folder)))
      seconds, first = _first_output(
        [sys.executable, "-m", f"mnist_research.{command}", *shlex.split(options)], Path(folder)
      )
      times.append(seconds)
  return times, first


def _files(folder: Path) -> dict[str, str]:
  """Creates the inputs of the commands: a run, and a picture."""
  from PIL import Image

  run = shutil.copytree(SHIPPED, folder / "finished")
  (run / "metrics.jsonl").touch()
  Image.new("L", (28, 28), 255).save(folder / "picture.png")
  return {"run": shlex.quote(str(run)), "picture": "picture.png"}


def _first_output(command: Sequence[str], folder: Path) -> tuple[float, str]:
  """Starts a command on a terminal; returns the time and text of its first output."""
  terminal, child_terminal = pty.openpty()
  environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
  start = time.perf_counter()
  with subprocess.Popen(
    command,
    stdin=child_terminal,
    stdout=child_terminal,
    stderr=child_terminal,
    cwd=folder,
    env=environment,
  ) as process:
    os.close(child_terminal)
    try:
      output = os.read(terminal, 4096)
    except OSError:  # The command exited without output.
      output = b""
    seconds = time.perf_counter() - start
    process.kill()
  os.close(terminal)
  lines = output.decode(errors="replace").strip().splitlines()
  return seconds, lines[0].strip() if lines else ""


if __name__ == "__main__":
  app.run(main, define_flags)
