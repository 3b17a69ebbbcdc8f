"""Charts as SVG in a page: sharp at any size, with the page's colors and fonts."""

import io
import re

import matplotlib
from matplotlib.figure import Figure

# The CSS variables for the charts' colors, which differ between light and dark pages.
VARIABLES = {
  "#ffffff": "ground",
  "#1f2933": "ink",
  "#5f6b7a": "muted",
  "#e3e7ec": "rule",
  "#0072b2": "blue",
  "#d55e00": "vermilion",
  "#007f5f": "green",
  "#b5568f": "purple",
  "#c98500": "ocher",
  "#3aa0d8": "sky",
  "#6b4c9a": "violet",
  "#7a5230": "brown",
  "#a9b2bd": "others",
}
# Makes the text slightly smaller than the page's.
_REM_PER_POINT = 0.081
_OMITTED = re.compile(
  r"<!--.*?-->|<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL
)
_COLOR = re.compile(r"(?<=: )#[0-9a-f]{6}\b")


def to_svg(figure: Figure, prefix: str, description: str) -> str:
  """Returns a figure as an HTML `svg` element, with CSS variables as colors.

  Args:
    figure: a figure of lines, bars and texts; equal figures give equal elements.
    prefix: the prefix of every id, unique within the page.
    description: a description for screen readers.
  """
  buffer = io.StringIO()
  with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
    figure.savefig(buffer, format="svg", metadata={"Date": None})
  drawing = _OMITTED.sub("", buffer.getvalue().partition("<svg")[2])
  head, _, content = drawing.partition(">")
  box = re.search(r'viewBox="0 0 ([\d.]+) [\d.]+"', head)
  assert box is not None, "matplotlib writes one, in points"
  width = float(box[1]) * _REM_PER_POINT
  content = _with_prefixed_ids(content.replace("xlink:href", "href"), prefix)
  content = _COLOR.sub(lambda match: _variable(match[0]), content)
  label = description.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
  start = f'<svg {box[0]} style="width: {width:.1f}rem" role="img" aria-label="{label}">'
  return start + content.strip()


def _variable(color: str) -> str:
  return f"var(--{VARIABLES[color]})" if color in VARIABLES else color


def _with_prefixed_ids(content: str, prefix: str) -> str:
  """Removes unused ids, and adds the prefix to the others."""
  used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', content))
  used = {first or second for first, second in used}
  content = re.sub(
    r' id="([^"]*)"',
    lambda match: f' id="{prefix}-{match[1]}"' if match[1] in used else "",
    content,
  )
  return re.sub(r'(url\(#|href="#)', rf"\1{prefix}-", content)
