"""Self-contained HTML pages: pictures as data URLs, two short scripts, no external resources.

All text is escaped here; functions return HTML.
"""

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --muted: #5f6b7a; --rule: #e3e7ec;
  --accent: #0072b2; --ground: #fff; --blue: #0072b2; --vermilion: #d55e00; --green: #007f5f;
  --purple: #b5568f; --ocher: #c98500; --sky: #3aa0d8; --violet: #6b4c9a; --brown: #7a5230;
  --others: #a9b2bd; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --muted: #a3adb9;
  --rule: #38424d; --accent: #5cb3e6; --ground: #14191f; --blue: #4aa8e8; --vermilion: #ff8a45;
  --green: #3fc29b; --purple: #e08cc0; --ocher: #e8b83a; --sky: #a9dbf7; --violet: #b199e8;
  --brown: #cda06f; --others: #67717d; } }
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
th, td { padding: 0.38rem 1.05rem 0.38rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--rule); }
table:has(th:nth-child(11)) :is(th, td) { padding-right: 0.65rem; }
th:last-child, td:last-child { padding-right: 0 !important; }
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
figure > div { position: relative; width: fit-content; max-width: 100%; }
/* The pictures have a margin; this aligns their titles with the headings. */
img, svg { display: block; max-width: calc(100% + 1.1rem); height: auto; margin-left: -1.1rem; }
figure > div > img, figure > div > svg { max-width: 100%; margin-left: 0; }
figure:has(> div) { margin-left: -1.1rem; margin-right: -1.1rem; overflow-x: auto; }
figure:has(svg) { margin-left: -0.87rem; }
svg * { stroke-linejoin: round; }
svg text { font-family: inherit !important; }
/* On a phone a chart scrolls, because it would be unreadable if scaled down. */
@media screen and (max-width: 40rem) { figure > div { max-width: none; }
  figure > div > img, figure > div > svg { max-width: none; width: 38rem !important; } }
figure i { position: absolute; width: 11px; height: 11px; margin: -5.5px; border-radius: 50%;
  border: 2px solid var(--ink); pointer-events: none; }
figure output { position: absolute; padding: 0.15rem 0.5rem; border-radius: 5px;
  color: var(--ground); background: var(--ink); font-size: 0.85rem; white-space: nowrap;
  pointer-events: none; }
figure:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
@media screen and (prefers-color-scheme: dark) { img { max-width: 100%; margin-left: 0;
  border-radius: 6px; } }
details { margin: 0.9rem 0; }
a { color: var(--accent); }
summary { cursor: pointer; color: var(--accent); }
code { font: 0.86em/1.5 ui-monospace, "SFMono-Regular", Menlo, Consolas, "DejaVu Sans Mono",
  monospace; overflow-wrap: anywhere; }
@page { size: A4; margin: 15mm; }
@media print { body { padding: 0; max-width: none; font-size: 10pt; } h2 { break-after: avoid; }
  figure, tr { break-inside: avoid; } .wide { overflow: visible; } th, td { padding-right: 0.5rem; }
  table:has(th:nth-child(9)) { font-size: 7pt; }
  table:has(th:nth-child(9)) :is(th, td) { padding-right: 0.35rem; }
  /* Paper can't scroll, and cuts off what is in its margin. */
  figure, figure:has(svg), figure:has(> div) { margin-left: 0; margin-right: 0; overflow: visible; }
  img, svg { max-width: 100%; margin-left: 0; } td:not(.number), tbody th { min-width: 3rem; }
  th.number { white-space: normal; }
  thead button::after { content: none !important; } }
"""

# Turns table headers into buttons that sort; numbers sort by value.
_SORT_SCRIPT = """
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

# Shows the value of the point nearest to the pointer, or of the one chosen with arrow keys.
_VALUES_SCRIPT = """
for (const figure of document.querySelectorAll("[data-points]")) {
  const points = JSON.parse(figure.dataset.points);
  const sheet = figure.firstElementChild;
  const [dot, tip] = sheet.querySelectorAll("i, output");
  let shown = -1;
  const show = (index) => {
    shown = index;
    dot.hidden = tip.hidden = index < 0;
    if (index < 0) return;
    const [x, y, text] = points[index];
    if (tip.textContent !== text) tip.textContent = text;
    const { width, height } = sheet.getBoundingClientRect();
    const [left, top] = [x * width, y * height];
    Object.assign(dot.style, { left: `${left}px`, top: `${top}px` });
    const room = width - tip.offsetWidth;
    const above = top - tip.offsetHeight - 12;
    tip.style.left = `${Math.max(0, Math.min(left - tip.offsetWidth / 2, room))}px`;
    tip.style.top = `${above < 0 ? top + 12 : above}px`;
  };
  const nearest = ({ clientX, clientY }) => {
    const box = sheet.getBoundingClientRect();
    let [index, least] = [-1, 40];
    points.forEach(([x, y], other) => {
      const across = box.left + x * box.width - clientX;
      const distance = Math.hypot(across, box.top + y * box.height - clientY);
      if (distance < least) [index, least] = [other, distance];
    });
    return index;
  };
  for (const kind of ["pointermove", "pointerdown"])
    figure.addEventListener(kind, (event) => show(nearest(event)));
  for (const kind of ["pointerleave", "blur"]) figure.addEventListener(kind, () => show(-1));
  figure.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") show(-1);
    if (!step) return;
    event.preventDefault();
    show(Math.max(0, Math.min(shown + step, points.length - 1)));
  });
}
"""


# Points in a picture with their texts, as fractions of its width and height from the upper left.
Points = Sequence[tuple[float, float, str]]


class Tile(NamedTuple):
  """A key figure at the top of a page: its name, its value, and a note."""

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
    + f"\n</main>\n<script>{_SORT_SCRIPT}{_VALUES_SCRIPT}</script>\n</body>\n</html>\n"
  )


def section(heading: str, *parts: str) -> str:
  """Returns a section with a heading."""
  return f"<section>\n<h2>{html.escape(heading)}</h2>\n" + "\n".join(parts) + "\n</section>"


def tiles(*figures: Tile) -> str:
  """Returns the key figures, side by side."""
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
  """Returns a paragraph in a muted color."""
  return f'<p class="note">{html.escape(text)}</p>'


def link(target: str, text: str) -> str:
  """Returns a paragraph with a link to another page."""
  return f'<p><a href="{html.escape(target)}">{html.escape(text)}</a></p>'


def code(text: str) -> str:
  """Returns a command."""
  return f"<p><code>{html.escape(text)}</code></p>"


def folded(summary: str, *parts: str) -> str:
  """Returns a part that a click unfolds."""
  return f"<details><summary>{html.escape(summary)}</summary>\n" + "\n".join(parts) + "</details>"


def picture(png: Path, description: str, points: Points = ()) -> str:
  """Returns a PNG embedded in the page.

  Args:
    png: the file.
    description: a description for screen readers.
    points: its tooltips.
  """
  encoded = base64.b64encode(png.read_bytes()).decode()
  image = f'<img src="data:image/png;base64,{encoded}" alt="{html.escape(description)}">'
  return _figure(image, points)


def chart(svg: str, points: Points = ()) -> str:
  """Returns a chart embedded in the page; `svg` is the element, `points` are its tooltips."""
  return _figure(svg, points)


def _figure(shown: str, points: Points) -> str:
  if not points:
    return f"<figure>{shown}</figure>"
  # Focusable, so that keys can scroll and explore it.
  encoded = html.escape(json.dumps(points, separators=(",", ":")))
  return (
    '<figure tabindex="0" aria-label="Chart: arrow keys step through its values" '
    f'data-points="{encoded}"><div>{shown}<i hidden></i><output hidden></output></div></figure>'
  )
