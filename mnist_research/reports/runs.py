"""Finds the runs under some directories, reads what they left, and groups them by their settings.

Neither TensorFlow nor the dataset is needed: a run's figures are in its plain files.
"""

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mnist_research import protocol
from mnist_research.config import Config
from mnist_research.runtime import own_data
from mnist_research.runtime.errors import UserError
from mnist_research.workdir import SPLITS, Workdir

# What a report leaves in its directory: that one is no run, and nothing foreign.
REPORT_NAME = "report.html"
# A folder of sweeps, a sweep, its trials: deeper nobody looks, in a home directory for instance.
_DEPTH = 3
_RUN_FILES = ("config.cfg", "metrics.jsonl", "result.json", "checkpoints")
# Of each split: more than any screen has pixels.
_MOST_LINES = 20_000
# What `train` writes into every result.
_RESULT_NUMBERS = ("train_examples", "parameters", "train_seconds")


class Run(NamedTuple):
  """What a run left.

  Attributes:
    workdir: its directory.
    config: its settings.
    result: the content of result.json; None while it is unfinished.
    metrics: the lines of metrics.jsonl, of very many some.
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
    """The step of the last line of metrics; 0 before the first."""
    return max((record["step"] for record in self.metrics), default=0)

  @property
  def test_scorings(self) -> str:
    """How often its dataset's test split was scored by it; - where nothing was written down."""
    try:
      count = protocol.count_test_scorings(self.path, self.config.data.dataset)
    except UserError:
      return "?"
    return "-" if count is None else str(count)


class SetAside(NamedTuple):
  """A directory that gives a comparison no figures.

  Attributes:
    path: the directory.
    kind: `unfinished`, `damaged`, `foreign` (it holds no run) or `duplicate`.
    reason: in words.
  """

  path: Path
  kind: str
  reason: str


class Group(NamedTuple):
  """The runs of one config, which differ in their seed.

  Attributes:
    settings: as in config.cfg, those in which the groups that were made together differ.
    runs: one for each seed, by ascending seed.
    folder: the name of the folder that holds all of its runs and none of another group; empty:
      there is none.
  """

  settings: Mapping[str, str]
  runs: Sequence[Run]
  folder: str = ""

  @property
  def name(self) -> str:
    """The group in words, as flags would be written."""
    named = (f"{name}={value or 'none'}" for name, value in self.settings.items())
    config = self.runs[0].config
    return ", ".join(named) or f"{config.model.model} on {own_data.short_name(config.data.dataset)}"

  @property
  def label(self) -> str:
    """What the group is called where there is little room: its folder, or its name."""
    return self.folder or self.name

  def values(self, key: str) -> dict[int, float]:
    """Returns a figure of the result by seed; empty unless every run has it."""
    found = {run.config.run.seed: (run.result or {}).get(key) for run in self.runs}
    if any(value is None for value in found.values()):
      return {}
    return {seed: float(value) for seed, value in found.items() if value is not None}


def read(directories: Iterable[str | Path]) -> tuple[list[Run], list[SetAside]]:
  """Reads every run in or under `directories`, down to three levels.

  Returns:
    The runs that can be read, finished or not, and the directories that hold none.

  Raises:
    UserError: a directory isn't there.
  """
  found: dict[Path, Path] = {}  # By where they really are: two names may lead to one.
  foreign = []
  for directory in map(Path, directories):
    if not directory.is_dir():
      raise UserError(f"{directory} is no directory: name a workdir, or a folder of workdirs")
    workdirs, others = _find(directory, _DEPTH)
    found |= {path.resolve(): path for path in workdirs if path.resolve() not in found}
    foreign += others
  runs, set_aside = [], [SetAside(path, "foreign", "holds no run") for path in foreign]
  for path in found.values():
    try:
      runs.append(_read_run(Workdir(path)))
    except UserError as error:
      set_aside.append(SetAside(path, "damaged", str(error)))
  return runs, set_aside


def _find(directory: Path, depth: int) -> tuple[list[Path], list[Path]]:
  """Returns the workdirs in and under `directory`, and the directories beside them without any."""
  try:
    paths = sorted(directory.iterdir())
  except OSError:  # It may not be read.
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
    # `--score_test=false` leaves the figures of validation alone.
    split = "validation" if "validation_accuracy" in result else "test"
    names = (*_RESULT_NUMBERS, f"{split}_accuracy", f"{split}_loss")
    missing = [name for name in names if name not in result]
    if missing:
      raise UserError(f"result.json is damaged: its {missing[0]} is None")
  return Run(workdir, config, result, thinned(workdir.metrics()))


def thinned(metrics: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
  """Returns the metrics of a run, of very long ones some of each split at even distances.

  The last of each split is always among them.
  """
  kept: dict[str, list[Mapping[str, Any]]] = {split: [] for split in SPLITS}
  last, stride, seen = {}, dict.fromkeys(SPLITS, 1), dict.fromkeys(SPLITS, 0)
  for record in metrics:
    split = record["split"]
    last[split] = record
    if seen[split] % stride[split] == 0:
      kept[split].append(record)
      if len(kept[split]) >= _MOST_LINES:
        kept[split] = kept[split][::2]
        stride[split] *= 2
    seen[split] += 1
  for split, record in last.items():
    if kept[split][-1] is not record:
      kept[split].append(record)
  return sorted(itertools.chain(*kept.values()), key=lambda record: record["step"])


def group(runs: Iterable[Run]) -> tuple[list[Group], list[SetAside]]:
  """Groups finished runs by the settings that decide the result, but for the seed.

  Returns:
    The groups, in the order of their first runs; and what was left out: the unfinished, and of two
    runs with the same settings and seed the second, which tells nothing new.
  """
  by_settings: dict[tuple[str, ...], dict[int, Run]] = {}
  left_out = []
  for run in runs:
    seeds = by_settings.setdefault(tuple(_deciding(run.config).values()), {})
    if run.result is None:
      left_out.append(SetAside(run.path, "unfinished", f"at step {run.last_step:,}"))
    elif run.config.run.seed in seeds:
      same = seeds[run.config.run.seed].path
      left_out.append(SetAside(run.path, "duplicate", f"the same settings and seed as {same}"))
    else:
      seeds[run.config.run.seed] = run
  held = [dict(sorted(seeds.items())) for seeds in by_settings.values() if seeds]
  settings = [_deciding(next(iter(seeds.values())).config) for seeds in held]
  differing = [
    name for name in (settings[0] if settings else ()) if len({s[name] for s in settings}) > 1
  ]
  folders = _folders(held)
  groups = [
    Group({name: values[name] for name in differing}, tuple(seeds.values()), folder)
    for values, seeds, folder in zip(settings, held, folders, strict=True)
  ]
  return groups, left_out


def _folders(held: Sequence[Mapping[int, Run]]) -> list[str]:
  """Returns for each group the name of the folder that it alone has; all empty unless each does."""
  parents = [{run.path.resolve().parent for run in seeds.values()} for seeds in held]
  names = [next(iter(paths)).name for paths in parents if len(paths) == 1]
  return names if len(set(names)) == len(held) else [""] * len(held)


def _deciding(config: Config) -> dict[str, str]:
  texts = config.deciding_texts()
  del texts["seed"]
  return texts
