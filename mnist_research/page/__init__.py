"""The page on which a person draws, shows or uploads a digit and sees it read.

Gradio serves it to this machine alone, and nothing on it comes from another one. The sheet and the
camera are this package's own: docs/design.md says why.
"""

import base64
import html
import io
import socket
import time
from pathlib import Path
from types import FrameType
from typing import Any

import fastapi
import gradio as gr
import uvicorn

from mnist_research import frames, images
from mnist_research.errors import Interrupted, UserError
from mnist_research.page.answer import answer_html, outline_svg
from mnist_research.recognition import Recognizer

# A photograph of 50 megapixels, the most that are read, has some 20 megabytes.
_MAX_FILE_SIZE = "20mb"
# What the browser may load: nothing from elsewhere, whatever Gradio's own files ask for.
_POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
# One that comes with Gradio. Of weight 600, its themes' choice, the file there lacks most letters.
_FONT = gr.themes.LocalFont("Source Sans Pro", weights=(400, 700))
_FILES = Path(__file__).parent

_DRAW_HINT = "Draw a digit on the sheet."
_CAMERA_HINT = "Start the camera and hold a digit in front of it."
_UPLOAD_HINT = "Drop a picture of a digit, choose a file, or paste one."


def create(recognizer: Recognizer, description: str) -> gr.Blocks:
  """Makes the page.

  Args:
    recognizer: the network that reads.
    description: what it is, in a line of text.
  """

  def read_drawing(drawing: str | None) -> str:
    return _read(recognizer, _decoded(drawing), _DRAW_HINT)[0]

  def read_frame(frame: str | None) -> tuple[str, gr.HTML]:
    answer, outline = _read(recognizer, _decoded(frame), _CAMERA_HINT)
    return answer, gr.HTML(outline=outline)

  def read_upload(upload: dict[str, Any] | None) -> str:
    return _read(recognizer, upload["path"] if upload else None, _UPLOAD_HINT)[0]

  def blank(hint: str) -> gr.HTML:
    return _text(answer_html(None, recognizer.label_names, hint), "answer")

  # A direct answer each, to the newest value there is: what came meanwhile is passed over.
  options: dict[str, Any] = {
    "show_progress": "hidden",
    "trigger_mode": "always_last",
    "queue": False,
    "api_visibility": "private",
  }
  with gr.Blocks(title="Which digit is it?", analytics_enabled=False) as page:
    _text(f"<h1>Which digit is it?</h1><p>{html.escape(description)}</p>", "header")
    with gr.Tab("Draw"), gr.Row():
      sketch, answer = _component("sketch"), blank(_DRAW_HINT)
      sketch.input(read_drawing, sketch, answer, **options)
    with gr.Tab("Camera"), gr.Row():
      camera, answer = _component("camera", outline=""), blank(_CAMERA_HINT)
      camera.input(read_frame, camera, [answer, camera], **options)
    with gr.Tab("Upload"), gr.Row():
      upload = gr.Image(
        sources=["upload", "clipboard"], buttons=[], show_label=False, elem_id="upload"
      )
      answer = blank(_UPLOAD_HINT)
      # The file itself is read, as `predict` reads it, not what Gradio would make of it.
      upload.change(read_upload, upload, answer, preprocess=False, **options)
  return page


def _read(recognizer: Recognizer, file: str | io.BytesIO | None, hint: str) -> tuple[str, str]:
  """Returns the answer to a picture, or the hint where there is none, and the digit's outline."""
  names = recognizer.label_names
  if file is None:
    return answer_html(None, names, hint), ""
  try:
    picture = images.read(file)
  except UserError as error:
    # The directory that an upload was put in says nothing to the user.
    problem = str(error).replace(f"{Path(str(file)).parent}/", "")
    return answer_html(None, names, f"{problem}."), ""
  start = time.perf_counter()
  reading = frames.read_digit(recognizer, picture)
  milliseconds = 1000 * (time.perf_counter() - start)
  if reading is None:
    note = "There is no digit yet."
  elif reading.num_digits > 1:
    note = f"There are {reading.num_digits} digits; the tallest is read."
  else:
    note = f"Found, prepared and read in {milliseconds:.0f} ms."
  return answer_html(reading, names, note), outline_svg(reading, picture)


def _component(name: str, **properties: Any) -> gr.HTML:
  """Makes a component of this package's own: `<name>.html`, made alive by `<name>.js`."""
  return gr.HTML(
    None,
    html_template=(_FILES / f"{name}.html").read_text(encoding="utf-8"),
    js_on_load=(_FILES / f"{name}.js").read_text(encoding="utf-8"),
    apply_default_css=False,
    elem_id=name,
    **properties,
  )


def _text(content: str, name: str) -> gr.HTML:
  return gr.HTML(content, js_on_load=None, apply_default_css=False, elem_classes=name)


def _decoded(data_url: str | None) -> io.BytesIO | None:
  return io.BytesIO(base64.b64decode(data_url.partition(",")[2])) if data_url else None


def serve(page: gr.Blocks, listener: socket.socket) -> None:
  """Serves the page until a signal comes.

  Args:
    page: as `create` makes it.
    listener: a socket that listens on this machine.

  Raises:
    Interrupted: a signal came.
  """
  host, port = listener.getsockname()
  app = gr.mount_gradio_app(
    fastapi.FastAPI(),
    page,
    path="/",
    server_name=host,
    server_port=port,
    footer_links=[],
    run_history=False,
    max_file_size=_MAX_FILE_SIZE,
    ssr_mode=False,
    enable_monitoring=False,
    pwa=False,
    mcp_server=False,
    theme=gr.themes.Default(font=[_FONT, "sans-serif"]),
    css_paths=[_FILES / "style.css"],
  )
  settings = uvicorn.Config(
    app,
    log_level="warning",
    headers=[("Content-Security-Policy", _POLICY)],
    timeout_graceful_shutdown=1,
  )
  server = _Server(settings, app.routes[-1].app)
  server.run(sockets=[listener])
  if server.received is not None:
    raise Interrupted(server.received)


class _Server(uvicorn.Server):
  """A server that, told to stop, ends the streams that pages keep open.

  Attributes:
    received: the number of the signal, or None.
  """

  def __init__(self, settings: uvicorn.Config, mounted: gr.routes.App):
    super().__init__(settings)
    self._mounted = mounted
    self.received: int | None = None

  def handle_exit(self, sig: int, frame: FrameType | None) -> None:
    """Answers a signal. (Uvicorn's own way raises it again, which would pass for a second one.)"""
    del frame
    self._mounted.stop_event.set()
    self.received = sig
    self.should_exit = True
