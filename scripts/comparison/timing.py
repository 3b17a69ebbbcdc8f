"""Whole commands, timed from their start."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path


def timed(command: list[str]) -> tuple[float, dict]:
  """Returns the seconds from start to exit, and the JSON object on the last line of stdout."""
  environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
  start = time.perf_counter()
  process = subprocess.run(command, capture_output=True, text=True, env=environment)
  seconds = time.perf_counter() - start
  if process.returncode:
    sys.exit(f"{process.stderr}{' '.join(command)} ended with {process.returncode}")
  return seconds, json.loads(process.stdout.splitlines()[-1])


def time_to_first_step(command: list[str], workdir: Path) -> float:
  """Returns the seconds from the start of a training to its first line of metrics.

  Args:
    command: a command that trains.
    workdir: its workdir, which doesn't exist yet.
  """
  options = [f"--workdir={workdir}", "--steps=2", "--steps_per_loop=1"]
  start = time.perf_counter()
  process = subprocess.Popen(
    [*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
  )
  metrics = workdir / "metrics.jsonl"
  while not (metrics.exists() and metrics.stat().st_size) and process.poll() is None:
    time.sleep(0.002)
  seconds = time.perf_counter() - start
  if process.wait():
    sys.exit(f"a training ended with {process.returncode}")
  return seconds
