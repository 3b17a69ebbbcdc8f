"""The environment of a run: versions, processor, devices, command and commit."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from mnist_research import __version__
from mnist_research.runtime.errors import without_passwords

_PACKAGES = ("tensorflow", "keras", "numpy", "tensorflow-datasets")


def describe(devices: list[str]) -> dict[str, Any]:
  """Returns versions, devices, command and commit of this process."""
  return {
    "python": sys.version.split()[0],
    "mnist_research": __version__,
    **{name: metadata.version(name) for name in _PACKAGES},
    "platform": f"{platform.system()} {platform.machine()}",
    "processor": _processor(),
    "cores": _cores(),
    "devices": devices,
    "command": [Path(sys.executable).name, *map(without_passwords, sys.argv)],
    "commit": _commit(),
  }


def _cores() -> int | None:
  """Returns the number of usable cores, because the number of threads changes the order of sums."""
  if hasattr(os, "sched_getaffinity"):  # Linux.
    return len(os.sched_getaffinity(0))
  return os.cpu_count()


def _processor() -> str:
  """Returns the name of the processor, as Linux reports it."""
  try:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
  except OSError:
    return platform.machine()
  names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
  return names[0] if names else platform.machine()


def _commit() -> str | None:
  """Returns the commit of the package's checkout, with `+changes` if a tracked file differs.

  Returns None if the package isn't in a checkout.
  """
  commit, status = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
  return f"{commit}+changes" if commit and status else commit


def _git(*arguments: str) -> str | None:
  command = ["git", "-C", str(Path(__file__).parent), *arguments]
  try:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return None
