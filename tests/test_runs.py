"""Tests of finding, reading and grouping runs."""

import commands
import finished_runs
import pytest

from mnist_research.reports import runs
from mnist_research.runtime.errors import UserError


def _kinds(left_out):
  return {entry.path.name: entry.kind for entry in left_out}


def test_runs_are_found_in_workdirs_and_parent_folders(tmp_path):
  finished_runs.write(tmp_path / "one", accuracy=0.9)
  finished_runs.write(tmp_path / "sweep" / "a", accuracy=0.8, seed=1)
  finished_runs.write(tmp_path / "sweep" / "b", accuracy=0.7, seed=2)
  found, left_out = runs.read([tmp_path])
  assert [run.path.name for run in found] == ["one", "a", "b"]
  assert [run.result["test_accuracy"] for run in found] == [0.9, 0.8, 0.7]
  assert left_out == []
  (run,), _ = runs.read([tmp_path / "one"])
  assert run.config.optimization.batch_size == 20
  assert run.last_step == 200


def test_run_named_twice_counts_once(tmp_path):
  finished_runs.write(tmp_path / "one", accuracy=0.9)
  (tmp_path / "link").symlink_to(tmp_path / "one")
  found, _ = runs.read([tmp_path / "one", tmp_path, tmp_path / "link"])
  assert len(found) == 1


def test_folders_without_runs_are_listed_and_reports_skipped(tmp_path):
  finished_runs.write(tmp_path / "one", accuracy=0.9)
  (tmp_path / "photos" / "2024").mkdir(parents=True)
  (tmp_path / ".git").mkdir()
  (tmp_path / "report").mkdir()
  (tmp_path / "report" / "report.html").write_text("")
  found, left_out = runs.read([tmp_path])
  assert len(found) == 1
  assert [(entry.path.name, entry.kind) for entry in left_out] == [("photos", "foreign")]


def test_missing_directory_is_rejected(tmp_path):
  with pytest.raises(UserError, match=r"absent is not a directory: name a workdir"):
    runs.read([tmp_path / "absent"])


@pytest.mark.parametrize(
  ("file", "content", "reason"),
  [
    ("config.cfg", "--learning_rate=fast\n", "can't be read as settings"),
    ("result.json", "{", "is corrupt"),
    ("result.json", '{"step": 3}', "its train_examples is None"),
    ("result.json", None, "its test_accuracy is nan"),
    ("metrics.jsonl", '{"step": 1, "split": "dev"}\n', "metrics.jsonl is corrupt"),
    ("metrics.jsonl", '{"step": 1, "split": "train", "loss": "low"}\n', "metrics.jsonl is corrupt"),
    ("metrics.jsonl", "\0\n", "metrics.jsonl is corrupt"),
    ("metrics.jsonl", '{"step": 1e308, "split": "train"}\n', "its step is 1e+308"),
    ("result.json", "[" * 10_000, "nested too deep"),
    ("result.json", '{"step": 3, "validation_accuracy": "high"}', "validation_accuracy is 'high'"),
  ],
)
def test_corrupt_workdir_is_reported_and_others_are_read(tmp_path, file, content, reason):
  finished_runs.write(tmp_path / "good", accuracy=0.9)
  bad = finished_runs.write(tmp_path / "bad", accuracy=0.8)
  if content is None:
    finished_runs.change_result(bad, test_accuracy=float("nan"))
  else:
    (bad.path / "environment.json").unlink()  # As in an older version, without digests.
    (bad.path / file).write_text(content)
  found, (entry,) = runs.read([tmp_path])
  assert [run.path.name for run in found] == ["good"]
  assert entry.kind == "corrupt"
  assert reason in entry.reason


def test_workdir_without_settings_is_corrupt(tmp_path):
  workdir = finished_runs.write(tmp_path / "bad", accuracy=0.8)
  (workdir.path / "config.cfg").unlink()
  found, left_out = runs.read([tmp_path])
  assert (found, _kinds(left_out)) == ([], {"bad": "corrupt"})


def test_unreadable_directory_is_foreign(tmp_path):
  finished_runs.write(tmp_path / "good", accuracy=0.9)
  closed = tmp_path / "closed"
  closed.mkdir(mode=0o000)
  program = (
    "from mnist_research.reports import runs;"
    f"found, aside = runs.read([{str(tmp_path)!r}]);"
    "print([run.path.name for run in found], [(a.path.name, a.kind) for a in aside])"
  )
  finished = commands.run_python(program, prefix=commands.enforcing_permissions(closed))
  assert finished.stdout == "['good'] [('closed', 'foreign')]\n", finished.stderr


def test_seeds_of_a_config_form_one_group(tmp_path):
  for seed in (2, 0, 1):
    finished_runs.write(
      tmp_path / f"relu{seed}", accuracy=0.9 + seed / 100, seed=seed, data_dir=f"/data{seed}"
    )
  finished_runs.write(tmp_path / "gelu", accuracy=0.5, activation="gelu", hidden_units=())
  groups, left_out = runs.group(runs.read([tmp_path])[0])
  assert left_out == []
  by_name = {group.name: group for group in groups}
  assert set(by_name) == {
    "hidden_units=128,128, activation=relu",
    "hidden_units=none, activation=gelu",
  }
  relu = by_name["hidden_units=128,128, activation=relu"]
  assert relu.values("test_accuracy") == {0: 0.9, 1: 0.91, 2: 0.92}
  assert relu.values("validation_accuracy") == {}


def test_single_group_is_named_after_model_and_dataset(tmp_path):
  finished_runs.write(tmp_path / "one", accuracy=0.9)
  ((group,), _) = runs.group(runs.read([tmp_path])[0])
  assert group.name == "dense on synthetic_digits/2000_500"


def test_unfinished_and_copied_runs_are_excluded(tmp_path):
  finished_runs.write(tmp_path / "a", accuracy=0.9)
  finished_runs.write(tmp_path / "copy", accuracy=0.9)
  finished_runs.write(tmp_path / "stopped", accuracy=None, seed=1)
  (group,), left_out = runs.group(runs.read([tmp_path])[0])
  assert [run.path.name for run in group.runs] == ["a"]
  assert _kinds(left_out) == {"copy": "duplicate", "stopped": "unfinished"}
  reasons = {entry.path.name: entry.reason for entry in left_out}
  assert reasons["stopped"] == "at step 200"
  assert reasons["copy"] == f"the same settings and seed as {tmp_path / 'a'}"


def test_long_metrics_are_thinned_while_reading(tmp_path):
  workdir = finished_runs.write(tmp_path / "one", accuracy=0.9, validation=0.8)
  (workdir.path / "metrics.jsonl").unlink()
  workdir.append_metrics(
    *({"step": step, "split": "train", "loss": 1.0} for step in range(1, 50_001)),
    *({"step": step, "split": "validation", "accuracy": 0.5} for step in (10, 49_999)),
  )
  ((run,), _) = runs.read([tmp_path])
  steps = [record["step"] for record in run.metrics if record["split"] == "train"]
  assert steps[:3] == [1, 5, 9]
  assert steps[-2:] == [49_997, 50_000]
  assert len(steps) == 12_501
  assert [r["step"] for r in run.metrics if r["split"] == "validation"] == [10, 49_999]
  assert run.last_step == 50_000
  assert [r["step"] for r in run.metrics] == sorted(r["step"] for r in run.metrics)


def test_short_metrics_are_kept_unchanged(tmp_path):
  workdir = finished_runs.write(tmp_path / "one", accuracy=0.9, validation=0.8)
  ((run,), _) = runs.read([tmp_path])
  assert run.metrics == workdir.read_metrics()


@pytest.mark.parametrize(
  ("paths", "names"),
  [
    # The settings of the runs: one for each group of paths.
    ([["runs/relu"], ["runs/tanh"]], ["relu", "tanh"]),
    ([["relu/seed0", "relu/seed1"], ["tanh/seed0"]], ["relu", "tanh"]),
    ([["runs/relu-seed0", "runs/relu-seed1"], ["runs/b0", "runs/b1"]], ["relu", "b"]),
    ([["runs/dense/s0", "runs/dense/s1"], ["runs/wide"]], ["dense", "wide"]),
    # Without names by people, only the settings that tell the groups apart.
    ([["0000-relu"], ["0001-tanh"]], ["activation=relu", "activation=tanh"]),
    ([["mnist-dense-seed0-0123abcd"], ["b"]], ["activation=relu", "activation=tanh"]),
    ([["runs/s0", "runs/s1"], ["runs/s2"]], ["activation=relu", "activation=tanh"]),
    ([["a/one"], ["b/one"]], ["a", "b"]),
  ],
)
def test_groups_are_named_by_directories_or_by_few_settings(tmp_path, paths, names):
  for group, activation in zip(paths, ("relu", "tanh", "elu"), strict=False):
    for seed, path in enumerate(group):
      settings = {"activation": activation, "hidden_units": (8 + len(activation),)}
      finished_runs.write(tmp_path / path, accuracy=0.9, seed=seed, **settings)
  groups, _ = runs.group(runs.read([tmp_path])[0])
  assert sorted(group.label for group in groups) == sorted(names)
