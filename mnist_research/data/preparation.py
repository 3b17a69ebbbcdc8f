"""Lets TFDS prepare a dataset: by download, from original files, or by a user's code."""

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import requests
import tensorflow_datasets as tfds
from absl import logging

from mnist_research.config import Config
from mnist_research.data import downloads, original_files
from mnist_research.runtime import progress, user_data
from mnist_research.runtime.errors import UserError
from mnist_research.runtime.files import locked


def download_and_prepare(name: str, builder: tfds.core.DatasetBuilder, config: Config) -> None:
  """Prepares a dataset in the data directory of its builder; other processes wait meanwhile.

  Args:
    name: the dataset's name in `--dataset`.
    builder: its builder.
    config: the settings, which say where the original files are.

  Raises:
    UserError: the directory can't be written, or the original files are missing or wrong.
    UnreachableError: a download failed.
  """
  data_dir = Path(builder.data_dir).parent
  if not progress.shows_bars():
    tfds.disable_progress_bar()
  logging.info("preparing %s in %s", user_data.short_name(name), data_dir)
  # TFDS and builders print to stdout, which is reserved for programs.
  prints = sys.stderr if logging.level_info() else io.StringIO()
  with (
    _locked_directory(data_dir),
    contextlib.redirect_stdout(prints),
    progress.waiting(f"preparing {user_data.short_name(name)}"),
  ):
    if builder.is_prepared():  # Another process prepared it while this one waited.
      return
    with _original_files(name, builder, config, data_dir) as directory:
      _call_tfds(name, builder, data_dir / "downloads", directory)


@contextlib.contextmanager
def _locked_directory(data_dir: Path) -> Iterator[None]:
  """Creates the directory of a dataset and locks it for this process."""
  with contextlib.ExitStack() as stack:
    try:
      data_dir.mkdir(parents=True, exist_ok=True)
      stack.enter_context(locked(data_dir / ".preparing", wait=True))
    except OSError as error:
      raise UserError(
        f"{data_dir} can't be written: {error.strerror}; name another directory for datasets with "
        "--data_dir or TFDS_DATA_DIR"
      ) from error
    yield


@contextlib.contextmanager
def _original_files(
  name: str, builder: tfds.core.DatasetBuilder, config: Config, data_dir: Path
) -> Iterator[Path | None]:
  """Yields the directory where TFDS finds the original files; None if TFDS downloads them."""
  url_infos = builder.url_infos or {}
  # Each dataset has a directory, because datasets use the same names for different files.
  fetched = data_dir / "downloads" / "fetched"
  if config.data.manual_dir:
    staging = data_dir / "downloads" / "originals"
    with original_files.for_tfds(builder, Path(config.data.manual_dir), staging) as directory:
      yield directory
  # Other datasets may not need every file that TFDS registers.
  elif config.data.mirror or {info.filename for info in url_infos.values()} == original_files.NAMES:
    downloads.fetch(name, url_infos, config.data.mirror, fetched)
    yield fetched
  else:
    downloads.check_hosts(name, url_infos)
    yield None


def _call_tfds(
  name: str, builder: tfds.core.DatasetBuilder, download_dir: Path, originals_dir: Path | None
) -> None:
  config = tfds.download.DownloadConfig(
    manual_dir=originals_dir, try_download_gcs=False, register_checksums=False
  )
  try:
    builder.download_and_prepare(download_dir=str(download_dir), download_config=config)
  except tfds.download.download_manager.NonMatchingChecksumError as error:
    raise UserError(
      f"--dataset={name}: a file of {originals_dir or 'the download'} has a wrong checksum: {error}"
    ) from error
  except (requests.exceptions.RequestException, tfds.download.DownloadError) as error:
    raise downloads.UnreachableError(
      downloads.remedies(name, f"its download failed: {error}")
    ) from error
