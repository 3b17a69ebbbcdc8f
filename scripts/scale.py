"""Draws the cost of training as a quantity grows: examples, block, batch, width, replicas.

  python scripts/scale.py --data_dir=DIR [--output=docs/images/scale.png] [--rounds=5]

DIR is where TFDS has prepared MNIST (by default ~/tensorflow_datasets). The model is that of
`configs/dense.cfg`, with one quantity changed at a time, and of larger networks for the replicas,
which share the processor unless there are several GPUs. The points of a curve take turns; the
figure shows the median, lowest and highest of each. Examples beyond MNIST's 60,000 are repeats. The
last line on stdout is one JSON object with the points.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl import flags

from mnist_research import figures
from mnist_research.benchmarks import training as training_lib
from mnist_research.benchmarks.limit import compile_limit, limit_turns
from mnist_research.benchmarks.products import model_products
from mnist_research.benchmarks.timing import ratios, spread, take_turns
from mnist_research.benchmarks.training import Bench
from mnist_research.config import Config
from mnist_research.config import flags as config_flags
from mnist_research.data import splits
from mnist_research.runtime import app, command_line

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = (15_000, 30_000, 60_000, 120_000, 240_000)
BLOCK_STEPS = (1, 5, 25, 125, 625)
BATCHES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
WIDTHS = (32, 64, 128, 256, 512, 1024, 2048)
REPLICAS = (1, 2, 4)
# Networks whose step takes long enough for replicas to matter: a config and other settings.
SHARED = {
  "cnn.cfg": ("cnn", {}),
  "2500-2000-1500-1000-500": (
    "dense",
    {
      "hidden_units": (2500, 2000, 1500, 1000, 500),
      "batch_size": 512,
      "precision": "bfloat16",
    },
  ),
}
# Examples per turn, unless a turn is an epoch.
TURN_EXAMPLES = 20_000
REPLICA_EXAMPLES = 10_000


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the examples, the rounds, and the output."""
  config_flags.define(flag_values, ["dataset", "data_dir", "manual_dir"])
  output = ROOT / "docs" / "images" / "scale.png"
  command_line.define_path("output", str(output), "the picture to write", flag_values)
  flags.DEFINE_integer("rounds", 5, "turns of each point", lower_bound=1, flag_values=flag_values)


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Measures the points, draws them and prints them."""
  app.refuse_arguments(arguments)
  # Each point has a new function for its steps, and TensorFlow would warn of repeated tracing.
  tf.get_logger().setLevel("ERROR")
  rounds = flag_values.rounds
  # First, because a process can create its devices only once.
  replicas = measure_replicas(flag_values, rounds)
  bench = training_lib.read(config_of("dense", flag_values))
  charts = []
  for measure in (measure_examples, measure_blocks, measure_batches, measure_widths):
    charts.append(measure(bench, rounds))
    print(f"measured: {charts[-1].x_label}", file=sys.stderr, flush=True)
  charts.append(replicas)
  summary = (
    "784-128-128-10, batches of 32, blocks of 625 steps; one quantity varies at a time. "
    "Replicas: the networks named"
  )
  figures.save(
    figures.scale_curves(charts, title="What training costs", summary=summary), flag_values.output
  )
  app.print_json({chart.x_label: chart._asdict() for chart in charts})


def measure_examples(bench: Bench, rounds: int) -> figures.Chart:
  """Measures the seconds of an epoch by the number of examples."""
  larger = {n: bench.with_train(resized(bench.train, n)) for n in EXAMPLES}
  rates = take_turns(
    {
      n: training_turns(larger_bench, rounds, larger_bench.turn_steps)
      for n, larger_bench in larger.items()
    },
    rounds,
  )
  lines = [line("training", [[n / rate for rate in rates[n]] for n in EXAMPLES])]
  return figures.Chart("Seconds of an epoch", "training examples", EXAMPLES, lines, is_cost=True)


def measure_blocks(bench: Bench, rounds: int) -> figures.Chart:
  """Measures examples per second by the number of steps per call from Python."""
  lines = [measure_rates([bench.with_config(steps_per_loop=n) for n in BLOCK_STEPS], rounds)]
  return figures.Chart("Examples per second", "steps of a block", BLOCK_STEPS, lines)


def measure_batches(bench: Bench, rounds: int) -> figures.Chart:
  """Measures examples per second by batch size."""
  lines = [measure_rates([bench.with_config(batch_size=n) for n in BATCHES], rounds)]
  return figures.Chart("Examples per second", "examples of a batch", BATCHES, lines)


def measure_rates(settings: Sequence[Bench], rounds: int) -> figures.Line:
  """Measures examples per second of each bench."""
  turns = take_turns(
    {n: training_turns(bench, rounds, short_turn(bench)) for n, bench in enumerate(settings)},
    rounds,
  )
  return line("training", list(turns.values()))


def measure_widths(bench: Bench, rounds: int) -> figures.Chart:
  """Measures GFLOP/s of training, and of only the matrix products, by the width of the layers."""
  contestants: dict[str, Iterator[Any]] = {}
  flops = []
  for width in WIDTHS:
    wider = bench.with_config(hidden_units=(width, width))
    products = model_products(training_lib.build(wider).state.model)
    batch_size = bench.config.optimization.batch_size
    limit = compile_limit(products, batch_size, training=True, device=bench.device)
    contestants[f"training {width}"] = training_turns(wider, rounds, short_turn(wider))
    contestants[f"limit {width}"] = limit_turns(limit)
    flops.append(sum(product.training_flops for product in products) / 1e9)
  turns = take_turns(contestants, rounds)
  trained = [
    [cost * rate for rate in turns[f"training {width}"]]
    for cost, width in zip(flops, WIDTHS, strict=True)
  ]
  batch_size = bench.config.optimization.batch_size
  possible = [
    [
      cost * bench.config.optimization.batch_size / sum(seconds)
      for seconds in turns[f"limit {width}"]
    ]
    for cost, width in zip(flops, WIDTHS, strict=True)
  ]
  lines = [line("training", trained), line("its products alone", possible)]
  return figures.Chart("Model GFLOP/s", "units of each hidden layer", WIDTHS, lines)


def measure_replicas(flag_values: flags.FlagValues, rounds: int) -> figures.Chart:
  """Measures examples per second relative to one replica, by the number of replicas."""
  gpus = len(tf.config.list_physical_devices("GPU"))
  counts = [count for count in REPLICAS if count <= (gpus or count)]
  lines = []
  for name, (config_name, changes) in SHARED.items():
    config = config_of(config_name, flag_values).replace(**changes)
    # The largest number first: it creates the devices.
    benches = {n: training_lib.read(config.replace(device_count=n)) for n in reversed(counts)}
    turns = take_turns(
      {
        n: training_turns(benches[n], rounds, REPLICA_EXAMPLES // config.optimization.batch_size)
        for n in counts
      },
      rounds,
    )
    lines.append(line(name, [ratios(turns[n], turns[1]) for n in counts]))
  print("measured: replicas", file=sys.stderr, flush=True)
  return figures.Chart("Throughput, relative to one replica", "replicas", counts, lines)


def config_of(name: str, flag_values: flags.FlagValues) -> Config:
  """Returns the settings in `configs`, with the flags that the command line changes."""
  config = config_flags.from_flagfile(ROOT / "configs" / f"{name}.cfg")
  return config_flags.from_flags_over(config, flag_values)


def training_turns(bench: Bench, rounds: int, turn_steps: int) -> Iterator[float]:
  """Compiles the steps of a run and yields its examples per second."""
  training = training_lib.build(bench)
  training.compile()
  return training.turns(rounds, turn_steps)


def short_turn(bench: Bench) -> int:
  """Returns the number of steps with about TURN_EXAMPLES examples."""
  return max(1, TURN_EXAMPLES // bench.config.optimization.batch_size)


def resized(split: splits.Split, num_examples: int) -> splits.Split:
  """Returns the first `num_examples`, repeated if there are fewer."""
  return split[np.arange(num_examples) % split.num_examples]


def line(name: str, values: Sequence[Sequence[float]]) -> figures.Line:
  """Returns the line through the measurements."""
  spreads = [spread(turns) for turns in values]
  return figures.Line(
    name,
    *([getattr(measured, end) for measured in spreads] for end in ("median", "lowest", "highest")),
  )


if __name__ == "__main__":
  app.run(main, define_flags)
