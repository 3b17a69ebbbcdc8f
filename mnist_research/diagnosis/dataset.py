"""Checks whether a run's dataset is available, and whether there is disk space for it."""

from collections.abc import Iterator
from pathlib import Path

from mnist_research.diagnosis import machine
from mnist_research.diagnosis.findings import OK, PROBLEM, WARNING, Finding
from mnist_research.runtime import user_data
from mnist_research.runtime.child_process import ChildProcess

_FROM_FILES = "python -m mnist_research.train --manual_dir=DIR   # with the original files"
_DRAWN = "python -m mnist_research.train --dataset=synthetic_digits   # needs no network"


def check(child: ChildProcess, settings: dict[str, str]) -> Iterator[Finding]:
  """Yields the findings about the dataset.

  Args:
    child: a child process in which TensorFlow loads.
    settings: the run's settings, as texts of their flags.
  """
  name = settings["dataset"]
  outcome = child.call("mnist_research.diagnosis.choices:find_dataset", settings)
  if outcome.failure:
    remedies = (_DRAWN,) if user_data.is_path(name) else (_FROM_FILES, _DRAWN)
    yield Finding(PROBLEM, "dataset", outcome.failure, remedies)
    return
  found = outcome.value
  if found["fallback"]:
    text = f"training would run on {found['fallback']} instead of {name}: {found['reason']}"
    yield Finding(WARNING, "dataset", text, (_FROM_FILES,))
  elif found["is_prepared"]:
    yield Finding(OK, "dataset", f"{name} is prepared in {found['data_dir']}")
  else:
    text = f"{name} isn't prepared yet; training prepares it from {found['source']}"
    yield Finding(OK, "dataset", text)
  if not found["is_prepared"]:
    yield machine.check_room("--data_dir", Path(found["data_dir"]), machine.DATA_ROOM)
