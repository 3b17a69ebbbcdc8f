"""Trains a config with several seeds and prints the mean and deviation of what came out.

  python scripts/seeds.py --flagfile=configs/dense.cfg --seeds=10 --workdir=runs/dense -- --xla=off

What stands behind `--` goes to every training. Each seed is an ordinary run in `<workdir>/seed<n>`,
so the same command goes on where it was stopped. The last line on stdout is one JSON object.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path


def main() -> None:
  """Trains the seeds one after the other and prints the summary."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--flagfile", required=True, help="the config")
  parser.add_argument("--seeds", type=int, default=10, help="how many: 0, 1, ...")
  parser.add_argument("--workdir", type=Path, required=True, help="the runs are made under it")
  parser.add_argument("flags", nargs="*", help="more flags for every training")
  arguments = parser.parse_args()
  results = [
    train(arguments.flagfile, seed, arguments.workdir / f"seed{seed}", arguments.flags)
    for seed in range(arguments.seeds)
  ]
  print(json.dumps({"config": arguments.flagfile, **summarise(results)}))


def train(flagfile: str, seed: int, workdir: Path, flags: list[str]) -> dict:
  """Runs one training and returns its result."""
  command = [sys.executable, "-m", "mnist_research.train", f"--flagfile={flagfile}"]
  command += [f"--seed={seed}", f"--workdir={workdir}", "--verbosity=-1", *flags]
  process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
  if process.returncode:
    sys.exit(process.returncode)
  result = json.loads(process.stdout.splitlines()[-1])
  print(workdir, result["test_accuracy"], file=sys.stderr)
  return result


def summarise(results: list[dict]) -> dict:
  """Returns mean, deviation (n - 1) and lowest of the accuracies, and the median time."""
  accuracies = [result["test_accuracy"] for result in results]
  summary = {
    "dataset": results[0]["dataset"],
    "seeds": len(results),
    "test_accuracy_mean": round(statistics.mean(accuracies), 6),
    "test_accuracy_std": round(statistics.stdev(accuracies), 6) if len(results) > 1 else None,
    "test_accuracy_lowest": min(accuracies),
    "train_seconds_median": round(statistics.median(r["train_seconds"] for r in results), 2),
    "parameters": results[0]["parameters"],
  }
  validated = [r["validation_accuracy"] for r in results if "validation_accuracy" in r]
  if validated:
    summary["validation_accuracy_mean"] = round(statistics.mean(validated), 6)
  return summary


if __name__ == "__main__":
  main()
