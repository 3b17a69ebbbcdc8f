"""Kills trainings with SIGKILL at random moments and checks that nothing is lost.

  python scripts/kill_runs.py --kills=70 --workdir=runs/kills --seed=0 -- --dataset=synthetic_digits

What stands behind `--` are flags of `mnist_research.train`. One run is left alone. Then runs of the
same command are killed, started again, killed again, until each is finished; and compared with the
one that was left alone: the digests of the last checkpoint (weights, optimizer, averages, step) and
of the best one where it is kept, `metrics.jsonl` and `result.json`, all but what the clock says.
The last line on stdout is one JSON object; the exit code is 1 if anything differs.
"""

import collections
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from absl import flags

from mnist_research.config import flags as config_flags
from mnist_research.runtime import app

# What the clock decides.
CLOCK = {"examples_per_second", "train_seconds", "sha256", "crc32"}


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: how often, when and where."""
  config_flags.define(flag_values, ["workdir"])
  flags.DEFINE_integer("kills", 70, "how often", lower_bound=0, flag_values=flag_values)
  flags.DEFINE_integer("seed", 0, "of the moments", flag_values=flag_values)


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Kills as often as asked and prints what came of it."""
  workdir = Path(app.required(flag_values, "workdir"))
  outcome = kill_runs(arguments, flag_values.kills, workdir, flag_values.seed)
  app.print_json(outcome)
  sys.exit(1 if outcome["differences"] else 0)


def kill_runs(arguments: list[str], kills: int, workdir: Path, seed: int) -> dict:
  """Returns the number of kills by what the run was doing, of runs, and the differences found."""
  moments = random.Random(seed)
  shutil.rmtree(workdir, ignore_errors=True)
  alone = workdir / "alone"
  train_from, whole = run_alone([*arguments, "--deterministic"], alone)
  expected = outcome_of(alone)
  killed: collections.Counter[str] = collections.Counter()
  differences: list[str] = []
  runs = 0
  while killed.total() < kills:
    run = workdir / f"run{runs}"
    runs += 1
    while True:
      delay = kill_moment(moments, train_from, whole) if killed.total() < kills else None
      if not killed_after(delay, [*arguments, "--deterministic"], run):
        break
      killed[doing(run)] += 1
      print(f"{run.name}: kill {killed.total()} while {doing(run)}", file=sys.stderr, flush=True)
    differences += [f"{run.name}: {what}" for what in compare(expected, outcome_of(run))]
    shutil.rmtree(run)
  return {
    "kills": killed.total(), "runs": runs, "killed_while": dict(killed), "differences": differences
  }  # fmt: skip


def kill_moment(moments: random.Random, train_from: float, whole: float) -> float:
  """Draws the seconds that a process is left: a quarter of them end in the slow start.

  The others end within half of the time that a whole run trains and writes: such a run takes some
  four lives.
  """
  if moments.random() < 0.25:
    return moments.uniform(0, train_from)
  return train_from + moments.uniform(0, (whole - train_from) / 2)


def command(arguments: list[str], workdir: Path) -> list[str]:
  """The command line of a training."""
  return [sys.executable, "-m", "mnist_research.train", *arguments, f"--workdir={workdir}"]


def run_alone(arguments: list[str], workdir: Path) -> tuple[float, float]:
  """Runs undisturbed; returns the seconds until the first metrics, and until the end."""
  began = time.monotonic()
  process = subprocess.Popen(command(arguments, workdir), stdout=subprocess.DEVNULL)
  first = None
  metrics = workdir / "metrics.jsonl"
  while process.poll() is None:
    if first is None and metrics.exists() and metrics.stat().st_size:
      first = time.monotonic() - began
    time.sleep(0.01)
  if process.returncode or first is None:
    sys.exit(f"the run that was left alone ended with {process.returncode}")
  return first, time.monotonic() - began


def killed_after(seconds: float | None, arguments: list[str], workdir: Path) -> bool:
  """Starts or continues a run and kills it after `seconds`; False if it had ended by then."""
  process = subprocess.Popen(
    command(arguments, workdir), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
  )
  try:
    _, errors = process.communicate(timeout=seconds)
  except subprocess.TimeoutExpired:
    process.kill()
    process.communicate()
    return True
  if process.returncode:
    sys.exit(f"{workdir.name} ended with {process.returncode}: {errors}")
  return False


def doing(run: Path) -> str:
  """What a run was doing when it was killed, read from what it left."""
  checkpoints = [path.name for name in ("checkpoints", "best") for path in (run / name).glob("*")]
  if (run / "result.json").exists():
    return "ending"
  if any(name.endswith(".partial") for name in checkpoints):
    return "saving"
  if not (run / "metrics.jsonl").exists():
    return "starting"
  records = read_metrics(run)
  if any(record["split"] == "test" for record in records):
    return "drawing the results"
  return "training" if records else "compiling"


def read_metrics(run: Path) -> list[dict]:
  """The whole lines of a run's metrics, without what the clock decides."""
  lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
  records = [json.loads(line) for line in lines if line.endswith("\n")]
  return [{k: v for k, v in record.items() if k not in CLOCK} for record in records]


def outcome_of(run: Path) -> dict:
  """What has to be the same in two runs."""
  kept = [path for path in (run / "checkpoints", run / "best") if path.exists()]
  newest = [max(path.iterdir(), key=lambda checkpoint: checkpoint.name) for path in kept]
  result = json.loads((run / "result.json").read_text())
  return {
    "checkpoints": [json.loads((p / "manifest.json").read_text())["sha256"] for p in newest],
    "metrics": read_metrics(run),
    "result": {k: v for k, v in result.items() if k not in CLOCK},
  }


def compare(expected: dict, actual: dict) -> list[str]:
  """Names what differs."""
  return [name for name in expected if expected[name] != actual[name]]


if __name__ == "__main__":
  app.run(main, define_flags)
