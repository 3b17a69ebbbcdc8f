"""Loads classes that a setting names: Keras's by name, a user's by reference."""

from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from mnist_research.config.setting import did_you_mean
from mnist_research.runtime import extensions
from mnist_research.runtime.errors import UserError


def load(
  flag: str,
  text: str,
  *,
  built_in: Iterable[str],
  keras: ModuleType,
  base: type,
  excluded: Iterable[str] = (),
) -> Any:
  """Returns the class that a setting names.

  Args:
    flag: the setting.
    text: its value: a reference, or the name of a class.
    built_in: this package's names, which an error may suggest.
    keras: the Keras module to search.
    base: the base class of the Keras classes.
    excluded: the names of Keras classes that a name alone can't specify.

  Raises:
    UserError: there is no such class, or a reference names something that can't be called.
  """
  if extensions.is_reference(text):
    loaded = extensions.load(flag, text)
    if not callable(loaded):
      raise UserError(f"--{flag}={text}: it must be a class or a function")
    return loaded
  available = {
    name: kind
    for name, kind in vars(keras).items()
    if isinstance(kind, type) and issubclass(kind, base) and name not in (base.__name__, *excluded)
  }
  if text not in available:
    raise UserError(
      f"--{flag}={text}: Keras has no such class; it has {', '.join(sorted(available))}"
      f"{did_you_mean(text, [*built_in, *available])}"
    )
  return available[text]


def create(flag: str, text: str, kind: Any, arguments: Mapping[str, Any]) -> Any:
  """Calls a class of `load` with keyword arguments.

  Raises:
    UserError: it doesn't take these arguments, or it fails.
  """
  with extensions.attribute_errors(flag, text):
    return kind(**arguments)
