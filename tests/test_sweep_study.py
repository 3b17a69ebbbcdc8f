"""Tests of a sweep's study: next trials, killed trials, sharing between machines."""

import contextlib
import random
import shutil
import sqlite3

import optuna
import pytest

from mnist_research.config import Config
from mnist_research.runtime.errors import UserError
from mnist_research.sweeps.space import Range, SweepPlan, Values
from mnist_research.sweeps.storage import open_storage
from mnist_research.sweeps.study import SweepStudy

_BASE = Config(dataset="synthetic_digits/2000_500")
_GRID = (Values("activation", ("relu", "gelu")), Values("seed", ("0", "1")))
_RANGES = (
  Range("learning_rate", 1e-4, 1e-1, log=True, is_integer=False),
  Values("activation", ("relu", "gelu")),
)


def _plan(space=_GRID, *, num_trials=0, base=_BASE, pruning=False, retry_failed=False):
  return SweepPlan(base, space, num_trials, pruning, retry_failed)


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
  """A database with tables, which are faster to copy than to create."""
  path = tmp_path_factory.mktemp("studies") / "empty.db"
  open_storage(f"sqlite:///{path}")
  return path


@pytest.fixture
def opened(tmp_path, empty_database):
  """Opens the study of this test, like a process that starts in `directory`."""
  url = f"sqlite:///{shutil.copy(empty_database, tmp_path / 'study.db')}"

  def open_study(plan, directory="here"):
    path = tmp_path / directory
    return SweepStudy(plan, storage=open_storage(url), name="sweep", directory=path)

  return open_study


def _rest(study):
  """Claims all remaining trials, and returns the settings of each."""
  texts = []
  while (trial := study.next()) is not None:
    texts.append(tuple(study.texts(trial).values()))
  return texts


def _states(study):
  return [record.state for record in study.records()]


def test_each_combination_is_tried_once(opened):
  study = opened(_plan())
  assert _rest(study) == [("relu", "0"), ("relu", "1"), ("gelu", "0"), ("gelu", "1")]
  assert study.next() is None


def test_trial_outcomes_are_recorded(opened):
  study = opened(_plan())
  finished, failed, pruned = study.next(), study.next(), study.next()
  study.finish(finished, 0.75)
  study.fail(failed, "the loss of step 3 is nan")
  study.prune(pruned)
  records = opened(_plan()).records()
  assert [r.state for r in records] == ["finished", "failed", "pruned"]
  assert [r.accuracy for r in records] == [0.75, None, None]
  assert records[1].error == "the loss of step 3 is nan"
  assert records[1].texts == {"activation": "relu", "seed": "1"}
  assert records[0].owner.endswith("/here")


def test_killed_sweep_resumes_its_trial_and_repeats_none(opened):
  study = opened(_plan())
  study.finish(study.next(), 0.5)
  started = study.next().number
  after = opened(_plan())  # The first was killed here.
  assert after.next().number == started
  assert _rest(after) == [("gelu", "0"), ("gelu", "1")]


def test_claimed_but_unnamed_trial_is_not_lost(opened, monkeypatch):
  study = opened(_plan())
  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(SweepStudy, "_with_owner", _killed)
    study.next()
  assert _rest(opened(_plan()))[0] == ("relu", "0")


def _killed(*_):
  raise KeyboardInterrupt


def test_machines_share_trials_and_keep_their_own(opened):
  here, there = opened(_plan()), opened(_plan(), "there")
  first = here.next().number
  assert [first, there.next().number] == [0, 1]
  # Each is killed, then finds its own trials.
  assert opened(_plan(), "there").next().number == 1
  assert opened(_plan()).next().number == 0
  assert len(_rest(here) + _rest(there)) == 2
  assert len(here.records()) == 4


def test_duplicate_combination_counts_once(opened, monkeypatch):
  here, there = opened(_plan()), opened(_plan(), "there")
  first = there.next()
  with monkeypatch.context() as patch:
    # This one read the study before the other had added its trial.
    before = [[]]
    patch.setattr(here, "_trials", lambda: before.pop() if before else SweepStudy._trials(here))
    second = here.next()
  assert [first.number, second.number] == [0, 2]
  assert list(here.texts(second).values()) == ["relu", "1"]
  assert sorted(_rest(here) + _rest(there)) == [("gelu", "0"), ("gelu", "1")]
  assert len(there.records()) == 4


def test_values_can_be_added_or_removed_later(opened):
  study = opened(_plan())
  study.finish(study.next(), 0.5)
  more = _plan((Values("activation", ("relu",)), Values("seed", ("0", "1", "2"))))
  assert _rest(opened(more)) == [("relu", "1"), ("relu", "2")]


def test_failed_trials_are_retried_only_if_requested(opened):
  study = opened(_plan())
  study.fail(study.next(), "the disk is full")
  for trial in iter(study.next, None):
    study.finish(trial, 0.5)
  assert _rest(opened(_plan())) == []
  again = opened(_plan(retry_failed=True))
  trial = again.next()
  assert again.texts(trial) == {"activation": "relu", "seed": "0"}
  again.finish(trial, 0.9)
  assert sorted(_states(again)) == ["finished"] * 4


@pytest.mark.parametrize(
  ("plan", "error"),
  [
    (_plan((Values("optimizer", ("adam", "sgd")),)), 'varies {"activation": "values"'),
    (_plan(base=Config(dataset="mnist")), "--dataset=mnist, not synthetic_digits/2000_500"),
    (_plan(_RANGES, num_trials=3), ', not {"learning_rate": "log'),
  ],
)
def test_different_sweep_in_the_same_study_is_rejected(opened, plan, error):
  opened(_plan())
  with pytest.raises(UserError, match=error.replace("(", r"\(").replace("{", r"\{")):
    opened(plan)


def test_settings_that_do_not_affect_results_may_differ(opened):
  opened(_plan())
  opened(_plan(base=Config(dataset="synthetic_digits/2000_500", data_dir="/elsewhere", seed=0)))


def test_foreign_study_is_rejected(opened, tmp_path):
  storage = f"sqlite:///{tmp_path / 'study.db'}"
  other = optuna.create_study(storage=storage, study_name="sweep", direction="maximize")
  other.add_trial(optuna.create_trial(value=1.0))
  with pytest.raises(UserError, match="isn't a sweep of this command"):
    opened(_plan())


@pytest.mark.parametrize("url", ["nosuch://x", "sqlite:///{}/missing/study.db"])
def test_unusable_storage_is_named(url, monkeypatch, tmp_path):
  url = url.format(tmp_path)
  monkeypatch.setattr("mnist_research.sweeps.storage._ATTEMPTS", 1)
  with pytest.raises(UserError, match=f"--storage={url} can't be used"):
    open_storage(url)


# ---- Search ----


def test_search_proposes_settings_in_range_and_stops(opened):
  study = opened(_plan(_RANGES, num_trials=12))
  rates, activations = set(), set()
  while (trial := study.next()) is not None:
    texts = study.texts(trial)
    rates.add(float(texts["learning_rate"]))
    activations.add(texts["activation"])
    study.finish(trial, 0.5)
  assert len(rates) == 12
  assert all(1e-4 <= rate <= 1e-1 for rate in rates)
  assert activations == {"relu", "gelu"}
  assert _states(study) == ["finished"] * 12


def test_resumed_search_repeats_no_proposal(opened):
  found = set()
  for _ in range(6):
    study = opened(_plan(_RANGES, num_trials=6))  # Killed after every trial.
    trial = study.next()
    found.add(tuple(study.texts(trial).values()))
    study.finish(trial, 0.5)
  assert len(found) == 6
  assert study.next() is None


def test_interrupted_proposal_is_completed(opened):
  study = opened(_plan(_RANGES, num_trials=2))
  trial = study.next()
  rate = trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)  # Killed here.
  after = opened(_plan(_RANGES, num_trials=2))
  texts = after.texts(after.next())
  assert float(texts["learning_rate"]) == pytest.approx(rate, rel=1e-3)
  assert texts["activation"] in ("relu", "gelu")


def test_trial_below_the_median_is_pruned(opened):
  study = opened(_plan(_RANGES, num_trials=10, pruning=True))
  for accuracy in (0.5, 0.6, 0.7, 0.8, 0.9):
    trial = study.next()
    assert not study.report(trial, scoring=0, accuracy=accuracy)
    study.finish(trial, accuracy)
  good, bad = study.next(), study.next()
  assert not study.report(good, scoring=0, accuracy=0.71)
  assert study.report(bad, scoring=0, accuracy=0.69)


def test_nothing_is_pruned_unless_requested(opened):
  study = opened(_plan(_RANGES, num_trials=10))
  for _ in range(6):
    trial = study.next()
    study.report(trial, scoring=0, accuracy=0.9)
    study.finish(trial, 0.9)
  assert not study.report(study.next(), scoring=0, accuracy=0.1)


def test_repeated_scoring_counts_once(opened, recwarn):
  study = opened(_plan(_RANGES, num_trials=2))
  study.report(study.next(), scoring=0, accuracy=0.5)
  after = opened(_plan(_RANGES, num_trials=2))
  trial = after.next()
  after.report(trial, scoring=0, accuracy=0.4)
  assert after._trials()[0].intermediate_values == {0: 0.5}
  assert not [w for w in recwarn if "already reported" in str(w.message)]


def test_importances_find_the_setting_that_matters(opened):
  study = opened(_plan(_RANGES, num_trials=30))
  while (trial := study.next()) is not None:
    texts = study.texts(trial)
    study.finish(trial, float(texts["learning_rate"]))
  shares = study.importances()
  assert shares["learning_rate"] > 0.8
  assert sum(shares.values()) == pytest.approx(1)


def test_too_few_trials_have_no_importances(opened):
  study = opened(_plan(_RANGES, num_trials=30))
  study.finish(study.next(), 0.5)
  assert study.importances() == {}


# ---- Corruption ----


def _edit(path, statement, *values):
  with contextlib.closing(sqlite3.connect(path)) as connection:
    connection.execute(statement, values)
    connection.commit()


_EDITS = {
  "no JSON": "UPDATE trial_user_attributes SET value_json = '{['",
  "a setting less": "UPDATE trial_user_attributes SET value_json = '{}' WHERE key = 'settings'",
  "a setting of numbers": "UPDATE trial_user_attributes SET value_json = '{\"activation\": 3}'",
  "settings gone": "DELETE FROM trial_user_attributes WHERE key = 'settings'",
  "an unknown state": "UPDATE trials SET state = 'LOST'",
  "an empty state": "UPDATE trials SET state = ''",
  "other numbers": "UPDATE trials SET number = number + 10",
  "an accuracy of 7": "UPDATE trial_values SET value = 7",
  "an endless accuracy": "UPDATE trial_values SET value = NULL, value_type = 'INF_POS'",
  "no accuracy": "DELETE FROM trial_values",
  "a text for an accuracy": "UPDATE trial_values SET value = 'high'",
  "no settings of the study": "UPDATE study_user_attributes SET value_json = '3'",
  "no date": "UPDATE trials SET datetime_start = 'yesterday'",
  "no table": "DROP TABLE trial_values",
  "a later version": "UPDATE alembic_version SET version_num = 'v9.9'",
}


@pytest.mark.parametrize("edit", _EDITS.values(), ids=_EDITS)
def test_edited_rows_are_reported_in_one_line(opened, tmp_path, edit):
  study = opened(_plan())
  study.finish(study.next(), 0.5)
  _edit(tmp_path / "study.db", edit)
  with pytest.raises(UserError, match=r"study\.db") as raised:
    opened(_plan()).records()
  assert "\n" not in str(raised.value)


def test_edited_rows_of_a_search_are_reported(opened, tmp_path):
  plan = _plan(_RANGES, num_trials=3)
  study = opened(plan)
  trial = study.next()
  study.texts(trial)
  study.finish(trial, 0.5)
  _edit(tmp_path / "study.db", "UPDATE trial_params SET distribution_json = '[3]'")
  with pytest.raises(UserError, match=r"study\.db can't be used"):
    opened(plan).records()


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + bytes(100)])
def test_other_file_in_place_of_the_study_is_reported(tmp_path, content):
  path = tmp_path / "study.db"
  path.write_bytes(content)
  if not content:  # SQLite turns it into a database.
    assert open_storage(f"sqlite:///{path}").url.endswith("study.db")
    return
  with pytest.raises(UserError, match=r"study\.db can't be used: .*; fix that, or restore a copy"):
    open_storage(f"sqlite:///{path}")


def test_flipped_bits_are_reported_or_harmless(opened, tmp_path):
  study = opened(_plan())
  study.finish(study.next(), 0.5)
  path = tmp_path / "study.db"
  content, values = path.read_bytes(), random.Random(0)
  for _ in range(30):
    flipped = bytearray(content)
    for _ in range(20):
      flipped[values.randrange(len(content))] ^= 1 << values.randrange(8)
    path.write_bytes(flipped)
    with contextlib.suppress(UserError):
      SweepStudy(
        _plan(), storage=open_storage(f"sqlite:///{path}"), name="sweep", directory=tmp_path
      ).records()
