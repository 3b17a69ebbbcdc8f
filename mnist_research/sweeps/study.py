"""Stores a sweep's trials and their results in an Optuna study.

The study's storage is the only record, from which a killed sweep resumes. Several machines may
share it; each resumes the trials that it started.
"""

import json
import socket
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from mnist_research.runtime import records
from mnist_research.runtime.errors import UserError
from mnist_research.runtime.flagfiles import shortened
from mnist_research.sweeps import space as space_lib
from mnist_research.sweeps import storage as storage_lib
from mnist_research.sweeps.space import Range, SweepPlan, Values
from mnist_research.sweeps.storage import Storage

# Attributes of the study and of its trials.
_SETTINGS, _SPACE = "settings", "space"
_POINT, _OWNER, _ERROR = "settings", "owner", "error"
# The number of trials that run to their end before any may be pruned.
_UNPRUNED_TRIALS = 5


class Record(NamedTuple):
  """The record of a trial.

  Attributes:
    number: its number in the study.
    state: `finished`, `pruned`, `failed`, `running` or `waiting`.
    texts: its settings, as texts of flags.
    accuracy: the validation accuracy; None unless it finished.
    error: the reason why it failed; otherwise empty.
    owner: the machine and directory of its process, as `<host>:<directory>`.
  """

  number: int
  state: str
  texts: Mapping[str, str]
  accuracy: float | None
  error: str
  owner: str


_STATES = {
  TrialState.COMPLETE: "finished",
  TrialState.PRUNED: "pruned",
  TrialState.FAIL: "failed",
  TrialState.RUNNING: "running",
  TrialState.WAITING: "waiting",
}


class SweepStudy:
  """The study of one sweep, as seen from one directory on one machine."""

  def __init__(self, plan: SweepPlan, *, storage: Storage, name: str, directory: Path):
    """Opens the study, or creates it.

    Args:
      plan: the trials.
      storage: from `open_storage`.
      name: the study's name, the same on every machine.
      directory: the directory in which only this process trains.

    Raises:
      UserError: the storage fails, or contains a different sweep under that name.
    """
    self._plan = plan
    self._owner = f"{socket.gethostname()}:{directory.resolve()}"
    pruner = optuna.pruners.MedianPruner(n_startup_trials=_UNPRUNED_TRIALS)
    self._storage = storage
    with self._reading():
      self._study = optuna.create_study(
        storage=storage.opened,
        study_name=name,
        direction="maximize",
        load_if_exists=True,
        pruner=pruner if plan.pruning else optuna.pruners.NopPruner(),
      )
      self._check_plan(name)
      trials = self._trials()
    # Trials that this directory started but didn't finish, and claimed ones without an owner.
    self._abandoned = {
      trial.number
      for trial in trials
      if trial.state == TrialState.RUNNING
      and trial.user_attrs.get(_OWNER, self._owner) == self._owner
    }
    # Combinations that failed before, each of which gets another trial.
    self._retried = set()
    if plan.retry_failed:
      planned = self._planned(trials)
      self._retried = {key for key in planned if planned[key].state == TrialState.FAIL}

  def next(self) -> Trial | None:
    """Claims a trial for this process; returns None if there is none."""
    with self._reading():
      trials = self._trials()
      for trial in trials:
        if trial.number in self._abandoned:
          self._abandoned.remove(trial.number)
          if trial.state == TrialState.RUNNING:
            return self._with_owner(self._running(trial))
      if self._plan.is_search:
        return self._ask(len(trials)) if len(trials) < self._plan.num_trials else None
      while (waiting := self._next_planned(trials)) is not None:
        # If several processes claim a trial, the storage lets one succeed.
        if self._storage.opened.set_trial_state_values(waiting._trial_id, TrialState.RUNNING):
          return self._with_owner(self._running(waiting))
        trials = self._trials()
    return None

  def report(self, trial: Trial, *, scoring: int, accuracy: float) -> bool:
    """Records a validation score, and returns whether to stop the trial.

    Args:
      trial: a claimed trial.
      scoring: the number of earlier scorings in this trial.
      accuracy: the validation accuracy.
    """
    with self._reading():
      # A trial that resumes from a checkpoint repeats its last steps.
      stored = self._storage.opened.get_trial(trial._trial_id)
      self._check_trial(trial.number, stored)
      if scoring not in stored.intermediate_values:
        trial.report(accuracy, scoring)
      return trial.should_prune()

  def finish(self, trial: Trial, accuracy: float) -> None:
    """Records the final accuracy of a trial."""
    self._tell(trial, TrialState.COMPLETE, accuracy)

  def prune(self, trial: Trial) -> None:
    """Records that a trial was stopped early."""
    self._tell(trial, TrialState.PRUNED)

  def fail(self, trial: Trial, error: str) -> None:
    """Records why a trial failed."""
    with self._reading():
      trial.set_user_attr(_ERROR, error)
    self._tell(trial, TrialState.FAIL)

  def texts(self, trial: Trial) -> dict[str, str]:
    """Returns a claimed trial's settings, as texts of flags."""
    with self._reading():
      if not self._plan.is_search:
        return trial.user_attrs[_POINT]
      # Stored parameters are read back; missing ones are proposed.
      values = {axis.name: _suggest(trial, axis) for axis in self._plan.space}
      return space_lib.to_texts(self._plan.space, values)

  def records(self) -> list[Record]:
    """Returns the record of every trial in the plan, by number."""
    with self._reading():
      trials = self._trials()
      if not self._plan.is_search:
        trials = sorted(self._planned(trials).values(), key=lambda trial: trial.number)
      return [
        Record(
          number=trial.number,
          state=_STATES[trial.state],
          texts=trial.user_attrs.get(_POINT) or space_lib.to_texts(self._plan.space, trial.params),
          accuracy=trial.value if trial.state == TrialState.COMPLETE else None,
          error=trial.user_attrs.get(_ERROR, ""),
          owner=trial.user_attrs.get(_OWNER, ""),
        )
        for trial in trials
      ]

  def num_ended(self) -> int:
    """The number of trials that finished, failed or were pruned."""
    return sum(record.state in ("finished", "failed", "pruned") for record in self.records())

  def importances(self) -> dict[str, float]:
    """Returns the importance of each setting for validation accuracy; empty with too few trials.

    The method is PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255), Optuna's default.
    """
    with self._reading():
      finished = [trial for trial in self._trials() if trial.state == TrialState.COMPLETE]
      if len({trial.value for trial in finished}) < 2 * len(self._plan.space) + 2:
        return {}
      return optuna.importance.get_param_importances(self._study)

  # ---- The study ----

  def _check_plan(self, name: str) -> None:
    """Writes the plan into a new study; rejects an existing study with a different plan."""
    settings = self._plan.base.deciding_texts()
    for axis in self._plan.space:
      settings.pop(axis.name, None)
    space = {axis.name: _describe(axis) for axis in self._plan.space}
    # A grid may be extended later, but the proposals of a search depend on the ranges.
    space = space if self._plan.is_search else dict.fromkeys(space, "values")
    with self._reading():
      stored = self._study.user_attrs
      if _SPACE not in stored and not self._study.get_trials(deepcopy=False):
        self._study.set_user_attr(_SETTINGS, settings)
        self._study.set_user_attr(_SPACE, space)
        return
    if _SPACE not in stored:
      raise UserError(
        f"the study {name} in {self._storage.url} isn't a sweep of this command; choose another "
        "--study_name"
      )
    if not isinstance(stored.get(_SETTINGS), dict):
      raise ValueError("the study has no settings")
    if stored[_SPACE] != space:
      raise UserError(
        f"the study {name} in {self._storage.url} varies {json.dumps(stored[_SPACE])}, not "
        f"{json.dumps(space)}; give those, or another --workdir"
      )
    differing = [
      f"--{key}={text}, not {shortened(str(stored[_SETTINGS][key]))}"
      for key, text in settings.items()
      if stored[_SETTINGS].get(key, text) != text
    ]
    if differing:
      raise UserError(
        f"the study {name} in {self._storage.url} has other settings (here "
        f"{'; '.join(differing)}); give those, or another --workdir"
      )

  def _trials(self) -> list[FrozenTrial]:
    """Returns all trials by number; raises ValueError if one doesn't belong to this sweep."""
    trials = self._study.get_trials(deepcopy=False)
    for number, trial in enumerate(trials):
      self._check_trial(number, trial)
    return trials

  def _check_trial(self, number: int, trial: FrozenTrial) -> None:
    attributes = trial.user_attrs
    point = attributes.get(_POINT)
    is_point = isinstance(point, dict) and all(
      isinstance(point.get(axis.name), str) for axis in self._plan.space
    )
    if (
      trial.number != number
      or not (is_point or (self._plan.is_search and point is None))
      or not all(isinstance(attributes.get(name, ""), str) for name in (_OWNER, _ERROR))
    ):
      raise ValueError(f"its trial {number} doesn't belong to this sweep")
    if trial.state == TrialState.COMPLETE and not records.is_number(trial.value, least=0, most=1):
      raise ValueError(f"its trial {number} has the accuracy {shortened(repr(trial.value))}")

  def _planned(self, trials: Sequence[FrozenTrial]) -> dict[tuple[str, ...], FrozenTrial]:
    """Returns the trial of each combination: the first that didn't fail, or else the last.

    Two machines that start at the same time may both record a combination; the first counts.
    """
    planned: dict[tuple[str, ...], FrozenTrial] = {}
    keys = {tuple(point.values()) for point in self._points()}
    for trial in trials:
      point = trial.user_attrs[_POINT]
      key = tuple(point[axis.name] for axis in self._plan.space)
      if key in keys and (key not in planned or planned[key].state == TrialState.FAIL):
        planned[key] = trial
    return planned

  def _next_planned(self, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """Returns the first waiting trial of the plan, and adds one if necessary; None at the end.

    Trials are added one at a time because Optuna reads all waiting ones from the database again and
    again: with 720 of them, that took longer than training.
    """
    planned = self._planned(trials)
    for point in self._points():
      key = tuple(point.values())
      if key not in planned or key in self._retried:
        self._retried.discard(key)
        # Not as Optuna's parameters, whose values can't be extended later.
        self._study.enqueue_trial({}, user_attrs={_POINT: point})
        planned = self._planned(self._trials())  # Another process may have added one before.
      if planned[key].state == TrialState.WAITING:
        return planned[key]
    return None

  def _points(self) -> list[dict[str, str]]:
    return space_lib.points([axis for axis in self._plan.space if isinstance(axis, Values)])

  def _ask(self, number: int) -> Trial:
    # Seeded by the trial number, so that a resumed sweep doesn't repeat its first proposals.
    (seed,) = np.random.SeedSequence([self._plan.base.run.seed, number]).generate_state(1)
    # Running trials count as bad, so that processes don't propose the same settings.
    self._study.sampler = optuna.samplers.TPESampler(seed=int(seed), constant_liar=True)
    return self._with_owner(self._study.ask())

  def _running(self, trial: FrozenTrial) -> Trial:
    return Trial(self._study, trial._trial_id)

  def _with_owner(self, trial: Trial) -> Trial:
    trial.set_user_attr(_OWNER, self._owner)
    return trial

  def _tell(self, trial: Trial, state: TrialState, accuracy: float | None = None) -> None:
    with self._reading():
      # It is already finished only if two processes ran it, after a kill at the wrong moment.
      self._study.tell(trial, accuracy, state=state, skip_if_finished=True)

  def _reading(self) -> AbstractContextManager[None]:
    return storage_lib.reading(self._storage.url)


def _describe(axis: Values | Range) -> str:
  if isinstance(axis, Values):
    return "|".join(axis.texts)
  return f"{'log' if axis.log else 'linear'}({axis.low},{axis.high})"


def _suggest(trial: Trial, axis: Values | Range) -> str | int | float:
  """Returns the value of a setting in a trial: the stored one, or a new proposal."""
  if isinstance(axis, Values):
    return trial.suggest_categorical(axis.name, axis.texts)
  if axis.is_integer:
    return trial.suggest_int(axis.name, int(axis.low), int(axis.high), log=axis.log)
  return trial.suggest_float(axis.name, axis.low, axis.high, log=axis.log)
