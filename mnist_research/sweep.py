r"""Trains with many settings.

  python -m mnist_research.sweep --flagfile=configs/dense.cfg \
    --validation_examples=5000 --workdir=runs/sweep \
    --sweep="activation=relu,gelu;seed=0..4"
  python -m mnist_research.sweep --flagfile=configs/dense.cfg \
    --validation_examples=5000 --workdir=runs/search --trials=30 \
    --search="learning_rate=log(1e-4,1e-2)"

`--sweep="activation=relu,gelu;seed=0..4"` trains every combination of the values;
`--search="learning_rate=log(1e-4,1e-2);dropout_rate=linear(0,0.5)"` lets Optuna propose --trials
settings. Each trial is an ordinary workdir in DIR. The best is chosen by validation accuracy;
trials never score the test split (--score_test=false).
The same command resumes a stopped sweep. The last line on stdout is one JSON object.
"""

import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from absl import flags

from mnist_research.config import Config
from mnist_research.config import flags as config_flags
from mnist_research.runtime import app
from mnist_research.runtime.errors import UserError
from mnist_research.sweeps import space as space_lib
from mnist_research.sweeps.space import SweepPlan


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: all settings, and those of the sweep."""
  config_flags.define(flag_values)
  flags.DEFINE_string(
    "sweep", "", "settings and their values; every combination is trained: "
    "activation=relu,gelu;hidden_units=64|128,64;seed=0..4", flag_values=flag_values)  # fmt: skip
  flags.DEFINE_string(
    "search", "", "settings and their ranges or values to search: "
    "learning_rate=log(1e-4,1e-2);dropout_rate=linear(0,0.5);activation=relu,gelu",
    flag_values=flag_values)  # fmt: skip
  flags.DEFINE_integer(
    "trials", 50, "number of trials of --search", lower_bound=1, flag_values=flag_values
  )
  flags.DEFINE_bool(
    "pruning", True, "stop trials of --search whose validation accuracy is below the median",
    flag_values=flag_values)  # fmt: skip
  flags.DEFINE_integer(
    "jobs", 1, "trials to run at a time, each on its share of the cores", lower_bound=1,
    flag_values=flag_values)  # fmt: skip
  flags.DEFINE_string(
    "storage", "", "database URL of the Optuna study, which several machines may share; empty: "
    "study.db in the workdir", flag_values=flag_values)  # fmt: skip
  flags.DEFINE_string(
    "study_name", "sweep", "name of the study in its storage", flag_values=flag_values
  )
  flags.DEFINE_bool(
    "retry_failed", False, "retry the failed trials of --sweep", flag_values=flag_values
  )


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Runs the remaining trials of the sweep, and reports on the whole sweep."""
  app.refuse_arguments(arguments)
  directory = Path(app.required(flag_values, "workdir"))
  plan = _plan(config_flags.from_flags(flag_values).with_pinned_data(), flag_values)
  if flag_values["score_test"].present and flag_values.score_test:
    raise UserError("--score_test: a sweep never scores the test split; remove it")
  plan = plan._replace(base=plan.base.replace(score_test=False))
  app.require_extra("optuna", "sweep")
  from absl import logging

  from mnist_research.runtime import progress

  with progress.loading("Optuna"):
    from mnist_research.sweeps import run
    from mnist_research.workdir import Workdir

  with Workdir(directory).opened():
    records, seconds, overhead, summary = run.run_sweep(
      plan,
      directory=directory,
      storage=flag_values.storage or f"sqlite:///{directory / 'study.db'}",
      study_name=flag_values.study_name,
      jobs=flag_values.jobs,
    )
  states = Counter(record.state for record in records)
  logging.info("%s", summary.table.fitting(progress.columns()).to_markdown())
  logging.info(
    "best by validation accuracy, %.4f; this trains it and scores the test split once:\n  %s",
    summary.validation_accuracy, _training(plan.base, summary.best),
  )  # fmt: skip
  if overhead:
    logging.info(
      "%.1f s for the trials; overhead per trial: %.2f s for its process, %.2f s in train outside "
      "the steps",
      seconds,
      *overhead,
    )
  app.print_json(
    {
      "report": str(summary.report),
      **{state: states[state] for state in ("finished", "pruned", "failed", "running", "waiting")},
      "best": dict(summary.best),
      "validation_accuracy": summary.validation_accuracy,
      "trials_seconds": seconds,
      "process_overhead_seconds": overhead.process_seconds if overhead else None,
    }
  )


def _training(base: Config, best: Mapping[str, str]) -> str:
  """Returns the command that trains the `best` settings over `base` as a separate run."""
  chosen = config_flags.with_texts(base, best).replace(score_test=True, workdir="")
  defaults = Config().to_texts()
  settings = [
    f"--{name}={text}" for name, text in chosen.to_texts().items() if text != defaults[name]
  ]
  return shlex.join(["python", "-m", "mnist_research.train", *settings])


def _plan(base: Config, flag_values: flags.FlagValues) -> SweepPlan:
  if bool(flag_values.sweep) == bool(flag_values.search):
    raise UserError('give either --sweep=... or --search=..., such as --sweep="seed=0..4"')
  if not base.data.validation_examples:
    raise UserError(
      "--validation_examples=0: a sweep needs validation accuracy; hold some out, such as "
      "--validation_examples=5000"
    )
  if base.devices.strategy == "multi_worker":
    raise UserError(
      "--strategy=multi_worker: a trial runs on one machine; several machines share a sweep with "
      "--storage"
    )
  if flag_values.search:
    if flag_values.retry_failed:
      raise UserError("--retry_failed belongs to --sweep; with --search raise --trials")
    searched = space_lib.parse_search(flag_values.search, base)
    return SweepPlan(
      base, searched, flag_values.trials, pruning=flag_values.pruning, retry_failed=False
    )
  for name in ("trials", "pruning"):
    if flag_values[name].present:
      raise UserError(f"--{name} belongs to --search; --sweep trains every combination to the end")
  space = space_lib.parse_sweep(flag_values.sweep, base)
  return SweepPlan(base, space, 0, pruning=False, retry_failed=flag_values.retry_failed)


if __name__ == "__main__":
  app.run(main, define_flags)
