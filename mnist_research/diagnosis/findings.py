"""What a check found."""

import dataclasses
from typing import Any

OK, WARNING, PROBLEM = "ok", "warning", "problem"


@dataclasses.dataclass(frozen=True)
class Finding:
  """What a check found.

  Attributes:
    level: `ok`; `warning`: training runs, but not as it could; `problem`: it can't run.
    subject: what was looked at.
    text: what it is like, in one line.
    commands: what to do about it, as typed in a shell.
    facts: what programs read of it.
  """

  level: str
  subject: str
  text: str
  commands: tuple[str, ...] = ()
  facts: dict[str, Any] = dataclasses.field(default_factory=dict)

  def __str__(self) -> str:
    return f"{self.level:>7}: {self.subject}: {self.text}"
