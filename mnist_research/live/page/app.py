"""The routes of the page: the page itself, its scripts and style, and reading a picture."""

import asyncio
import functools
import html
import string
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mnist_research.inference.recognizer import Recognizer
from mnist_research.live.page.answer import read_picture
from mnist_research.live.page.guard import Limits
from mnist_research.live.page.refusals import Refused, answer_error, answer_refusal
from mnist_research.runtime.errors import UserError

_STATIC = Path(__file__).parent / "static"
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript"}


def create(recognizer: Recognizer, description: str, limits: Limits) -> Starlette:
  """Creates the application, which must be served behind a `Guard`.

  Args:
    recognizer: the model.
    description: one line of text about the model.
    limits: the limits to show to the user.
  """
  page = _page(recognizer.label_names, description, limits).encode()
  routes = [Route("/", _file(page, "text/html"), methods=["GET"])]
  for path in sorted(_STATIC.iterdir()):
    if media_type := _MEDIA_TYPES.get(path.suffix):
      endpoint = _file(path.read_bytes(), media_type)
      routes.append(Route(f"/{path.name}", endpoint, methods=["GET"]))
  routes.append(Route("/read", _Reading(recognizer).answer, methods=["POST"]))
  handlers = {HTTPException: answer_refusal, Exception: answer_error}
  app = Starlette(routes=routes, exception_handlers=handlers)
  # Paths must match exactly.
  app.router.redirect_slashes = False
  return app


class _Reading:
  """The route that reads pictures, one at a time because a large one takes a gigabyte of memory."""

  def __init__(self, recognizer: Recognizer):
    self._recognizer = recognizer
    self._turn = asyncio.Lock()

  async def answer(self, request: Request) -> Response:
    """Reads the picture in the request's body."""
    _check_type(request)
    file = await request.body()
    if not file:
      raise Refused(HTTPStatus.BAD_REQUEST, "The request has no picture.")
    try:
      async with self._turn:
        reading = functools.partial(
          read_picture, self._recognizer, file, why=request.url.query == "why"
        )
        return JSONResponse(await asyncio.to_thread(reading))
    except UserError as error:
      problem = str(error).removeprefix("the picture")
      raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, f"The file{problem}.") from error


def _check_type(request: Request) -> None:
  """Refuses content types other than pictures, such as forms, which any site can send."""
  media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
  if not media_type.startswith("image/") and media_type != "application/octet-stream":
    sentence = "Send a picture as image/png, for example, or as application/octet-stream."
    raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, sentence)


def _file(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
  async def answer(request: Request) -> Response:
    del request
    return Response(content, media_type=media_type)

  return answer


def _page(label_names: Sequence[str], description: str, limits: Limits) -> str:
  template = string.Template((_STATIC / "page.html").read_text(encoding="utf-8"))
  return template.substitute(
    description=html.escape(description),
    bars="".join(map(_bar, label_names)),
    max_bytes=limits.body,
  )


def _bar(name: str) -> str:
  return f"<li><span>{html.escape(name)}</span><i><b></b></i><span></span></li>"
