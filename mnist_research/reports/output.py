"""The files of a report: its directory, its page, and the pictures in it."""

from pathlib import Path

from mnist_research import figures
from mnist_research.reports import html
from mnist_research.reports.runs import REPORT_NAME
from mnist_research.runtime.errors import writing
from mnist_research.runtime.files import write_atomically


def make_directory(directory: Path) -> None:
  """Makes the directory of a report where it is missing.

  Raises:
    UserError: it can't be made.
  """
  with writing(directory):
    directory.mkdir(parents=True, exist_ok=True)


def write_page(directory: Path, content: str) -> Path:
  """Writes the page of a report, whole HTML, and returns its path.

  Raises:
    UserError: it can't be written.
  """
  path = directory / REPORT_NAME
  write_atomically(path, content)
  return path


def drawn(figure: figures.Figure, path: Path, description: str) -> str:
  """Saves a picture as PNG, and returns it as a part of a page.

  Args:
    figure: the picture.
    path: the file to write.
    description: for those who can't see it.

  Raises:
    UserError: the file can't be written.
  """
  with writing(path):
    figures.save(figure, path)
  return html.picture(path, description)
