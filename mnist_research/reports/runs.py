"""Finds the runs under some directories, reads their records, and groups them by settings.

The results are in plain files, so this needs neither TensorFlow nor the dataset.
"""

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mnist_research import protocol
from mnist_research.config import Config
from mnist_research.reports.config_names import directory_names
from mnist_research.run_files import SPLITS
from mnist_research.runtime import user_data
from mnist_research.runtime.errors import UserError
from mnist_research.workdir import Workdir

# The page of a report; a directory that contains it isn't listed as foreign.
REPORT_NAME = "report.html"
# Deep enough for a folder of sweeps, a sweep, and its trials, but not for a whole home directory.
_DEPTH = 3
_RUN_FILES = ("config.cfg", "metrics.jsonl", "result.json", "checkpoints")
# For each split; more than a screen has pixels.
_MOST_LINES = 20_000
# Entries that `train` writes into every result.
_RESULT_NUMBERS = ("train_examples", "parameters", "train_seconds")


class Run(NamedTuple):
  """The records of a run.

  Attributes:
    workdir: its directory.
    config: its settings.
    result: the content of result.json; None if the run is unfinished.
    metrics: the lines of metrics.jsonl; a sample of them if there are very many.
  """

  workdir: Workdir
  config: Config
  result: Mapping[str, Any] | None
  metrics: Sequence[Mapping[str, Any]]

  @property
  def path(self) -> Path:
    """The run's directory."""
    return self.workdir.path

  @property
  def last_step(self) -> int:
    """The step of the last line of metrics; 0 if there is none."""
    return max((record["step"] for record in self.metrics), default=0)

  @property
  def test_scorings(self) -> str:
    """Returns how often its dataset's test split was scored; - if that wasn't logged."""
    try:
      count = protocol.count_test_scorings(self.path, self.config.data.dataset)
    except UserError:
      return "?"
    return "-" if count is None else str(count)


class LeftOut(NamedTuple):
  """A directory without results for a comparison.

  Attributes:
    path: the directory.
    kind: `unfinished`, `corrupt`, `foreign` (it holds no run) or `duplicate`.
    reason: the reason, in words.
  """

  path: Path
  kind: str
  reason: str


class Group(NamedTuple):
  """The runs of one config, which differ in their seeds.

  Attributes:
    settings: the settings that differ between the groups, as in config.cfg.
    runs: a run for each seed, in ascending order.
    folder: the common name of its directories, if it is unique among the groups; otherwise empty.
    distinguishing: a minimal set of settings that distinguishes all groups.
  """

  settings: Mapping[str, str]
  runs: Sequence[Run]
  folder: str = ""
  distinguishing: Sequence[str] = ()

  @property
  def name(self) -> str:
    """The group's name, written as flags."""
    config = self.runs[0].config
    return self._named(self.settings) or (
      f"{config.model.model} on {user_data.short_name(config.data.dataset)}"
    )

  @property
  def label(self) -> str:
    """A short name of the group: its folder, or the settings that distinguish it."""
    return self.folder or self._named(self.distinguishing) or self.name

  def _named(self, settings: Iterable[str]) -> str:
    return ", ".join(f"{name}={self.settings[name] or 'none'}" for name in settings)

  def values(self, key: str) -> dict[int, float]:
    """Returns a metric of the result by seed; empty unless every run has the metric."""
    by_seed = {run.config.run.seed: (run.result or {}).get(key) for run in self.runs}
    if any(value is None for value in by_seed.values()):
      return {}
    return {seed: float(value) for seed, value in by_seed.items() if value is not None}


def read(directories: Iterable[str | Path]) -> tuple[list[Run], list[LeftOut]]:
  """Reads every run in or under `directories`, down to three levels.

  Returns:
    The readable runs, finished or not, and the directories without one.

  Raises:
    UserError: a directory doesn't exist.
  """
  workdirs: dict[Path, Path] = {}  # By real path, because a directory may have several names.
  foreign = []
  for directory in map(Path, directories):
    if not directory.is_dir():
      raise UserError(f"{directory} is not a directory: name a workdir, or a folder of workdirs")
    below, others = _find(directory, _DEPTH)
    workdirs |= {path.resolve(): path for path in below if path.resolve() not in workdirs}
    foreign += others
  runs, left_out = [], [LeftOut(path, "foreign", "holds no run") for path in foreign]
  for path in workdirs.values():
    try:
      runs.append(_read_run(Workdir(path)))
    except UserError as error:
      left_out.append(LeftOut(path, "corrupt", str(error)))
  return runs, left_out


def _find(directory: Path, depth: int) -> tuple[list[Path], list[Path]]:
  """Returns the workdirs in and under `directory`, and their siblings that aren't workdirs."""
  try:
    paths = sorted(directory.iterdir())
  except OSError:  # The directory may be unreadable.
    return [], [directory]
  names = {path.name for path in paths}
  if not names.isdisjoint(_RUN_FILES):
    return [directory], []
  if REPORT_NAME in names and depth < _DEPTH:
    return [], []
  workdirs: list[Path] = []
  foreign: list[Path] = []
  for path in paths if depth else ():
    if os.path.isdir(path) and not path.name.startswith("."):  # Path's would raise.
      below, others = _find(path, depth - 1)
      workdirs += below
      foreign += others
  return (workdirs, foreign) if workdirs else ([], [directory])


def _read_run(workdir: Workdir) -> Run:
  config = workdir.read_config()
  if config is None:
    raise UserError("config.cfg is missing")
  result = workdir.read_result()
  if result is not None:
    # With `--score_test=false`, there is only a validation accuracy.
    split = "validation" if "validation_accuracy" in result else "test"
    names = (*_RESULT_NUMBERS, f"{split}_accuracy", f"{split}_loss")
    missing = [name for name in names if name not in result]
    if missing:
      raise UserError(f"result.json is corrupt: its {missing[0]} is None")
  return Run(workdir, config, result, thinned(workdir.metrics()))


def thinned(metrics: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
  """Returns the metrics of a run; for very long ones an evenly spaced sample of each split.

  The last line of each split is always included.
  """
  sample: dict[str, list[Mapping[str, Any]]] = {split: [] for split in SPLITS}
  last, stride, counts = {}, dict.fromkeys(SPLITS, 1), dict.fromkeys(SPLITS, 0)
  for record in metrics:
    split = record["split"]
    last[split] = record
    if counts[split] % stride[split] == 0:
      sample[split].append(record)
      if len(sample[split]) >= _MOST_LINES:
        sample[split] = sample[split][::2]
        stride[split] *= 2
    counts[split] += 1
  for split, record in last.items():
    if sample[split][-1] is not record:
      sample[split].append(record)
  return sorted(itertools.chain(*sample.values()), key=lambda record: record["step"])


def group(runs: Iterable[Run]) -> tuple[list[Group], list[LeftOut]]:
  """Groups finished runs by the settings that determine the result, except the seed.

  Returns:
    The groups, in the order of their first runs, and the runs left out: unfinished ones, and
    duplicates with the same settings and seed.
  """
  by_settings: dict[tuple[str, ...], dict[int, Run]] = {}
  left_out = []
  for run in runs:
    seeds = by_settings.setdefault(tuple(_deciding(run.config).values()), {})
    if run.result is None:
      left_out.append(LeftOut(run.path, "unfinished", f"at step {run.last_step:,}"))
    elif run.config.run.seed in seeds:
      same = seeds[run.config.run.seed].path
      left_out.append(LeftOut(run.path, "duplicate", f"the same settings and seed as {same}"))
    else:
      seeds[run.config.run.seed] = run
  groups_by_seed = [dict(sorted(seeds.items())) for seeds in by_settings.values() if seeds]
  settings = [_deciding(next(iter(seeds.values())).config) for seeds in groups_by_seed]
  differing = [
    name for name in (settings[0] if settings else ()) if len({s[name] for s in settings}) > 1
  ]
  folders = directory_names(
    [[run.path.resolve() for run in seeds.values()] for seeds in groups_by_seed]
  )
  distinguishing = _distinguishing(settings, differing)
  groups = [
    Group({name: values[name] for name in differing}, tuple(seeds.values()), folder, distinguishing)
    for values, seeds, folder in zip(settings, groups_by_seed, folders, strict=True)
  ]
  return groups, left_out


def _distinguishing(settings: Sequence[Mapping[str, str]], differing: Sequence[str]) -> list[str]:
  """Returns a minimal set of the `differing` settings that distinguishes all groups, in order."""
  chosen: list[str] = []

  def count(names: Iterable[str]) -> int:
    return len({tuple(texts[name] for name in names) for texts in settings})

  while count(chosen) < len(settings):
    chosen.append(max(differing, key=lambda name: count([*chosen, name])))
  return [name for name in differing if name in chosen]


def _deciding(config: Config) -> dict[str, str]:
  texts = config.deciding_texts()
  del texts["seed"]
  return texts
