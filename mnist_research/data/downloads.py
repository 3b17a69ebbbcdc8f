"""Downloads a dataset's original files, from TFDS's addresses or from a mirror."""

import contextlib
import hashlib
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from mnist_research.runtime.errors import UserError
from mnist_research.runtime.files import atomic

# Long enough for a slow host, short enough for a waiting user.
REACH_SECONDS = 5
# Between two chunks of a file. TFDS's download has no such limit, so a stalled host would block it
# forever.
STALL_SECONDS = 30
_ATTEMPTS = 3
_CHUNK_BYTES = 1 << 16
_SILENT = "doesn't answer"


class UnreachableError(UserError):
  """The dataset is neither prepared nor available as files, and can't be downloaded."""


def fetch(name: str, url_infos: dict[str, Any], mirror: str, directory: Path) -> None:
  """Downloads a dataset's files atomically, and checks them against TFDS's checksums.

  `requests` honors the environment: `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, `REQUESTS_CA_BUNDLE`.

  Args:
    name: the value of `--dataset`.
    url_infos: the size, checksum and file name for each address, from a TFDS builder.
    mirror: the address of a directory with files of these names; empty for TFDS's addresses.
    directory: the target directory; intact files there are kept.

  Raises:
    UnreachableError: the host doesn't answer, refuses, or closes the connection early.
    UserError: a file doesn't match TFDS's checksum.
  """
  directory.mkdir(parents=True, exist_ok=True)
  missing = {
    url: info
    for url, info in addresses(url_infos, mirror).items()
    if not _is_intact(directory / info.filename, info)
  }
  check_hosts(name, missing)
  for url, info in missing.items():
    with _failures_reported(name):
      _fetch_file(url, info, directory / info.filename)
    if not _is_intact(directory / info.filename, info):
      (directory / info.filename).unlink()
      raise UserError(
        f"--dataset={name}: {url} has a wrong checksum: it isn't the file that TFDS expects; "
        "name another --mirror=URL, or give the original files with --manual_dir=DIR"
      )


def addresses(url_infos: dict[str, Any], mirror: str) -> dict[str, Any]:
  """Returns the size, checksum and file name of each file, by its download address."""
  return {
    f"{mirror.rstrip('/')}/{info.filename}" if mirror else url: info
    for url, info in url_infos.items()
  }


def _is_intact(path: Path, info: Any) -> bool:
  if not path.is_file() or path.stat().st_size != int(info.size):
    return False
  return hashlib.sha256(path.read_bytes()).hexdigest() == info.checksum


def _fetch_file(url: str, info: Any, path: Path) -> None:
  """Downloads a file in at most three attempts; stops if it is longer than expected."""
  for attempt in range(_ATTEMPTS):
    try:
      with (
        requests.get(url, stream=True, timeout=(REACH_SECONDS, STALL_SECONDS)) as response,
        atomic(path) as partial,
        partial.open("wb") as file,
      ):
        response.raise_for_status()
        for chunk in response.iter_content(_CHUNK_BYTES):
          file.write(chunk)
          if file.tell() > info.size:
            break  # It is a different file.
      return
    except requests.exceptions.RequestException as error:
      refused = error.response is not None and error.response.status_code < 500
      if refused or attempt == _ATTEMPTS - 1:
        raise


@contextlib.contextmanager
def _failures_reported(name: str) -> Iterator[None]:
  try:
    yield
  except requests.exceptions.RequestException as error:
    raise UnreachableError(remedies(name, f"its download failed: {error}")) from error


def check_hosts(name: str, urls: Collection[str]) -> None:
  """Tries each host once, because TFDS itself retries for minutes before it gives up.

  Raises:
    UnreachableError: a host doesn't answer, or isn't trusted.
  """
  for host, url in {urlsplit(url).netloc: url for url in urls}.items():
    if problem := _host_problem(url):
      raise UnreachableError(remedies(name, f"{host} {problem}"))


def _host_problem(url: str) -> str:
  """Returns the problem with a URL's host; empty if it answers within `REACH_SECONDS`."""
  problems: list[str] = []

  def send_request() -> None:
    problem = ""
    try:
      requests.head(url, timeout=REACH_SECONDS, allow_redirects=True)
    except requests.exceptions.SSLError:
      problem = (
        "has a certificate that isn't trusted here (if it is your proxy's, set "
        "REQUESTS_CA_BUNDLE=FILE in the environment)"
      )
    except requests.exceptions.RequestException:
      problem = _SILENT
    problems.append(problem)

  # In a thread, because the timeouts of requests don't cover name resolution.
  thread = threading.Thread(target=send_request, daemon=True)
  thread.start()
  thread.join(2 * REACH_SECONDS)
  return problems[0] if problems else _SILENT


def remedies(name: str, problem: str) -> str:
  """Returns the error message for a dataset that can't be obtained."""
  return (
    f"--dataset={name} is not prepared here and {problem}: give its original files with "
    "--manual_dir=DIR, a host that has them with --mirror=URL, a directory where TFDS has prepared "
    "it with --data_dir=DIR, or use --dataset=synthetic_digits, which needs no network"
  )
