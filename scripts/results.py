"""Prints the table of docs/results.md from the runs of the shipped configs.

  python scripts/results.py runs/...

The directories are workdirs or folders of them. A row is a config of configs/ with all its finished
runs that were found, one for each seed: mean and standard deviation of the accuracy on the test
examples, the lowest seed, parameters, and the median of the training seconds. Runs of no config are
named on stderr and left out.
"""

import statistics
import sys
from pathlib import Path

from mnist_research import config as config_lib
from mnist_research.reports import comparison, runs

_CONFIGS = Path(__file__).resolve().parents[1] / "configs"
_HEADER = (
  "| config | seeds | test accuracy | lowest | parameters | training, median |\n"
  "|---|---|---|---|---|---|"
)


def main() -> None:
  """Prints the table."""
  found, set_aside = runs.read(sys.argv[1:])
  groups, left_out = runs.group(found)
  for aside in [*set_aside, *left_out]:
    print(f"left out: {aside.path}, {aside.kind}: {aside.reason}", file=sys.stderr)
  print(_HEADER)
  for path in sorted(_CONFIGS.glob("*.cfg")):
    wanted = config_lib.from_flagfile(path)
    for group in groups:
      if is_of(wanted, group.runs[0]):
        print(row(path.name, group))
        groups.remove(group)
        break
  for group in groups:
    print(f"left out: {group.runs[0].path}, which is of no config", file=sys.stderr)


def is_of(wanted: config_lib.Config, run: runs.Run) -> bool:
  """Whether `run` was made with the settings `wanted`, but for its seed."""
  differences = wanted.differences(run.config)
  return all(difference.startswith("--seed=") for difference in differences)


def row(name: str, group: runs.Group) -> str:
  """Returns a line of the table."""
  accuracies = list(group.values("test_accuracy").values())
  summary = comparison.summarise(accuracies)
  deviation = "" if summary.deviation is None else f" ± {summary.deviation:.2%}"
  seeds = ", ".join(str(run.config.seed) for run in group.runs)
  seconds = statistics.median(group.values("train_seconds").values())
  return (
    f"| `{name}` | {seeds} | {summary.mean:.2%}{deviation} | {min(accuracies):.2%} | "
    f"{group.values('parameters')[group.runs[0].config.seed]:,.0f} | {seconds:,.0f} s |"
  )


if __name__ == "__main__":
  main()
