"""Responses to refused requests: one sentence in JSON for the client."""

import http

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse


class Refused(HTTPException):
  """A request is refused.

  Its `detail` is a sentence for users and reveals nothing about this machine.
  """

  def __init__(self, status: http.HTTPStatus, sentence: str, headers: dict[str, str] | None = None):
    super().__init__(status, sentence, headers)


def refusal_response(error: HTTPException) -> JSONResponse:
  """Creates the response to a refused request.

  It closes the connection, because the rest of the body isn't read.
  """
  headers = {**(error.headers or {}), "Connection": "close"}
  return JSONResponse({"error": error.detail}, error.status_code, headers)


async def answer_refusal(request: Request, error: Exception) -> JSONResponse:
  """Handles refusals for Starlette: those of this package and those of its router."""
  del request
  assert isinstance(error, HTTPException)
  if isinstance(error, Refused):
    return refusal_response(error)
  phrase = http.HTTPStatus(error.status_code).phrase
  return refusal_response(HTTPException(error.status_code, f"{phrase}.", error.headers))


async def answer_error(request: Request, error: Exception) -> JSONResponse:
  """Handles all other exceptions for Starlette, which then raises them for the log on stderr."""
  del request, error
  status = http.HTTPStatus.INTERNAL_SERVER_ERROR
  return refusal_response(Refused(status, "The page failed; see stderr of its command."))
