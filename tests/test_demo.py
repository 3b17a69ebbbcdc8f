"""Tests of `python -m mnist_research.demo`, its page in a real browser."""

import base64
import contextlib
import http.server
import io
import re
import signal
import socket
import threading
import time

import browser
import commands
import numpy as np
import pytest
import served_page
from PIL import Image
from playwright.sync_api import expect
from served_page import draw_seven, encoded

from mnist_research import demo, images
from mnist_research.config import Config
from mnist_research.live.page import guard

# Strokes as drawn by hand, in fractions of the sheet's side.
_THREE = [[
  (0.33, 0.28), (0.37, 0.22), (0.45, 0.18), (0.54, 0.19), (0.61, 0.25), (0.62, 0.34), (0.57, 0.41),
  (0.47, 0.46), (0.57, 0.49), (0.65, 0.56), (0.66, 0.66), (0.61, 0.76), (0.51, 0.81), (0.40, 0.80),
  (0.31, 0.73),
]]  # fmt: skip
# A host name that an attacker has pointed at this machine.
_REBOUND = "rebound.example"


@pytest.mark.parametrize(
  ("result", "words"),
  [
    (None, "trained for 1,200 steps on mnist"),
    # In the format of older commits.
    ({"test_accuracy": 0.98}, "trained for 1,200 steps on mnist"),
    (
      {"dataset": "mnist", "test_accuracy": 0.98, "validation_accuracy": 0.9},
      "correct on 98.00% of the test examples of mnist",
    ),
    # After --score_test=false.
    (
      {"dataset": "mnist", "validation_accuracy": 0.975},
      "correct on 97.50% of the validation examples of mnist",
    ),
  ],
)
def test_page_states_how_the_network_was_evaluated(result, words):
  description = demo.describe(Config(), result, step=1200)
  assert description == f"Read by a model (dense, {words})."


@pytest.fixture(scope="module")
def url():
  with served_page.running() as served:
    yield served.url


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
  """A browser with a camera that sees a 7."""
  video = tmp_path_factory.mktemp("camera") / "seven.y4m"
  _write_video(video, draw_seven())
  with browser.started(
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    f"--use-file-for-fake-video-capture={video}",
    f"--host-resolver-rules=MAP {_REBOUND} 127.0.0.1",
  ) as chromium:
    yield chromium


@pytest.fixture
def page(chromium, url):
  permissions = "camera", "clipboard-read", "clipboard-write"
  with browser.opened(chromium, url, *permissions) as page:
    yield page


def _write_video(file, frame):
  """Writes an uncompressed video (YUV4MPEG2) of two equal frames."""
  width, height = frame.size
  gray_only = bytes([128]) * (width * height // 2)
  header = f"YUV4MPEG2 W{width} H{height} F10:1 Ip A1:1 C420jpeg\n".encode()
  file.write_bytes(header + 2 * (b"FRAME\n" + frame.tobytes() + gray_only))


def _answer(page):
  return page.locator(".answer:visible")


def _expect_label(page, label):
  expect(_answer(page).locator("output")).to_have_text(label)


def _note(page):
  return _answer(page).locator(".note")


def _probabilities(page):
  """The displayed probabilities, none of which is 0 or 1."""
  texts = _answer(page).locator(".bars li span:last-child").all_inner_texts()
  assert not {"0.0%", "100.0%"} & {*texts}
  return [0 if text == "<0.1%" else float(text.strip(">%")) / 100 for text in texts]


def _seen(page):
  """The 28 x 28 image that the page shows."""
  source = _answer(page).locator(".model-input img").get_attribute("src")
  return np.asarray(_decoded(source))


def _expect_seen(page, picture):
  """Waits until the page shows the network's input for `picture`."""
  ((image, *_),) = images.find_digits(picture)
  deadline = time.monotonic() + 30
  while not np.array_equal(_seen(page), image):
    assert time.monotonic() < deadline
    page.wait_for_timeout(50)


def _decoded(data_url):
  return Image.open(io.BytesIO(base64.b64decode(data_url.partition(",")[2])))


def _draw(page, strokes, *, between=lambda: None):
  """Draws with the mouse; calls `between` in the middle of a stroke."""
  sheet = page.locator("#draw canvas")
  expect(sheet).to_be_visible()
  box = sheet.bounding_box()
  for stroke in strokes:
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
    page.mouse.move(*points[0])
    page.mouse.down()
    for index, point in enumerate(points):
      page.mouse.move(*point)
      if index == len(points) // 2:
        between()
    page.mouse.up()


def test_three_is_read_while_it_is_drawn(page, tmp_path):
  _expect_label(page, "?")

  def half_is_answered():  # It may be a digit or not.
    expect(_note(page)).not_to_have_text("Draw a digit on the sheet.")

  expect(_note(page)).to_have_text("Draw a digit on the sheet.")
  _draw(page, _THREE, between=half_is_answered)
  _expect_label(page, "3")
  sheet = page.evaluate("document.querySelector('#draw canvas').toDataURL()")
  drawing = np.asarray(_decoded(sheet).convert("L"), np.float32) / 255
  # Before it, there are answers for parts of the stroke.
  _expect_seen(page, drawing)
  probabilities = _probabilities(page)
  assert len(probabilities) == 10
  # The rest is the probability that it is not a digit; these are ten rounded values.
  assert 0.9 < sum(probabilities) < 1.01
  assert np.argmax(probabilities) == 3

  page.screenshot(path=tmp_path / "demo.png")
  with Image.open(tmp_path / "demo.png") as screenshot:
    assert screenshot.size == (1080, 720)


def test_undo_and_clear_remove_strokes(page):
  one = [(0.3, 0.2), (0.3, 0.8)]
  _draw(page, [one, [(x + 0.4, y) for x, y in one]])
  expect(_note(page)).to_have_text("A number with 2 digits; the bars show the tallest.")
  page.get_by_role("button", name="Undo").click()
  expect(_note(page)).to_contain_text("Found, prepared and read in")
  _draw(page, [one])
  page.get_by_role("button", name="Clear").click()
  _expect_label(page, "?")
  expect(_note(page)).to_have_text("Draw a digit on the sheet.")
  expect(_answer(page).locator("img")).to_have_count(0)


def test_undo_and_redo_by_keyboard(page):
  undo, redo, clear = (page.get_by_role("button", name=name) for name in ("Undo", "Redo", "Clear"))
  for button in (undo, redo, clear):
    expect(button).to_be_disabled()
  _draw(page, _THREE)
  _expect_label(page, "3")
  page.keyboard.press("Control+Z")
  _expect_label(page, "?")
  page.keyboard.press("Control+Shift+Z")
  _expect_label(page, "3")
  clear.click()
  _expect_label(page, "?")
  expect(clear).to_be_disabled()
  # Undo restores a sheet that was cleared by mistake.
  undo.click()
  _expect_label(page, "3")
  redo.click()
  _expect_label(page, "?")
  expect(redo).to_be_disabled()


def test_seven_in_camera_view_is_read_and_outlined(page):
  page.get_by_role("tab", name="Camera").click()
  page.get_by_role("button", name="Start the camera").click()
  _expect_label(page, "7")
  outline = page.locator("#camera rect")
  left, top, width, height = (
    float(outline.get_attribute(name)) for name in ("x", "y", "width", "height")
  )
  ink = draw_seven().point(lambda gray: 255 * (gray < 120)).getbbox()
  # A margin of about a seventh of the digit's height, 248 pixels.
  margins = ink[0] - left, ink[1] - top, left + width - ink[2], top + height - ink[3]
  assert margins == pytest.approx((37, 37, 37, 37), abs=8)
  # The video isn't mirrored, and the outline lies on top of it.
  shown = page.locator("#camera video").bounding_box()
  drawn = outline.bounding_box()
  assert page.locator("#camera video").evaluate("v => getComputedStyle(v).transform") == "none"
  scale = shown["width"] / 640
  assert drawn["x"] - shown["x"] == pytest.approx(left * scale, abs=3)
  assert drawn["y"] - shown["y"] == pytest.approx(top * scale, abs=3)

  page.get_by_role("button", name="Stop the camera").click()
  _expect_label(page, "?")
  expect(outline).to_have_count(0)
  assert page.locator("#camera video").evaluate("v => v.srcObject") is None


def test_camera_stops_when_another_tab_opens(page):
  page.get_by_role("tab", name="Camera").click()
  page.get_by_role("button", name="Start the camera").click()
  _expect_label(page, "7")
  page.get_by_role("tab", name="Draw").click()
  assert page.locator("#camera video").evaluate("v => v.srcObject") is None


@pytest.fixture
def upload_tab(page):
  page.get_by_role("tab", name="Upload").click()
  return page


def _upload(page, file):
  page.locator("#upload input[type=file]").set_input_files(file)


def test_uploaded_picture_is_read(upload_tab, tmp_path):
  file = tmp_path / "seven.jpg"
  draw_seven().save(file)
  _upload(upload_tab, file)
  _expect_label(upload_tab, "7")
  _expect_seen(upload_tab, images.read(file))


def _copy(page, picture):
  """Copies a picture to the clipboard."""
  page.evaluate(
    """async (data) => {
      const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
      const blob = new Blob([bytes], { type: "image/png" });
      await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
    }""",
    base64.b64encode(encoded(picture)).decode(),
  )


def test_pasted_picture_is_read(upload_tab):
  _copy(upload_tab, draw_seven())
  upload_tab.get_by_role("button", name="Paste from clipboard").click()
  _expect_label(upload_tab, "7")


def test_ctrl_v_pastes_from_any_tab(page):
  _copy(page, draw_seven())
  page.keyboard.press("Control+V")
  expect(page.get_by_role("tab", name="Upload")).to_have_attribute("aria-selected", "true")
  _expect_label(page, "7")


def test_clipboard_without_picture_is_reported(upload_tab):
  upload_tab.evaluate("navigator.clipboard.writeText('Dear reader')")
  upload_tab.get_by_role("button", name="Paste from clipboard").click()
  expect(_note(upload_tab)).to_have_text("The clipboard contains no picture.")


def test_dropped_picture_is_read_and_outlined(page):
  """Anywhere on the page; otherwise the browser would leave the page."""
  page.evaluate(
    """(data) => {
      const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([bytes], "seven.png", { type: "image/png" }));
      const options = { dataTransfer, bubbles: true, cancelable: true };
      for (const kind of ["dragover", "drop"]) {
        document.body.dispatchEvent(new DragEvent(kind, options));
      }
    }""",
    base64.b64encode(encoded(draw_seven())).decode(),
  )
  _expect_label(page, "7")
  expect(page.get_by_alt_text("The uploaded picture")).to_be_visible()
  expect(page.locator("#upload rect")).to_have_count(1)


def test_non_picture_file_is_reported_by_name(upload_tab, tmp_path):
  file = tmp_path / "letter.png"
  file.write_text("Dear reader")
  _upload(upload_tab, file)
  expect(_note(upload_tab)).to_have_text(re.compile("^letter.png is not a picture"))
  _expect_label(upload_tab, "?")


def test_oversized_upload_is_rejected(upload_tab, tmp_path):
  file = tmp_path / "large.png"
  file.write_bytes(bytes(21_000_000))
  _upload(upload_tab, file)
  problem = "large.png has 21 MB; the limit is 20 MB."
  expect(upload_tab.get_by_role("alert")).to_have_text(problem)
  _expect_label(upload_tab, "?")


def test_picture_after_a_bad_file_is_read(upload_tab, tmp_path):
  bad, good = tmp_path / "letter.png", tmp_path / "seven.png"
  bad.write_text("Dear reader")
  draw_seven().save(good)
  for _ in range(2):
    _upload(upload_tab, bad)
    _expect_label(upload_tab, "?")
    expect(upload_tab.locator("#upload rect")).to_have_count(0)
    _upload(upload_tab, good)
    _expect_label(upload_tab, "7")
    expect(upload_tab.get_by_role("alert")).to_have_count(0)


# Layout and accessibility.


def test_tabs_are_navigable_by_keyboard(page):
  for key, name in [("ArrowRight", "Camera"), ("ArrowRight", "Upload"), ("ArrowRight", "Draw")]:
    page.get_by_role("tab", selected=True).press(key)
    tab = page.get_by_role("tab", name=name, selected=True)
    expect(tab).to_be_focused()
    expect(page.get_by_role("tabpanel", name=name)).to_be_visible()
    expect(page.get_by_role("tabpanel")).to_have_count(1)
  page.get_by_role("tab", name="Draw").press("ArrowLeft")
  expect(page.get_by_role("tab", name="Upload")).to_be_focused()


def test_answer_is_announced_with_accessible_names(page):
  _draw(page, _THREE)
  _expect_label(page, "3")
  expect(_answer(page).get_by_role("status")).to_have_text("3")
  expect(page.get_by_role("img", name="The network's input")).to_be_visible()
  bars = page.get_by_role("list", name="Probability of each answer")
  expect(bars.get_by_role("listitem")).to_have_count(10)


def test_phone_shows_sheet_answer_and_reason_together(page):
  page.set_viewport_size({"width": 390, "height": 844})
  _draw(page, _THREE)
  _expect_label(page, "3")
  assert page.evaluate("document.documentElement.scrollWidth") == 390
  sheet = page.locator("#draw canvas").bounding_box()
  label = _answer(page).locator("output").bounding_box()
  assert label["y"] > sheet["y"] + sheet["height"]
  assert label["y"] + label["height"] < 844
  # A question mark, and why: the scribble fills the sheet.
  page.get_by_role("button", name="Clear").click()
  _draw(page, [[(0.2 + 0.6 * (row % 2), 0.2 + 0.03 * row) for row in range(20)]])
  expect(_note(page)).to_contain_text("This doesn't look like a digit")
  note = _note(page).bounding_box()
  assert note["y"] + note["height"] < 844
  expect(_answer(page).locator(".best")).to_have_count(0)


def test_page_follows_dark_color_scheme(page):
  def lightness(selector):
    color = page.locator(selector).evaluate("e => getComputedStyle(e).backgroundColor")
    return sum(map(int, re.findall(r"\d+", color)[:3])) / 3

  assert lightness("html") > 200
  page.emulate_media(color_scheme="dark")
  assert lightness("html") < 50
  # The sheet too: light ink on dark paper, which the network also reads.
  corner = "e => [...e.getContext('2d').getImageData(2, 2, 1, 1).data].slice(0, 3)"
  sheet = page.locator("#draw canvas")
  page.wait_for_function("c => c.getContext('2d').getImageData(2, 2, 1, 1).data[0] < 60",
                         arg=sheet.element_handle())  # fmt: skip
  assert max(sheet.evaluate(corner)) < 60
  _draw(page, _THREE)
  _expect_label(page, "3")


def test_one_can_be_drawn_by_keyboard(page):
  page.locator("#draw canvas").focus()
  for key in [*["ArrowUp"] * 8, "Space", *["ArrowDown"] * 16, "Space", "ArrowRight"]:
    page.keyboard.press(key)
  _expect_label(page, "1")
  page.keyboard.press("Backspace")
  _expect_label(page, "?")


def test_two_digits_are_read_as_a_number_and_outlined(page):
  narrow = [[(x / 2, y) for x, y in stroke] for stroke in _THREE]
  _draw(page, [*narrow, [(0.8, 0.2), (0.8, 0.8)]])
  _expect_label(page, "31")
  expect(page.locator("#draw .outline rect")).to_have_count(2)


def test_why_button_shows_evidence_next_to_the_input(page):
  _draw(page, _THREE)
  _expect_label(page, "3")
  why = _answer(page).locator(".why img")
  expect(why).to_have_count(0)
  button = page.get_by_role("button", name="Why?")
  button.click()
  expect(why).to_be_visible()
  assert button.get_attribute("aria-pressed") == "true"
  boxes = [
    _answer(page).locator(f"{name} .frame").bounding_box() for name in (".why", ".model-input")
  ]
  assert boxes[0]["y"] == boxes[1]["y"]
  # Next to the answer, so that the bars stay in view.
  assert boxes[0]["y"] < _answer(page).locator("output").bounding_box()["y"] + 100
  assert _answer(page).locator(".bars li").last.bounding_box()["y"] < 720
  button.click()
  expect(why).to_have_count(0)


def test_projector_mode_enlarges_the_answer(page):
  page.set_viewport_size({"width": 1920, "height": 1080})
  _draw(page, _THREE)
  _expect_label(page, "3")
  bar, label = _answer(page).locator(".bars i").first, _answer(page).locator("output")
  before = bar.bounding_box()["height"], label.bounding_box()["height"]
  page.get_by_role("button", name="Projector").click()
  assert bar.bounding_box()["height"] > 2 * before[0]
  assert label.bounding_box()["height"] > 1.4 * before[1]
  for width, height in ((1920, 1080), (1280, 720)):
    page.set_viewport_size({"width": width, "height": height})
    for last in (_note(page), page.get_by_role("button", name="Clear")):
      box = last.bounding_box()
      assert box["y"] + box["height"] <= height


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violations_in_any_state(page, scheme, tmp_path):
  page.emulate_media(color_scheme=scheme)
  assert browser.violations(page) == []
  _draw(page, _THREE)
  _expect_label(page, "3")
  page.get_by_role("button", name="Why?").click()
  expect(_answer(page).locator(".why img")).to_be_visible()
  assert browser.violations(page) == []
  page.get_by_role("button", name="Projector").click()
  assert browser.violations(page) == []
  page.get_by_role("button", name="Projector").click()
  page.set_viewport_size({"width": 390, "height": 844})
  assert browser.violations(page) == []
  page.get_by_role("tab", name="Camera").click()
  assert browser.violations(page) == []
  page.get_by_role("tab", name="Upload").click()
  file = tmp_path / "letter.png"
  file.write_text("Dear reader")
  _upload(page, file)
  expect(page.get_by_role("alert")).to_be_visible()
  assert browser.violations(page) == []


def test_axe_detects_a_seeded_violation(page):
  page.evaluate("document.querySelector('main').append(new Image())")
  assert [fault.split(": ")[:2] for fault in browser.violations(page)] == [
    ["critical", "image-alt"]
  ]


# What the page may load, and who may use it.


def test_content_security_policy_blocks_external_resources(page):
  """`browser.opened` asserts this for everything that the page loads."""
  blocked = page.evaluate(
    """() => new Promise((resolve) => {
      document.addEventListener("securitypolicyviolation", (e) => resolve(e.blockedURI));
      new Image().src = "http://192.0.2.1/font.png";
    })"""
  )
  assert blocked == "http://192.0.2.1/font.png"


class _Foreign(http.server.BaseHTTPRequestHandler):
  """A site with an empty page."""

  def do_GET(self):
    self.send_response(200)
    self.send_header("Content-Type", "text/html")
    self.end_headers()
    self.wfile.write(b"<!doctype html><title>Elsewhere</title>")

  def log_message(self, *arguments):
    del arguments


@pytest.fixture
def foreign_port():
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Foreign) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


@pytest.fixture(params=["127.0.0.1", "localhost", _REBOUND])
def elsewhere(request, chromium, foreign_port):
  """A page of another origin, and the responses that the browser receives."""
  with chromium.new_context() as context:
    page = context.new_page()
    page.goto(f"http://{request.param}:{foreign_port}")
    responses = []
    # Not the method itself, because Playwright sets an attribute of the handler.
    page.on("response", lambda response: responses.append(response))
    yield page, responses


@pytest.mark.parametrize("mode", ["cors", "no-cors", "same-origin"])
@pytest.mark.parametrize("media_type", ["image/png", "text/plain"])
def test_other_origin_cannot_post_a_picture(elsewhere, url, mode, media_type):
  page, responses = elsewhere
  got = page.evaluate(
    """async ([url, mode, type]) => {
      const body = new Blob(["picture"], { type });
      try {
        const response = await fetch(url, { method: "POST", mode, body, credentials: "include" });
        return response.type;
      } catch (error) {
        return error.name;
      }
    }""",
    [f"{url}/read", mode, media_type],
  )
  assert got == "TypeError"
  assert all(response.status == 403 for response in responses)


@pytest.mark.parametrize("mode", ["cors", "no-cors"])
def test_other_origin_cannot_read_anything(elsewhere, url, mode):
  page, responses = elsewhere
  got = page.evaluate(
    """async ([url, mode]) => {
      try {
        return (await fetch(url, { mode })).type;
      } catch (error) {
        return error.name;
      }
    }""",
    [url, mode],
  )
  assert got == "TypeError"
  assert all(response.status == 403 for response in responses)


@pytest.mark.parametrize(
  ("tag", "attribute", "path"),
  [("img", "src", "/"), ("script", "src", "/page.js"), ("link", "href", "/page.css")],
)
def test_other_origin_cannot_embed_anything(elsewhere, url, tag, attribute, path):
  page, responses = elsewhere
  event = page.evaluate(
    """([tag, attribute, url]) => new Promise((resolve) => {
      const element = document.createElement(tag);
      element.onload = element.onerror = (event) => resolve(event.type);
      if (tag === "link") element.rel = "stylesheet";
      element[attribute] = url;
      document.head.append(element);
    })""",
    [tag, attribute, url + path],
  )
  assert event == "error"
  assert all(response.status == 403 for response in responses)


@pytest.mark.parametrize("tag", ["iframe", "object", "embed"])
def test_other_origin_cannot_frame_the_page(elsewhere, url, tag):
  page, _ = elsewhere
  page.evaluate(
    """([tag, url]) => {
      const element = document.createElement(tag);
      element[tag === "object" ? "data" : "src"] = url;
      document.body.append(element);
    }""",
    [tag, url],
  )
  page.wait_for_timeout(500)
  assert len(page.frames) > 1 or tag != "iframe"
  for frame in page.frames[1:]:
    assert frame.locator("[role=tab]").count() == 0


def test_dns_rebinding_gets_nothing(chromium, url):
  """DNS rebinding: the browser attributes the page to the attacker's host."""
  with chromium.new_context() as context:
    page = context.new_page()
    response = page.goto(url.replace("127.0.0.1", _REBOUND))
    assert response.status == 421
    status = page.evaluate("fetch('/read', { method: 'POST', body: 'x' }).then((r) => r.status)")
    assert status == 421


def test_page_listens_on_localhost_only(url):
  port = int(url.rpartition(":")[2])
  # A server that listens on all interfaces answers at every address of this machine.
  with pytest.raises(ConnectionRefusedError):
    socket.create_connection(("127.0.0.2", port), timeout=10)


def test_port_in_use_is_reported_with_remedy():
  with socket.create_server(("127.0.0.1", 0)) as other:
    port = other.getsockname()[1]
    error = commands.run(f"--port={port}", module="demo").error
  assert error == f"error: --port={port}: Address already in use; choose another, or 0 for any"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.9"])
def test_foreign_host_address_is_rejected(host):
  error = commands.run(f"--host={host}", "--port=0", module="demo").error
  reasons = {
    "0.0.0.0": " is not the address of a single machine: use an address of this machine, as shown "
    "by `ip address`, `ifconfig` or `ipconfig`",
    "192.0.2.9": " isn't an address of this machine",
  }
  assert error == f"error: --host={host}{reasons[host]}"


def test_shared_page_opens_by_its_token_link(chromium):
  """Uses another address of this machine in place of a network address."""
  with served_page.running("--host=127.0.0.2") as served:
    assert re.fullmatch(r"http://127\.0\.0\.2:\d+/\?token=[\w-]{22}", served.link)
    with pytest.raises(ConnectionRefusedError):
      socket.create_connection(("127.0.0.1", served.address[1]), timeout=10)
    assert served.get().status == 403
    assert served.request("POST", "/read", encoded(draw_seven())).status == 403
    with browser.opened(chromium, served.link) as page:
      assert page.url == f"{served.url}/"
      assert "goes, unencrypted, to the machine at 127.0.0.2" in page.locator("header").inner_text()
      _draw(page, _THREE)
      _expect_label(page, "3")
      # As in a browser on another machine.
      page.context.add_init_script(
        "for (const name of ['mediaDevices', 'clipboard'])"
        " Object.defineProperty(navigator, name, { value: undefined });"
      )
      page.reload()
      page.get_by_role("tab", name="Camera").click()
      expect(page.get_by_role("button", name="Start the camera")).to_have_count(0)
      note = page.locator("#camera .tools .note")
      expect(note).to_contain_text("Browsers allow the camera only on HTTPS pages")
      page.get_by_role("tab", name="Upload").click()
      expect(page.get_by_role("button", name="Paste from clipboard")).to_have_count(0)
    served.process.send_signal(signal.SIGTERM)
    assert "the page is open to the network of 127.0.0.2" in served.process.stderr.read()


@pytest.mark.parametrize(
  ("module", "extra"), [("starlette", "demo"), ("uvicorn", "demo"), ("cv2", "camera")]
)
def test_missing_extra_is_named_with_remedy(module, extra):
  finished = commands.run_python(
    "import runpy, sys\n"
    f"sys.modules[{module!r}] = None\n"
    f"sys.argv = [{extra!r}]\n"
    f"runpy.run_module('mnist_research.{extra}', run_name='__main__')\n"
  )
  assert finished.error == (
    f"error: {module} is not installed: python -m pip install -e '.[{extra}]' in the repository "
    "adds it"
  )


def test_library_missing_for_opencv_is_named(tmp_path):
  missing = "libxcb.so.1: cannot open shared object file: No such file or directory"
  (tmp_path / "cv2.py").write_text(f"raise ImportError({missing!r})")
  error = commands.run(module="camera", environment={"PYTHONPATH": str(tmp_path)}).error
  assert error == (
    f"error: OpenCV can't be loaded: {missing} (on Debian, install its libraries: apt-get install "
    "libgl1 libglib2.0-0 libxcb1)"
  )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_the_server_and_page_says_so(chromium, number):
  """With an open page, whose connection stays alive."""
  served = served_page.start()
  with browser.opened(chromium, served.url) as page:
    _draw(page, _THREE)
    _expect_label(page, "3")
    finished = commands.stop(served.process, number)
    page.get_by_role("button", name="Undo").click()
    _draw(page, _THREE)
    expect(_note(page)).to_contain_text("The page's command doesn't respond. Restart it")
  assert finished.returncode == 128 + number
  assert "Traceback" not in finished.stderr
  assert "error" not in finished.stderr


def test_busy_server_is_retried(chromium):
  """While other requests use all of its capacity."""
  with served_page.running() as served, browser.opened(chromium, served.url) as page:
    expect(page.locator("#draw canvas")).to_be_visible()
    with contextlib.ExitStack() as stack:
      for _ in range(guard.Limits().requests):
        lines = "Content-Length: 9", "Expect: 100-continue"
        # The server sends this when it starts to wait for the body.
        assert (
          stack.enter_context(served.started_upload(*lines)).recv(100).startswith(b"HTTP/1.1 100 ")
        )
      _draw(page, _THREE)
      expect(_note(page)).to_have_text("The page is busy; try again.")
    _expect_label(page, "3")
