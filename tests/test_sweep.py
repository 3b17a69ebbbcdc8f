"""Tests of `python -m mnist_research.sweep` as a user runs it."""

import json
import os
import shlex
import signal
import statistics

import commands
import optuna
import pytest
from matplotlib.image import imread

from mnist_research.config import Config
from mnist_research.config import flags as config_flags

_SMALL = (
  "--dataset=synthetic_digits/2000_500",
  "--validation_examples=500",
  "--hidden_units=16",
  "--learning_rate=0.01",
  "--batch_size=50",
  "--epochs=2",
  "--xla=off",  # Compiling takes longer than these steps.
  "--summaries=none",
)
_GRID = "--sweep=activation=relu,tanh;optimizer=adam,sgd;seed=0..1"


def _sweep(*arguments, data_dir, workdir, start=commands.run):
  return start(
    *_SMALL, *arguments, f"--data_dir={data_dir}", f"--workdir={workdir}", module="sweep"
  )


def _results(workdir):
  """Returns the settings and the result of every finished trial under `workdir`."""
  found = []
  for path in sorted(workdir.glob("*/result.json")):
    config = config_flags.from_flagfile(path.parent / "config.cfg")
    found.append((config, json.loads(path.read_text())))
  return found


def _written(workdir):
  return {path: path.stat().st_mtime_ns for path in workdir.glob("*/result.json")}


def _trials(workdir):
  optuna.logging.set_verbosity(optuna.logging.ERROR)
  storage = f"sqlite:///{workdir / 'study.db'}"
  return optuna.load_study(study_name="sweep", storage=storage).trials


def test_killed_sweep_resumes_without_repeating_trials(prepared, tmp_path):
  workdir = tmp_path / "sweep"
  jobs = f"--jobs={min(2, len(os.sched_getaffinity(0)))}"
  options = {"data_dir": prepared, "workdir": workdir}
  process = _sweep(_GRID, jobs, start=commands.start, **options)
  commands.wait_until(lambda: len(_written(workdir)) >= 3, process)
  process.kill()
  process.communicate()
  before = _written(workdir)
  assert 3 <= len(before) < 8

  ended = _sweep(_GRID, jobs, **options)
  record = ended.record
  assert record["finished"] == 8
  assert (record["failed"], record["running"], record["waiting"]) == (0, 0, 0)
  after = _written(workdir)
  assert {path: after[path] for path in before} == before
  # Eight different workdirs; every combination was trained as an ordinary run.
  results = _results(workdir)
  assert sorted(
    (c.model.activation, c.optimization.optimizer, c.run.seed) for c, _ in results
  ) == sorted(
    (activation, optimizer, seed)
    for activation in ("relu", "tanh")
    for optimizer in ("adam", "sgd")
    for seed in (0, 1)
  )
  assert len([path for path in workdir.iterdir() if path.name[:4].isdecimal()]) == 8

  # No trial used the test examples.
  assert not [name for _, result in results for name in result if name.startswith("test")]
  assert not list(workdir.glob("*/test_scores.jsonl"))
  # The best trial is the best on the validation examples.
  means = {}
  for config, result in results:
    means.setdefault((config.model.activation, config.optimization.optimizer), []).append(
      result["validation_accuracy"]
    )
  means = {key: statistics.fmean(values) for key, values in means.items()}
  best = max(means, key=means.get)
  assert record["best"] == {"activation": best[0], "optimizer": best[1]}
  assert record["validation_accuracy"] == pytest.approx(means[best], rel=1e-5)
  # The command to train it is printed.
  lines = iter(ended.stderr.splitlines())
  next(line for line in lines if line.startswith("best by validation accuracy"))
  python, option, module, *flags = shlex.split(next(lines))
  assert (python, option, module) == ("python", "-m", "mnist_research.train")
  texts = dict(flag.removeprefix("--").split("=", 1) for flag in flags)
  config = config_flags.with_texts(Config(), texts)
  assert (config.model.activation, config.optimization.optimizer) == best
  assert (config.run.score_test, config.run.workdir) == (True, "")
  assert (
    config.replace(score_test=False).differences(
      results[0][0].replace(activation=best[0], optimizer=best[1], seed=0)
    )
    == []
  )

  report = workdir / "sweep-report"
  assert record["report"] == str(report / "report.html")
  text = (report / "report.html").read_text()
  assert "compares only validation accuracies" in text
  assert imread(report / "heat_map.png").shape[2] >= 3
  assert (report / "table.md").read_text().count("\n") == 2 + 4


def test_failing_trial_is_recorded_and_others_continue(prepared, tmp_path):
  workdir = tmp_path / "sweep"
  finished = _sweep("--sweep=learning_rate=1e30,0.01", data_dir=prepared, workdir=workdir)
  record = finished.record
  assert (record["finished"], record["failed"]) == (1, 1)
  assert record["best"] == {"learning_rate": "0.01"}
  failed, good = _trials(workdir)
  assert failed.state == optuna.trial.TrialState.FAIL
  assert "the loss of step" in failed.user_attrs["error"]
  assert good.value == _results(workdir)[0][1]["validation_accuracy"]
  assert "failed: the loss of step" in finished.stderr
  assert "error: the loss of step" in next(workdir.glob("0000-*/log.txt")).read_text()
  assert "the loss of step" in (workdir / "sweep-report" / "report.html").read_text()


def test_search_prunes_by_validation_and_draws_figures(prepared, tmp_path):
  workdir = tmp_path / "search"
  record = _sweep(
    # The sixth rate is by far the lowest so far.
    "--search=learning_rate=log(1e-6,1e-2)", "--trials=6", "--seed=2", "--dropout_rate=0.1",
    data_dir=prepared, workdir=workdir,
  ).record  # fmt: skip
  trials = _trials(workdir)
  *finished, pruned = trials
  assert {trial.state for trial in finished} == {optuna.trial.TrialState.COMPLETE}
  assert pruned.state == optuna.trial.TrialState.PRUNED
  assert (record["finished"], record["pruned"]) == (5, 1)
  assert pruned.params["learning_rate"] < 1e-5
  # It was stopped at its first scoring, after one epoch of two.
  assert pruned.intermediate_values.keys() == {0}
  others = [trial.intermediate_values[0] for trial in finished]
  assert pruned.intermediate_values[0] < statistics.median(others)
  best = max(finished, key=lambda trial: trial.value)
  assert record["validation_accuracy"] == pytest.approx(best.value, rel=1e-5)
  assert float(record["best"]["learning_rate"]) == pytest.approx(
    best.params["learning_rate"], rel=1e-3
  )
  assert imread(workdir / "sweep-report" / "parallel_coordinates.png").shape[2] >= 3
  # The pruned trial was validated, but like the others never tested.
  (workdir_of_pruned,) = workdir.glob("0005-*")
  assert len(_results(workdir)) == 5
  assert {record["split"] for record in commands.read_metrics(workdir_of_pruned)} == {
    "train",
    "validation",
  }


def test_stopped_sweep_saves_its_running_trials(prepared, tmp_path):
  workdir = tmp_path / "sweep"
  options = ("--epochs=4000", "--sweep=seed=0", "--evaluate_every=30")
  process = _sweep(*options, data_dir=prepared, workdir=workdir, start=commands.start)
  trial = workdir / "0000-seed=0"
  commands.wait_until(lambda: commands.last_step(trial) >= 60, process)
  process.send_signal(signal.SIGTERM)
  finished = commands.finish(process)
  assert finished.returncode == 143
  assert "the same command resumes there" in finished.stderr
  saved = max(int(path.name) for path in (trial / "checkpoints").iterdir())
  assert saved == commands.last_step(trial) >= 60
  (record,) = _trials(workdir)
  assert record.state == optuna.trial.TrialState.RUNNING


@pytest.mark.parametrize(
  ("arguments", "error"),
  [
    ([], "give either --sweep=... or --search=..."),
    (["--sweep=seed=0", "--search=activation=relu"], "give either --sweep=... or --search=..."),
    (["--sweep=activation=relo"], "--activation=relo"),
    (["--search=learning_rate=log(1e-4"], "can't be read"),
    (["--sweep=seed=0..1", "--validation_examples=0"], "--validation_examples=0"),
    (["--sweep=seed=0..1", "--trials=3"], "--trials belongs to --search"),
    (["--search=activation=relu,gelu", "--retry_failed"], "--retry_failed belongs to --sweep"),
    (["--sweep=seed=0..1", "--jobs=1000"], "--jobs=1000: there are"),
    (["--sweep=seed=0..1", "--storage=nosuch://host"], "--storage=nosuch://host can't be used"),
    (
      ["--sweep=seed=0..1", "--storage=postgresql://u:SECRET@host/db"],
      "error: --storage=postgresql://u:***@host/db can't be used: ",
    ),
    (["--sweep=seed=0..1", "--strategy=multi_worker"], "a trial runs on one machine"),
  ],
)
def test_invalid_sweep_is_rejected(tmp_path, arguments, error):
  finished = commands.call(f"--workdir={tmp_path / 'sweep'}", *arguments, module="sweep")
  assert error in finished.error


def test_workdir_of_a_run_is_rejected(tmp_path):
  (tmp_path / "config.cfg").write_text("--seed=1\n")
  finished = commands.call(f"--workdir={tmp_path}", "--sweep=seed=0", module="sweep")
  assert "holds a run; choose a separate directory for the sweep" in finished.error
