"""Measures the stages from the start of a process to its first training step."""

from collections.abc import Sequence
from typing import Any

from mnist_research.benchmarks.report import Report, Rows, write_seconds, write_share
from mnist_research.benchmarks.stages import run_stages
from mnist_research.benchmarks.timing import ratios, spread
from mnist_research.config import Config

# The stages in order, with their descriptions.
STAGES = {
  "python": "Python and flags",
  "tensorflow": "import tensorflow",
  "package": "other imports",
  "data": "devices and data",
  "build": "model and optimizer",
  "compile": "compilation",
  "first_step": "first step",
}
_NOTES = [
  "Timed: one stage after another, in a new process per round. (A real run compiles while it reads",
  "the data, so its first step comes sooner than the sum of the stages.)",
  "Limit: Python and `import tensorflow`, without which nothing can start.",
]


def measure(config: Config, *, rounds: int) -> Report:
  """Starts `rounds` processes, one after the other."""
  return report([run_stages(config, train=False) for _ in range(rounds)])


def report(runs: Sequence[dict[str, Any]]) -> Report:
  """Reports the results of `run_stages` for several starts."""
  starts = [[stage["seconds"] for stage in run["stages"]] for run in runs]
  seconds = dict(zip(STAGES, zip(*starts, strict=True), strict=True))
  totals = [sum(start) for start in starts]
  needed = [
    python + tensorflow
    for python, tensorflow in zip(seconds["python"], seconds["tensorflow"], strict=True)
  ]
  share = spread(ratios(needed, totals))
  rows: Rows = [
    (STAGES[name], spread(values).text(write_seconds)) for name, values in seconds.items()
  ]
  return Report(
    {
      **runs[0]["bench"],
      **{f"{name}_seconds": spread(values).median for name, values in seconds.items()},
      **spread(totals).record("startup_seconds"),
      **share.record("limit_share"),
    },
    [
      *rows,
      ("start to first step", spread(totals).text(write_seconds)),
      ("share of the limit", share.text(write_share)),
    ],
    _NOTES,
    f"The first step is done {write_seconds(spread(totals).median)} after the start; "
    f"{write_share(share.median)} of that is Python and the import of TensorFlow.",
  )
