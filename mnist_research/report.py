"""Reports on finished and unfinished runs: `python -m mnist_research.report DIR...`.

A DIR is a workdir, or a folder of workdirs. Of one run it writes a page with curves, confusion,
mistakes and calibration; of several a table with mean, deviation and interval by config, and their
curves. The last line on stdout is one JSON object: report, runs, configs, left_out.
"""

from pathlib import Path

import numpy as np
from absl import flags, logging

from mnist_research import app, config
from mnist_research.errors import UserError
from mnist_research.reports import runs
from mnist_research.reports.runs import Run

flags.adopt_module_key_flags(config)
_OUTPUT = flags.DEFINE_string(
  "output", "", "directory for the report; empty: report/ in DIR, or here where there are several"
)


def main(arguments: list[str]) -> None:
  """Writes the report of the runs in the directories that are named."""
  if not arguments:
    raise UserError(
      "name a workdir, or a folder of workdirs: python -m mnist_research.report DIR..."
    )
  found, set_aside = runs.read(arguments)
  if not found:
    raise UserError("; ".join(f"{aside.path} {aside.reason}" for aside in set_aside))
  inside = Path(arguments[0]) if len(arguments) == 1 else Path()
  output = Path(_OUTPUT.value) if _OUTPUT.value else inside / "report"
  from mnist_research.reports import writer  # matplotlib takes half a second.

  if len(found) == 1:
    path = writer.report_run(found[0], _test_images(found[0]), output)
    count = 1
  else:
    groups, left_out = runs.group(found)
    set_aside += left_out
    if not groups:
      raise UserError(
        "; ".join(f"{aside.path}: {aside.kind}, {aside.reason}" for aside in set_aside)
      )
    path, table = writer.report_runs(groups, set_aside, output)
    count = len(groups)
    logging.info("%s", table.to_markdown().rstrip())
  for aside in set_aside:
    logging.info("left out: %s, %s: %s", aside.path, aside.kind, aside.reason)
  app.print_json(
    {"report": str(path), "runs": len(found), "configs": count, "left_out": len(set_aside)}
  )


def _test_images(run: Run) -> np.ndarray | str:
  """Returns the images that a run was tested on, or why they aren't at hand."""
  predictions = run.workdir.read_predictions()
  if predictions is None:
    return "the run left no predictions"
  settings = config.from_flags_over(run.config)
  app.load_tensorflow()
  from mnist_research import data

  source = data.prepared(settings)
  if source is None:
    return f"{settings.dataset} is not prepared here; --data_dir says where it is"
  split = data.read(source, "test")
  if not np.array_equal(split.labels, predictions.labels):
    return f"the {settings.dataset} here has other test examples than the run"
  return split.images


if __name__ == "__main__":
  app.run(main)
