"""The result of a check."""

import dataclasses
from typing import Any

OK, WARNING, PROBLEM = "ok", "warning", "problem"


@dataclasses.dataclass(frozen=True)
class Finding:
  """The result of a check.

  Attributes:
    level: `ok`, `warning` (training runs, with a limitation) or `problem` (training can't run).
    subject: what was checked.
    text: the result, in one line.
    commands: shell commands that fix it.
    facts: the result for programs.
  """

  level: str
  subject: str
  text: str
  commands: tuple[str, ...] = ()
  facts: dict[str, Any] = dataclasses.field(default_factory=dict)

  def __str__(self) -> str:
    return f"{self.level:>7}: {self.subject}: {self.text}"
