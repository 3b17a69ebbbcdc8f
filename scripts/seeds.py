"""Trains a config with several seeds and prints mean and standard deviation of the results.

  python scripts/seeds.py --flagfile=configs/dense.cfg --seeds=10 --workdir=runs/dense -- --xla=off

Arguments after `--` are passed to every run. Each seed is an ordinary run in
`<workdir>/seed<n>`, so the same command resumes. The last line on stdout is one JSON object.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

from absl import flags

from mnist_research.config import flags as config_flags
from mnist_research.runtime import app, command_line


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the config, the number of seeds, and the workdir."""
  config_flags.define(flag_values, ["workdir"])
  command_line.define_path("flagfile", "", "the config of every run", flag_values)
  flags.DEFINE_integer(
    "seeds", 10, "number of seeds: 0, 1, ...", lower_bound=1, flag_values=flag_values
  )


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Trains the seeds one after another and prints the summary."""
  flagfile = app.required(flag_values, "flagfile")
  workdir = Path(app.required(flag_values, "workdir"))
  results = [
    train(flagfile, seed, workdir / f"seed{seed}", arguments) for seed in range(flag_values.seeds)
  ]
  app.print_json({"config": flagfile, **summarize(results)})


def train(flagfile: str, seed: int, workdir: Path, others: list[str]) -> dict:
  """Trains with one seed and returns the result."""
  command = [sys.executable, "-m", "mnist_research.train", f"--flagfile={flagfile}"]
  command += [f"--seed={seed}", f"--workdir={workdir}", "--verbosity=-1", *others]
  process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
  if process.returncode:
    sys.exit(process.returncode)
  result = json.loads(process.stdout.splitlines()[-1])
  print(workdir, result.get("test_accuracy", result.get("validation_accuracy")), file=sys.stderr)
  return result


def summarize(results: list[dict]) -> dict:
  """Returns the mean, standard deviation (n - 1) and lowest accuracy, and the median time.

  With --score_test=false, there are no figures for the test split.
  """
  summary = {"dataset": results[0]["dataset"], "seeds": len(results)}
  for name in ("test_accuracy", "validation_accuracy"):
    accuracies = [result[name] for result in results if name in result]
    if accuracies:
      deviation = round(statistics.stdev(accuracies), 6) if len(accuracies) > 1 else None
      summary[f"{name}_mean"] = round(statistics.mean(accuracies), 6)
      summary[f"{name}_std"] = deviation
      summary[f"{name}_lowest"] = min(accuracies)
  return summary | {
    "train_seconds_median": round(statistics.median(r["train_seconds"] for r in results), 2),
    "parameters": results[0]["parameters"],
  }


if __name__ == "__main__":
  app.run(main, define_flags)
