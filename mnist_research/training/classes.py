"""Classes that a setting names: of Keras, by their own name, or of a user, by a reference."""

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
  without: Iterable[str] = (),
) -> Any:
  """Returns the class that a setting names.

  Args:
    flag: the setting.
    text: its value: a reference, or the name of a class.
    built_in: the names of this package, which an error may suggest.
    keras: the module of Keras that holds the class.
    base: what a class of Keras must be a subclass of.
    without: the names of those that can't be made from a name alone.

  Raises:
    UserError: there is no such class, or what a reference names can't be called.
  """
  if extensions.is_reference(text):
    loaded = extensions.load(flag, text)
    if not callable(loaded):
      raise UserError(f"--{flag}={text}: it must be a class or a function")
    return loaded
  found = {
    name: kind
    for name, kind in vars(keras).items()
    if isinstance(kind, type) and issubclass(kind, base) and name not in (base.__name__, *without)
  }
  if text not in found:
    raise UserError(
      f"--{flag}={text}: Keras has no such class; it has {', '.join(sorted(found))}"
      f"{did_you_mean(text, [*built_in, *found])}"
    )
  return found[text]


def create(flag: str, text: str, kind: Any, arguments: Mapping[str, Any]) -> Any:
  """Calls a class of `load` with keyword arguments.

  Raises:
    UserError: it takes others, or fails.
  """
  with extensions.blamed(flag, text):
    return kind(**arguments)
