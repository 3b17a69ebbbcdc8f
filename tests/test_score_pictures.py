"""Tests of the accuracy on pictures that look like users'."""

import json
import subprocess
import sys

import commands
import pytest


@pytest.fixture(scope="module")
def scores(mnist_data_dir):
  """The script's output: the score of each kind of picture."""
  script = commands.REPOSITORY / "scripts" / "score_pictures.py"
  process = subprocess.run(
    [sys.executable, script, f"--data_dir={mnist_data_dir}", "--pictures=20", "--numbers=50"],
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  return [json.loads(line) for line in process.stdout.splitlines()]


def test_pictures_are_classified_correctly_only_if_prepared(scores):
  *kinds, everything, _ = scores
  assert everything["kind"] == "all"
  assert everything["pictures"] == sum(row["pictures"] for row in kinds) >= 200
  assert everything["accuracy"] >= 0.97
  assert everything["accuracy_resized"] < everything["accuracy"] - 0.2


def test_every_kind_of_picture_is_read_well(scores):
  *kinds, _, _ = scores
  assert len(kinds) == len({row["kind"] for row in kinds}) >= 10
  # Of 20, two.
  assert {row["kind"]: row["accuracy"] for row in kinds if row["accuracy"] < 0.9} == {}


def test_numbers_are_read_whole(scores):
  numbers = scores[-1]
  assert numbers["kind"] == "numbers"
  assert numbers["pictures"] >= 50
  assert numbers["accuracy"] >= 0.9
  assert numbers["miscounted"] <= 0.03 * numbers["pictures"]
