"""Tests of the rules for evaluating a run, and of the log of test scorings."""

from pathlib import Path

import pytest

from mnist_research import protocol
from mnist_research.config import Config
from mnist_research.runtime.errors import UserError


def _config(dataset="mnist", held_out=5000):
  return Config(dataset=dataset, validation_examples=held_out)


@pytest.mark.parametrize(
  ("dataset", "held_out", "problem"),
  [
    ("mnist", 5000, ""),
    ("mnist", 10_000, ""),
    ("mnist", 0, "runs/b was trained on 5,000 of the 5,000 validation examples"),
    ("mnist", 4000, "runs/b was trained on 1,000 of the 5,000 validation examples"),
    ("fashion_mnist", 0, ""),
    (
      "emnist/mnist",
      5000,
      "trained on emnist/mnist, which may contain validation examples of mnist",
    ),
    ("own.py:Mine", 5000, "runs/b was trained on"),
  ],
)
def test_validation_is_held_out_by_every_member(dataset, held_out, problem, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  Path("own.py").write_text("class Mine: pass\n")
  members = [(Path("runs/a"), _config()), (Path("runs/b"), _config(dataset, held_out))]
  if not problem:
    protocol.check_held_out(_config(), members)
    return
  with pytest.raises(UserError, match=problem):
    protocol.check_held_out(_config(), members)


def test_run_without_held_out_examples_is_rejected():
  with pytest.raises(UserError, match="--temperature=0: this run held out no validation examples"):
    protocol.check_held_out(_config(held_out=0), [], purpose="--temperature=0")


def test_same_code_elsewhere_is_the_same_dataset(tmp_path):
  for name in ("a", "b"):
    (tmp_path / name).mkdir()
    (tmp_path / name / "own.py").write_text("class Mine: pass\n")
  configs = [_config(f"{tmp_path}/{name}/own.py:Mine") for name in ("a", "b")]
  assert protocol.same_holdout(configs)
  assert not protocol.same_holdout([_config(), _config(held_out=500)])


def test_test_scorings_are_counted_per_dataset(tmp_path):
  assert protocol.count_test_scorings(tmp_path, "mnist") is None
  protocol.record_test_scoring(tmp_path, "train", dataset="mnist", step=7)
  protocol.record_test_scoring(tmp_path, "evaluate", dataset="mnist", step=7, members=3)
  protocol.record_test_scoring(tmp_path, "evaluate", dataset="kmnist", step=7)
  first, second, _ = protocol.read_test_scorings(tmp_path)
  assert first[1:] == ("train", "mnist", 7, 1)
  assert second[1:] == ("evaluate", "mnist", 7, 3)
  assert protocol.count_test_scorings(tmp_path, "mnist") == 2


_PREVIOUS_LOG = (
  '{"time": "2026-01-01", "command": "train", "dataset": "mnist", "step": 7, "members": 1}\n'
)


def test_log_of_previous_version_is_read(tmp_path):
  (tmp_path / protocol.TEST_SCORES).write_text(_PREVIOUS_LOG)
  assert protocol.count_test_scorings(tmp_path, "mnist") == 1


def test_flipped_bit_in_any_log_byte_is_reported(tmp_path):
  protocol.record_test_scoring(tmp_path, "train", dataset="mnist", step=7)
  path = tmp_path / protocol.TEST_SCORES
  content = path.read_bytes()
  for place in range(len(content) - 1):  # A line without its end was still being written.
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(UserError, match=r"corrupt in line 1; delete that line|can't be read"):
      protocol.read_test_scorings(tmp_path)


@pytest.mark.parametrize(
  "line",
  ["{", "[]", "{}", '{"time": 1}', "[" * 10_000, _PREVIOUS_LOG.strip().replace("7", "1e308"),
   _PREVIOUS_LOG.strip().replace("7", "9" * 40), _PREVIOUS_LOG.strip().replace("7", '"7"')],
  ids=lambda line: line[:20],
)  # fmt: skip
def test_corrupt_log_line_is_named(tmp_path, line):
  protocol.record_test_scoring(tmp_path, "train", dataset="mnist", step=7)
  with (tmp_path / protocol.TEST_SCORES).open("a") as file:
    file.write(line + "\n")
  with pytest.raises(UserError, match="corrupt in line 2; delete that line"):
    protocol.read_test_scorings(tmp_path)
