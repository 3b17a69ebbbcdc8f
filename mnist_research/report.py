"""Reports on finished and unfinished runs.

  python -m mnist_research.report runs/dense
  python -m mnist_research.report runs/dense runs/cnn --output=report

A DIR is a workdir, or a folder of workdirs. For one run it writes a page with curves, confusion,
mistakes and calibration. For several it writes a table with mean, standard deviation and interval
by config, compares each config with a reference, and draws their curves. `--tensorboard` also
writes a directory for TensorBoard, with the runs by name, and mean and standard deviation over the
seeds of each config. The last line on stdout is one JSON object: report, runs, configs, left_out.
"""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from mnist_research.config import flags as config_flags
from mnist_research.runtime import app, command_line
from mnist_research.runtime.errors import UserError

if TYPE_CHECKING:  # They load NumPy.
  import numpy as np

  from mnist_research.reports.runs import Run

# A page takes a second. More runs than this come from a sweep, and get pages on request.
_MOST_PAGES = 30
_FOREIGN = {
  **config_flags.TRAINING_ONLY,
  "workdir": "is not a flag of this command: name the workdirs without it, report DIR...",
}


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the output, and the location of the test examples."""
  config_flags.define(flag_values, ["data_dir"])
  command_line.define_path(
    "output", "", "directory of the report; empty: report/ in DIR, or in the current directory if "
    "there are several DIRs", flag_values,
  )  # fmt: skip
  flags.DEFINE_string(
    "reference", "", "config to compare with: its settings as in the table, or the workdir of one "
    "of its runs; empty: the first row, with p-values adjusted for all pairs",
    flag_values=flag_values,
  )  # fmt: skip

  flags.DEFINE_bool(
    "pictures", False, "draw the examples that several runs together get wrong; needs the dataset",
    flag_values=flag_values,
  )  # fmt: skip
  flags.DEFINE_bool(
    "tensorboard", False, "write tensorboard/ next to the page of several runs: all runs, and the "
    "mean and band of each config over its seeds", flag_values=flag_values,
  )  # fmt: skip


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Writes the report on the runs in the named directories."""
  if not arguments:
    raise UserError(
      "name a workdir, or a folder of workdirs: python -m mnist_research.report DIR..."
    )
  from absl import logging

  # Imported here because it loads absl's logging flags.
  from mnist_research.runtime import progress

  with progress.loading("NumPy"):
    from mnist_research.reports import runs

  all_runs, left_out = runs.read(arguments)
  if not all_runs:
    raise UserError("; ".join(f"{entry.path} {entry.reason}" for entry in left_out))
  base = Path(arguments[0]) if len(arguments) == 1 else Path()
  output = Path(flag_values.output) if flag_values.output else base / "report"
  # Imported here because it takes half a second.
  with progress.loading("matplotlib"):
    from mnist_research.reports.comparison_page import write_comparison_page
    from mnist_research.reports.run_page import write_run_page

  if len(all_runs) == 1:
    if flag_values.reference:
      raise UserError(f"--reference={flag_values.reference}: there is only one run; name several")
    if flag_values.tensorboard:
      raise UserError("--tensorboard: there is only one run; name several, or use its tensorboard/")
    path = write_run_page(all_runs[0], _test_images(all_runs[0], flag_values), output)
    count = 1
  else:
    groups, ungrouped = runs.group(all_runs)
    left_out += ungrouped
    if not groups:
      raise UserError(
        "; ".join(f"{entry.path}: {entry.kind}, {entry.reason}" for entry in left_out)
      )
    grouped_runs = [run for group in groups for run in group.runs]
    remaining = _remaining_part(grouped_runs, flag_values, output)
    pages = _run_pages(grouped_runs, output)
    path, table = write_comparison_page(
      groups, left_out, output, reference=flag_values.reference, pages=pages,
      last_parts=remaining,
    )  # fmt: skip
    count = len(groups)
    if flag_values.tensorboard:
      app.load_tensorflow()
      from mnist_research.reports.averages import write_averages

      logging.info("tensorboard --logdir=%s", shlex.quote(str(write_averages(groups, output))))
    logging.info("%s", table.fitting(progress.columns()).to_markdown().rstrip())
  for entry in left_out:
    logging.info("left out: %s, %s: %s", entry.path, entry.kind, entry.reason)
  app.print_json(
    {"report": str(path), "runs": len(all_runs), "configs": count, "left_out": len(left_out)}
  )


def _remaining_part(
  grouped_runs: "list[Run]", flag_values: flags.FlagValues, output: Path
) -> list[str]:
  """Writes the page on the mistakes of all runs together; returns a section that links to it."""
  from mnist_research.reports import html, remaining

  wrong = remaining.find(grouped_runs)
  if wrong is None:
    return []
  images: np.ndarray | str = "report --pictures draws them"
  if flag_values.pictures:
    images = _test_images(grouped_runs[0], flag_values)
  path = remaining.write_page(wrong, images, output)
  text = f"{len(wrong.indices):,} test examples that {wrong.models} models together get wrong"
  return [html.section("What remains wrong", html.link(path.name, f"{text}, and suspect labels"))]


def _run_pages(grouped_runs: "list[Run]", output: Path) -> dict[Path, Path]:
  """Returns each run's page: the one in its workdir, or a new one under `output`/runs."""
  from mnist_research.reports.run_page import write_run_page
  from mnist_research.runtime import progress

  pages: dict[Path, Path] = {}
  with progress.Progress(total=len(grouped_runs), unit="run", task="pages", brief=True) as shown:
    for number, run in enumerate(grouped_runs):
      existing = run.path / "report" / "report.html"
      if existing.is_file():
        pages[run.path] = existing
      elif number < _MOST_PAGES:
        reason = f"python -m mnist_research.report {shlex.quote(str(run.path))} draws them"
        pages[run.path] = write_run_page(
          run, reason, output / "runs" / f"{number:03}-{run.path.name}"
        )
      shown.update(number + 1)
  return pages


def _test_images(run: "Run", flag_values: flags.FlagValues) -> "np.ndarray | str":
  """Returns the images that a run was tested on, or the reason why they aren't available."""
  predictions = run.workdir.read_predictions()
  if predictions is None:
    return "the run has no predictions"
  settings = config_flags.from_flags_over(run.config, flag_values)
  app.load_tensorflow()
  import numpy as np

  from mnist_research.data import datasets, splits

  source = datasets.prepared(settings)
  if source is None:
    return f"{settings.data.dataset} is not prepared here; --data_dir says where it is"
  split = splits.read(source, "test")
  if not np.array_equal(split.labels, predictions.labels):
    return f"the {settings.data.dataset} here doesn't have the run's test examples"
  return split.images


if __name__ == "__main__":
  app.run(main, define_flags, _FOREIGN)
