r"""Measures training on this machine.

  python -m mnist_research.benchmark --flagfile=configs/dense.cfg \
    --benchmark=throughput
  python -m mnist_research.benchmark --flagfile=configs/fast.cfg \
    --benchmark=time_to_accuracy
  python -m mnist_research.benchmark --benchmark=learning_rate \
    --workdir=runs/rates

A table of the results, and what was timed, goes to stderr; the last line on stdout is one JSON
object: `benchmark`, the settings, and the figures, in seconds and bytes.
"""

from typing import TYPE_CHECKING

from absl import flags

from mnist_research.config import Config
from mnist_research.config import flags as config_flags
from mnist_research.runtime import app
from mnist_research.runtime.errors import UserError, writing

if TYPE_CHECKING:  # It loads NumPy.
  from mnist_research.benchmarks.report import Report

# Settings that locate files and don't affect the measurement.
_PATHS = ("workdir", "data_dir", "manual_dir", "fallback_dataset")


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: all settings, and what to measure."""
  config_flags.define(flag_values)
  flags.DEFINE_enum(
    "benchmark",
    None,
    ["throughput", "input", "startup", "evaluate", "time_to_accuracy", "memory", "learning_rate"],
    "what to measure: training in steady state, only the input pipeline, the time to the first "
    "step, evaluation, complete runs over --num_seeds, memory, or the loss while the learning rate "
    "rises, drawn under --workdir",
    flag_values=flag_values,
  )
  flags.DEFINE_enum(
    "baseline",
    None,
    ["keras_fit", "keras_fit_tuned"],
    "throughput: also measure Keras's fit on the same model; tuned: 125 steps per execution, and "
    "XLA where this package uses it",
    flag_values=flag_values,
  )
  flags.DEFINE_integer(
    "rounds", 5, "number of measurements", lower_bound=1, flag_values=flag_values
  )
  flags.DEFINE_integer(
    "num_seeds", 10, "time_to_accuracy: number of seeds, from --seed on", lower_bound=1,
    flag_values=flag_values,
  )  # fmt: skip
  flags.DEFINE_bool(
    "profile", False, "throughput: write a TensorBoard trace of some blocks under --workdir",
    flag_values=flag_values,
  )  # fmt: skip


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Runs the benchmark that the flags name, and prints the results."""
  app.refuse_arguments(arguments)
  settings = config_flags.from_flags(flag_values).with_pinned_data()
  benchmark = app.required(flag_values, "benchmark")
  for name in ("baseline", "profile"):
    if flag_values[name].value and benchmark != "throughput":
      raise UserError(f"--{name} is only for --benchmark=throughput")
  if flag_values.profile or benchmark == "learning_rate":
    from mnist_research.workdir import Workdir

    workdir = Workdir(app.required(flag_values, "workdir"))
    directory = workdir.tensorboard if flag_values.profile else workdir.figures
    with writing(directory):  # Fails now, before measurements that would be lost.
      directory.mkdir(parents=True, exist_ok=True)
  measure = _measure_processes if benchmark in ("startup", "memory") else _measure_here
  report = measure(flag_values, settings)
  if report is None:  # This worker isn't the chief.
    return
  from absl import logging

  logging.info("%s", report.text())
  setting_fields = {k: v for k, v in settings.to_dict().items() if k not in _PATHS}
  app.print_json({"benchmark": benchmark, **setting_fields, **report.record})


def _measure_processes(flag_values: flags.FlagValues, settings: Config) -> "Report":
  """Measures in new processes, so this one doesn't need TensorFlow."""
  from mnist_research.benchmarks import memory, startup

  if flag_values.benchmark == "startup":
    return startup.measure(settings, rounds=flag_values.rounds)
  return memory.measure(settings)


def _measure_here(flag_values: flags.FlagValues, settings: Config) -> "Report | None":
  """Measures in this process, and in any other workers."""
  app.load_tensorflow()
  from mnist_research.benchmarks import (
    evaluate,
    learning_rate,
    pipeline,
    throughput,
    time_to_accuracy,
    training,
  )
  from mnist_research.benchmarks.report import Report
  from mnist_research.workdir import Workdir
  from mnist_research.workers import Exchange, read_workers, report_lost_worker

  benchmark, rounds = flag_values.benchmark, flag_values.rounds

  workers = read_workers(settings.devices.strategy)
  with report_lost_worker(workers):
    bench = training.read(settings)
    if benchmark == "input":
      report = pipeline.measure(bench, rounds=rounds)
    elif benchmark == "time_to_accuracy":
      report = time_to_accuracy.measure(bench, num_seeds=flag_values.num_seeds)
    elif benchmark == "learning_rate":
      report = learning_rate.measure(
        bench, Workdir(settings.run.workdir).figures / "learning_rate.png"
      )
    elif benchmark == "evaluate":
      report = evaluate.measure(training.build(bench), rounds=rounds)
    else:
      built = training.build(bench)
      report = throughput.measure(built, rounds=rounds, baseline=flag_values.baseline)
      if flag_values.profile:
        training.profile(built, Workdir(settings.run.workdir).tensorboard)
    # Waits, because a worker that exits ends the others.
    Exchange(bench.strategy, workers).wait()
  return Report.joined([bench.described(), report]) if workers.is_chief else None


if __name__ == "__main__":
  app.run(main, define_flags)
