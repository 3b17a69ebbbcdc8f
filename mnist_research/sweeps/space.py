"""Parses the settings that a sweep tries, from `--sweep` and `--search`.

Settings are separated by `;`. A setting has values, `activation=relu,gelu` or, if values contain
commas, `hidden_units=64|128,64`; a range of integers, `seed=0..4`; or, in a search, a range of
numbers, `learning_rate=log(1e-4,1e-2)` or `dropout_rate=linear(0,0.5)`.
"""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mnist_research.config import FIELDS, KINDS, Config
from mnist_research.config import flags as config_flags
from mnist_research.runtime.errors import UserError

# A larger number is a typo, and would take days.
_MOST_TRIALS = 10_000
# Settings that decide which examples score a trial.
_EXAMPLES = ("dataset", "validation_examples")
_RANGE = re.compile(r"(log|linear)\(([^,()]+),([^,()]+)\)")


class Values(NamedTuple):
  """A setting with several values.

  Attributes:
    name: the setting.
    texts: its values, as texts of flags.
  """

  name: str
  texts: tuple[str, ...]


class Range(NamedTuple):
  """A setting with a range of numbers.

  Attributes:
    name: the setting.
    low: the lowest number.
    high: the highest number.
    log: whether numbers are drawn on a log scale.
    is_integer: whether only integers are allowed.
  """

  name: str
  low: float
  high: float
  log: bool
  is_integer: bool


Space = Sequence[Values | Range]


class SweepPlan(NamedTuple):
  """The plan of a sweep.

  Attributes:
    base: the settings that all trials share, with the dataset actually used.
    space: the settings that vary.
    num_trials: the number of trials of a search; 0 to try every combination of the values once.
    pruning: whether a search stops trials early that are worse than half of the previous ones.
    retry_failed: whether to retry failed combinations.
  """

  base: Config
  space: Space
  num_trials: int
  pruning: bool
  retry_failed: bool

  @property
  def is_search(self) -> bool:
    """Whether Optuna proposes the settings; otherwise all combinations are tried."""
    return self.num_trials > 0

  @property
  def size(self) -> int:
    """The number of trials."""
    values = (len(axis.texts) for axis in self.space if isinstance(axis, Values))
    return self.num_trials or math.prod(values)


def parse_sweep(text: str, base: Config) -> list[Values]:
  """Parses `--sweep`.

  Args:
    text: the flag, as in the module's docstring, but without ranges.
    base: the other settings.

  Raises:
    UserError: the text can't be parsed, or its settings are incompatible.
  """
  space = []
  for name, values in _settings("--sweep", text):
    if _RANGE.fullmatch(values):
      raise UserError(f"--sweep: {name}={values} is a range, for --search; --sweep takes values")
    space.append(_values("--sweep", name, values))
  size = math.prod(len(axis.texts) for axis in space)
  if size > _MOST_TRIALS:
    raise UserError(f"--sweep: {size:,} trials; at most {_MOST_TRIALS:,} are allowed")
  configs = [config_flags.with_texts(base, point) for point in points(space)]
  if len(set(configs)) < len(configs):
    raise UserError(f"--sweep={text}: two of its values are the same")
  return space


def parse_search(text: str, base: Config) -> list[Values | Range]:
  """Parses `--search`.

  Args:
    text: the flag, as in the module's docstring.
    base: the other settings.

  Raises:
    UserError: the text can't be parsed, or a value or an end of a range is invalid.
  """
  space: list[Values | Range] = []
  for name, values in _settings("--search", text):
    if name == "seed":
      raise UserError("--search: the seed can't be searched; --seed sets it for all trials")
    match = _RANGE.fullmatch(values)
    axis = _range(name, values, *match.groups()) if match else _values("--search", name, values)
    ends = axis.texts if isinstance(axis, Values) else (str(axis.low), str(axis.high))
    for end in ends:
      config_flags.with_texts(base, {name: end})
    space.append(axis)
  return space


def points(space: Sequence[Values]) -> list[dict[str, str]]:
  """Returns every combination of the values, the last setting changing first."""
  names = [axis.name for axis in space]
  combined = itertools.product(*(axis.texts for axis in space))
  return [dict(zip(names, texts, strict=True)) for texts in combined]


def to_texts(space: Space, values: Mapping[str, str | int | float]) -> dict[str, str]:
  """Returns a trial's values as texts of flags, with fractions to four digits."""
  texts = {}
  for axis in space:
    value = values.get(axis.name)
    if isinstance(axis, Range) and isinstance(value, float):
      value = min(max(float(f"{value:.4g}"), axis.low), axis.high)
    if value is not None:
      texts[axis.name] = str(value)
  return texts


def _settings(flag: str, text: str) -> list[tuple[str, str]]:
  """Splits `name=values;name=values`, and checks the names."""
  known = FIELDS
  settings: list[tuple[str, str]] = []
  for part in filter(None, (part.strip() for part in text.split(";"))):
    name, equals, values = (piece.strip() for piece in part.partition("="))
    if not equals or not values:
      raise UserError(
        f"{flag}: {part!r} is not a setting with values, such as activation=relu,gelu"
      )
    if name not in known:
      raise UserError(f"{flag}: there is no setting {name!r}; train --help lists them")
    if name in _EXAMPLES:
      raise UserError(f"{flag}: {name} changes the scored examples: accuracies aren't comparable")
    if known[name].metadata["may_change"]:
      raise UserError(f"{flag}: --{name} doesn't change what is trained; choose another setting")
    if name in dict(settings):
      raise UserError(f"{flag}: {name} is given twice")
    settings.append((name, values))
  if not settings:
    raise UserError(f"{flag}: name settings with their values, such as activation=relu,gelu")
  return settings


def _values(flag: str, name: str, text: str) -> Values:
  match = re.fullmatch(r"(\d+)\.\.(\d+)", text)
  if match:
    low, high = int(match[1]), int(match[2])
    if not low <= high < low + _MOST_TRIALS:
      raise UserError(
        f"{flag}: {name}={text} must go from the lower number to the higher, with at most "
        f"{_MOST_TRIALS:,} values"
      )
    return Values(name, tuple(map(str, range(low, high + 1))))
  texts = tuple(part.strip() for part in text.split("|" if "|" in text else ","))
  if not all(texts):
    raise UserError(f"{flag}: {name}={text} has an empty value")
  if re.search(r"[()]|\.\.", text):
    raise UserError(
      f"{flag}: {name}={text} can't be read: write values (a,b), integers (0..4) or, for "
      "--search, a range: log(1e-4,1e-2) or linear(0,0.5)"
    )
  return Values(name, texts)


def _range(name: str, text: str, scale: str, low_text: str, high_text: str) -> Range:
  kind = KINDS[name]
  if kind not in (int, float):
    raise UserError(f"--search: {name}={text} is a range, but {name} is not a number")
  try:
    low, high = kind(low_text), kind(high_text)
  except ValueError:
    noun = "integers" if kind is int else "numbers"
    raise UserError(f"--search: {name}={text} needs two {noun}") from None
  if not low < high:
    raise UserError(f"--search: {name}={text} must go from the lower number to the higher")
  if scale == "log" and low <= 0:
    raise UserError(f"--search: {name}={text}: a log scale must start above 0")
  return Range(name, low, high, log=scale == "log", is_integer=kind is int)
