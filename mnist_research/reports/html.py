"""HTML pages that hold all they show: pictures as data, one short script, nothing from elsewhere.

Every text is escaped here; what a function returns is HTML.
"""

import base64
import html
from pathlib import Path
from typing import NamedTuple

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --muted: #5f6b7a; --rule: #e3e7ec;
  --accent: #0072b2; --ground: #fff; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --muted: #a3adb9;
  --rule: #38424d; --accent: #5cb3e6; --ground: #14191f; } }
body { margin: 0 auto; padding: 3rem 1.5rem 5rem; max-width: 66rem; color: var(--ink);
  background: var(--ground); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI",
  "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; }
h1 { margin: 0; font-size: 2rem; line-height: 1.2; letter-spacing: -0.01em;
  overflow-wrap: anywhere; }
h2 { margin: 3.2rem 0 0.9rem; padding-top: 1.1rem; border-top: 1px solid var(--rule);
  font-size: 1.3rem; line-height: 1.3; }
p { margin: 0.6rem 0; max-width: 46rem; }
.lead { margin-top: 0.5rem; color: var(--muted); font-size: 1.08rem; overflow-wrap: anywhere; }
.note { color: var(--muted); font-size: 0.9rem; }
.tiles { display: grid; gap: 1.3rem 2.2rem; margin: 1.8rem 0 0; padding: 0;
  grid-template-columns: repeat(auto-fill, minmax(12rem, 1fr)); }
.tiles div { border-top: 3px solid var(--accent); padding-top: 0.45rem; }
.tiles dt { color: var(--muted); font-size: 0.85rem; }
.tiles dd { margin: 0; font-size: 1.5rem; font-weight: 650; line-height: 1.25;
  font-variant-numeric: tabular-nums; }
.tiles small { display: block; color: var(--muted); font-size: 0.8rem; font-weight: 400; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 0.8rem 0; font-size: 0.9rem; line-height: 1.35;
  font-variant-numeric: tabular-nums; }
th, td { padding: 0.38rem 1.4rem 0.38rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--rule); }
th:last-child, td:last-child { padding-right: 0; }
thead th { border-bottom: 1.5px solid var(--ink); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: inherit; overflow-wrap: anywhere; }
thead button { all: unset; cursor: pointer; }
thead button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
th.number, td.number { text-align: right; white-space: nowrap; }
td { overflow-wrap: anywhere; }
td:not(.number), tbody th { min-width: 5rem; }
tr.strong { font-weight: 650; }
figure { margin: 1.2rem 0; }
/* The pictures have a margin of their own: so their titles stand under the headings. */
img { display: block; max-width: calc(100% + 1.1rem); height: auto; margin-left: -1.1rem; }
@media screen and (prefers-color-scheme: dark) { img { max-width: 100%; margin-left: 0;
  border-radius: 6px; } }
figcaption { margin-top: 0.4rem; color: var(--muted); font-size: 0.9rem; max-width: 46rem; }
details { margin: 0.9rem 0; }
a { color: var(--accent); }
summary { cursor: pointer; color: var(--accent); }
code { font: 0.86em/1.5 ui-monospace, "SFMono-Regular", Menlo, Consolas, "DejaVu Sans Mono",
  monospace; overflow-wrap: anywhere; }
@page { size: A4; margin: 15mm; }
@media print { body { padding: 0; max-width: none; font-size: 10pt; } h2 { break-after: avoid; }
  figure, tr { break-inside: avoid; } .wide { overflow: visible; } th, td { padding-right: 0.7rem; }
  thead button::after { content: none !important; } }
"""

# Makes the heads of tables into buttons that sort: numbers by value, whatever their unit.
_SCRIPT = """
for (const head of document.querySelectorAll("thead th")) {
  if (!head.textContent) continue;
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const descending = head.getAttribute("aria-sort") !== "descending";
    const body = head.closest("table").tBodies[0];
    const value = (row) => row.cells[head.cellIndex].textContent.trim();
    const number = (text) => parseFloat(text.replaceAll(",", ""));
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      const [m, n] = [number(x), number(y)];
      if (isNaN(m) !== isNaN(n)) return isNaN(m) ? 1 : -1;
      const order = isNaN(m) ? x.localeCompare(y) : m - n;
      return descending ? -order : order;
    };
    body.append(...[...body.rows].sort(compare));
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
  });
}
"""


class Tile(NamedTuple):
  """A figure that stands at the head of a page: what it is, its value, and what to know of it."""

  name: str
  value: str
  note: str = ""


def page(title: str, lead: str, *parts: str) -> str:
  """Returns a whole page; `parts` are HTML."""
  heading, lead = html.escape(title), html.escape(lead)
  return (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f"<title>{heading}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
    f'<h1>{heading}</h1>\n<p class="lead">{lead}</p>\n'
    + "\n".join(parts)
    + f"\n</main>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"
  )


def section(heading: str, *parts: str) -> str:
  """Returns a part of the page with its own heading."""
  return f"<section>\n<h2>{html.escape(heading)}</h2>\n" + "\n".join(parts) + "\n</section>"


def tiles(*figures: Tile) -> str:
  """Returns the figures that matter most, side by side."""
  cells = "".join(
    f"<div><dt>{html.escape(tile.name)}</dt><dd>{html.escape(tile.value)}"
    + (f"<small>{html.escape(tile.note)}</small>" if tile.note else "")
    + "</dd></div>"
    for tile in figures
  )
  return f'<dl class="tiles">{cells}</dl>'


def paragraph(text: str) -> str:
  """Returns a paragraph."""
  return f"<p>{html.escape(text)}</p>"


def note(text: str) -> str:
  """Returns a paragraph that stays in the background."""
  return f'<p class="note">{html.escape(text)}</p>'


def link(target: str, text: str) -> str:
  """Returns a paragraph that leads to another page."""
  return f'<p><a href="{html.escape(target)}">{html.escape(text)}</a></p>'


def code(text: str) -> str:
  """Returns a command."""
  return f"<p><code>{html.escape(text)}</code></p>"


def folded(summary: str, *parts: str) -> str:
  """Returns what is shown on a click."""
  return f"<details><summary>{html.escape(summary)}</summary>\n" + "\n".join(parts) + "</details>"


def picture(png: Path, description: str, caption: str = "") -> str:
  """Returns a PNG as part of the page.

  Args:
    png: the file.
    description: for those who can't see it.
    caption: written below.
  """
  encoded = base64.b64encode(png.read_bytes()).decode()
  below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
  image = f'<img src="data:image/png;base64,{encoded}" alt="{html.escape(description)}">'
  return f"<figure>{image}{below}</figure>"
