"""Trains for a long time in one process and measures whether memory stays flat.

  python scripts/soak.py --steps=20000 --workdir=runs/soak --data_dir=DIR

It takes the flags of `mnist_research.train`. Every 200 steps the run scores the validation
examples, draws the pictures of a result, also for TensorBoard, and saves. With `--stops=N`, a
signal stops the run N times, and it resumes in the same process, where it restores and compiles
again. Resident memory is read every tenth of a second. The output is the peak in each tenth of the
steps, the growth from the first peak to the highest later one, the slope of a line fitted to all
readings after the first tenth, in MiB per minute, and the memory of a bare `import tensorflow`. The
last line on stdout is one JSON object.
"""

import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags

from mnist_research.config import Config
from mnist_research.config import flags as config_flags
from mnist_research.runtime import app
from mnist_research.runtime.errors import Interrupted, UserError

IMPORT = "import tensorflow; print(open('/proc/self/status').read())"
STATUS = Path("/proc/self/status")
EVERY = 200


class Sample(NamedTuple):
  """A reading of the memory.

  Attributes:
    step: the last recorded step.
    minutes: the time since the first reading.
    mib: the resident memory.
  """

  step: int
  minutes: float
  mib: float


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: all settings, and the number of stops."""
  config_flags.define(flag_values)
  flag_values.set_default("steps", 20_000)
  for name in ("evaluate_every", "checkpoint_every"):
    flag_values.set_default(name, EVERY)
  flags.DEFINE_integer(
    "stops", 0, "how often a signal stops the run", lower_bound=0, flag_values=flag_values
  )


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Runs the soak test and prints the memory."""
  app.refuse_arguments(arguments)
  workdir = app.required(flag_values, "workdir")
  settings = config_flags.from_flags(flag_values)
  if not settings.data.validation_examples:
    raise UserError("--validation_examples=0: there is nothing to score; hold some out")
  shutil.rmtree(workdir, ignore_errors=True)
  finished = threading.Event()
  with ThreadPoolExecutor(max_workers=1) as background:
    observed = background.submit(observe, settings, flag_values.stops, finished)
    try:
      starts = train(settings)
    finally:
      finished.set()
    samples = observed.result()
  total = settings.optimization.steps
  tenths = [
    max(sample.mib for sample in samples if tenth < 10 * sample.step / total <= tenth + 1)
    for tenth in range(10)
  ]
  warm = [sample for sample in samples if sample.step > total / 10]
  slope, _ = np.polyfit([sample.minutes for sample in warm], [sample.mib for sample in warm], 1)
  bare = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
  print(
    json.dumps(
      {
        "steps": total,
        "minutes": round(samples[-1].minutes, 1),
        "starts": starts,
        "mib_by_tenth": [round(tenth) for tenth in tenths],
        "growth": round(max(tenths[1:]) / tenths[0] - 1, 4),
        "mib_per_minute": round(slope, 3),
        "import_tensorflow_mib": round(resident(bare.stdout)),
      }
    )
  )


def train(settings: Config) -> int:
  """Trains to the end, through all stops; returns how often the run started."""
  from mnist_research.training import loop

  gc.freeze()  # As the command does.
  pictures = Path(settings.run.workdir) / "soak"
  # Ignored outside the training loop, where it would end this process.
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  for start in range(1, sys.maxsize):
    try:
      loop.train(settings, on_validation=lambda step, _: draw(pictures, step))
    except Interrupted:
      continue
    return start
  raise AssertionError


def observe(settings: Config, stops: int, finished: threading.Event) -> list[Sample]:
  """Sends the signals and reads the memory until the run is over."""
  workdir = Path(settings.run.workdir)
  stop_steps = [settings.optimization.steps * stop // (stops + 1) for stop in range(1, stops + 1)]
  samples = []
  start = time.monotonic()
  while not finished.wait(0.1):
    step = last_step(workdir / "metrics.jsonl")
    minutes = (time.monotonic() - start) / 60
    samples.append(Sample(step, minutes, resident(STATUS.read_text())))
    if stop_steps and step >= stop_steps[0]:
      stop_steps.pop(0)
      os.kill(os.getpid(), signal.SIGTERM)
  return samples


def draw(directory: Path, step: int) -> None:
  """Draws and writes the final pictures of a run, in a separate workdir."""
  from mnist_research.data.splits import Split
  from mnist_research.metrics.evaluation import evaluate
  from mnist_research.recording.recorder import Recorder
  from mnist_research.recording.summaries import Summaries
  from mnist_research.runtime.progress import Progress
  from mnist_research.workdir import Workdir

  values = np.random.default_rng(step)
  images = values.integers(0, 256, [1000, 28, 28, 1], np.uint8)
  test = Split(images, values.integers(0, 10, 1000, np.int32))
  evaluation = evaluate(np.log(values.dirichlet(np.ones(10), 1000)), test.labels)
  names = tuple(map(str, range(10)))
  workdir = Workdir(directory)
  workdir.figures.mkdir(parents=True, exist_ok=True)
  with (
    ThreadPoolExecutor(max_workers=1) as background,
    Summaries(workdir.tensorboard, first_step=step) as summaries,
  ):
    progress = Progress(total=step, brief=True)
    recorder = Recorder(
      Config(), workdir, summaries, progress, None, background, names,
      first_step=0, total_steps=step,
    )  # fmt: skip
    recorder.draw_predictions(step, test, evaluation)


def last_step(metrics: Path) -> int:
  """Returns the step of the last complete line of metrics; 0 if there is none."""
  if not metrics.exists():
    return 0
  with metrics.open("rb") as file:
    file.seek(max(0, metrics.stat().st_size - 2000))
    lines = file.read().split(b"\n")[:-1]
  return json.loads(lines[-1])["step"] if lines else 0


def resident(status: str) -> float:
  """Returns the resident memory in MiB from the text of a /proc/<pid>/status."""
  (kibibytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
  return int(kibibytes) / 1024


if __name__ == "__main__":
  app.run(main, define_flags)
