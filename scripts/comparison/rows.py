"""The table of a comparison: its rows, and ratios of quantities."""

from typing import Any, NamedTuple

from mnist_research.benchmarks.report import write_ratio
from mnist_research.benchmarks.timing import ratios, spread


class Row(NamedTuple):
  """A line of the table.

  Attributes:
    work: what was done.
    against: the peer.
    text: the result, for people.
    record: the same, for programs.
  """

  work: str
  against: str
  text: str
  record: dict[str, Any]


def ratio_row(
  work: str, rounds: list[dict[str, float]], ours: str, theirs: str, against: str
) -> Row:
  """The row of one quantity over another, round by round."""
  pairs = ratios([r[ours] for r in rounds], [r[theirs] for r in rounds])
  medians = {key: spread([r[key] for r in rounds]).median for key in (ours, theirs)}
  what = "times the speed" if ours == "examples_per_second" else "of its time"
  text = f"{spread(pairs).text(write_ratio)} {what}"
  record = {"ratios": pairs, **spread(pairs).record("ratio"), **medians}
  return Row(work, against, text, record)
