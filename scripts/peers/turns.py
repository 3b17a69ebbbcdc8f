"""The arguments of the peers, and the protocol by which `compare.py` requests turns.

A peer is a program that trains the same model on the same arrays as `mnist_research` does, in the
style of its library. It trains an epoch, in which it compiles, and prints `{"ready": ...}`. Then,
for each line on its stdin, it trains another epoch and prints its examples per second. So several
peers can take turns on a machine without restarting. This module needs only the standard library.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

# The maximum number of turns, more than anyone requests.
MOST = 1000


def parse_arguments(description: str, **choices: list[str]) -> argparse.Namespace:
  """Parses the common arguments, and one for each list of choices, whose default is the first.

  Returns:
    `arrays` (an .npz file with images, uint8 [N, 28, 28, 1], and labels, int32 [N]); `model`
    (`dense`, or `cnn`: 5x5 convolution with 24 filters, pooling, relu, 3x3 with 32, pooling, relu,
    dense with 256); `hidden` (units of each layer of `dense`); `batch`; `steps` (of an epoch; 0: as
    many as there are whole batches).
  """
  parser = argparse.ArgumentParser(description=description)
  parser.add_argument("--arrays", required=True)
  parser.add_argument("--model", choices=["dense", "cnn"], default="dense")
  parser.add_argument("--hidden", type=parse_integers, default=[128, 128])
  parser.add_argument("--batch", type=int, default=32)
  parser.add_argument("--steps", type=int, default=0)
  for name, values in choices.items():
    parser.add_argument(f"--{name}", choices=values, default=values[0])
  return parser.parse_args()


def parse_integers(text: str) -> list[int]:
  """Parses `128,128`."""
  return [int(part) for part in text.split(",")]


def absent(requirements: str) -> NoReturn:
  """Prints the pip command for a missing library, and exits."""
  send({"absent": f"pip install {requirements}"})
  sys.exit(0)


def timed_epochs(epoch: Callable[[], float], examples: int) -> Iterator[dict[str, float]]:
  """Yields the result of each epoch.

  Args:
    epoch: a function that trains an epoch, waits for its end, and returns the last step's loss.
    examples: the number of examples per epoch.
  """
  while True:
    start = time.perf_counter()
    loss = epoch()
    yield {"examples_per_second": examples / (time.perf_counter() - start), "loss": loss}


def serve(turns: Iterator[dict[str, float]], versions: dict[str, str]) -> None:
  """Runs a turn that compiles, and then a turn for each line on stdin.

  Args:
    turns: an iterator that trains a turn and yields its result.
    versions: the versions of the libraries.
  """
  next(turns)
  send({"ready": versions})
  for _ in sys.stdin:
    send(next(turns))


def send(record: dict[str, Any]) -> None:
  """Prints a line for `compare.py`."""
  print(json.dumps(record), flush=True)
