"""A user's own models, optimizers, losses, augmentations and datasets, loaded by name.

A reference is `path/to/file.py:name` or `package.module:name`. The file is imported as a separate
module, and can import modules from its directory.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from mnist_research.runtime.errors import Interrupted, UserError

_FILE = re.compile(r"(.+\.py):([A-Za-z_]\w*)")
_MODULE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")


class Source(NamedTuple):
  """The file of a reference.

  Attributes:
    name: the file name of its copy in a workdir.
    content: its bytes.
  """

  name: str
  content: bytes

  @property
  def digest(self) -> str:
    """The SHA-256 of the content."""
    return hashlib.sha256(self.content).hexdigest()


def is_reference(text: str) -> bool:
  """Whether `text` is `path/to/file.py:name` or `package.module:name`."""
  return bool(_FILE.fullmatch(text) or _MODULE.fullmatch(text))


def is_builder(text: str) -> bool:
  """Whether a dataset name refers to a builder class; `huggingface:mnist` doesn't."""
  return is_reference(text) and text.rpartition(":")[2][0].isupper()


def load(flag: str, text: str) -> Any:
  """Returns the object that a reference names.

  Args:
    flag: the flag that holds the reference, for error messages.
    text: the reference.

  Raises:
    UserError: the file or module is missing, can't be imported, or doesn't define the name.
  """
  module, name = _module(flag, text), text.rpartition(":")[2]
  try:
    return getattr(module, name)
  except AttributeError:
    raise UserError(f"--{flag}={text}: {module.__file__} defines no {name}") from None


def read_source(flag: str, text: str) -> Source:
  """Returns the file of a reference.

  Raises:
    UserError: the file is missing or can't be read.
  """
  path = _path(flag, text)
  name = path.name if _FILE.fullmatch(text) else f"{text.rpartition(':')[0]}.py"
  try:
    return Source(name, path.read_bytes())
  except OSError as error:
    raise UserError(f"--{flag}={text}: {path} can't be read: {error.strerror}") from error


def identity(flag: str, text: str) -> str:
  """Returns a text that identifies the code, independent of the location of its file."""
  source = read_source(flag, text)
  return f"{source.name}:{text.rpartition(':')[2]} with SHA-256 {source.digest[:16]}"


def copied(flag: str, text: str, directory: Path) -> str:
  """Returns the reference to the copy of a file in a workdir.

  A module in a package isn't copied, because it may need the package; only its content is compared.

  Args:
    flag: the flag that holds the reference.
    text: the reference as the run received it.
    directory: the directory of the copies.

  Raises:
    UserError: the copy is missing, or the module has changed.
  """
  file = _FILE.fullmatch(text)
  copy = directory / (Path(file[1]).name if file else f"{text.rpartition(':')[0]}.py")
  if not copy.is_file():
    raise UserError(f"--{flag}={text}: its copy {copy} is missing; restore it from a backup")
  if file:
    return f"{copy}:{file[2]}"
  if read_source(flag, text).content != copy.read_bytes():
    raise UserError(
      f"--{flag}={text} has changed since this run was trained; restore it from {copy}"
    )
  return text


@contextlib.contextmanager
def attribute_errors(flag: str, text: str) -> Iterator[None]:
  """Turns an exception in user code into a UserError that names the line."""
  try:
    yield
  except (UserError, Interrupted):
    raise
  except Exception as error:
    message = " ".join(str(error).split())[:500]
    raise UserError(
      f"--{flag}={text}: {type(error).__name__}: {message}{_line(flag, text, error)}"
    ) from error


def _line(flag: str, text: str, error: BaseException) -> str:
  """Returns the line of the user's file where an error occurred; empty if it occurred elsewhere."""
  if not is_reference(text):
    return ""
  path = str(_path(flag, text))
  lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
  return f" (line {lines[-1].lineno} of {path})" if lines else ""


def _module(flag: str, text: str) -> ModuleType:
  path = _path(flag, text)
  if not _FILE.fullmatch(text):
    with attribute_errors(flag, text):
      return importlib.import_module(text.rpartition(":")[0])
  digest = read_source(flag, text).digest[:12]
  name = f"mnist_research_extension_{path.stem}_{digest}"
  if name in sys.modules:
    return sys.modules[name]
  spec = importlib.util.spec_from_file_location(name, path)
  assert spec is not None
  assert spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module  # As imports do: dataclasses and pickle look there.
  if str(path.parent) not in sys.path:
    sys.path.append(str(path.parent))
  try:
    with attribute_errors(flag, text):
      spec.loader.exec_module(module)
  except BaseException:
    del sys.modules[name]
    raise
  return module


def _path(flag: str, text: str) -> Path:
  file = _FILE.fullmatch(text)
  if file:
    path = Path(file[1]).expanduser().absolute()
    if not path.is_file():
      raise UserError(f"--{flag}={text}: there is no file {path}")
    return path
  module = text.rpartition(":")[0]
  try:
    spec = importlib.util.find_spec(module)
  except (ImportError, ValueError):
    spec = None
  if spec is None or not spec.origin or not Path(spec.origin).is_file():
    raise UserError(
      f"--{flag}={text}: there is no module {module}; install it, or put its directory on "
      "PYTHONPATH"
    )
  return Path(spec.origin)
