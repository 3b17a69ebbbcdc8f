"""Checks whether a run's dataset is available, and whether there is disk space for it."""

from collections.abc import Iterator
from pathlib import Path

from mnist_research.diagnosis import machine
from mnist_research.diagnosis.findings import OK, PROBLEM, WARNING, Finding
from mnist_research.runtime import user_data
from mnist_research.runtime.child_process import ChildProcess

_FROM_FILES = "python -m mnist_research.train --manual_dir=DIR   # with the original files"
_GENERATED = "python -m mnist_research.train --dataset=synthetic_digits   # needs no network"


def check(child: ChildProcess, settings: dict[str, str]) -> Iterator[Finding]:
  """Yields the findings about the dataset.

  Args:
    child: a child process in which TensorFlow loads.
    settings: the run's settings, as texts of their flags.
  """
  name = settings["dataset"]
  outcome = child.call("mnist_research.diagnosis.choices:find_dataset", settings)
  if outcome.failure:
    remedies = (_GENERATED,) if user_data.is_path(name) else (_FROM_FILES, _GENERATED)
    yield Finding(PROBLEM, "dataset", outcome.failure, remedies)
    return
  origin = outcome.value
  if origin["fallback"]:
    text = f"training would run on {origin['fallback']} instead of {name}: {origin['reason']}"
    yield Finding(WARNING, "dataset", text, (_FROM_FILES,))
  elif origin["is_prepared"]:
    yield Finding(OK, "dataset", f"{name} is prepared in {origin['data_dir']}")
  else:
    text = f"{name} isn't prepared yet; training prepares it from {origin['source']}"
    yield Finding(OK, "dataset", text)
  if not origin["is_prepared"]:
    yield machine.check_disk_space("--data_dir", Path(origin["data_dir"]), machine.DATA_MIB)
