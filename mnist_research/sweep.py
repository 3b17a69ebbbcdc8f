"""Tries many settings: `python -m mnist_research.sweep --flagfile=configs/dense.cfg --workdir=DIR`.

`--sweep="activation=relu,gelu;seed=0..4"` trains every combination of the values;
`--search="learning_rate=log(1e-4,1e-2);dropout_rate=linear(0,0.5)"` has Optuna propose --trials
settings. Each trial is an ordinary workdir in DIR. The best is chosen by validation accuracy alone.
The same command goes on where it was stopped. The last line on stdout is one JSON object.
"""

from collections import Counter
from pathlib import Path

from absl import flags, logging

from mnist_research import app, config
from mnist_research.config import Config
from mnist_research.errors import UserError
from mnist_research.sweeps import space as space_lib
from mnist_research.sweeps.space import SweepPlan
from mnist_research.workdir import Workdir

flags.adopt_module_key_flags(config)
_SWEEP = flags.DEFINE_string(
  "sweep", "", "settings and their values, every combination of which is trained: "
  "activation=relu,gelu;hidden_units=64|128,64;seed=0..4")  # fmt: skip
_SEARCH = flags.DEFINE_string(
  "search", "", "settings and their ranges or values, in which to search: "
  "learning_rate=log(1e-4,1e-2);dropout_rate=linear(0,0.5);activation=relu,gelu")  # fmt: skip
_TRIALS = flags.DEFINE_integer("trials", 50, "how many trials --search makes", lower_bound=1)
_PRUNING = flags.DEFINE_bool(
  "pruning", True, "end trials of --search whose validation accuracy is below the median"
)
_JOBS = flags.DEFINE_integer(
  "jobs", 1, "trials at a time, each on its share of the cores", lower_bound=1
)
_STORAGE = flags.DEFINE_string(
  "storage", "", "database URL of the Optuna study, which several machines may share; empty: "
  "study.db in the workdir")  # fmt: skip
_STUDY_NAME = flags.DEFINE_string("study_name", "sweep", "name of the study in its storage")
_RETRY_FAILED = flags.DEFINE_bool("retry_failed", False, "train the failed trials of --sweep again")


def main(arguments: list[str]) -> None:
  """Trains what is left of the sweep and reports on all of it."""
  app.refuse_arguments(arguments)
  directory = Path(app.required("workdir"))
  plan = _plan(config.from_flags())
  app.require_extra("optuna", "sweep")
  from mnist_research.sweeps import run

  with Workdir(directory).opened():
    records, seconds, overhead, summary = run.run_sweep(
      plan,
      directory=directory,
      storage=_STORAGE.value or f"sqlite:///{directory / 'study.db'}",
      study_name=_STUDY_NAME.value,
      jobs=_JOBS.value,
    )
  states = Counter(record.state for record in records)
  logging.info("%s", summary.table.to_markdown())
  logging.info("best by validation accuracy, which alone chooses: %s", dict(summary.best))
  if overhead:
    logging.info(
      "%.1f s for the trials; overhead of one: %.2f s for its process; %.2f s in train beside the "
      "steps",
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


def _plan(base: Config) -> SweepPlan:
  if bool(_SWEEP.value) == bool(_SEARCH.value):
    raise UserError('give either --sweep=... or --search=..., such as --sweep="seed=0..4"')
  if not base.validation_examples:
    raise UserError(
      "--validation_examples=0: a sweep chooses by the validation accuracy; hold some out, such as "
      "--validation_examples=5000"
    )
  if base.strategy == "multi_worker":
    raise UserError(
      "--strategy=multi_worker: a trial takes one machine; several machines share a sweep with "
      "--storage"
    )
  if _SEARCH.value:
    if _RETRY_FAILED.value:
      raise UserError("--retry_failed belongs to --sweep; with --search raise --trials")
    searched = space_lib.parse_search(_SEARCH.value, base)
    return SweepPlan(base, searched, _TRIALS.value, pruning=_PRUNING.value, retry_failed=False)
  for name in ("trials", "pruning"):
    if flags.FLAGS[name].present:
      raise UserError(f"--{name} belongs to --search; --sweep trains every combination to its end")
  space = space_lib.parse_sweep(_SWEEP.value, base)
  return SweepPlan(base, space, 0, pruning=False, retry_failed=_RETRY_FAILED.value)


if __name__ == "__main__":
  app.run(main)
