"""Tests of the page's answers and errors, with a request for each attack."""

import asyncio
import base64
import contextlib
import http.client
import io
import json
import os
import signal
import socket
import threading
import time
import types
from pathlib import Path

import commands
import numpy as np
import pytest
import served_page
from PIL import Image, ImageDraw
from served_page import draw_seven, encoded

from mnist_research import images
from mnist_research.inference.recognizer import Outputs
from mnist_research.live.page import guard
from mnist_research.live.page.address import LOCAL, Address, address_of, family_of
from mnist_research.live.page.answer import read_picture
from mnist_research.live.page.app import create
from mnist_research.live.page.guard import Guard, Limits

_MEGABYTE = 1_000_000
_FORM = (
  b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n'
  b"Content-Type: image/png\r\n\r\n\x89PNG\r\n--x--\r\n"
)


@pytest.fixture(scope="module")
def served():
  with served_page.running() as served:
    yield served


def _assert_reported(response, status):
  """Asserts that an error is one sentence, which reveals nothing about this machine."""
  assert response.status == status
  assert [*response.json] == ["error"]
  sentence = response.json["error"]
  assert sentence[0].isupper()
  assert sentence.endswith(".")
  assert not any(word in sentence for word in ("Traceback", ".py", "Error", str(Path.cwd())))


# Answers.


def test_seven_is_read_with_its_position(served):
  picture = draw_seven()
  answer = served.request("POST", "/read", encoded(picture)).json
  (found,) = images.find_digits(np.asarray(picture, np.float32) / 255)
  assert answer["state"] == "digit"
  assert (answer["width"], answer["height"], answer["num_digits"]) == (640, 480, 1)
  assert answer["note"].startswith("Found, prepared and read in ")
  (digit,) = answer["digits"]
  assert digit["label_name"] == "7"
  assert digit["probability"] == digit["probabilities"][7] == max(digit["probabilities"])
  # The rest is that it is no digit.
  assert 0.99 < sum(digit["probabilities"]) < 1
  seen = base64.b64decode(digit["image"].removeprefix("data:image/png;base64,"))
  np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(seen))), found.image)
  margin = found.box.left - digit["box"]["x"]
  assert margin > 0
  assert digit["box"]["width"] == found.box.width + 2 * margin
  assert digit["box"]["height"] == found.box.height + 2 * margin


@pytest.mark.parametrize(
  ("score", "shares", "state", "note"),
  [
    (None, [0.05, 0.95], "digit", "Found, prepared and read in "),
    (0.9, [0.05, 0.95], "digit", "Found, prepared and read in "),
    # 0.8 times 0.95 is 0.76.
    (0.8, [0.05, 0.95], "unsure", "Not sure: the probability of a 1 is 76.0%."),
    (0.5, [0.5, 0.5], "unsure", "Not sure: the probability of a 0 is 25.0%."),
    (
      0.03,
      [0.0, 1.0],
      "refused",
      "This doesn't look like a digit: the probability that it is one is 3.0%.",
    ),
    (
      1e-5,
      [0.0, 1.0],
      "refused",
      "This doesn't look like a digit: the probability that it is one is less",
    ),
  ],
)
def test_state_reflects_confidence(score, shares, state, note):
  recognizer = types.SimpleNamespace(
    label_names=("0", "1"), image_shape=(28, 28, 1),
    predict=lambda _: Outputs(
      np.log([np.maximum(shares, 1e-9)]), None if score is None else np.array([score])
    ),
  )  # fmt: skip
  answer = read_picture(recognizer, encoded(draw_seven()))
  assert answer["state"] == state
  assert answer["note"].startswith(note)
  (digit,) = answer["digits"]
  assert digit["label_name"] == str(np.argmax(shares))
  assert sum(digit["probabilities"]) == pytest.approx(1 if score is None else score)
  assert digit["probability"] == max(digit["probabilities"])


def test_several_digits_form_a_number_and_show_the_tallest(served):
  picture = draw_seven()
  ImageDraw.Draw(picture).line([(520, 60), (515, 440)], fill=40, width=22)
  answer = served.request("POST", "/read", encoded(picture)).json
  assert (answer["number"], answer["num_digits"], answer["tallest"]) == ("71", 2, 1)
  assert [digit["label_name"] for digit in answer["digits"]] == ["7", "1"]
  assert answer["digits"][0]["box"]["x"] < answer["digits"][1]["box"]["x"]
  assert answer["note"] == "A number with 2 digits; the bars show the tallest."


def test_evidence_is_returned_on_request(served):
  file = encoded(draw_seven())
  assert "evidence" not in served.request("POST", "/read", file).json["digits"][0]
  (digit,) = served.request("POST", "/read?why", file).json["digits"]
  shown = [
    np.asarray(Image.open(io.BytesIO(base64.b64decode(digit[name].partition(",")[2]))))
    for name in ("image", "evidence")
  ]
  assert shown[1].shape == (28, 28, 3)
  assert not shown[1][shown[0] == 0].any()
  # Most of the ink of a clear 7 supports the answer: there is more blue than red.
  colors = shown[1].astype(int).sum((0, 1))
  assert colors[2] > 1.1 * colors[0]


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"])
def test_any_picture_format_is_read(served, format_name):
  media_type = {"Content-Type": f"image/{format_name.lower()}"}
  response = served.request("POST", "/read", encoded(draw_seven(), format_name), media_type)
  assert response.json["digits"][0]["label_name"] == "7"


def test_empty_paper_has_no_digit(served):
  answer = served.request("POST", "/read", encoded(Image.new("L", (64, 64), 255))).json
  note = "No digit yet."
  assert answer == {
    "state": "blank", "width": 64, "height": 64, "number": "", "digits": [], "tallest": 0,
    "num_digits": 0, "note": note
  }  # fmt: skip


def test_page_lists_the_class_names():
  recognizer = types.SimpleNamespace(label_names=("T-shirt", "<b>"))
  page = _in_process(create(recognizer, "a & b", Limits()), "GET", "/").body.decode()
  for text in ("<span>T-shirt</span>", "<span>&lt;b&gt;</span>", "a &amp; b", '"20000000"'):
    assert text in page


# Paths and routes.


def test_client_paths_are_never_opened(served):
  secret = Path("/etc/hostname").read_bytes().strip()
  call = {"data": [{"path": "/etc/hostname"}], "fn_index": 2, "session_hash": "q"}
  body = json.dumps(call).encode()
  json_type = {"Content-Type": "application/json"}
  responses = {
    404: served.request("POST", "/gradio_api/run/predict", body, json_type),
    415: served.request("POST", "/read", body, json_type),
    422: served.request("POST", "/read", body),
  }
  for status, response in responses.items():
    _assert_reported(response, status)
    assert secret not in response.body


@pytest.mark.parametrize(
  "path",
  [
    "/docs", "/redoc", "/openapi.json", "/config", "/gradio_api/info", "/gradio_api/upload",
    "/gradio_api/file=/etc/hostname", "/static/page.js", "/page.html", "/app.py", "/../app.py",
    "/%2e%2e/app.py", "/..%2fapp.py", "//etc/hostname", "/page.js/", "/page.js%00",
  ],
)  # fmt: skip
def test_only_files_of_the_page_are_served(served, path):
  _assert_reported(served.get(path), 404)
  _assert_reported(served.request("POST", path, b"x"), 404)


def test_each_route_accepts_only_its_method(served):
  for method, path in [("POST", "/"), ("POST", "/page.js"), ("GET", "/read")]:
    _assert_reported(served.request(method, path), 405)
  for method in ("PUT", "DELETE", "OPTIONS", "TRACE"):
    _assert_reported(served.request(method, "/read"), 405)


# Origin and host.


@pytest.mark.parametrize(
  "host",
  [
    "evil.example", "evil.example:{port}", "localhost.evil.example:{port}", "127.0.0.1",
    "127.0.0.1:1", "127.0.0.2:{port}", "[::1]:{port}", "localhost:{port}@evil.example", "",
  ],
)  # fmt: skip
def test_other_host_names_are_rejected(served, host):
  """Like a name that an attacker has pointed at this machine (DNS rebinding)."""
  host = host.format(port=served.address[1])
  _assert_reported(served.get(Host=host), 421)
  headers = {"Host": host, "Origin": f"http://{host}"}
  _assert_reported(served.request("POST", "/read", encoded(draw_seven()), headers), 421)


def test_request_with_several_hosts_is_rejected(served):
  host = served.url.removeprefix("http://")
  for lines, status in [
    (["GET / HTTP/1.0"], 421),
    (["GET / HTTP/1.1"], 400),
    (["GET / HTTP/1.1", f"Host: {host}", "Host: evil.example"], 400),
  ]:
    with socket.create_connection(served.address, timeout=60) as connection:
      connection.sendall("\r\n".join([*lines, "", ""]).encode())
      assert served_page.read_response(connection).status == status


def test_both_local_names_are_accepted(served):
  for name in ("127.0.0.1", "localhost"):
    host = f"{name}:{served.address[1]}"
    headers = {"Host": host, "Origin": f"http://{host}"}
    assert served.request("POST", "/read", encoded(draw_seven()), headers).status == 200


def test_host_has_no_port_on_port_80():
  page = create(types.SimpleNamespace(label_names=()), "", Limits())
  for host, status in [("127.0.0.1", 200), ("localhost", 200), ("evil.example", 421)]:
    assert _in_process(page, "GET", "/", {"host": host}, port=80).status == status


@pytest.mark.parametrize(
  "origin",
  [
    None, "http://evil.example", "null", "", "http://localhost:1", "https://127.0.0.1:{port}",
    "http://localhost:{port}", "http://127.0.0.1:{port}.evil.example", "http://127.0.0.1:{port}/",
    "file://",
  ],
)  # fmt: skip
def test_pictures_from_other_origins_are_rejected(served, origin):
  origin = origin and origin.format(port=served.address[1])
  picture = encoded(draw_seven())
  _assert_reported(served.request("POST", "/read", picture, {"Origin": origin}), 403)
  if origin is not None:
    _assert_reported(served.get(Origin=origin), 403)


def test_duplicate_origins_are_rejected(served):
  with served.started_upload("Content-Length: 5", "Origin: http://evil.example") as connection:
    _assert_reported(served_page.read_response(connection), 403)


def test_form_from_another_site_is_rejected(served):
  form = {"Content-Type": "multipart/form-data; boundary=x"}
  foreign = {**form, "Origin": "http://evil.example"}
  _assert_reported(served.request("POST", "/read", _FORM, foreign), 403)
  _assert_reported(served.request("POST", "/read", _FORM, form), 415)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_cross_site_fetch_metadata_is_rejected(served, site):
  origin = {"Sec-Fetch-Site": site}
  picture = encoded(draw_seven())
  for destination in ("empty", "document"):
    headers = {**origin, "Sec-Fetch-Dest": destination}
    _assert_reported(served.request("POST", "/read", picture, headers), 403)
  for destination in ("iframe", "frame", "embed", "object", "image", "script", "style", "empty"):
    _assert_reported(served.get("/page.js", **origin, **{"Sec-Fetch-Dest": destination}), 403)
  # A link to the page isn't an attack.
  assert served.get(**origin, **{"Sec-Fetch-Dest": "document"}).status == 200


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://evil.example", "same"])
def test_no_origin_gets_cors_access(served, origin):
  """No response has CORS headers, neither to a request nor to its preflight."""
  origin = {"Origin": served.url if origin == "same" else origin}
  question = {**origin, "Access-Control-Request-Method": "POST"}
  responses = [
    served.get(**origin),
    served.request("POST", "/read", encoded(draw_seven()), origin),
    served.request("OPTIONS", "/read", headers=question),
  ]
  assert responses[-1].status in (403, 405)
  for response in responses:
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_every_response_has_security_headers(served):
  picture = encoded(draw_seven())
  responses = [
    *map(served.get, ("/", "/page.js", "/page.css", "/nothing", "/read")),
    served.get(Host="evil.example"),
    served.request("POST", "/read", picture),
    served.request("POST", "/read", picture, {"Origin": None}),
    served.request("POST", "/read", b"no picture"),
    served.request("POST", "/read", b"{}", {"Content-Type": "application/json"}),
    served.request("POST", "/read", headers={"Content-Length": str(120 * _MEGABYTE)}),
  ]
  statuses = [200, 200, 200, 404, 405, 421, 200, 403, 422, 415, 413]
  assert [response.status for response in responses] == statuses
  for response in responses:
    for name, value in guard.HEADERS.items():
      assert response.headers[name.lower()] == value
  policy = guard.HEADERS["Content-Security-Policy"]
  assert policy.startswith("default-src 'none'; script-src 'self';")
  assert policy.endswith("frame-ancestors 'none'")
  assert "unsafe" not in policy


# Bodies.


def _bomb():
  """A small file with more pixels than the limit."""
  return encoded(Image.new("1", (10_000, 6_000)))


@pytest.mark.parametrize(
  ("body", "media_type", "status"),
  [
    (b"", "image/png", 400),
    (b"Dear reader", "image/png", 422),
    (encoded(draw_seven())[:300], "image/png", 422),
    (_bomb(), "image/png", 422),
    (b'{"data": ', "application/json", 415),
    (b"\xff\xfe", "text/plain", 415),
    (_FORM[:40], "multipart/form-data; boundary=x", 415),
    (b"a=b", "application/x-www-form-urlencoded", 415),
    (b"x", None, 415),
  ],
  ids=["empty", "text", "cut", "bomb", "json", "plain", "multipart", "form", "none"],
)
def test_malformed_body_is_rejected_in_one_sentence(served, body, media_type, status):
  _assert_reported(served.request("POST", "/read", body, {"Content-Type": media_type}), status)


def test_malformed_http_is_rejected(served):
  for head in ["Content-Length: -1", "Content-Length: a", "Content-Length: 5\r\nContent-Length: 6"]:
    with served.started_upload(head) as connection:
      assert served_page.read_response(connection).status == 400
  with served.started_upload("Transfer-Encoding: chunked", body=b"xyz\r\n") as connection:
    assert served_page.read_response(connection).status == 400


@pytest.mark.parametrize("media_type", ["application/json", "image/png"])
def test_oversized_upload_is_rejected_before_it_is_sent(served, media_type):
  lines = f"Content-Length: {120 * _MEGABYTE}", f"Content-Type: {media_type}"
  with served.started_upload(*lines) as connection:
    _assert_reported(served_page.read_response(connection), 413)


def test_body_without_length_is_cut_off_at_the_limit(served):
  before = served.resident_megabytes()
  chunk = b"f4240\r\n" + bytes(_MEGABYTE) + b"\r\n"
  num_sent = 0
  with (
    served.started_upload("Transfer-Encoding: chunked") as connection,
    contextlib.suppress(OSError),
  ):
    while num_sent < 120:
      connection.sendall(chunk)
      num_sent += 1
  # The system's buffers hold some more.
  assert 19 <= num_sent <= 40
  assert served.resident_megabytes() - before < 100
  # A client that stops at the limit gets the error too.
  with served.started_upload(
    "Transfer-Encoding: chunked", body=20 * chunk + b"1\r\nx"
  ) as connection:
    _assert_reported(served_page.read_response(connection), 413)


def test_file_routes_accept_no_body(served):
  response = served.request("GET", "/", b"x")
  _assert_reported(response, 400)


def test_concurrent_uploads_share_a_limit(served):
  before = served.resident_megabytes()
  part = bytes(15 * _MEGABYTE)
  with contextlib.ExitStack() as stack:
    connections = [
      stack.enter_context(served.started_upload(f"Content-Length: {19 * _MEGABYTE}"))
      for _ in range(15)
    ]
    senders = [threading.Thread(target=_send, args=(socket_, part)) for socket_ in connections]
    for sender in senders:
      sender.start()
    for sender in senders:
      sender.join()
    # Two are pending, and any more are refused; those without a response are reset.
    rejections = [response for response in map(_response_or_none, connections) if response]
    assert served.get().status == 200
    assert len(rejections) >= 1
    for response in rejections:
      _assert_reported(response, 503)
      assert response.headers["retry-after"] == "1"
    assert served.resident_megabytes() - before < 150
  # Their capacity is free again as soon as they are gone.
  time.sleep(1)
  assert served.request("POST", "/read", encoded(draw_seven())).status == 200


def _send(connection, data):
  with contextlib.suppress(OSError):
    connection.sendall(data)


def _response_or_none(connection):
  connection.settimeout(0.5)
  try:
    return served_page.read_response(connection)
  except (OSError, http.client.HTTPException):
    return None


def test_pending_requests_are_limited(served):
  limits = Limits()
  with contextlib.ExitStack() as stack:
    for _ in range(limits.requests):
      connection = stack.enter_context(
        served.started_upload("Content-Length: 9", "Expect: 100-continue")
      )
      # The server sends this when it starts to wait for the body.
      assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
    response = served.get()
    _assert_reported(response, 503)
    assert response.headers["retry-after"] == "1"
  time.sleep(1)
  assert served.get().status == 200


def test_slow_body_times_out(served):
  start = time.monotonic()
  with served.started_upload("Content-Length: 1000", body=b"x") as connection:
    connection.settimeout(0.5)
    response = None
    while response is None and time.monotonic() - start < 30:
      # A byte now and then, which would defeat an idle timeout.
      _send(connection, b"x")
      response = _response_or_none(connection)
  _assert_reported(response, 408)
  assert 9 < time.monotonic() - start < 15


def test_truncated_request_leaves_nothing(served):
  with served.started_upload("Content-Length: 1000", body=b"x"):
    pass
  assert served.request("POST", "/read", encoded(draw_seven())).status == 200


# Storage.


def test_pictures_are_never_written_to_disk(tmp_path):
  """Not even of large ones, or after the process is killed while one arrives."""
  directories = {name: tmp_path / name for name in ("TMPDIR", "HOME", "cwd")}
  for directory in directories.values():
    directory.mkdir()
  environment = {name: str(path) for name, path in directories.items()}
  served = served_page.start(environment=environment, cwd=directories["cwd"])
  try:
    before = commands.contents(tmp_path)
    picture = encoded(Image.new("RGB", (2500, 2500), "white"), "BMP")
    assert len(picture) > 18 * _MEGABYTE
    assert served.request("POST", "/read", picture).json["state"] == "blank"
    with served.started_upload(f"Content-Length: {len(picture)}", body=picture[:-1]):
      # A file without a name would still be open.
      files = Path(f"/proc/{served.process.pid}/fd").iterdir()
      opened = [os.readlink(path) for path in files]
      assert not [path for path in opened if path.startswith(str(tmp_path))]
      assert commands.contents(tmp_path) == before
      served.process.send_signal(signal.SIGKILL)
      served.process.communicate(timeout=60)
    assert commands.contents(tmp_path) == before
    assert [*directories["TMPDIR"].iterdir()] == []
  finally:
    served.process.kill()


# In this process, with a network whose answers the test sets.


def _in_process(page, method, path, headers=None, body=b"", port=1):
  """Sends a request to an application behind a guard."""
  return asyncio.run(
    _request(Guard(page, Address(LOCAL, port), Limits()), method, path, headers, body, port)
  )


async def _request(guarded, method, path, headers=None, body=b"", port=1):
  defaults = {"host": f"localhost:{port}", "origin": f"http://localhost:{port}"}
  sent_headers = {**defaults, "content-type": "image/png", **(headers or {})}
  if method == "GET":
    del sent_headers["origin"]
  path, _, query = path.partition("?")
  sent = []
  scope = {
    "type": "http", "http_version": "1.1", "method": method, "path": path, "root_path": "",
    "raw_path": path.encode(), "query_string": query.encode(), "scheme": "http",
    "headers": [(name.encode(), text.encode()) for name, text in sent_headers.items()],
  }  # fmt: skip

  async def receive():
    return {"type": "http.request", "body": body, "more_body": False}

  async def send(message):
    sent.append(message)

  with contextlib.suppress(_DefectError):
    await guarded(scope, receive, send)
  start, *parts = sent
  names = {name.decode(): text.decode() for name, text in start["headers"]}
  return served_page.Response(start["status"], names, b"".join(part["body"] for part in parts))


class _DefectError(Exception):
  pass


def test_bug_is_reported_without_traceback():
  def fail(images):
    del images
    raise _DefectError(f"in {__file__}")

  recognizer = types.SimpleNamespace(label_names=("0",), image_shape=(28, 28, 1), predict=fail)
  page = create(recognizer, "", Limits())
  response = _in_process(page, "POST", "/read", body=encoded(draw_seven()))
  _assert_reported(response, 500)
  assert response.headers["content-security-policy"] == guard.HEADERS["Content-Security-Policy"]


def test_page_responds_while_one_picture_is_read_at_a_time():
  at_once, most = 0, 0

  def predict(images):
    nonlocal at_once, most
    assert len(images) == 1
    at_once += 1
    most = max(most, at_once)
    time.sleep(0.2)
    at_once -= 1
    return Outputs(np.zeros((1, 1)), None)

  recognizer = types.SimpleNamespace(label_names=("0",), image_shape=(28, 28, 1), predict=predict)
  picture = encoded(draw_seven())

  async def send_requests():
    guarded = Guard(create(recognizer, "", Limits()), Address(LOCAL, 1), Limits())
    reading = [asyncio.create_task(_request(guarded, "POST", "/read", body=picture)) for _ in "123"]
    await asyncio.sleep(0.1)
    page = await asyncio.wait_for(_request(guarded, "GET", "/"), 0.1)
    assert not any(task.done() for task in reading)
    return [page, *await asyncio.gather(*reading)]

  assert [response.status for response in asyncio.run(send_requests())] == [200] * 4
  assert most == 1


# At an address that other machines can reach.

_TOKEN = "q7_Zt-0"
_SHARED = Address("192.168.1.7", 7860, _TOKEN)
_HEADERS = {"host": "192.168.1.7:7860", "origin": "http://192.168.1.7:7860"}
_COOKIE = {**_HEADERS, "cookie": f"a=b; digits-7860={_TOKEN}"}


def _request_shared(method, path, headers, address=_SHARED):
  """Sends a request to the page; returns the response, and whether any of its body was read."""
  was_read = []

  class App:
    """Reads the body and responds with success."""

    async def __call__(self, scope, receive, send):
      del scope
      was_read.append(await receive())
      await send({"type": "http.response.start", "status": 200, "headers": []})
      await send({"type": "http.response.body", "body": b""})

  response = asyncio.run(_request(Guard(App(), address, Limits()), method, path, headers, b"x"))
  return response, bool(was_read)


@pytest.mark.parametrize(
  "cookie",
  [
    None, "", "digits-7860=", f"digits-7860={_TOKEN[:-1]}", f"digits-7860={_TOKEN}0", _TOKEN,
    f"digits-7861={_TOKEN}", f"digits-7860={_TOKEN.swapcase()}", "digits-7860=\xff", "; ;=",
  ],
)  # fmt: skip
@pytest.mark.parametrize(
  ("method", "path"), [("GET", "/"), ("GET", "/page.js"), ("POST", "/read"), ("POST", "/nothing")]
)
def test_nothing_is_served_without_the_token(cookie, method, path):
  headers = _HEADERS if cookie is None else {**_HEADERS, "cookie": cookie}
  response, was_read = _request_shared(method, path, headers)
  _assert_reported(response, 403)
  assert not was_read
  assert _TOKEN not in str(response)


@pytest.mark.parametrize(
  ("method", "path"),
  [
    ("GET", "/?token="), ("GET", "/?token=q7_Zt-1"), ("GET", f"/?tokens={_TOKEN}"),
    ("GET", f"/?{_TOKEN}"), ("GET", f"/page.js?token={_TOKEN}"), ("POST", f"/read?token={_TOKEN}"),
    ("POST", f"/?token={_TOKEN}"),
  ],
)  # fmt: skip
def test_token_in_the_url_opens_only_the_page(method, path):
  response, was_read = _request_shared(method, path, _HEADERS)
  _assert_reported(response, 403)
  assert "set-cookie" not in response.headers
  assert not was_read


def test_link_stores_the_token_and_redirects():
  """Some programs add parameters to links."""
  for path in (f"/?token={_TOKEN}", f"/?from=chat&token={_TOKEN}"):
    response, was_read = _request_shared("GET", path, _HEADERS)
    assert (response.status, response.headers["location"], was_read) == (303, "/", False)
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["set-cookie"] == (
      f"digits-7860={_TOKEN}; Path=/; HttpOnly; SameSite=Lax"
    )
  for method, path in [("GET", "/"), ("POST", "/read")]:
    response, was_read = _request_shared(method, path, _COOKIE)
    assert (response.status, was_read) == (200, True)


@pytest.mark.parametrize(
  ("headers", "status"),
  [
    ({"host": "127.0.0.1:7860", "origin": "http://127.0.0.1:7860"}, 421),
    ({"host": "localhost:7860", "origin": "http://localhost:7860"}, 421),
    ({"host": "rebound.example:7860", "origin": "http://rebound.example:7860"}, 421),
    ({"origin": "http://127.0.0.1:7860"}, 403),
    ({"origin": "http://evil.example"}, 403),
    ({"sec-fetch-site": "cross-site"}, 403),
  ],
)
def test_token_does_not_admit_other_origins(headers, status):
  response, was_read = _request_shared("POST", "/read", {**_COOKIE, **headers})
  _assert_reported(response, status)
  assert not was_read


def test_ipv6_address_is_in_brackets():
  address = Address("fd00::7", 7860, _TOKEN)
  assert address.link == f"http://[fd00::7]:7860/?token={_TOKEN}"
  headers = {**_COOKIE, "host": "[fd00::7]:7860", "origin": "http://[fd00::7]:7860"}
  assert _request_shared("POST", "/read", headers, address)[0].status == 200
  _assert_reported(
    _request_shared("POST", "/read", {**headers, "host": "fd00::7"}, address)[0], 421
  )


def test_each_page_has_its_own_token():
  tokens = set()
  for _ in range(2):
    with socket.create_server(("127.0.0.2", 0)) as listener:
      tokens.add(address_of(listener).token)
  assert len(tokens) == 2
  assert all(len(token) == 22 for token in tokens)
  with socket.create_server(("127.0.0.1", 0)) as listener:
    assert address_of(listener).token is None


@pytest.mark.parametrize(
  ("host", "reason"),
  [
    ("", "is not an IP address"),
    ("localhost", "is not an IP address"),
    ("192.168.1.7:80", "is not an IP address"),
    ("0.0.0.0", "is not the address of a single machine"),
    ("::", "is not the address of a single machine"),
    ("::ffff:0.0.0.0", "is not the address of a single machine"),
    ("224.0.0.1", "is not the address of a single machine"),
    ("255.255.255.255", "is not the address of a single machine"),
    ("fe80::1%eth0", "has a scope"),
  ],
)
def test_host_must_be_one_address(host, reason):
  with pytest.raises(ValueError, match=reason):
    family_of(host)
  assert (family_of("127.0.0.2"), family_of("::1")) == (socket.AF_INET, socket.AF_INET6)
