"""The result of a benchmark: an object for programs, and a table with a verdict for people."""

from collections.abc import Sequence
from typing import Any, NamedTuple

Rows = list[tuple[str, str]]


class Report(NamedTuple):
  """The result of a benchmark.

  Attributes:
    record: the numbers for programs, in seconds, bytes and their quotients.
    rows: names and values with units, for people.
    notes: sentences about what was timed and what wasn't.
    verdict: the conclusion, in one sentence.
  """

  record: dict[str, Any]
  rows: Rows
  notes: Sequence[str] = ()
  verdict: str = ""

  @classmethod
  def joined(cls, reports: "Sequence[Report]") -> "Report":
    """Merges several reports into one."""
    record: dict[str, Any] = {}
    for report in reports:
      record |= report.record
    rows = [row for report in reports for row in report.rows]
    notes = [note for report in reports for note in report.notes]
    return cls(record, rows, notes, " ".join(r.verdict for r in reports if r.verdict))

  def text(self) -> str:
    """Returns the table, the notes below it, and the verdict."""
    width = max(len(name) for name, _ in self.rows)
    rows = [f"{name:<{width}}  {value}" for name, value in self.rows]
    return "\n".join([*rows, *self.notes, *filter(None, [self.verdict])])


def write_rate(value: float) -> str:
  """Formats a rate, in examples per second."""
  return f"{value:,.0f}"


def write_seconds(value: float) -> str:
  """Formats seconds in a suitable unit."""
  for factor, unit in ((1, "s"), (1e3, "ms")):
    if value * factor >= 1:
      return f"{value * factor:.3g} {unit}"
  return f"{value * 1e6:.3g} us"


def write_flops(value: float) -> str:
  """Formats floating-point operations per second."""
  return f"{value / 1e9:,.1f} GFLOP/s"


def write_share(value: float) -> str:
  """Formats a share in percent."""
  return f"{100 * value:.1f}%"


def write_ratio(value: float) -> str:
  """Formats a ratio."""
  return f"{value:.2f}"


def write_bytes(value: float) -> str:
  """Formats bytes in MiB."""
  return f"{value / 2**20:,.1f} MiB"
