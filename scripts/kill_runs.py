"""Kills runs with SIGKILL and checks that nothing is lost.

  python scripts/kill_runs.py --kills=70 --workdir=runs/kills --seed=0 -- --dataset=synthetic_digits
  python scripts/kill_runs.py --at=system_calls --kills=100 --workdir=runs/kills -- ...

Arguments after `--` are flags of `mnist_research.train`. One run is uninterrupted. Other runs of
the same command are killed and restarted until they finish, and then compared with it, except for
values that depend on the clock: the digests of the last checkpoint (weights, optimizer, averages,
step) and of the best one if it is kept, `metrics.jsonl`, `result.json`, and the events that
TensorBoard shows (each value of each tag at each step, once).

`--at=times` kills at random moments; `--at=system_calls` kills just before a call that opens,
writes, flushes, renames, creates or removes a file in the workdir. Calls are of the same kind if
their paths differ only in numbers; the kinds that were killed least often come first. The
last line on stdout is one JSON object; the exit code is 1 if anything differs.
"""

import collections
import hashlib
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from absl import flags
from system_calls import Call, Watched, watch
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from mnist_research.config import flags as config_flags
from mnist_research.run_files import SPLITS
from mnist_research.runtime import app

# Values that depend on the clock.
CLOCK = {"examples_per_second", "train_seconds", "sha256", "crc32"}


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the number of kills, their moments, and the workdir."""
  config_flags.define(flag_values, ["workdir"])
  flags.DEFINE_enum("at", "times", list(KILLERS), "when to kill", flag_values=flag_values)
  flags.DEFINE_integer("kills", 70, "number of kills", lower_bound=0, flag_values=flag_values)
  flags.DEFINE_integer("seed", 0, "seed of the moments", flag_values=flag_values)


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Kills the given number of times and prints the results."""
  workdir = Path(app.required(flag_values, "workdir")).resolve()
  killer = KILLERS[flag_values.at](random.Random(flag_values.seed))
  outcome = kill_runs(killer, [*arguments, "--deterministic"], flag_values.kills, workdir)
  app.print_json(outcome)
  sys.exit(1 if outcome["differences"] else 0)


def kill_runs(
  killer: "Times | SystemCalls", arguments: list[str], kills: int, workdir: Path
) -> dict[str, Any]:
  """Returns the number of kills by the run's activity, the number of runs, and the differences."""
  shutil.rmtree(workdir, ignore_errors=True)
  alone = workdir / "alone"
  killer.run_uninterrupted(arguments, alone)
  expected = outcome_of(alone)
  killed: collections.Counter[str] = collections.Counter()
  differences: list[str] = []
  runs = 0
  while killed.total() < kills:
    run = workdir / f"run{runs}"
    runs += 1
    moments = []
    while killed.total() < kills:
      moment = killer.kill(arguments, run)
      if moment is None:
        break
      killed[moment.partition(" ")[0]] += 1
      moments.append(moment)
      print(f"{run.name}: kill {killed.total()} at {moment}", file=sys.stderr, flush=True)
    else:
      train(arguments, run)
    run_differences = [
      f"{run.name}: {name} after {moments}" for name in compare(expected, outcome_of(run))
    ]
    differences += run_differences
    print(f"{run.name}: {run_differences or 'no differences'}", file=sys.stderr, flush=True)
    shutil.rmtree(run)
  return {
    "kills": killed.total(), "runs": runs, "killed_at": dict(killed), **killer.report(),
    "differences": differences,
  }  # fmt: skip


class Times:
  """Kills at random moments."""

  def __init__(self, generator: random.Random):
    self._generator = generator
    self._startup_seconds = self._run_seconds = 0.0

  def run_uninterrupted(self, arguments: list[str], run: Path) -> None:
    """Trains without interruption; measures the seconds to the first metrics, and to the end."""
    start = time.monotonic()
    process = subprocess.Popen(command(arguments, run), stdout=subprocess.DEVNULL)
    metrics = run / "metrics.jsonl"
    while process.poll() is None:
      if not self._startup_seconds and metrics.exists() and metrics.stat().st_size:
        self._startup_seconds = time.monotonic() - start
      time.sleep(0.01)
    if process.returncode or not self._startup_seconds:
      sys.exit(f"the uninterrupted run ended with {process.returncode}")
    self._run_seconds = time.monotonic() - start

  def kill(self, arguments: list[str], run: Path) -> str | None:
    """Starts or resumes a run and kills it; returns its activity, or None if it had finished."""
    process = subprocess.Popen(
      command(arguments, run), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
      _, errors = process.communicate(timeout=self._moment())
    except subprocess.TimeoutExpired:
      process.kill()
      process.communicate()
      return activity(run)
    check(run, process.returncode, errors)
    return None

  def report(self) -> dict[str, Any]:
    """Returns no additional figures."""
    return {}

  def _moment(self) -> float:
    """Draws the lifetime of a process in seconds.

    A quarter are killed during startup, which is slow. The others are killed within half of the
    time that a whole run trains and writes, so a run takes about four processes.
    """
    if self._generator.random() < 0.25:
      return self._generator.uniform(0, self._startup_seconds)
    return self._startup_seconds + self._generator.uniform(
      0, (self._run_seconds - self._startup_seconds) / 2
    )


class SystemCalls:
  """Kills just before system calls on files of the workdir."""

  def __init__(self, generator: random.Random):
    self._generator = generator
    # The largest number of each kind of call, for new runs and for resumed ones.
    self._seen: dict[bool, collections.Counter[Call]] = {
      False: collections.Counter(), True: collections.Counter()
    }  # fmt: skip
    self._killed: collections.Counter[Call] = collections.Counter()

  def run_uninterrupted(self, arguments: list[str], run: Path) -> None:
    """Trains without interruption, and records the calls."""
    self._record(watch(command(arguments, run), run), run, resumed=False)

  def kill(self, arguments: list[str], run: Path) -> str | None:
    """Starts or resumes a run and kills it; returns the call, or None if the run had finished.

    Half of the resumed runs are not killed again.
    """
    resumed = (run / "checkpoints").exists()
    seen = self._seen[resumed]
    kind, occurrence = None, 1
    if seen and not (resumed and self._generator.random() < 0.5):
      fewest = min(self._killed[call] for call in seen)
      kind = self._generator.choice(sorted(call for call in seen if self._killed[call] == fewest))
      occurrence = self._generator.randint(1, seen[kind])
    watched = watch(command(arguments, run), run, kill_at=kind, occurrence=occurrence)
    if watched.returncode == -9:
      self._killed[watched.calls[-1].kind] += 1
      return " ".join(watched.calls[-1])
    self._record(watched, run, resumed=resumed)
    return None

  def report(self) -> dict[str, Any]:
    """Returns how many kinds of calls were killed, and how many there are."""
    return {"kinds_killed": len(self._killed), "kinds": len(self._seen[False] | self._seen[True])}

  def _record(self, watched: Watched, run: Path, *, resumed: bool) -> None:
    check(run, watched.returncode, watched.errors)
    self._seen[resumed] |= collections.Counter(call.kind for call in watched.calls)


KILLERS: dict[str, type[Times | SystemCalls]] = {"times": Times, "system_calls": SystemCalls}


def command(arguments: list[str], workdir: Path) -> list[str]:
  """Returns the command line of a run."""
  return [sys.executable, "-m", "mnist_research.train", *arguments, f"--workdir={workdir}"]


def train(arguments: list[str], run: Path) -> None:
  """Starts or resumes a run, and waits for its end."""
  process = subprocess.run(command(arguments, run), capture_output=True, text=True, check=False)
  check(run, process.returncode, process.stderr)


def check(run: Path, returncode: int, errors: str) -> None:
  """Exits if a run failed."""
  if returncode:
    sys.exit(f"{run.name} ended with {returncode}: {errors}")


def activity(run: Path) -> str:
  """Returns the activity of a run when it was killed, according to its files."""
  checkpoints = [path.name for name in ("checkpoints", "best") for path in (run / name).glob("*")]
  if (run / "result.json").exists():
    return "ending"
  if any(name.endswith(".partial") for name in checkpoints):
    return "saving"
  if not (run / "metrics.jsonl").exists():
    return "starting"
  records = read_metrics(run)
  if any(record["split"] == "test" for record in records):
    return "drawing"
  return "training" if records else "compiling"


def read_metrics(run: Path) -> list[dict]:
  """Returns the complete lines of a run's metrics, without values that depend on the clock."""
  lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
  records = [json.loads(line) for line in lines if line.endswith("\n")]
  return [{k: v for k, v in record.items() if k not in CLOCK} for record in records]


def outcome_of(run: Path) -> dict:
  """Returns the records that must be equal in two runs."""
  directories = [path for path in (run / "checkpoints", run / "best") if path.exists()]
  newest = [max(path.iterdir(), key=lambda checkpoint: checkpoint.name) for path in directories]
  result = json.loads((run / "result.json").read_text())
  return {
    "checkpoints": [json.loads((p / "manifest.json").read_text())["sha256"] for p in newest],
    "metrics": read_metrics(run),
    "result": {k: v for k, v in result.items() if k not in CLOCK},
    "events": read_events(run),
  }


def read_events(run: Path) -> dict[str, list[tuple[int, str]]]:
  """Returns the step of each event that TensorBoard shows, and a digest of its value, by tag.

  Leaves out the texts under `run/`, which every start writes.
  """
  shown: dict[str, list[tuple[int, str]]] = {}
  directory = run / "tensorboard"
  # Each split has a separate directory.
  for part in (directory, *(directory / split for split in SPLITS)):
    if not part.is_dir():
      continue
    events = EventAccumulator(str(part), size_guidance={"tensors": 0}).Reload()
    for tag in events.Tags()["tensors"]:
      if not tag.startswith("run/"):
        shown[tag if part == directory else f"{part.name}/{tag}"] = [
          (event.step, "" if CLOCK & set(tag.split("/")) else digest(event.tensor_proto))
          for event in events.Tensors(tag)
        ]
  return shown


def digest(tensor: Any) -> str:
  """Returns a digest of a protocol buffer."""
  return hashlib.sha256(tensor.SerializeToString(deterministic=True)).hexdigest()


def compare(expected: dict, actual: dict) -> list[str]:
  """Lists the differences."""
  return [name for name in expected if expected[name] != actual[name]]


if __name__ == "__main__":
  app.run(main, define_flags)
