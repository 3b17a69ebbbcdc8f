"""Measures training here: `python -m mnist_research.benchmark --flagfile=F --benchmark=throughput`.

A table of what was found, and what was timed and what was not, goes to people on stderr; the last
line on stdout is one JSON object: `benchmark`, the settings, and the figures, in seconds and bytes.
"""

import dataclasses

from absl import flags, logging

from mnist_research import app, config
from mnist_research.benchmarks.report import Report
from mnist_research.config import Config
from mnist_research.errors import UserError, writing
from mnist_research.workdir import Workdir

flags.adopt_module_key_flags(config)
_BENCHMARK = flags.DEFINE_enum(
  "benchmark",
  None,
  ["throughput", "input", "startup", "evaluate", "time_to_accuracy", "memory"],
  "what to measure: training in its midst, the input pipeline alone, the time to the first step, "
  "scoring, whole trainings over --num_seeds, or memory",
)
_BASELINE = flags.DEFINE_enum(
  "baseline",
  None,
  ["keras_fit", "keras_fit_tuned"],
  "throughput: Keras's fit on the same network in turn with training; tuned: 125 steps an "
  "execution, and XLA where training has it",
)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "how often each thing is measured", lower_bound=1)
_NUM_SEEDS = flags.DEFINE_integer(
  "num_seeds", 10, "time_to_accuracy: trainings, from --seed on", lower_bound=1
)
_PROFILE = flags.DEFINE_bool(
  "profile", False, "throughput: write a TensorBoard trace of some blocks under --workdir"
)
# Settings that say where files are, not what is measured.
_PATHS = ("workdir", "data_dir", "manual_dir", "fallback_dataset")


def main(arguments: list[str]) -> None:
  """Measures what the flags name and prints what was found."""
  app.refuse_arguments(arguments)
  settings = config.from_flags()
  benchmark = app.required("benchmark")
  for flag in (_BASELINE, _PROFILE):
    if flag.value and benchmark != "throughput":
      raise UserError(f"--{flag.name} goes with --benchmark=throughput alone")
  if _PROFILE.value:
    traces = Workdir(app.required("workdir")).tensorboard
    with writing(traces):  # Known now, and not after what was measured is lost.
      traces.mkdir(parents=True, exist_ok=True)
  measure = _measure_processes if benchmark in ("startup", "memory") else _measure_here
  report = measure(benchmark, settings)
  if report is None:  # Of another worker than the chief.
    return
  logging.info("%s", report.text())
  described = {k: v for k, v in dataclasses.asdict(settings).items() if k not in _PATHS}
  app.print_json({"benchmark": benchmark, **described, **report.record})


def _measure_processes(benchmark: str, settings: Config) -> Report:
  """Measures what only a new process can show; this one needs no TensorFlow."""
  from mnist_research.benchmarks import memory, startup

  if benchmark == "startup":
    return startup.measure(settings, rounds=_ROUNDS.value)
  return memory.measure(settings)


def _measure_here(benchmark: str, settings: Config) -> Report | None:
  """Measures in this process, and in those of the other workers if there are any."""
  app.load_tensorflow()
  from mnist_research import distribution
  from mnist_research.benchmarks import evaluate, pipeline, throughput, time_to_accuracy, training

  workers = distribution.read_workers(settings)
  with distribution.lost_worker_told(workers):
    bench = training.read(settings)
    if benchmark == "input":
      report = pipeline.measure(bench, rounds=_ROUNDS.value)
    elif benchmark == "time_to_accuracy":
      report = time_to_accuracy.measure(bench, num_seeds=_NUM_SEEDS.value)
    elif benchmark == "evaluate":
      report = evaluate.measure(training.build(bench), rounds=_ROUNDS.value)
    else:
      built = training.build(bench)
      report = throughput.measure(built, rounds=_ROUNDS.value, baseline=_BASELINE.value)
      if _PROFILE.value:
        training.profile(built, Workdir(settings.workdir).tensorboard)
    # A worker that leaves ends the others.
    distribution.Exchange(bench.strategy, workers).wait()
  return Report.joined([bench.described(), report]) if workers.is_chief else None


if __name__ == "__main__":
  app.run(main)
