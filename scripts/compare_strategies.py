"""Compares the throughput of one device, two replicas and two workers.

  python scripts/compare_strategies.py --rounds=5 -- --flagfile=configs/dense.cfg

Arguments after `--` are flags of `mnist_research.benchmark`, which measures each way once per
round, in separate processes; on a CPU each way has all cores. The ratios are examples per second
relative to one device in the same round: median, lowest and highest. The last line on stdout is one
JSON object.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import flags

from mnist_research.runtime import app

COMMAND = ["--benchmark=throughput", "--verbosity=-1"]
BENCHMARK = [sys.executable, "-m", "mnist_research.benchmark", *COMMAND]
LAUNCHER = [sys.executable, str(Path(__file__).with_name("launch_local.py")), "--module=benchmark"]


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the rounds, and the numbers of devices and workers."""
  flags.DEFINE_integer("rounds", 5, "turns of each way", lower_bound=1, flag_values=flag_values)
  flags.DEFINE_integer(
    "replicas", 2, "number of devices, and of workers", lower_bound=1, flag_values=flag_values
  )


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Runs the rounds and prints the ratios."""
  rounds = []
  for number in range(flag_values.rounds):
    rounds.append(measure_round(arguments, flag_values.replicas))
    rates = {way: round(record["examples_per_second"]) for way, record in rounds[-1].items()}
    print(f"round {number}:", json.dumps(rates), file=sys.stderr, flush=True)
  app.print_json({"rounds": len(rounds), "replicas": flag_values.replicas, **summarize(rounds)})


def measure_round(others: list[str], replicas: int) -> dict[str, dict]:
  """Returns the benchmark's output for each way, measured one at a time."""
  with tempfile.TemporaryDirectory() as logs:
    workers = [*LAUNCHER, f"--workers={replicas}", f"--logs={logs}", "--", *COMMAND, *others]
    return {
      "one_device": measure([*BENCHMARK, *others, "--strategy=one_device"]),
      "mirrored": measure([*BENCHMARK, *others, f"--device_count={replicas}"]),
      "multi_worker": measure([*workers, "--strategy=multi_worker"]),
    }


def measure(command: list[str]) -> dict:
  """Runs a command and returns the JSON object on the last line of its stdout."""
  process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
  if process.returncode:
    sys.exit(f"{' '.join(command)} ended with {process.returncode}")
  return json.loads(process.stdout.splitlines()[-1])


def summarize(rounds: list[dict[str, dict]]) -> dict:
  """Prints the ratios, and returns ratios, rates and the costs of summing gradients."""
  summary: dict = {"gradient_bytes": rounds[0]["mirrored"]["gradient_bytes"]}
  for way in rounds[0]:
    rates = [record[way]["examples_per_second"] for record in rounds]
    summary[f"{way}_examples_per_second"] = round(statistics.median(rates))
    if way == "one_device":
      continue
    ratios = [rate / record["one_device"]["examples_per_second"]
              for rate, record in zip(rates, rounds, strict=True)]  # fmt: skip
    median, lowest, highest = statistics.median(ratios), min(ratios), max(ratios)
    print(f"{way:>12}: {median:.2f} ({lowest:.2f} to {highest:.2f})", file=sys.stderr)
    summary[f"{way}_ratio"] = round(median, 3)
    summary[f"{way}_ratio_range"] = [round(lowest, 3), round(highest, 3)]
    for cost in ("step_seconds", "all_reduce_seconds"):
      summary[f"{way}_{cost}"] = statistics.median(record[way][cost] for record in rounds)
  return summary


if __name__ == "__main__":
  app.run(main, define_flags)
