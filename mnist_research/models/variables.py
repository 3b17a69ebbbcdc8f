"""A model's variables, by names that are the same in every process."""

import re
from collections.abc import Iterator

import tensorflow as tf

# The suffix that Keras appends to an unnamed layer's name, from a counter per process.
_AUTO_NUMBER = re.compile(r"(.*?)(?:_(\d+))?")


def is_generator(variable: tf.keras.Variable) -> bool:
  """Whether a variable is the state of a Keras generator, which each step overwrites."""
  return variable.path.endswith("seed_generator_state")


def variables_by_name(model: tf.keras.Model) -> dict[str, tf.keras.Variable]:
  """Returns a model's variables by layer and role, as in `hidden_0/kernel`.

  The names are the same in every process and for every model of the same kind: a number that Keras
  added from its counter is replaced by the position among layers of that name.
  """
  variables = [variable for variable in model.variables if not is_generator(variable)]
  named = dict(zip(_stable_names([v.path for v in variables]), variables, strict=True))
  if len(named) != len(variables):
    raise ValueError(f"two layers of {model.name} share a name")
  return named


def _stable_names(paths: list[str]) -> Iterator[str]:
  """Yields each path without its root, numbered within the model."""
  siblings: dict[tuple[str, str], list[str]] = {}
  seen: dict[str, int] = {}
  split = [path.split("/")[1:] for path in paths]
  for parts in split:
    for depth, part in enumerate(parts):
      group = siblings.setdefault(("/".join(parts[:depth]), _base(part)), [])
      if part not in group:
        group.append(part)
  for parts in split:
    names = []
    for depth, part in enumerate(parts):
      base = _base(part)
      group = siblings["/".join(parts[:depth]), base]
      # Keras never counts from 0, so the author numbered these layers.
      by_author = f"{base}_0" in group
      rank = group.index(part)
      names.append(part if by_author else f"{base}_{rank}" if rank else base)
    name = "/".join(names)
    seen[name] = seen.get(name, 0) + 1
    # Layers of the same name, explicit or from Keras, differ by position.
    yield name if seen[name] == 1 else f"{name}.{seen[name]}"


def _base(part: str) -> str:
  match = _AUTO_NUMBER.fullmatch(part)
  assert match is not None
  return match[1]
