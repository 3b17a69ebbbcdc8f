"""Writes tables as HTML, Markdown and CSV."""

import csv
import html
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from mnist_research.runtime.files import write_atomically

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|-?(inf|nan)")
# The places where a narrow page may break names such as learning_rate=0.003.
_BREAKS = re.compile(r"([=_,/])(?=\S)")


class Table(NamedTuple):
  """A table of texts.

  Attributes:
    header: the name of each column; no header if all are empty.
    rows: a text for each column.
    texts: the number of columns, from the left, that contain words; the rest contain numbers.
    strong: the rows to highlight.
    last_texts: the number of columns, from the right, that also contain words.
    links: link targets for texts in the first column, on a page.
  """

  header: Sequence[str]
  rows: Sequence[Sequence[str]]
  texts: int
  strong: frozenset[int] = frozenset()
  last_texts: int = 0
  links: Mapping[str, str] = MappingProxyType({})

  def to_markdown(self) -> str:
    """Returns the table as Markdown, with columns aligned in the source."""
    cells = [[cell.replace("|", r"\|") for cell in row] for row in [self.header, *self.rows]]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    rules = [
      "-" * width if self._is_text(column) else "-" * (width - 1) + ":"
      for column, width in enumerate(widths)
    ]
    lines = [cells[0], rules, *cells[1:]]
    return "".join(f"| {' | '.join(self._aligned(line, widths))} |\n" for line in lines)

  def fitting(self, columns: int | None) -> "Table":
    """Drops as many of the last columns as necessary for the Markdown to fit.

    Args:
      columns: the width to fit; None for no limit. The words and the first number always stay.
    """
    table = self
    while columns and len(table.header) > self.texts + 1 and columns < table._width():
      table = table._replace(
        header=table.header[:-1], rows=[row[:-1] for row in table.rows],
        last_texts=max(0, table.last_texts - 1),
      )  # fmt: skip
    return table

  def _width(self) -> int:
    return len(self.to_markdown().partition("\n")[0])

  def _aligned(self, line: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
      cell.ljust(width) if self._is_text(column) else cell.rjust(width)
      for column, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]

  def _is_text(self, column: int) -> bool:
    return column < self.texts or column >= len(self.header) - self.last_texts

  def to_html(self) -> str:
    """Returns the table as HTML."""
    head = "".join(
      self._cell('th scope="col"', column, text) for column, text in enumerate(self.header)
    )
    head = f"<thead><tr>{head}</tr></thead>" if any(self.header) else ""
    body = ""
    for number, row in enumerate(self.rows):
      cells = "".join(
        self._cell("td" if column else 'th scope="row"', column, text)
        for column, text in enumerate(row)
      )
      body += f'<tr class="strong">{cells}</tr>' if number in self.strong else f"<tr>{cells}</tr>"
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'

  def _cell(self, tag: str, column: int, text: str) -> str:
    kind = "" if self._is_text(column) else ' class="number"'
    shown, target = html.escape(text), self.links.get(text) if column == 0 else None
    if self._is_text(column):
      shown = _BREAKS.sub(r"\1<wbr>", shown)
    if target:
      shown = f'<a href="{html.escape(target)}">{shown}</a>'
    return f"<{tag}{kind}>{shown}</{tag[:2]}>"


def settings_table(texts: Mapping[str, str]) -> Table:
  """Returns a table of settings, given as texts of their flags."""
  return Table(["", ""], [[name, text or "(empty)"] for name, text in texts.items()], 2)


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
  """Writes rows of any values as CSV; None becomes an empty cell.

  Text that a spreadsheet would interpret as a formula gets a leading apostrophe, which marks it as
  text; numbers stay numbers.

  Raises:
    UserError: the file can't be written.
  """
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerows([map(_as_text, row) for row in (header, *rows)])
  write_atomically(path, text.getvalue())


def _as_text(cell: Any) -> Any:
  if not isinstance(cell, str) or _NUMBER.fullmatch(cell):
    return cell
  mark = "'" if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else ""
  return mark + cell.replace("\r", " ")  # Python's writer doesn't quote \r.
