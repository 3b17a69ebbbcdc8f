"""The files of a report: its directory, its page, and the pictures in it."""

from pathlib import Path

from mnist_research import figures
from mnist_research.reports import html
from mnist_research.reports.runs import REPORT_NAME
from mnist_research.runtime.errors import writing
from mnist_research.runtime.files import write_atomically


def make_directory(directory: Path) -> None:
  """Creates the directory of a report if it is missing.

  Raises:
    UserError: it can't be created.
  """
  with writing(directory):
    directory.mkdir(parents=True, exist_ok=True)


def write_page(directory: Path, content: str) -> Path:
  """Writes the page of a report, complete HTML, and returns its path.

  Raises:
    UserError: it can't be written.
  """
  path = directory / REPORT_NAME
  write_atomically(path, content)
  return path


def drawn(figure: figures.Figure, path: Path, description: str) -> str:
  """Saves a picture as PNG, and returns it as HTML for a page.

  Args:
    figure: the picture.
    path: the file to write.
    description: a description for screen readers.

  Raises:
    UserError: the file can't be written.
  """
  _save(figure, path)
  return html.picture(path, description, _tooltips(figure))


def charted(figure: figures.Figure, path: Path, description: str) -> str:
  """Saves a chart of lines and bars as PNG, and returns it as SVG in the page's colors.

  Takes the arguments of `drawn`, and raises the same errors.
  """
  _save(figure, path)
  return html.chart(figures.to_svg(figure, path.stem, description), _tooltips(figure))


def _save(figure: figures.Figure, path: Path) -> None:
  with writing(path):
    figures.save(figure, path)


def _tooltips(figure: figures.Figure) -> list[tuple[float, float, str]]:
  if not isinstance(figure, figures.Picture):
    return []
  return [(round(x, 4), round(y, 4), text) for x, y, text in figure.tooltips()]
