"""The table of a comparison: its rows, and ratios of quantities."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mnist_research.benchmarks.report import write_ratio
from mnist_research.benchmarks.timing import ratios, spread

# The largest range, relative to the median: beyond it the machine was too noisy.
_WIDE = 0.3


class Row(NamedTuple):
  """A line of the table.

  Attributes:
    work: the name of the work.
    against: the peer.
    text: the result, for people.
    record: the result, for programs.
  """

  work: str
  against: str
  text: str
  record: dict[str, Any]


def is_wide(values: Sequence[float]) -> bool:
  """Whether the range of the values is more than 30% of their median."""
  measured = spread(values)
  return measured.highest - measured.lowest > _WIDE * measured.median


def ratio_text(pairs: Sequence[float], meaning: str) -> str:
  """Describes ratios in a line, and whether they are settled."""
  text = f"{spread(pairs).text(write_ratio)} {meaning}"
  return f"{text}; not settled: the spread is above 30%" if is_wide(pairs) else text


def ratio_row(
  work: str, rounds: list[dict[str, float]], ours: str, theirs: str, against: str
) -> Row:
  """Returns the row with the ratio of two quantities, round by round."""
  pairs = ratios([r[ours] for r in rounds], [r[theirs] for r in rounds])
  medians = {key: spread([r[key] for r in rounds]).median for key in (ours, theirs)}
  meaning = "times the speed" if ours == "examples_per_second" else "of its time"
  text = ratio_text(pairs, meaning)
  record = {"ratios": pairs, **spread(pairs).record("ratio"), **medians}
  return Row(work, against, text, record)
