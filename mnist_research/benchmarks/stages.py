"""Times the stages of startup in a new process.

A process can time imports and compilation only once, so `startup` and `memory` run this module for
each measurement. It prints one JSON object.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from absl import flags

from mnist_research.config import Config
from mnist_research.config import flags as config_flags
from mnist_research.runtime import app
from mnist_research.runtime.errors import UserError


def run_stages(settings: Config, *, train: bool) -> dict[str, Any]:
  """Runs the stages in a new process.

  Args:
    settings: the settings of the run.
    train: whether to train an epoch after the first step.

  Returns:
    `bench`, an object with the choices made on this machine; `stages`, a list of objects with
    `name`, `seconds` and `peak_bytes`, the peak resident memory so far; `weights_bytes`,
    `optimizer_bytes`, `data_bytes`, and on a GPU `device_peak_bytes`.

  Raises:
    UserError: a setting is invalid, or the data can't be read.
  """
  with tempfile.TemporaryDirectory() as directory:
    path = Path(directory) / "config.cfg"
    path.write_text(settings.to_flagfile(), encoding="utf-8")
    command = [sys.executable, "-m", "mnist_research.benchmarks.stages", "--"]
    # The clock belongs to the machine, so the new process has the same one.
    command += [str(path), str(train), repr(time.perf_counter())]
    # The new process isn't distributed, even if this process is one of several workers.
    environment = {name: text for name, text in os.environ.items() if name != "TF_CONFIG"}
    finished = subprocess.run(command, capture_output=True, text=True, env=environment)
  if finished.returncode == 2:  # Its error is in one line, for the user.
    raise UserError(finished.stderr.splitlines()[-1].removeprefix("error: "))
  sys.stderr.write(finished.stderr)
  finished.check_returncode()
  return json.loads(finished.stdout.splitlines()[-1])


class _Stages:
  """Records the time and the peak memory of successive stages."""

  def __init__(self, start: float):
    self._last = start
    self.records: list[dict[str, Any]] = []

  def end(self, name: str) -> None:
    now = time.perf_counter()
    self.records.append({"name": name, "seconds": now - self._last, "peak_bytes": _peak_bytes()})
    self._last = now


def _peak_bytes() -> int:
  """Returns the peak resident memory of this process so far."""
  lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
  (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
  return int(peak) * 1024


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Runs the stages in the order of a run, for `run_stages`."""
  del flag_values
  path, train, start = arguments
  stages = _Stages(float(start))
  settings = config_flags.from_flagfile(Path(path))
  stages.end("python")
  app.load_tensorflow()
  stages.end("tensorflow")
  import tensorflow as tf

  from mnist_research.benchmarks import training as training_lib

  stages.end("package")
  bench = training_lib.read(settings)
  stages.end("data")
  training = training_lib.build(bench)
  stages.end("build")
  training.compile()
  stages.end("compile")
  training.run_block(next(bench.batches(bench.plan.blocks())), 1)
  stages.end("first_step")
  if train == "True":
    next(training.turns(1, bench.turn_steps))
    stages.end("training")
  sizes = {
    "weights_bytes": training_lib.bytes_of(training.state.model.variables),
    "optimizer_bytes": training_lib.bytes_of(training.state.optimizer.variables),
    "data_bytes": sum(
      split.images.nbytes + split.labels.nbytes
      for split in (bench.train, bench.validation, bench.test)
    ),
  }
  if "GPU" in bench.device:
    name = bench.device.rpartition("device:")[2]
    sizes["device_peak_bytes"] = tf.config.experimental.get_memory_info(name)["peak"]
  app.print_json({"bench": bench.described().record, "stages": stages.records, **sizes})


if __name__ == "__main__":
  app.run(main)
