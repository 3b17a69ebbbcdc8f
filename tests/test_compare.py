"""Tests of the comparison with peers: the programs' turns, and the evaluation."""

import json
import os
import subprocess
import sys

import commands
import compare
import numpy as np
import pytest
import replicas
from comparison import programs
from comparison.rows import ratio_row

_SCRIPTS = commands.REPOSITORY / "scripts"

_PEER = f"""
import sys
sys.path.insert(0, {str(_SCRIPTS / "peers")!r})
import turns

def rates():
  yield {{"examples_per_second": 0.5}}  # Compiles; nobody sees it.
  for rate in %s:
    print("turn of %s", file=sys.stderr)
    yield {{"examples_per_second": rate}}

turns.serve(rates(), {{"library": "1.0"}})
"""
_ABSENT = f"""
import sys
sys.path.insert(0, {str(_SCRIPTS / "peers")!r})
import turns
turns.absent("torch==2.13.0")
"""


@pytest.fixture(autouse=True)
def no_settling(monkeypatch):
  """Removes the pause between turns."""
  monkeypatch.setattr(programs, "SETTLING_SECONDS", 0.0)


def _peer(name, *rates):
  return [sys.executable, "-c", _PEER % (list(rates), name)]


def test_ratios_are_computed_per_turn(capfd):
  rows = programs.compare_commands(
    "dense",
    {
      "ours": _peer("ours", 100.0, 300.0, 80.0),
      "slow": _peer("slow", 50.0, 150.0, 32.0),
      "absent": [sys.executable, "-c", _ABSENT],
      "fast": _peer("fast", 400.0, 1000.0, 320.0),
    },
    rounds=3,
  )
  turns = [line.split()[-1] for line in capfd.readouterr().err.splitlines()]
  assert turns == ["ours", "slow", "fast", "slow", "fast", "ours", "fast", "ours", "slow"]
  by_peer = {row.against: row for row in rows}
  assert by_peer["slow"].record == {
    "ratios": [2.0, 2.0, 2.5],
    "ratio": 2.0,
    "ratio_lowest": 2.0,
    "ratio_highest": 2.5,
    "examples_per_second": 100.0,
    "peer_examples_per_second": 50.0,
  }
  assert by_peer["slow"].text == "2.00 (2.00 to 2.50) times the speed"
  assert by_peer["fast"].record["ratios"] == [0.25, 0.3, 0.25]
  assert by_peer["absent"].text == "skipped: pip install torch==2.13.0"
  assert by_peer["absent"].record == {"skipped": "pip install torch==2.13.0"}


def test_wide_spread_is_remeasured_and_reported():
  commands = {"ours": _peer("ours", 1.0, 1.0, 1.0, 1.0), "peer": _peer("peer", 1.0, 2.0, 2.0, 2.0)}
  (row,) = programs.compare_commands("dense", commands, rounds=2)
  assert row.record["ratios"] == [1.0, 0.5, 0.5, 0.5]
  assert row.text == ("0.50 (0.50 to 1.00) times the speed; not settled: the spread is above 30%")


def test_failing_peer_ends_the_comparison():
  failing = [sys.executable, "-c", "import sys; sys.exit(3)"]
  with pytest.raises(SystemExit, match="ended with 3"):
    programs.compare_commands("dense", {"ours": _peer("ours", 1.0), "bad": failing}, rounds=1)


def test_every_named_peer_and_config_exists():
  for work in compare.WORKS.values():
    for peer in work.peers:
      assert (_SCRIPTS / "peers" / f"{peer.script}.py").is_file()
    for flag in work.flags:
      if flag.startswith("--flagfile="):
        assert (commands.REPOSITORY / flag.removeprefix("--flagfile=")).is_file()


def test_ratio_of_seconds_is_computed_per_round():
  rounds = [{"seconds": 2.0, "tutorial_seconds": 8.0}, {"seconds": 3.0, "tutorial_seconds": 4.0}]
  row = ratio_row("command", rounds, "seconds", "tutorial_seconds", "the tutorial")
  assert row.record["ratios"] == [0.25, 0.75]
  assert row.record["ratio"] == 0.5
  assert row.text == "0.50 (0.25 to 0.75) of its time; not settled: the spread is above 30%"


def _turns_of(script, *flags):
  """Runs a peer for two turns and returns its lines."""
  finished = subprocess.run(
    [sys.executable, _SCRIPTS / "peers" / f"{script}.py", *flags],
    input="\n\n", capture_output=True, text=True, timeout=240,
    env={**os.environ, "PYTHONPATH": str(commands.REPOSITORY)},
  )  # fmt: skip
  assert finished.returncode == 0, finished.stderr
  return [json.loads(line) for line in finished.stdout.splitlines()]


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
  """A file of digits that a network can learn."""
  path = tmp_path_factory.mktemp("arrays") / "train.npz"
  digits = replicas.digits(640)
  np.savez(path, images=digits.images, labels=digits.labels)
  return path


def test_keras_fit_peer_learns_across_turns(arrays):
  ready, first, second = _turns_of("keras_fit", f"--arrays={arrays}", "--tuning=tuned")
  assert "keras" in ready["ready"]
  assert second["loss"] < first["loss"] < 2.3
  assert min(first["examples_per_second"], second["examples_per_second"]) > 0


@pytest.mark.parametrize(
  ("script", "requirement"), [("torch_loop", "torch==2.13.0"), ("jax_scan", "jax optax")]
)
def test_other_libraries_learn_or_say_what_to_install(arrays, script, requirement):
  answer, *turns = _turns_of(script, f"--arrays={arrays}")
  if turns:
    assert turns[1]["loss"] < turns[0]["loss"] < 2.3
  else:
    assert answer == {"absent": f"pip install {requirement}"}


def test_this_package_runs_as_a_peer(prepared):
  ready, *turns = _turns_of(
    "mnist_research_train", "--dataset=synthetic_digits/2000_500", f"--data_dir={prepared}",
    "--validation_examples=500", "--hidden_units=8", "--steps=4",
  )  # fmt: skip
  assert "tensorflow" in ready["ready"]
  assert [list(turn) for turn in turns] == [["examples_per_second"]] * 2
