"""Tests, with scripts/first_output.py, that no command is silent while it loads for seconds."""

import json
import os
import subprocess
import sys

import commands
import first_output

from mnist_research.__main__ import COMMANDS

_LOADING = {
  "train": "TensorFlow", "benchmark": "TensorFlow", "predict": "NumPy", "report": "NumPy",
  "sweep": "Optuna",
}  # fmt: skip


def test_commands_print_before_loading_large_libraries():
  assert set(first_output.ARGUMENTS) == set(COMMANDS)
  finished = subprocess.run(
    [sys.executable, commands.REPOSITORY / "scripts" / "first_output.py", "--repeats=1"],
    capture_output=True, text=True, check=True,
    env={**os.environ, "PYTHONPATH": str(commands.REPOSITORY)},
  )  # fmt: skip
  found = {record["command"]: record for record in map(json.loads, finished.stdout.splitlines())}
  assert list(found) == list(first_output.ARGUMENTS)
  for command, name in _LOADING.items():
    assert found[command]["first"] == f"loading {name} ..."
  for command in ("evaluate", "export", "demo", "camera"):
    assert found[command]["first"].startswith("no --workdir: using the model that ships")
  assert found["doctor"]["first"].endswith("can training run here?")
  # Half a second on an idle machine; TensorFlow alone takes two.
  assert all(record["seconds_lowest"] < 5 for record in found.values())
