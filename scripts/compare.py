"""Compares the speed of this project with other implementations, which take turns.

  python scripts/compare.py --data_dir=DIR [--rounds=5] [--work=dense,cnn] [--peers_python=PYTHON]

DIR is where TFDS has prepared MNIST (by default ~/tensorflow_datasets). The comparisons are:

- dense: `configs/dense.cfg` in steady training, against Keras's `fit`, PyTorch and JAX;
- dense_512: the same model with batches of 512, against PyTorch and JAX;
- large: 2500-2000-1500-1000-500 units, batches of 512, bfloat16, against only its matrix products;
- cnn: `configs/small_cnn.cfg` in bfloat16, against Keras's `fit` and PyTorch;
- fast: complete runs of `configs/fast.cfg`, against its recipe in PyTorch;
- accuracy: `configs/fast.cfg` over `--num_seeds` seeds: seconds of training, and test accuracy;
- command: the whole `train --flagfile=configs/dense.cfg`, against the tutorials' Keras script;
- summaries: the same with `--summaries=basic` and `all`, against `none`.

The peers, in `scripts/peers/`, are long-lived programs that take turns training an epoch. PyTorch
and JAX aren't part of this project's environment: if `--peers_python` lacks one, its rows are
skipped, with the command that installs it. Ratios are computed for each round; the table shows the
median, lowest and highest. Keep the machine quiet: libraries whose threads busy-wait, such as
PyTorch, lose most of their speed next to another program.

The last line on stdout is one JSON object.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from comparison.programs import compare_commands
from comparison.rows import Row, ratio_row
from comparison.timing import time_to_first_step, timed

from mnist_research.benchmarks.report import write_ratio, write_seconds
from mnist_research.benchmarks.timing import Spread
from mnist_research.config import Config
from mnist_research.config import flags as config_flags
from mnist_research.runtime import app, command_line
from mnist_research.runtime.errors import UserError

SCRIPTS = Path(__file__).resolve().parent
CONFIGS = SCRIPTS.parent / "configs"
# The peers don't hold out validation examples.
DENSE = [f"--flagfile={CONFIGS / 'dense.cfg'}", "--validation_examples=0"]
FAST = [f"--flagfile={CONFIGS / 'fast.cfg'}"]
CNN = [f"--flagfile={CONFIGS / 'small_cnn.cfg'}", "--precision=bfloat16"]
LARGE = ["--hidden_units=2500,2000,1500,1000,500", "--batch_size=512", "--precision=bfloat16"]
LARGE += ["--validation_examples=0"]


class Peer(NamedTuple):
  """Another implementation of the same work.

  Attributes:
    name: the name in the table.
    script: the name of its script in `peers/`.
    arguments: the arguments of the script.
  """

  name: str
  script: str
  arguments: Sequence[str] = ()


class Work(NamedTuple):
  """A training task, for this project and its peers.

  Attributes:
    flags: the flags of `mnist_research.train`.
    arguments: the arguments of the peers.
    peers: the peers that do the same work.
  """

  flags: Sequence[str]
  arguments: Sequence[str]
  peers: Sequence[Peer]


TUNED = ["--tuning=tuned"]
BFLOAT16 = ["--precision=bfloat16"]
TORCH = [
  Peer("PyTorch, compiled step", "torch_loop", ["--step=compiled"]),
  Peer("PyTorch, eager", "torch_loop"),
  Peer("PyTorch, eager, DataLoader", "torch_loop", ["--input=loader"]),
]
JAX = Peer("JAX, scan", "jax_scan")
# Each library's fastest variant comes first; other precisions come last.
WORKS = {
  "dense": Work(
    DENSE,
    ["--batch=32"],
    [
      JAX,
      *TORCH,
      Peer("Keras fit, tuned", "keras_fit", TUNED),
      Peer("Keras fit", "keras_fit"),
    ],
  ),
  "dense_512": Work(
    [*DENSE, "--batch_size=512"],
    ["--batch=512"],
    [JAX, *TORCH, Peer("Keras fit, tuned", "keras_fit", TUNED)],
  ),
  "cnn": Work(
    CNN,
    ["--model=cnn", "--batch=256"],
    [
      Peer("Keras fit, tuned, bfloat16", "keras_fit", [*TUNED, *BFLOAT16]),
      Peer("PyTorch, compiled model, bfloat16", "torch_loop", ["--step=model", *BFLOAT16]),
      Peer("PyTorch, eager, bfloat16", "torch_loop", BFLOAT16),
      Peer("PyTorch, compiled model, float32", "torch_loop", ["--step=model"]),
      # Its default compiles with XLA, which is slow for convolutions on a CPU.
      Peer("Keras fit, float32", "keras_fit"),
    ],
  ),
  "fast": Work(
    FAST,
    [],
    [
      Peer("PyTorch, compiled model, bfloat16", "torch_fast"),
      Peer("PyTorch, eager, bfloat16", "torch_fast", ["--step=eager"]),
    ],
  ),
}


def main(arguments: flags.FlagValues, others: list[str]) -> None:
  """Runs the requested comparisons and prints the table."""
  app.refuse_arguments(others)
  for work in arguments.work:
    if work not in {**WORKS, **MEASURES}:
      raise UserError(f"--work={work}: choose some of {', '.join([*WORKS, *MEASURES])}")
  rows: list[Row] = []
  with tempfile.TemporaryDirectory() as directory:
    arrays = write_arrays(arguments, Path(directory))
    for work in arguments.work:
      rows += (
        MEASURES[work](arguments, arrays)
        if work in MEASURES
        else compare_peers(work, arguments, arrays)
      )
  widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
  for row in rows:
    print(f"{row.work:<{widths[0]}}  {row.against:<{widths[1]}}  {row.text}", file=sys.stderr)
  table = [{"work": row.work, "against": row.against, **row.record} for row in rows]
  app.print_json({"rounds": arguments.rounds, "rows": table})


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the work, the peers, and the length."""
  config_flags.define(flag_values, ["dataset", "data_dir", "manual_dir"])
  all_work = [*WORKS, *MEASURES]
  flags.DEFINE_integer("rounds", 5, "turns of each", lower_bound=1, flag_values=flag_values)
  flags.DEFINE_list("work", all_work, "what to compare", flag_values=flag_values)
  command_line.define_path(
    "peers_python", sys.executable, "Python interpreter with the peers' libraries", flag_values
  )
  flags.DEFINE_integer(
    "turn_steps", 0, "steps per turn; 0: an epoch", lower_bound=0, flag_values=flag_values
  )
  flags.DEFINE_integer(
    "num_seeds", 30, "number of seeds for accuracy", lower_bound=1, flag_values=flag_values
  )
  flags.DEFINE_integer(
    "epochs", 10, "epochs of the runs for command", lower_bound=1, flag_values=flag_values
  )


def write_arrays(arguments: flags.FlagValues, directory: Path) -> dict[str, Path]:
  """Writes the examples for programs that use neither TFDS nor this package."""
  app.load_tensorflow()
  from mnist_research.data import datasets, splits

  source = datasets.prepare(config_flags.from_flags_over(Config(), arguments))
  paths = {}
  for name in ("train", "test"):
    split = splits.read(source, name)
    paths[name] = directory / f"{name}.npz"
    np.savez(paths[name], images=split.images, labels=split.labels)
  return paths


def data_flags(arguments: flags.FlagValues) -> list[str]:
  """Returns the flags with which a command of this package finds the same examples."""
  return [f"--{name}={arguments[name].value}" for name in ("dataset", "data_dir", "manual_dir")]


def steps_flags(arguments: flags.FlagValues) -> list[str]:
  """Returns the flag, for this package and for peers, that shortens a turn."""
  return [f"--steps={arguments.turn_steps}"] if arguments.turn_steps else []


# ---- Peers that take turns ----


def compare_peers(work: str, arguments: flags.FlagValues, arrays: dict[str, Path]) -> list[Row]:
  """Makes this package and its peers take turns training."""
  own_flags, peer_flags, peers = WORKS[work]
  ours = peer_command(sys.executable, "mnist_research_train", *own_flags, *data_flags(arguments))
  commands = {"mnist_research": [*ours, *steps_flags(arguments)]}
  for peer in peers:
    python = sys.executable if peer.script == "keras_fit" else arguments.peers_python
    theirs = peer_command(python, peer.script, *peer_flags, *peer.arguments)
    commands[peer.name] = [*theirs, f"--arrays={arrays['train']}", *steps_flags(arguments)]
  return compare_commands(work, commands, arguments.rounds)


def peer_command(python: str, script: str, *options: str) -> list[str]:
  """Returns the command line of a peer."""
  return [python, str(SCRIPTS / "peers" / f"{script}.py"), *options]


# ---- This package's own benchmarks ----


def measure_large(arguments: flags.FlagValues, _: dict[str, Path]) -> list[Row]:
  """Compares the training of a large model with only its matrix products."""
  options = ["--benchmark=throughput", f"--rounds={arguments.rounds}", *steps_flags(arguments)]
  record = run_benchmark(arguments, *options, *LARGE)
  share = Spread(*(record[f"limit_share{end}"] for end in ("", "_lowest", "_highest")))
  text = f"{share.text(write_ratio)} of their speed"
  return [Row("large", "its matrix products", text, share.record("ratio"))]


def measure_accuracy(arguments: flags.FlagValues, _: dict[str, Path]) -> list[Row]:
  """Trains the fast config with many seeds."""
  options = ["--benchmark=time_to_accuracy", f"--num_seeds={arguments.num_seeds}"]
  record = run_benchmark(arguments, f"--flagfile={CONFIGS / 'fast.cfg'}", *options)
  keys = ["test_accuracy_mean", "test_accuracy_std", "test_accuracy_lowest"]
  mean, deviation, lowest = (f"{100 * (record[key] or 0):.2f}%" for key in keys)
  text = (
    f"{write_seconds(record['train_seconds_median'])} of training, {mean} +- {deviation}, lowest "
    f"{lowest}, {arguments.num_seeds} seeds"
  )
  keys += ["num_seeds", "train_seconds_median"]
  return [Row("accuracy", "-", text, {key: record[key] for key in keys})]


def run_benchmark(arguments: flags.FlagValues, *options: str) -> dict[str, Any]:
  """Returns the output of `mnist_research.benchmark`."""
  command = [sys.executable, "-m", "mnist_research.benchmark", *options]
  return timed([*command, *data_flags(arguments)])[1]


# ---- Whole commands ----


def measure_command(arguments: flags.FlagValues, arrays: dict[str, Path]) -> list[Row]:
  """Runs the training command, the tutorials' script and a bare import, one at a time."""
  rounds = []
  for number in range(arguments.rounds):
    rounds.append(measure_round(arguments, arrays))
    print(f"round {number}:", json.dumps(rounds[-1]), file=sys.stderr, flush=True)
  return [
    ratio_row(
      "command", rounds, "examples_per_second", "tutorial_examples_per_second", "tutorial, training"
    ),
    ratio_row("command", rounds, "seconds", "tutorial_seconds", "tutorial, start to exit"),
    ratio_row(
      "command", rounds, "seconds", "limit_seconds", "import tensorflow, and its steps alone"
    ),
    ratio_row(
      "command", rounds, "first_step_seconds", "import_seconds", "import tensorflow, to first step"
    ),
  ]


def measure_round(arguments: flags.FlagValues, arrays: dict[str, Path]) -> dict[str, float]:
  """Runs every command once."""
  with tempfile.TemporaryDirectory() as directory:
    options = [f"--workdir={directory}/run", f"--epochs={arguments.epochs}"]
    seconds, ours = timed([*train_command(arguments), *options])
    paths = [str(arrays["train"]), str(arrays["test"]), str(arguments.epochs)]
    tutorial_seconds, theirs = timed([sys.executable, str(SCRIPTS / "keras_tutorial.py"), *paths])
    import_seconds, _ = timed([sys.executable, "-c", "import tensorflow; print('{}')"])
    first_step_seconds = time_to_first_step(train_command(arguments), Path(directory) / "start")
  return {
    "examples_per_second": ours["examples_per_second"],
    "tutorial_examples_per_second": theirs["examples_per_second"],
    "seconds": seconds,
    "limit_seconds": import_seconds + ours["train_seconds"],
    "tutorial_seconds": tutorial_seconds,
    "first_step_seconds": first_step_seconds,
    "import_seconds": import_seconds,
  }


def measure_summaries(arguments: flags.FlagValues, _: dict[str, Path]) -> list[Row]:
  """Runs the whole command with each value of --summaries."""
  rounds = []
  for _number in range(arguments.rounds):
    with tempfile.TemporaryDirectory() as directory:
      extra = [f"--epochs={arguments.epochs}", "--validation_examples=5000"]
      rounds.append({
        kind: timed([
          *train_command(arguments), *extra, f"--summaries={kind}", f"--workdir={directory}/{kind}",
        ])[0]
        for kind in ("none", "basic", "all")
      })  # fmt: skip
  return [
    ratio_row("summaries", rounds, kind, "none", f"--summaries={kind} over none")
    for kind in ("basic", "all")
  ]


def train_command(arguments: flags.FlagValues) -> list[str]:
  """Returns the command to measure."""
  return [sys.executable, "-m", "mnist_research.train", *DENSE, *data_flags(arguments)]


MEASURES = {
  "large": measure_large,
  "accuracy": measure_accuracy,
  "command": measure_command,
  "summaries": measure_summaries,
}

if __name__ == "__main__":
  app.run(main, define_flags)
