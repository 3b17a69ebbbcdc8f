"""Writes runs for TensorBoard by name, with the mean and band of each config over its seeds.

TensorBoard can't average runs (https://github.com/tensorflow/tensorboard/issues/376), so each mean
and each bound is a separate run with the tags of the original runs.
"""

import contextlib
import math
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tensorboard.plugins.scalar.summary_v2 import scalar_pb

from mnist_research import figures
from mnist_research.recording.event_files import EventFile
from mnist_research.reports.runs import Group, Run
from mnist_research.run_files import SPLITS
from mnist_research.runtime.errors import UserError, writing

DIRECTORY = "tensorboard"
_METRICS = ("loss", "accuracy")
# The mark of a directory that this module wrote.
_MARK = ".averages"


def write_averages(groups: Sequence[Group], output: Path) -> Path:
  """Writes a directory for TensorBoard: links to the runs, and averages over seeds.

  A config with at least two seeds gets `<config>, mean`, `<config>, mean - std` and
  `<config>, mean + std`, at the steps that all of its seeds have.

  Args:
    groups: the configs, from `runs.group`.
    output: the report's directory.

  Returns:
    The directory.

  Raises:
    UserError: it can't be written, or a report didn't write the existing one.
  """
  directory = output / DIRECTORY
  if directory.exists() and not (directory / _MARK).exists():
    raise UserError(f"--tensorboard: {directory} holds something else; choose another --output")
  with writing(directory):
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    (directory / _MARK).touch()
    for group in groups:
      for run in group.runs:
        _link(run, directory)
  for group in groups:
    if len(group.runs) > 1:
      _write_group(group, directory / _file_name(group.label))
  return directory


def _link(run: Run, directory: Path) -> None:
  """Links to the event files of a run by the name of its workdir."""
  if not run.workdir.tensorboard.is_dir():
    return
  parts = run.path.absolute().parts
  # Workdirs with the same name get as much of their path as distinguishes them.
  for count in range(1, len(parts)):
    link = directory / _file_name(" ".join(parts[-count:]))
    if not os.path.lexists(link):
      with contextlib.suppress(FileExistsError):
        link.symlink_to(run.workdir.tensorboard.absolute(), target_is_directory=True)
        return


def _file_name(text: str) -> str:
  return re.sub(r"[/\\\0]", "-", text)[:150]


def _write_group(group: Group, stem: Path) -> None:
  for split in SPLITS:
    bands = {metric: band(group.runs, split, metric) for metric in _METRICS}
    for suffix, factor in (("mean", 0), ("mean - std", -1), ("mean + std", 1)):
      values = {
        metric: {step: mean + factor * deviations[step] for step, mean in means.items()}
        for metric, (means, deviations) in bands.items()
        if means
      }
      if values:
        _write(stem.with_name(f"{stem.name}, {suffix}") / split, values)


def _write(directory: Path, values: dict[str, dict[int, float]]) -> None:
  file = EventFile(directory, first_step=0)
  for metric, by_step in values.items():
    for step, value in by_step.items():
      file.add(scalar_pb(metric, value).SerializeToString(), step=step)
  file.close()


def band(runs: Sequence[Run], split: str, metric: str) -> tuple[dict[int, float], dict[int, float]]:
  """Returns the mean and standard deviation of a metric over runs, at the steps that all have.

  The standard deviation is that of a sample (n - 1). Training losses are those comparable with
  other splits, if the runs recorded them.
  """
  by_step: dict[int, list[float]] = defaultdict(list)
  for run in runs:
    for record in figures.with_plain_losses(run.metrics):
      value = record.get(metric, math.nan)
      if record["split"] == split and math.isfinite(value):
        by_step[record["step"]].append(value)
  complete = {step: values for step, values in sorted(by_step.items()) if len(values) == len(runs)}
  return (
    {step: float(np.mean(values)) for step, values in complete.items()},
    {step: float(np.std(values, ddof=1)) for step, values in complete.items()},
  )
