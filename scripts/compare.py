"""Measures this project against other ways to do the same work, in turn, in one run.

  python scripts/compare.py --data_dir=DIR [--rounds=5] [--work=dense,cnn] [--peers_python=PYTHON]

DIR is where TFDS has prepared MNIST (its default: ~/tensorflow_datasets). What is compared:

- dense: `configs/dense.cfg` in steady training, against Keras's `fit`, PyTorch and JAX;
- dense_512: the same network with batches of 512, against PyTorch and JAX;
- large: 2500-2000-1500-1000-500 units, batches of 512, bfloat16, against its bare matrix products;
- cnn: `configs/small_cnn.cfg` in bfloat16, against Keras's `fit` and PyTorch;
- accuracy: `configs/fast.cfg` over `--num_seeds` seeds: seconds of training, and test accuracy;
- command: the whole `train --flagfile=configs/dense.cfg`, against the tutorials' Keras script;
- summaries: the same with `--summaries=basic` and `all`, against `none`.

The peers, in `scripts/peers/`, are programs that stay alive and train an epoch each in turn.
PyTorch and JAX are no part of this project's environment: where `--peers_python` lacks one, its
rows are skipped, and what to install is said. Ratios are taken round by round, and each is the
median with the lowest and the highest. The machine has to be quiet: libraries whose threads wait
for each other in a loop, as PyTorch's do, lose most of their speed beside another program.

The last line on stdout is one JSON object.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mnist_research import app
from mnist_research.benchmarks.report import write_ratio, write_seconds
from mnist_research.benchmarks.timing import Spread, ratios, spread, take_turns
from mnist_research.config import Config

SCRIPTS = Path(__file__).resolve().parent
CONFIGS = SCRIPTS.parent / "configs"
DENSE = [f"--flagfile={CONFIGS / 'dense.cfg'}"]
CNN = [f"--flagfile={CONFIGS / 'small_cnn.cfg'}", "--precision=bfloat16"]
LARGE = ["--hidden_units=2500,2000,1500,1000,500", "--batch_size=512", "--precision=bfloat16"]
LARGE += ["--validation_examples=0"]
# Threads of a library that has just had its turn go on looking for work.
SETTLING_SECONDS = 0.5


class Peer(NamedTuple):
  """Another way to do the same work.

  Attributes:
    name: for people.
    script: under `peers/`.
    arguments: of the script.
  """

  name: str
  script: str
  arguments: Sequence[str] = ()


class Work(NamedTuple):
  """What is trained, here and by others.

  Attributes:
    flags: of `mnist_research.train`.
    arguments: of the peers.
    peers: that do the same work.
  """

  flags: Sequence[str]
  arguments: Sequence[str]
  peers: Sequence[Peer]


TORCH = [
  Peer("PyTorch, index", "torch_loop"),
  Peer("PyTorch, index, one thread", "torch_loop", ["--threads=one"]),
  Peer("PyTorch, DataLoader", "torch_loop", ["--input=loader"]),
]
JAX = Peer("JAX, scan", "jax_scan")
WORKS = {
  "dense": Work(
    DENSE,
    ["--batch=32"],
    [
      Peer("Keras fit", "keras_fit"),
      Peer("Keras fit, tuned", "keras_fit", ["--tuning=tuned"]),
      *TORCH,
      JAX,
    ],
  ),
  "dense_512": Work([*DENSE, "--batch_size=512"], ["--batch=512"], [*TORCH, JAX]),
  "cnn": Work(
    CNN,
    ["--model=cnn", "--batch=256"],
    [
      Peer("Keras fit", "keras_fit"),
      Peer("Keras fit, tuned, bfloat16", "keras_fit", ["--tuning=tuned", "--precision=bfloat16"]),
      Peer("PyTorch, index", "torch_loop"),
      Peer("PyTorch, index, bfloat16", "torch_loop", ["--precision=bfloat16"]),
      Peer("PyTorch, DataLoader, bfloat16", "torch_loop",
           ["--input=loader", "--precision=bfloat16"]),
    ],
  ),
}  # fmt: skip


class Row(NamedTuple):
  """A line of the table.

  Attributes:
    work: what was done.
    against: what it was held against.
    text: what came out, for people.
    record: the same, for programs.
  """

  work: str
  against: str
  text: str
  record: dict[str, Any]


def main() -> None:
  """Does the work that is asked for and prints the table."""
  arguments = parse_arguments()
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
  print(json.dumps({"rounds": arguments.rounds, "rows": table}))


def parse_arguments() -> argparse.Namespace:
  """Parses the command line."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  everything = ",".join([*WORKS, *MEASURES])
  parser.add_argument("--data_dir", default=str(Path.home() / "tensorflow_datasets"))
  parser.add_argument("--dataset", default="mnist")
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--work", default=everything, help=f"some of {everything}")
  parser.add_argument("--peers_python", default=sys.executable, help="one that has the libraries")
  parser.add_argument("--turn_steps", type=int, default=0, help="steps of a turn; 0: an epoch")
  parser.add_argument("--num_seeds", type=int, default=30, help="trainings of accuracy")
  parser.add_argument("--epochs", type=int, default=10, help="of the trainings of command")
  arguments = parser.parse_args()
  arguments.work = arguments.work.split(",")
  if arguments.rounds < 1 or not {*arguments.work} <= {*everything.split(",")}:
    parser.error(f"--work is some of {everything}; --rounds is 1 or more")
  return arguments


def write_arrays(arguments: argparse.Namespace, directory: Path) -> dict[str, Path]:
  """Writes the examples for programs that know neither TFDS nor this package."""
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
  app.load_tensorflow()
  from mnist_research import data

  source = data.prepare(Config(dataset=arguments.dataset, data_dir=arguments.data_dir))
  paths = {}
  for name in ("train", "test"):
    split = data.read(source, name)
    paths[name] = directory / f"{name}.npz"
    np.savez(paths[name], images=split.images, labels=split.labels)
  return paths


def data_flags(arguments: argparse.Namespace) -> list[str]:
  """The flags by which a command of this package finds the same examples."""
  return [f"--dataset={arguments.dataset}", f"--data_dir={arguments.data_dir}"]


def steps_flags(arguments: argparse.Namespace) -> list[str]:
  """The flag, for this package and for peers, that shortens a turn."""
  return [f"--steps={arguments.turn_steps}"] if arguments.turn_steps else []


# ---- Peers that take turns ----


def compare_peers(work: str, arguments: argparse.Namespace, arrays: dict[str, Path]) -> list[Row]:
  """Lets this package and its peers train in turn."""
  flags, peer_flags, peers = WORKS[work]
  ours = peer_command(sys.executable, "mnist_research_train", *flags, *data_flags(arguments))
  commands = {"mnist_research": [*ours, *steps_flags(arguments)]}
  for peer in peers:
    python = sys.executable if peer.script == "keras_fit" else arguments.peers_python
    theirs = peer_command(python, peer.script, *peer_flags, *peer.arguments)
    commands[peer.name] = [*theirs, f"--arrays={arrays['train']}", *steps_flags(arguments)]
  return compare_commands(work, commands, arguments.rounds)


def peer_command(python: str, script: str, *flags: str) -> list[str]:
  """The command line of a peer."""
  return [python, str(SCRIPTS / "peers" / f"{script}.py"), *flags]


def compare_commands(work: str, commands: Mapping[str, list[str]], rounds: int) -> list[Row]:
  """Runs programs that take turns, and holds the first against each of the others.

  Args:
    work: what they do.
    commands: the command line of each, by its name; see `peers/turns.py`.
    rounds: turns of each.

  Returns:
    For each but the first, the ratios of the first's examples a second to its own.
  """
  rows = []
  with contextlib.ExitStack() as stack:
    contestants = {}
    for name, command in commands.items():
      program = stack.enter_context(Program(command))
      answer = program.answer()
      if "absent" in answer:
        rows.append(Row(work, name, f"skipped: {answer['absent']}", {"skipped": answer["absent"]}))
      else:
        contestants[name] = program.turns()
    turns = take_turns(contestants, rounds)
  ours, *others = contestants
  for name in others:
    pairs = ratios(turns[ours], turns[name])
    record = {
      "ratios": pairs,
      **spread(pairs).record("ratio"),
      "examples_per_second": spread(turns[ours]).median,
      "peer_examples_per_second": spread(turns[name]).median,
    }
    rows.append(Row(work, name, f"{spread(pairs).text(write_ratio)} times the speed", record))
  return rows


class Program:
  """A peer that runs until it is left as a context, and trains when it is asked."""

  def __init__(self, command: Sequence[str]):
    self._command = command

  def __enter__(self) -> "Program":
    self._process = subprocess.Popen(
      self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert self._process.stdin and self._process.stdout
    self._stdin, self._stdout = self._process.stdin, self._process.stdout
    return self

  def __exit__(self, *exception: object) -> None:
    self._process.kill()
    self._process.communicate()

  def answer(self) -> dict[str, Any]:
    """Reads the next line; ends this script where the program has ended."""
    line = self._stdout.readline()
    if not line:
      sys.exit(f"{' '.join(self._command)} ended with {self._process.wait()}")
    return json.loads(line)

  def turns(self) -> Iterator[float]:
    """Yields the examples a second of a turn."""
    while True:
      time.sleep(SETTLING_SECONDS)
      self._stdin.write("\n")
      self._stdin.flush()
      yield self.answer()["examples_per_second"]


# ---- This package's own benchmarks ----


def measure_large(arguments: argparse.Namespace, _: dict[str, Path]) -> list[Row]:
  """Holds the training of a large network against its bare matrix products."""
  flags = ["--benchmark=throughput", f"--rounds={arguments.rounds}", *steps_flags(arguments)]
  record = run_benchmark(arguments, *flags, *LARGE)
  share = Spread(*(record[f"limit_share{end}"] for end in ("", "_lowest", "_highest")))
  text = f"{share.text(write_ratio)} of their speed"
  return [Row("large", "its matrix products", text, share.record("ratio"))]


def measure_accuracy(arguments: argparse.Namespace, _: dict[str, Path]) -> list[Row]:
  """Trains the fast config with many seeds."""
  flags = ["--benchmark=time_to_accuracy", f"--num_seeds={arguments.num_seeds}"]
  record = run_benchmark(arguments, f"--flagfile={CONFIGS / 'fast.cfg'}", *flags)
  keys = ["test_accuracy_mean", "test_accuracy_std", "test_accuracy_lowest"]
  mean, deviation, lowest = (f"{100 * (record[key] or 0):.2f}%" for key in keys)
  text = (
    f"{write_seconds(record['train_seconds_median'])} of training, {mean} +- {deviation}, lowest "
    f"{lowest}, {arguments.num_seeds} seeds"
  )
  keys += ["num_seeds", "train_seconds_median"]
  return [Row("accuracy", "-", text, {key: record[key] for key in keys})]


def run_benchmark(arguments: argparse.Namespace, *flags: str) -> dict[str, Any]:
  """Returns what `mnist_research.benchmark` prints."""
  command = [sys.executable, "-m", "mnist_research.benchmark", *flags]
  return timed([*command, *data_flags(arguments)])[1]


# ---- Whole commands ----


def measure_command(arguments: argparse.Namespace, arrays: dict[str, Path]) -> list[Row]:
  """Runs the whole training, the tutorials' script and a bare import, each alone on the machine."""
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
      "command", rounds, "first_step_seconds", "import_seconds", "import tensorflow, to first step"
    ),
  ]


def ratio_row(
  work: str, rounds: list[dict[str, float]], ours: str, theirs: str, against: str
) -> Row:
  """The row of one quantity over another, round by round."""
  pairs = ratios([r[ours] for r in rounds], [r[theirs] for r in rounds])
  medians = {key: spread([r[key] for r in rounds]).median for key in (ours, theirs)}
  what = "times the speed" if ours == "examples_per_second" else "of its time"
  text = f"{spread(pairs).text(write_ratio)} {what}"
  record = {"ratios": pairs, **spread(pairs).record("ratio"), **medians}
  return Row(work, against, text, record)


def measure_round(arguments: argparse.Namespace, arrays: dict[str, Path]) -> dict[str, float]:
  """Runs every command once."""
  with tempfile.TemporaryDirectory() as directory:
    whole = [f"--workdir={directory}/run", f"--epochs={arguments.epochs}"]
    seconds, ours = timed([*train_command(arguments), *whole])
    paths = [str(arrays["train"]), str(arrays["test"]), str(arguments.epochs)]
    tutorial_seconds, theirs = timed([sys.executable, str(SCRIPTS / "keras_tutorial.py"), *paths])
    import_seconds, _ = timed([sys.executable, "-c", "import tensorflow; print('{}')"])
    first_step_seconds = time_to_first_step(arguments, Path(directory) / "start")
  return {
    "examples_per_second": ours["examples_per_second"],
    "tutorial_examples_per_second": theirs["examples_per_second"],
    "seconds": seconds,
    "tutorial_seconds": tutorial_seconds,
    "first_step_seconds": first_step_seconds,
    "import_seconds": import_seconds,
  }


def measure_summaries(arguments: argparse.Namespace, _: dict[str, Path]) -> list[Row]:
  """Runs the whole training with each amount of summaries."""
  rounds = []
  for _number in range(arguments.rounds):
    with tempfile.TemporaryDirectory() as directory:
      flags = [f"--epochs={arguments.epochs}", "--validation_examples=5000"]
      rounds.append({
        kind: timed([
          *train_command(arguments), *flags, f"--summaries={kind}", f"--workdir={directory}/{kind}",
        ])[0]
        for kind in ("none", "basic", "all")
      })  # fmt: skip
  return [
    ratio_row("summaries", rounds, kind, "none", f"--summaries={kind} over none")
    for kind in ("basic", "all")
  ]


def train_command(arguments: argparse.Namespace) -> list[str]:
  """The command that is measured."""
  return [sys.executable, "-m", "mnist_research.train", *DENSE, *data_flags(arguments)]


def timed(command: list[str]) -> tuple[float, dict]:
  """Returns the seconds from start to exit, and the JSON object on the last line of stdout."""
  environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
  began = time.perf_counter()
  process = subprocess.run(command, capture_output=True, text=True, env=environment)
  seconds = time.perf_counter() - began
  if process.returncode:
    sys.exit(f"{process.stderr}{' '.join(command)} ended with {process.returncode}")
  return seconds, json.loads(process.stdout.splitlines()[-1])


def time_to_first_step(arguments: argparse.Namespace, workdir: Path) -> float:
  """Returns the seconds from the start of a training to its first line of metrics."""
  flags = [f"--workdir={workdir}", "--steps=2", "--steps_per_loop=1"]
  began = time.perf_counter()
  process = subprocess.Popen(
    [*train_command(arguments), *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
  )
  metrics = workdir / "metrics.jsonl"
  while not (metrics.exists() and metrics.stat().st_size) and process.poll() is None:
    time.sleep(0.002)
  seconds = time.perf_counter() - began
  if process.wait():
    sys.exit(f"a training ended with {process.returncode}")
  return seconds


MEASURES = {
  "large": measure_large,
  "accuracy": measure_accuracy,
  "command": measure_command,
  "summaries": measure_summaries,
}

if __name__ == "__main__":
  main()
