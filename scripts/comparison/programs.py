"""Long-lived programs that take turns training; `peers/turns.py` defines their protocol."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from comparison.rows import Row, is_wide, ratio_text
from mnist_research.benchmarks.timing import ratios, spread, take_turns

# After its turn, the threads of a library keep polling for work for a while.
SETTLING_SECONDS = 0.5


def compare_commands(work: str, commands: Mapping[str, list[str]], rounds: int) -> list[Row]:
  """Runs programs that take turns, and compares the first with each of the others.

  If a ratio's spread is wide, all programs take as many turns again.

  Args:
    work: the name of the work.
    commands: the command line of each program by name; see `peers/turns.py`.
    rounds: the number of turns of each.

  Returns:
    For each program but the first, the ratios of the first's examples per second to those of the
    program.
  """
  rows = []
  with contextlib.ExitStack() as stack:
    contestants = {}
    for name, command in commands.items():
      program = stack.enter_context(Program(command))
      reply = program.read_reply()
      if "absent" in reply:
        rows.append(Row(work, name, f"skipped: {reply['absent']}", {"skipped": reply["absent"]}))
      else:
        contestants[name] = program.turns()
    turns = take_turns(contestants, rounds)
    ours, *others = contestants
    if any(is_wide(ratios(turns[ours], turns[name])) for name in others):
      for name, more in take_turns(contestants, rounds).items():
        turns[name] += more
  for name in others:
    pairs = ratios(turns[ours], turns[name])
    record = {
      "ratios": pairs,
      **spread(pairs).record("ratio"),
      "examples_per_second": spread(turns[ours]).median,
      "peer_examples_per_second": spread(turns[name]).median,
    }
    rows.append(Row(work, name, ratio_text(pairs, "times the speed"), record))
  return rows


class Program:
  """A peer that runs until its context exits, and trains on request."""

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

  def read_reply(self) -> dict[str, Any]:
    """Reads the next line; exits if the program has exited."""
    line = self._stdout.readline()
    if not line:
      sys.exit(f"{' '.join(self._command)} ended with {self._process.wait()}")
    return json.loads(line)

  def turns(self) -> Iterator[float]:
    """Yields the examples per second of each turn."""
    while True:
      time.sleep(SETTLING_SECONDS)
      self._stdin.write("\n")
      self._stdin.flush()
      yield self.read_reply()["examples_per_second"]
