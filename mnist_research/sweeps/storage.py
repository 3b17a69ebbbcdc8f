"""Opens the database with a sweep's study, and turns its errors into one line."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import optuna
from alembic.util.exc import CommandError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from mnist_research.runtime.errors import UserError
from mnist_research.runtime.flagfiles import shortened

_ATTEMPTS = 3
# Errors of SQLAlchemy and Optuna for a failing database, or for rows that don't form a study.
_ERRORS = (
  SQLAlchemyError, sqlite3.Error, CommandError, optuna.exceptions.OptunaError, ImportError,
  ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


class Storage(NamedTuple):
  """A database of studies.

  Attributes:
    url: the value of `--storage`.
    opened: Optuna's storage object.
  """

  url: str
  opened: optuna.storages.BaseStorage


def open_storage(url: str) -> Storage:
  """Opens any database that Optuna supports, and creates missing tables.

  Raises:
    UserError: it can't be used.
  """
  optuna.logging.set_verbosity(optuna.logging.ERROR)
  # If two machines create the tables at the same time, one fails.
  with reading(url):
    _check_file(url)
    for _ in range(_ATTEMPTS - 1):
      with contextlib.suppress(SQLAlchemyError):
        return Storage(url, optuna.storages.get_storage(url))
      time.sleep(1)
    return Storage(url, optuna.storages.get_storage(url))


@contextlib.contextmanager
def reading(url: str) -> Iterator[None]:
  """Turns errors of a storage into a UserError that names it."""
  try:
    yield
  except _ERRORS as error:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    raise UserError(
      f"--storage={url} can't be used: {shortened(reason)}; fix that, or restore a copy, and the "
      "same command resumes"
    ) from error


def _check_file(url: str) -> None:
  """Checks the file of a SQLite database; raises ValueError if it is corrupt."""
  address = make_url(url)
  if address.get_backend_name() != "sqlite" or not address.database:
    return
  path = Path(address.database)
  if not path.is_file():
    return
  with contextlib.closing(sqlite3.connect(path)) as connection:
    (status,) = connection.execute("PRAGMA quick_check(1)").fetchone()
  if status != "ok":
    raise ValueError(f"the file is corrupt: {status}")
