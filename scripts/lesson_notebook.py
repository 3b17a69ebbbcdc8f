"""Writes notebooks/first_lesson.ipynb from docs/first_lesson.md, which is the source.

python scripts/lesson_notebook.py

The first cell, which installs the package if needed, is that of notebooks/quickstart.ipynb.
"""

import json
import re
from pathlib import Path
from typing import Any

from mnist_research.runtime import app

_REPOSITORY = Path(__file__).parents[1]
PAGE = _REPOSITORY / "docs" / "first_lesson.md"
QUICKSTART = _REPOSITORY / "notebooks" / "quickstart.ipynb"
NOTEBOOK = _REPOSITORY / "notebooks" / "first_lesson.ipynb"


def main(_: object, arguments: list[str]) -> None:
  """Writes the notebook."""
  app.refuse_arguments(arguments)
  NOTEBOOK.write_text(to_notebook(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def install_cell() -> str:
  """Returns the source of the cell that installs the package."""
  cells = json.loads(QUICKSTART.read_text(encoding="utf-8"))["cells"]
  return "".join(next(cell for cell in cells if cell["id"] == "install")["source"])


def to_notebook(page: str) -> str:
  """Returns the JSON of a notebook: a code cell for each block of Python, the rest as Markdown.

  The install cell comes after the first part.
  """
  introduction, sections = page.split("\n## ", 1)
  page = f"{introduction}\n```python\n{install_cell()}\n```\n\n## {sections}"
  parts = re.split(r"```python\n(.*?)```\n?", page, flags=re.DOTALL)
  cells: list[dict[str, Any]] = []
  for number, part in enumerate(parts):
    text = part.strip("\n")
    cell: dict[str, Any] = {
      "id": f"cell-{number}",
      "metadata": {},
      "source": text.splitlines(keepends=True),
    }
    # `split` alternates between text outside and inside code blocks.
    if number % 2:
      cells.append({"cell_type": "code", "execution_count": None, "outputs": [], **cell})
    elif text:
      cells.append({"cell_type": "markdown", **cell})
  kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
  notebook = {
    "cells": cells,
    "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
    "nbformat": 4,
    "nbformat_minor": 5,
  }
  return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
  app.run(main)
