"""Checks that a run resumes in its workdir with the same settings and code."""

from absl import logging

from mnist_research.config import Config
from mnist_research.runtime import user_data
from mnist_research.runtime.errors import UserError
from mnist_research.training.checkpoints import checkpoint_directories
from mnist_research.workdir import Workdir


def reconcile(config: Config, workdir: Workdir) -> Config:
  """Returns `config` as recorded when the run in `workdir` started.

  Raises:
    UserError: the run there has different settings, or custom code has changed.
  """
  stored = workdir.read_config()
  if stored is None:
    if checkpoint_directories(workdir.checkpoints):
      raise UserError(
        f"--workdir={workdir.path} holds checkpoints but no config.cfg; choose another --workdir"
      )
    return config
  if stored.data.dataset == config.data.fallback_dataset != config.data.dataset:
    logging.warning("this run started on %s and resumes on it", stored.data.dataset)
    config = config.replace(dataset=stored.data.dataset)
  if config.devices.precision == "auto":
    config = config.replace(precision=stored.devices.precision)
  if _has_other_files(config.data.dataset, stored.data.dataset):
    raise UserError(
      f"--dataset={config.data.dataset}: the files there have changed since the run in "
      f"--workdir={workdir.path} started on {stored.data.dataset}; restore them, or "
      "choose another --workdir"
    )
  differences = [*config.differences(stored), *workdir.changed_sources(config)]
  if differences:
    raise UserError(
      f"--workdir={workdir.path} holds a run with other settings (here {'; '.join(differences)}); "
      "give those, or another --workdir"
    )
  return config


def _has_other_files(dataset: str, stored: str) -> bool:
  """Whether two dataset names are the same path with different content."""
  if not (user_data.is_path(dataset) and user_data.is_path(stored)):
    return False
  (path, digest), (stored_path, stored_digest) = user_data.parse(dataset), user_data.parse(stored)
  return path == stored_path and digest != stored_digest
