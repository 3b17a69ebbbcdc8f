"""An answer as HTML: the digit, what the network saw, a bar for each probability."""

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from mnist_research import frames
from mnist_research.frames import Reading


def answer_html(reading: Reading | None, label_names: Sequence[str], note: str) -> str:
  """Returns what was read, or the same with nothing in it, and a note below."""
  if reading is None:
    label, probability, image, look = "?", "", "", "digit blank"
    probabilities = np.zeros(len(label_names))
  else:
    label, probability = html.escape(label_names[reading.label]), _percent(reading.probability)
    look = "digit" if len(label) == 1 else "word"
    image = f'<img src="{_data_url(reading.image)}" alt="What the network saw">'
    probabilities = reading.probabilities
  bars = "".join(
    f'<li class="{"best" if reading and index == reading.label else ""}">'
    f'<span>{html.escape(name)}</span><i><b style="width: {share:.1%}"></b></i>'
    f"<span>{_percent(share) if reading else ''}</span></li>"
    for index, (name, share) in enumerate(zip(label_names, probabilities, strict=True))
  )
  return (
    f'<div class="reading"><div><output class="{look}">{label}</output>'
    f"<p>{probability}</p></div>"
    f'<figure><div class="seen">{image}</div>'
    "<figcaption>28 by 28 pixels, as the network sees it</figcaption></figure></div>"
    f'<ol class="bars">{bars}</ol><p class="note">{html.escape(note)}</p>'
  )


def outline_svg(reading: Reading | None, picture: np.ndarray) -> str:
  """Returns a transparent sheet of the picture's size with the outline of the digit on it."""
  if reading is None:
    return ""
  height, width = picture.shape
  box = frames.outline(reading)
  return (
    f'<svg viewBox="0 0 {width} {height}"><rect x="{box.left}" y="{box.top}" width="{box.width}" '
    f'height="{box.height}" rx="{width / 80:.1f}"/></svg>'
  )


def _percent(share: float) -> str:
  return f"{share:.1%}"


def _data_url(image: np.ndarray) -> str:
  buffer = io.BytesIO()
  Image.fromarray(image).save(buffer, "PNG")
  return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
