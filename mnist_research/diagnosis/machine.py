"""Checks memory, disk space and Keras's configuration."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from mnist_research.diagnosis.findings import OK, PROBLEM, WARNING, Finding
from mnist_research.runtime import environment, records

_MIB = 1 << 20
# MiB that configs/dense.cfg needs, and that suffice for the other configs.
_LEAST_MEMORY, _EASY_MEMORY = 1200, 3000
# MiB for MNIST, downloaded and prepared, and for a run with its checkpoints and figures.
DATA_MIB, RUN_MIB = 300, 100
# The files with the memory limit of a container.
_CGROUPS = (
  ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
  ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def check_keras() -> Iterator[Finding]:
  """Yields the findings about Keras in the user's environment."""
  for name, value in environment.overridden.items():
    text = f"is {value!r}; this package's commands override it, other programs may not"
    yield Finding(WARNING, name, text, (f"unset {name}",))
  path = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "keras.json"
  try:
    settings = records.parse(records.read(path))
  except (OSError, ValueError):
    settings = {}
  expected = {"backend": "tensorflow", "image_data_format": "channels_last", "floatx": "float32"}
  others = [
    f"{key}={settings[key]}"
    for key in expected
    if settings.get(key, expected[key]) != expected[key]
  ]
  if others:
    text = f"has {', '.join(others)}; this package's commands ignore it, other programs may not"
    yield Finding(WARNING, str(path), text, (f"mv {path} {path}.old",))
  if not (environment.overridden or others):
    yield Finding(OK, "Keras", "not changed by the environment")


def check_memory() -> Finding:
  """Returns whether there is enough memory, considering the limit of a container."""
  free = psutil.virtual_memory().available
  for limit, used in _CGROUPS:
    try:
      unused = int(Path(limit).read_text()) - int(Path(used).read_text())
    except (OSError, ValueError):  # No container limits the memory.
      continue
    free = min(free, unused)
  mebibytes = free // _MIB
  text, facts = f"{mebibytes:,} MiB are free", {"free_memory_mib": mebibytes}
  if mebibytes < _LEAST_MEMORY:
    text = f"{text}; the smallest run takes {_LEAST_MEMORY:,}"
    return Finding(PROBLEM, "memory", text, ("ps aux --sort=-rss | head",), facts)
  if mebibytes < _EASY_MEMORY:
    text = f"{text}, which may be too little for models larger than that of configs/dense.cfg"
    return Finding(WARNING, "memory", text, ("ps aux --sort=-rss | head",), facts)
  return Finding(OK, "memory", text, facts=facts)


def check_disk_space(flag: str, path: Path, required: int) -> Finding:
  """Returns whether a directory is writable, on a disk with enough free space.

  Args:
    flag: the flag that chooses another directory.
    path: the directory; nothing is created there.
    required: the required MiB.
  """
  existing = path.absolute()
  while not existing.exists():
    existing = existing.parent
  name, command = f"disk of {path}", f"df -h {existing}   # or another directory, with {flag}=DIR"
  try:
    with tempfile.TemporaryFile(dir=existing) as file:
      file.write(b"x")
      file.flush()
    free = shutil.disk_usage(existing).free // _MIB
  except OSError as error:
    return Finding(PROBLEM, name, f"can't be written: {error.strerror}", (command,))
  if free < required:
    return Finding(PROBLEM, name, f"{free:,} MiB are free, but {required} are needed", (command,))
  return Finding(OK, name, f"{free:,} MiB are free, and it is writable")
