"""Why a request is refused: one sentence of JSON for the client."""

import http

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse


class Refused(HTTPException):
  """A request that is not answered.

  Its `detail` is for people, and tells nothing of this machine.
  """

  def __init__(self, status: http.HTTPStatus, sentence: str, headers: dict[str, str] | None = None):
    super().__init__(status, sentence, headers)


def refusal_response(error: HTTPException) -> JSONResponse:
  """Makes the response to a refused request.

  The connection ends with it: what is left of the body is not read.
  """
  headers = {**(error.headers or {}), "Connection": "close"}
  return JSONResponse({"error": error.detail}, error.status_code, headers)


async def answer_refusal(request: Request, error: Exception) -> JSONResponse:
  """Starlette's handler of refusals: this package's own, and those of its router."""
  del request
  assert isinstance(error, HTTPException)
  if isinstance(error, Refused):
    return refusal_response(error)
  phrase = http.HTTPStatus(error.status_code).phrase
  return refusal_response(HTTPException(error.status_code, f"{phrase}.", error.headers))


async def answer_defect(request: Request, error: Exception) -> JSONResponse:
  """Starlette's handler of everything else, which it then raises for the log on stderr."""
  del request, error
  status = http.HTTPStatus.INTERNAL_SERVER_ERROR
  return refusal_response(Refused(status, "The page failed; its command says why on stderr."))
