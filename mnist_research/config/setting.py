"""A setting: its type, default, range and help text, and its form as the text of a flag."""

import ast
import dataclasses
import math
import numbers
import operator
import os
import re
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from mnist_research.runtime import user_data
from mnist_research.runtime.errors import UserError, did_you_mean
from mnist_research.runtime.extensions import is_builder, is_reference

# TensorFlow uses 32-bit counters in some places.
INTEGER_LIMIT = 2**31

# For lists of layers; a model with more could not be compiled.
_MOST_ENTRIES = 1000

# Keras classes are written as in Python, unlike this package's names.
_CLASS_NAME = re.compile(r"[A-Z]\w*")
# TFDS would access the network for gs://bucket.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/+")
# A TFDS dataset with its config and version: emnist/digits:3.1.0. Names in a namespace, such as
# huggingface:mnist, are rejected, because TFDS would access the network for them, even if the
# settings come from someone else.
_DATASET = re.compile(r"\w+(/[\w+.-]+)?(:(\d+|\*)(\.(\d+|\*)){2})?", re.ASCII)


def setting(
  default: Any,
  help_text: str,
  *,
  choices: Iterable[str] = (),
  open_to: Iterable[str] = (),
  at_least: float | None = None,
  at_most: float | None = None,
  more_than: float | None = None,
  below: float | None = None,
  may_change: bool = False,
  is_path: bool = False,
  is_dataset: bool = False,
  is_pinned: bool = False,
) -> Any:
  """Makes a field of a dataclass of settings.

  Args:
    default: the default value, which also defines the type.
    help_text: the description for `--help`, with unit and range.
    choices: the allowed names.
    open_to: other allowed values: `references` to custom code, or class names of `keras`.
    at_least: the inclusive lower bound.
    at_most: the inclusive upper bound.
    more_than: the exclusive lower bound.
    below: the exclusive upper bound.
    may_change: whether a resumed run may change it, because the result doesn't depend on it.
    is_path: whether it names a file or directory, in which `~` is the home directory.
    is_dataset: whether it names a dataset; it may be empty only if the default is.
    is_pinned: whether it lists paths, each with a digest of its content.
  """
  metadata = {
    "help": help_text, "choices": tuple(choices), "open_to": tuple(open_to), "at_least": at_least,
    "at_most": at_most, "more_than": more_than, "below": below, "may_change": may_change,
    "is_path": is_path, "is_dataset": is_dataset, "is_pinned": is_pinned,
  }  # fmt: skip
  return dataclasses.field(default=default, metadata=metadata)


def to_text(value: Any) -> str:
  """Returns a value as the text of a flag."""
  if isinstance(value, bool):
    return str(value).lower()
  return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def to_numbers(text: str) -> tuple[int, ...]:
  """Returns the integers in a text such as `128,64`; the text may be empty.

  Raises:
    ValueError: the text isn't a list of integers.
  """
  return tuple(int(part) for part in text.split(",")) if text.strip() else ()


def coerced(field: dataclasses.Field, kind: Any, value: Any) -> Any:
  """Returns `value` as the type of a setting, if it can be converted.

  A list becomes a tuple, a single entry a tuple of one, a path its text, and a NumPy number a
  Python number.

  Args:
    field: the setting.
    kind: its type.
    value: the value to convert.

  Raises:
    UserError: it has the wrong type.
  """
  try:
    value = _coerced(kind, value)
    return os.path.expanduser(value) if field.metadata["is_path"] else value
  except (TypeError, ValueError):
    descriptions = {str: "a string", bool: "true or false", int: "an integer", float: "a number"}
    expected = descriptions.get(kind) or "a sequence of " + (
      "integers" if typing.get_args(kind)[0] is int else "strings"
    )
    raise UserError(f"--{field.name}={value!r}: must be {expected}") from None


def _coerced(kind: Any, value: Any) -> Any:
  if typing.get_origin(kind) is tuple:
    (entry_kind, _) = typing.get_args(kind)
    if isinstance(value, str):
      value = [part.strip() for part in value.split(",") if part.strip()]
      value = map(int, value) if entry_kind is int else value
    elif isinstance(value, numbers.Number):
      value = (value,)
    return tuple(_coerced(entry_kind, entry) for entry in value)
  if kind is str:
    return os.fspath(value)
  if kind is bool:
    if isinstance(value, bool) or type(value).__name__ == "bool":  # Also covers NumPy's bool.
      return bool(value)
    raise TypeError
  if isinstance(value, bool) or not isinstance(value, numbers.Real):
    raise TypeError
  if kind is int:
    return (
      int(value)
      if isinstance(value, float) and value.is_integer()
      else operator.index(typing.cast(Any, value))
    )
  return float(value)


def check(field: dataclasses.Field, value: Any) -> None:
  """Raises UserError unless `value` is allowed for a setting."""
  if isinstance(value, tuple) and len(value) > _MOST_ENTRIES:
    raise UserError(
      f"--{field.name}: {len(value):,} entries; at most {_MOST_ENTRIES:,} are allowed"
    )
  flag = f"--{field.name}={to_text(value)}"
  for entry in value if isinstance(value, tuple) else (value,):
    if isinstance(entry, str):
      _check_text(field, flag, entry)
    else:
      _check_number(field.metadata, flag, entry)


def _check_dataset(flag: str, text: str) -> None:
  if not _DATASET.fullmatch(text) and not is_builder(text) and not user_data.is_path(text):
    raise UserError(
      f"{flag}: must be the name of a TFDS dataset, such as mnist or emnist/digits, the path of a "
      "folder of pictures by class, ./letters, or of an .npz file, or of your own builder: "
      "path/to/file.py:MyBuilder"
    )


def _check_text(field: dataclasses.Field, flag: str, text: str) -> None:
  if not text.isprintable():
    raise UserError(f"--{field.name}={text!r}: must contain only printable characters")
  if field.metadata["is_path"] and _URL.match(text):
    raise UserError(f"{flag}: must be a local directory, not a URL")
  if field.metadata["is_dataset"] and (text or field.default):
    _check_dataset(flag, text)
  choices, open_to = field.metadata["choices"], field.metadata["open_to"]
  if not choices or text in choices:
    return
  if "references" in open_to and is_reference(text):
    return
  if "keras" in open_to and _CLASS_NAME.fullmatch(text):
    return
  custom = ["or your own: path/to/file.py:name"] if "references" in open_to else []
  raise UserError(
    f"{flag}: choose one of {', '.join([*choices, *custom])}{did_you_mean(text, choices)}"
  )


def _check_number(limits: Mapping[str, Any], flag: str, number: float) -> None:
  if isinstance(number, float) and not math.isfinite(number):
    raise UserError(f"{flag}: must be a finite number")
  if limits["at_least"] is not None and number < limits["at_least"]:
    raise UserError(f"{flag}: must be at least {limits['at_least']}")
  if limits["more_than"] is not None and number <= limits["more_than"]:
    raise UserError(f"{flag}: must be more than {limits['more_than']}")
  if limits["at_most"] is not None and number > limits["at_most"]:
    raise UserError(f"{flag}: must be at most {limits['at_most']}")
  below = limits["below"]
  if below is None and isinstance(number, int):
    below = INTEGER_LIMIT
  if below is not None and number >= below:
    raise UserError(f"{flag}: must be below {below}")


def parse_keywords(flag: str, text: str) -> dict[str, Any]:
  """Returns the keyword arguments in a text such as `width=64,rates=(0.1,0.2),kind=wide`.

  Values are Python literals; `true` and `false` are booleans, and any other word is a string.

  Args:
    flag: the name of the flag, for the error.
    text: the flag's value; empty for no arguments.

  Raises:
    UserError: the text has another form.
  """
  values: dict[str, Any] = {}
  for part in _split_at_commas(text):
    name, equals, value = (piece.strip() for piece in part.partition("="))
    if not equals or not name.isidentifier() or not value or name in values:
      raise UserError(f'--{flag}={text}: write it as "name=value,other=value", each name once')
    values[name] = _literal(value)
  return values


def _split_at_commas(text: str) -> list[str]:
  """Splits at commas outside of brackets and quotes."""
  parts = re.findall(r"""(?:[^,(\['"]|\([^)]*\)|\[[^\]]*\]|'[^']*'|"[^"]*")+""", text)
  return [part for part in parts if part.strip()]


def _literal(text: str) -> Any:
  if text in ("true", "false"):
    return text == "true"
  try:
    return ast.literal_eval(text)
  except (ValueError, SyntaxError, MemoryError, RecursionError):
    return text
