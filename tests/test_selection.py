"""Tests of the selection of the best step on validation, and of early stopping."""

import logging as python_logging
import types

import pytest
from absl import logging

from mnist_research.config import Config
from mnist_research.training import results, selection
from mnist_research.training.selection import Scoring

_METRICS = [
  {"step": 10, "split": "train", "accuracy": 0.99, "loss": 0.1},
  {"step": 10, "split": "validation", "accuracy": 0.90, "loss": 0.5},
  {"step": 20, "split": "validation", "accuracy": 0.95, "loss": 0.4},
  {"step": 30, "split": "validation", "accuracy": 0.95, "loss": 0.3},
  {"step": 40, "split": "validation", "accuracy": 0.94, "loss": 0.2},
  {"step": 40, "split": "test", "accuracy": 0.97, "loss": 0.1},
]
_SCORED = [Scoring(10, 0.90), Scoring(20, 0.95), Scoring(30, 0.95), Scoring(40, 0.94)]


def test_only_validation_lines_are_scorings():
  assert selection.scorings(_METRICS) == _SCORED


def test_earliest_step_wins_ties():
  assert selection.best_step(_SCORED) == 20


@pytest.mark.parametrize(
  ("scorings", "patience", "exhausted"),
  [(4, 0, False), (0, 1, False), (2, 1, False), (3, 1, True), (3, 2, False), (4, 2, True)],
)
def test_patience_counts_scorings_after_the_best(scorings, patience, exhausted):
  assert selection.is_exhausted(_SCORED[:scorings], patience) is exhausted


def test_result_names_the_selected_step():
  last = {"validation_accuracy": 0.94, "validation_loss": 0.2}
  best = {"best_step": 20, "validation_accuracy": 0.95, "validation_loss": 0.4}
  assert selection.selected(_METRICS, "last") == last
  assert selection.selected(_METRICS, "best") == best
  assert selection.selected(_METRICS[:1], "best") == {}


@pytest.mark.parametrize(
  ("accuracies", "select", "logged"),
  [
    # As after 30 epochs that do worse than 10.
    ([0.98, 0.9858, 0.97], "last", ["0.9858 after epoch 2"]),
    ([0.97, 0.98], "last", []),
    ([0.98, 0.97], "best", []),
  ],
)
def test_run_says_that_an_earlier_epoch_was_better(caplog, monkeypatch, accuracies, select, logged):
  monkeypatch.setattr(logging.get_absl_logger(), "level", python_logging.INFO)
  plan = types.SimpleNamespace(config=Config(select=select, batch_size=10), num_examples=1000)
  scored = [Scoring(100 * epoch, accuracy) for epoch, accuracy in enumerate(accuracies, start=1)]
  with caplog.at_level(python_logging.INFO, logger="absl"):
    results._log_better_epoch(plan, scored)
  lines = [record.getMessage() for record in caplog.records]
  assert lines == [
    f"highest validation accuracy: {each}; --select=best keeps it" for each in logged
  ]
  assert all(len(line) <= 80 for line in lines)
