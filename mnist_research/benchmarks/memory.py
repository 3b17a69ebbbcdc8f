"""Measures how much memory training takes in addition to TensorFlow's import."""

from typing import Any

from mnist_research.benchmarks.report import Report, write_bytes
from mnist_research.benchmarks.stages import run_stages
from mnist_research.config import Config

_NOTES = [
  "Measured: peak resident memory of a new process, after each startup stage and an epoch.",
  "Limit: the examples, the weights and the optimizer's slots, which must be in memory.",
]


def measure(config: Config) -> Report:
  """Trains an epoch in a new process, and reports its memory."""
  return report(run_stages(config, train=True))


def report(run: dict[str, Any]) -> Report:
  """Reports the result of `stages.run_stages`."""
  peaks = {stage["name"]: stage["peak_bytes"] for stage in run["stages"]}
  imported, peak = peaks["tensorflow"], peaks["training"]
  sizes = {name: value for name, value in run.items() if name.endswith("_bytes")}
  needed = sizes["weights_bytes"] + sizes["optimizer_bytes"] + sizes["data_bytes"]
  return Report(
    {
      **run["bench"],
      "import_bytes": imported,
      "peak_bytes": peak,
      "peak_over_import_bytes": peak - imported,
      **sizes,
      "limit_bytes": needed,
    },
    [
      *((f"peak until {name}", write_bytes(value)) for name, value in peaks.items()),
      ("peak above the import of TensorFlow", write_bytes(peak - imported)),
      *((name.removesuffix("_bytes"), write_bytes(value)) for name, value in sizes.items()),
      ("limit: data, weights, optimizer", write_bytes(needed)),
    ],
    _NOTES,
    f"Training takes {write_bytes(peak - imported)} in addition to TensorFlow, "
    f"{(peak - imported) / needed:.1f} times what data, weights and optimizer need.",
  )
