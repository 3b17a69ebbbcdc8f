"""Tests of the records of published runs and of their table."""

import json
import re
import subprocess
import sys

import commands
import finished_runs
import pytest
import results

from mnist_research.config import flags as config_flags
from mnist_research.reports import runs
from mnist_research.runtime.errors import UserError

_DOCS = commands.REPOSITORY / "docs"
_RECORD = {
  "config": "dense.cfg", "seed": 0, "dataset": "mnist", "step": 18750, "test_accuracy": 0.98,
  "test_loss": 0.07, "train_examples": 60000, "parameters": 118282, "train_seconds": 3.0,
  "test_scorings": "1", "commit": "a" * 40, "processor": "Fast 1", "cores": 2, "python": "3.11.7",
  "precision": "float32", "tensorflow": "2.21.0", "keras": "3.15.1",
}  # fmt: skip


def _record(**changes):
  return {**_RECORD, **changes}


def test_row_matches_hand_computed_figures():
  first = _record(test_calibration_error=0.003)
  other = _record(seed=1, test_accuracy=0.984, train_seconds=4.0, test_calibration_error=0.005)
  *_, row = results.table([first, other]).splitlines()
  # The standard deviation of 0.98 and 0.984 is 0.004 / sqrt(2).
  assert row == (
    # The 0.975 quantile of Student's t with one degree of freedom is 12.7062.
    "| `dense.cfg` | 0, 1 | 98.20% ± 0.28% | 95.66 to 100.74% | 0.40% | 118,282 | 60,000 | 3.5 s | "
    "Fast 1, 2 cores, float32, TensorFlow 2.21.0 | aaaaaaa | 1 |"
  )


def test_different_machines_commits_and_scorings_are_listed():
  changed = "b" * 40 + "+changes"
  other = _record(
    seed=1, processor="Slow 2", cores=1, precision="bfloat16", commit=changed, test_scorings="3"
  )
  *_, row = results.table([_record(), other]).splitlines()
  machines = (
    "Fast 1, 2 cores, float32, TensorFlow 2.21.0; Slow 2, 1 core, bfloat16, TensorFlow 2.21.0"
  )
  assert f"{machines} | aaaaaaa, bbbbbbb+ | 1-3 |" in row


def test_each_dataset_has_a_table_mnist_first():
  fashion = _record(config="a.cfg", dataset="fashion_mnist", test_accuracy=0.9)
  lines = results.tables([fashion, _record()]).splitlines()
  assert [line.split(" | ")[0] for line in lines if line.startswith(("#", "| `"))] == [
    "### mnist", "| `dense.cfg`", "### fashion_mnist", "| `a.cfg`"
  ]  # fmt: skip
  # A single run has no interval, and this record no calibration error.
  assert " | 90.00% | - | - | 118,282 | " in lines[-1]


def test_newer_run_replaces_that_of_its_config_and_seed():
  older = [_record(), _record(config="cnn.cfg")]
  merged = results.merge(older, [_record(test_accuracy=0.99), _record(seed=2)])
  assert [(r["config"], r["seed"], r["test_accuracy"]) for r in merged] == [
    ("cnn.cfg", 0, 0.98), ("dense.cfg", 0, 0.99), ("dense.cfg", 2, 0.98)
  ]  # fmt: skip


def test_readme_matches_the_records():
  lines = results.tables(results.read_records(_DOCS / "results.jsonl")).splitlines()
  rows = [line for line in lines if line.startswith("| `")]
  by_config = {row.split(" | ")[0].strip("| "): row.split(" | ") for row in rows}
  readme = (commands.REPOSITORY / "README.md").read_text()
  for config, _, parameters, seeds, accuracy in re.findall(
    r"^\| (`\w+\.cfg`) \| (.*?) \| ([\d,]+) \| (\d+) \| (.*?) \|$", readme, re.MULTILINE
  ):
    if accuracy.endswith("(*)"):  # For runs without a record.
      continue
    row = by_config[config]
    assert len(row[1].split(", ")) == int(seeds), config
    assert (row[2], row[5]) == (accuracy, parameters), config
  quoted = re.findall(
    r"(`\w+\.cfg`)[^`]*?([\d.]+% ±\s[\d.]+%)", readme.partition("On Fashion-MNIST")[2]
  )
  assert [config for config, _ in quoted] == [
    "`fashion_dense.cfg`", "`fashion_small.cfg`", "`fashion_cnn.cfg`"
  ]  # fmt: skip
  for config, accuracy in quoted:
    assert " ".join(accuracy.split()) == by_config[config][2], config


def test_sample_output_of_the_readme_is_of_the_first_seed():
  readme = (commands.REPOSITORY / "README.md").read_text()
  (shown,) = re.findall(
    r"val loss ([\d.]+)  accuracy ([\d.]+)\ntest  loss ([\d.]+)  accuracy ([\d.]+)", readme
  )
  (record,) = (
    record
    for record in results.read_records(_DOCS / "results.jsonl")
    if (record["config"], record["seed"]) == ("dense.cfg", 0)
  )
  names = ("validation_loss", "validation_accuracy", "test_loss", "test_accuracy")
  assert shown == tuple(f"{record[name]:.4f}" for name in names)


def test_table_is_written_between_its_markers():
  page = f"before\n{results._BEGIN}\nold\n{results._END}\nafter\n"
  once = results.with_tables(page, "| new |")
  assert once == f"before\n{results._BEGIN}\n\n| new |\n\n{results._END}\nafter\n"
  assert results.with_tables(once, "| new |") == once
  with pytest.raises(UserError, match=r"results\.md needs the markers"):
    results.with_tables("no markers", "")


def test_command_adds_runs(tmp_path):
  settings = config_flags.from_flagfile(commands.REPOSITORY / "configs" / "dense.cfg").to_dict()
  for seed in (0, 1):
    finished_runs.write(
      tmp_path / "runs" / str(seed), accuracy=0.98, **{**settings, "seed": seed, "workdir": ""}
    )
  finished_runs.write(tmp_path / "runs" / "other", accuracy=0.5)
  docs = tmp_path / "docs"
  docs.mkdir()
  (docs / "results.md").write_text(f"{results._BEGIN}\n{results._END}\n")
  script = commands.REPOSITORY / "scripts" / "results.py"
  process = subprocess.run(
    [sys.executable, script, tmp_path / "runs", f"--docs={docs}"],
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  records = [json.loads(line) for line in (docs / "results.jsonl").read_text().splitlines()]
  assert [(r["config"], r["seed"], r["test_accuracy"]) for r in records] == [
    ("dense.cfg", 0, 0.98), ("dense.cfg", 1, 0.98)
  ]  # fmt: skip
  assert {"commit", "processor", "tensorflow", "keras", "python"} <= records[0].keys()
  assert process.stdout.strip() in (docs / "results.md").read_text()
  assert "other, of no config" in process.stderr


@pytest.mark.parametrize(
  ("recorded", "expected"),
  [
    (["/else/runs/cnn/seed0@0123456789abcdef"], True),
    (["/other/cnn/seed0@0123456789abcdef"], True),
    (["/else/runs/cnn/seed1@0123456789abcdef"], False),
    (["/else/runs/robust/seed0@0123456789abcdef"], False),
    (["/else/runs/cnn/seed0@0123456789abcdef"] * 2, False),
    ([], False),
  ],
)
def test_teachers_of_a_run_are_known_by_the_end_of_their_path(tmp_path, recorded, expected):
  config = config_flags.from_flagfile(commands.REPOSITORY / "configs" / "dense.cfg")
  settings = {**config.to_dict(), "teacher": recorded, "workdir": "", "seed": 3}
  finished_runs.write(tmp_path / "run", accuracy=0.98, **settings)
  (run,), _ = runs.read([tmp_path / "run"])
  assert results.is_of(config.replace(teacher=("runs/cnn/seed0",)), run) is expected


@pytest.mark.parametrize(
  ("configured", "recorded", "expected"),
  [
    ("auto", "float32", True),
    ("auto", "bfloat16", True),
    ("float32", "bfloat16", False),
  ],
)
def test_automatic_precision_is_any(tmp_path, configured, recorded, expected):
  config = config_flags.from_flagfile(commands.REPOSITORY / "configs" / "cnn.cfg")
  settings = {**config.to_dict(), "precision": recorded, "workdir": "", "seed": 3}
  finished_runs.write(tmp_path / "run", accuracy=0.98, **settings)
  (run,), _ = runs.read([tmp_path / "run"])
  assert results.is_of(config.replace(precision=configured), run) is expected


def test_published_table_matches_the_records():
  docs = commands.REPOSITORY / "docs"
  records = results.read_records(docs / "results.jsonl")
  assert results.tables(records) in (docs / "results.md").read_text(encoding="utf-8")
