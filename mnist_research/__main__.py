"""Lists the commands: `python -m mnist_research`."""

import ast
import shutil
import sys
import textwrap
from pathlib import Path

from mnist_research import __version__
from mnist_research.runtime import app
from mnist_research.runtime.errors import UserError, did_you_mean

COMMANDS = (
  "train", "evaluate", "predict", "report", "sweep", "benchmark", "export", "demo", "camera",
  "doctor",
)  # fmt: skip
_NARROWEST, _WIDEST = 60, 100


def summary(command: str) -> str:
  """Returns the first line of a command's help, without importing it."""
  source = Path(__file__).with_name(f"{command}.py").read_text(encoding="utf-8")
  return (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]


def listing() -> str:
  """Returns the commands, with what each does, and how to run one."""
  width = max(_NARROWEST, shutil.get_terminal_size((_WIDEST, 0)).columns)
  lines = []
  for name in COMMANDS:
    usage = f"  python -m mnist_research.{name:<10} "
    lines.append(
      textwrap.fill(summary(name), width, initial_indent=usage, subsequent_indent=" " * len(usage))
    )
  return "\n".join(
    [
      f"mnist_research {__version__} trains and uses models that read handwritten digits.",
      "",
      *lines,
      "",
      "--help lists the flags of each: python -m mnist_research.train --help",
    ]
  )


def main(arguments: list[str]) -> None:
  """Prints the list of commands; raises UserError for other arguments."""
  requested = arguments[0] if arguments else "--help"
  if requested == "--version":
    print(__version__, flush=True)
  elif requested in ("-h", "--help"):
    print(listing(), flush=True)
  elif requested in COMMANDS:
    raise UserError(
      f"{requested!r} is a separate command: write python -m mnist_research.{requested} ..."
    )
  else:
    hint = did_you_mean(requested, COMMANDS) or ";"
    raise UserError(f"there is no command {requested!r}{hint} python -m mnist_research lists them")


if __name__ == "__main__":
  sys.exit(app.exit_code(lambda: main(sys.argv[1:])))
