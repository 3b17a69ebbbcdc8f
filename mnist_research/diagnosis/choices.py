"""Determines what a run would choose and find; called in a child process."""

from typing import Any

import tensorflow as tf

from mnist_research import distribution
from mnist_research.config import Config
from mnist_research.config import flags as config_flags
from mnist_research.data import datasets, downloads
from mnist_research.distribution import Workers
from mnist_research.models.creation import create_recipe
from mnist_research.runtime.errors import UserError
from mnist_research.training import plan
from mnist_research.workers import read_workers


def choose(settings: dict[str, str]) -> dict[str, Any]:
  """Returns the choices of `auto` on this machine: strategy, devices, precision and XLA.

  With several workers, only this one is checked, without waiting for the other workers.

  Args:
    settings: the settings, as texts of their flags.

  Raises:
    UserError: a run would reject these settings.
  """
  config = config_flags.with_texts(Config(), settings)
  workers = read_workers(config.devices.strategy)
  if workers.several:
    config = config.replace(strategy="auto")
  strategy = distribution.create_strategy(config, Workers())
  config, xla = plan.choose_arithmetic(config, create_recipe(config.model), strategy)
  devices = [name.rpartition("device:")[2] for name in strategy.extended.worker_devices]
  is_single = isinstance(strategy, tf.distribute.OneDeviceStrategy)
  return {
    "strategy": "multi_worker" if workers.several else "one_device" if is_single else "mirrored",
    "workers": max(1, len(workers.addresses)),
    "devices": devices,
    "precision": config.devices.precision,
    "xla": xla and not workers.several,
  }


def find_dataset(settings: dict[str, str]) -> dict[str, Any]:
  """Returns where the dataset is or would come from, without downloading it.

  Raises:
    UserError: it can't be obtained.
  """
  config = config_flags.with_texts(Config(), settings)
  try:
    origin = datasets.find(config)
  except downloads.UnreachableError as error:
    fallback = config.data.fallback_dataset
    if not fallback:
      raise UserError(str(error)) from error
    origin = datasets.find(config.replace(dataset=fallback))
    return {**_plain(origin), "fallback": fallback, "reason": str(error)}
  return {**_plain(origin), "fallback": "", "reason": ""}


def _plain(origin: datasets.Origin) -> dict[str, Any]:
  return {**origin._asdict(), "data_dir": str(origin.data_dir)}
