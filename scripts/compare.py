"""Measures configs/dense.cfg against the tutorials' Keras script, turn by turn.

  python scripts/compare.py --data_dir=DIR [--rounds=3]

DIR is where TFDS has prepared MNIST (its default: ~/tensorflow_datasets). Three ratios, each the
median of the rounds with the lowest and the highest beside it:

- throughput: examples a second of training, compilation apart (ours over theirs);
- whole command: seconds from start to exit (ours over theirs);
- start: seconds from the start of the command to its first training step, over a bare
  `import tensorflow`.

The last line on stdout is one JSON object.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent
CONFIG = SCRIPTS.parent / "configs" / "dense.cfg"


def main() -> None:
  """Runs the rounds and prints the ratios."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--data_dir", default=str(Path.home() / "tensorflow_datasets"))
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--epochs", type=int, default=10)
  arguments = parser.parse_args()
  rounds = []
  for number in range(arguments.rounds):
    rounds.append(measure_round(arguments.data_dir, arguments.epochs))
    print(f"round {number}:", json.dumps(rounds[-1]), file=sys.stderr, flush=True)
  ratios = {
    "throughput": [r["examples_per_second"] / r["keras_examples_per_second"] for r in rounds],
    "whole_command": [r["seconds"] / r["keras_seconds"] for r in rounds],
    "start": [r["first_step_seconds"] / r["import_seconds"] for r in rounds],
  }
  for name, values in ratios.items():
    line = f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
    print(f"{name:>14}: {line}", file=sys.stderr)
  medians = {key: round(statistics.median(r[key] for r in rounds), 3) for key in rounds[0]}
  ratio_medians = {f"{k}_ratio": round(statistics.median(v), 3) for k, v in ratios.items()}
  print(json.dumps({"rounds": len(rounds), **ratio_medians, **medians}))


def measure_round(data_dir: str, epochs: int) -> dict[str, float]:
  """Runs every command once, each alone on the machine."""
  with tempfile.TemporaryDirectory() as directory:
    ours_seconds, ours = timed(train_command(data_dir, Path(directory) / "run", epochs))
    arrays = [str(next(Path(data_dir).glob(f"mnist/*/arrays-{s}.npz"))) for s in ("train", "test")]
    keras = [sys.executable, str(SCRIPTS / "keras_tutorial.py"), *arrays, str(epochs)]
    keras_seconds, theirs = timed(keras)
    import_seconds, _ = timed([sys.executable, "-c", "import tensorflow; print('{}')"])
    first_step_seconds = time_to_first_step(data_dir, Path(directory) / "start")
  return {
    "examples_per_second": round(ours["examples_per_second"]),
    "keras_examples_per_second": round(theirs["examples_per_second"]),
    "seconds": round(ours_seconds, 2),
    "keras_seconds": round(keras_seconds, 2),
    "first_step_seconds": round(first_step_seconds, 2),
    "import_seconds": round(import_seconds, 2),
  }


def train_command(data_dir: str, workdir: Path, epochs: int, *flags: str) -> list[str]:
  """The command that is measured."""
  command = [sys.executable, "-m", "mnist_research.train", f"--flagfile={CONFIG}", *flags]
  return [*command, f"--data_dir={data_dir}", f"--workdir={workdir}", f"--epochs={epochs}"]


def timed(command: list[str]) -> tuple[float, dict]:
  """Returns the seconds from start to exit, and the JSON object on the last line of stdout."""
  environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
  began = time.perf_counter()
  process = subprocess.run(
    command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
  )
  seconds = time.perf_counter() - began
  if process.returncode:
    sys.exit(f"{' '.join(command)} ended with {process.returncode}")
  return seconds, json.loads(process.stdout.splitlines()[-1])


def time_to_first_step(data_dir: str, workdir: Path) -> float:
  """Returns the seconds from the start of a training to its first line of metrics."""
  began = time.perf_counter()
  process = subprocess.Popen(
    train_command(data_dir, workdir, 1, "--steps=2", "--steps_per_loop=1"),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  metrics = workdir / "metrics.jsonl"
  while not (metrics.exists() and metrics.stat().st_size) and process.poll() is None:
    time.sleep(0.002)
  seconds = time.perf_counter() - began
  if process.wait():
    sys.exit(f"a training ended with {process.returncode}")
  return seconds


if __name__ == "__main__":
  main()
