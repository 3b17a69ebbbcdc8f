"""Tests of the charts on the page of a sweep."""

import math

import numpy as np

from mnist_research import figures
from mnist_research.config import Config
from mnist_research.sweeps import summary
from mnist_research.sweeps.space import SweepPlan, parse_sweep
from mnist_research.sweeps.study import Record

_BASE = Config(dataset="synthetic_digits/2000_500")


def _record(number: int, accuracy: float | None, **texts: str) -> Record:
  state = "failed" if accuracy is None else "finished"
  return Record(number, state, texts, accuracy, "", "here")


def test_cell_is_best_seed_mean_over_other_settings(tmp_path, monkeypatch):
  """relu: rate 0.1 has 0.8 and 0.6, mean 0.7; rate 0.2 has 0.75: the better one."""
  text = "activation=relu,tanh;optimizer=adam,sgd;learning_rate=0.1,0.2;seed=0..1"
  plan = SweepPlan(_BASE, parse_sweep(text, _BASE), 0, pruning=False, retry_failed=False)
  rows = [
    ("relu", "adam", "0.1", "0", 0.8),
    ("relu", "adam", "0.1", "1", 0.6),
    ("relu", "adam", "0.2", "0", 0.75),
    ("tanh", "sgd", "0.1", "0", 0.5),
    ("tanh", "sgd", "0.2", "0", None),
  ]
  records = [
    _record(i, accuracy, activation=a, optimizer=o, learning_rate=rate, seed=seed)
    for i, (a, o, rate, seed, accuracy) in enumerate(rows)
  ]
  drawn = {}

  def heat_map(values, **texts):
    drawn.update(texts, values=values)
    return figures.Figure()

  monkeypatch.setattr(figures, "heat_map", heat_map)
  parts = summary._pictures(plan, records, {}, tmp_path)
  np.testing.assert_allclose(drawn["values"], [[0.75, math.nan], [math.nan, 0.5]])
  assert (drawn["rows"], drawn["columns"]) == (("relu", "tanh"), ("adam", "sgd"))
  assert drawn["summary"].startswith("mean over 2 seeds · the best learning_rate for each")
  assert "Settings and validation error of every trial" in "".join(parts)
  # 0.8 and 0.6 of the other rate have a lower mean.
  lines = (tmp_path / "heat_map.md").read_text().splitlines()
  cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
  assert [cells[0], *cells[2:]] == [
    ["activation", "adam", "sgd"],
    ["relu", "75.00% (0.2)", "-"],
    ["tanh", "-", "50.00% (0.1)"],
  ]


def test_settings_with_a_failed_trial_are_not_the_best():
  def record(number, accuracy, rate, seed):
    return _record(number, accuracy, learning_rate=rate, seed=seed)

  records = [
    record(0, 0.9, "0.1", "0"), record(1, None, "0.1", "1"),  # One seed diverged.
    record(2, 0.6, "0.2", "0"), record(3, 0.8, "0.2", "1"),
  ]  # fmt: skip
  assert summary._best(["learning_rate"], records) == ({"learning_rate": "0.2"}, 0.7)
  # After training it again, it counts.
  again = [*records, record(4, 0.7, "0.1", "1")]
  assert summary._best(["learning_rate"], again) == ({"learning_rate": "0.1"}, 0.8)
  assert summary._best(["learning_rate"], records[:2]) == ({"learning_rate": "0.1"}, 0.9)


def test_cell_shows_mean_and_deviation_over_seeds():
  found = {("relu", "adam"): [0.8, 0.6], ("relu", "sgd"): [0.5]}
  assert summary._best_cell(found, "relu", "adam", []).text == "70.00% ± 14.14%"
  assert summary._best_cell(found, "relu", "sgd", []).text == "50.00%"
