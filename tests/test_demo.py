"""Tests of `python -m mnist_research.demo`, its page in a real browser."""

import base64
import io
import json
import re
import signal
import socket
import time
import urllib.request

import browser
import commands
import numpy as np
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import expect

from mnist_research import images

# Strokes as a hand draws them, in shares of the sheet's side.
_THREE = [[
  (0.33, 0.28), (0.37, 0.22), (0.45, 0.18), (0.54, 0.19), (0.61, 0.25), (0.62, 0.34), (0.57, 0.41),
  (0.47, 0.46), (0.57, 0.49), (0.65, 0.56), (0.66, 0.66), (0.61, 0.76), (0.51, 0.81), (0.40, 0.80),
  (0.31, 0.73),
]]  # fmt: skip
_SEVEN = [(180, 140), (330, 136), (250, 360)]
_FRAME_SIZE = (640, 480)


def _started(**options):
  """Starts the command; returns its process and the page's address once it is there."""
  process = commands.start("--port=0", module="demo", **options)
  line = process.stdout.readline()
  assert line, process.stderr.read()
  return process, json.loads(line)["url"]


@pytest.fixture(scope="module")
def url():
  process, url = _started()
  yield url
  process.send_signal(signal.SIGTERM)
  assert commands.finish(process).returncode == 128 + signal.SIGTERM


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
  """A browser with a camera before which somebody holds a 7."""
  video = tmp_path_factory.mktemp("camera") / "seven.y4m"
  _write_video(video, _draw_seven())
  with browser.started(
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    f"--use-file-for-fake-video-capture={video}",
  ) as chromium:
    yield chromium


@pytest.fixture
def page(chromium, url):
  permissions = "camera", "clipboard-read", "clipboard-write"
  with browser.opened(chromium, url, *permissions) as page:
    yield page


def _draw_seven():
  """A 7 in the left half of a frame, grey values."""
  frame = Image.new("L", _FRAME_SIZE, 200)
  ImageDraw.Draw(frame).line(_SEVEN, fill=40, width=22, joint="curve")
  return frame


def _write_video(file, frame):
  """Writes a video of two equal frames, uncompressed (YUV4MPEG2)."""
  width, height = frame.size
  grey_only = bytes([128]) * (width * height // 2)
  header = f"YUV4MPEG2 W{width} H{height} F10:1 Ip A1:1 C420jpeg\n".encode()
  file.write_bytes(header + 2 * (b"FRAME\n" + frame.tobytes() + grey_only))


def _answer(page):
  return page.locator(".answer:visible")


def _expect_label(page, label):
  expect(_answer(page).locator("output")).to_have_text(label)


def _note(page):
  return _answer(page).locator(".note")


def _probabilities(page):
  texts = _answer(page).locator(".bars li span:last-child").all_inner_texts()
  return [float(text.removesuffix("%")) / 100 for text in texts]


def _seen(page):
  """The 28 x 28 image that the page shows."""
  source = _answer(page).locator(".seen img").get_attribute("src")
  return np.asarray(_decoded(source))


def _expect_seen(page, picture):
  """Waits until the page shows what the network saw of `picture`."""
  ((image, _),) = images.find_digits(picture)
  deadline = time.monotonic() + 30
  while not np.array_equal(_seen(page), image):
    assert time.monotonic() < deadline
    page.wait_for_timeout(50)


def _decoded(data_url):
  return Image.open(io.BytesIO(base64.b64decode(data_url.partition(",")[2])))


def _draw(page, strokes, *, between=lambda: None):
  """Draws with the mouse; calls `between` when half of a stroke is drawn."""
  sheet = page.locator("#sketch canvas")
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


def test_a_three_is_read_while_it_is_drawn(page, tmp_path):
  _expect_label(page, "?")

  def half_is_read():
    expect(_answer(page).locator(".best")).to_have_count(1)

  _draw(page, _THREE, between=half_is_read)
  _expect_label(page, "3")
  probabilities = _probabilities(page)
  assert len(probabilities) == 10
  assert sum(probabilities) == pytest.approx(1, abs=0.006)  # Ten are rounded to a thousandth.
  assert np.argmax(probabilities) == 3
  sheet = page.evaluate("document.querySelector('#sketch canvas').toDataURL()")
  drawing = np.asarray(_decoded(sheet).convert("L"), np.float32) / 255
  _expect_seen(page, drawing)

  page.screenshot(path=tmp_path / "demo.png")
  with Image.open(tmp_path / "demo.png") as screenshot:
    assert screenshot.size == (1080, 720)


def test_strokes_are_taken_back_one_by_one_and_all_together(page):
  one = [(0.3, 0.2), (0.3, 0.8)]
  _draw(page, [one, [(x + 0.4, y) for x, y in one]])
  expect(_note(page)).to_have_text("There are 2 digits; the tallest is read.")
  page.get_by_role("button", name="Undo").click()
  expect(_note(page)).to_contain_text("Found, prepared and read in")
  _draw(page, [one])
  page.get_by_role("button", name="Clear").click()
  _expect_label(page, "?")
  expect(_note(page)).to_have_text("Draw a digit on the sheet.")
  expect(_answer(page).locator("img")).to_have_count(0)


def test_a_seven_before_the_camera_is_read_and_outlined(page):
  page.get_by_role("tab", name="Camera").click()
  page.get_by_role("button", name="Start the camera").click()
  _expect_label(page, "7")
  outline = page.locator("#camera rect")
  left, top, width, height = (
    float(outline.get_attribute(name)) for name in ("x", "y", "width", "height")
  )
  ink = _draw_seven().point(lambda grey: 255 * (grey < 120)).getbbox()
  # A margin of about a seventh of the digit's height, 248 pixels.
  margins = ink[0] - left, ink[1] - top, left + width - ink[2], top + height - ink[3]
  assert margins == pytest.approx((37, 37, 37, 37), abs=8)
  # What is on the left is shown on the left, and the outline lies over it.
  shown = page.locator("#camera video").bounding_box()
  drawn = outline.bounding_box()
  assert page.locator("#camera video").evaluate("v => getComputedStyle(v).transform") == "none"
  scale = shown["width"] / _FRAME_SIZE[0]
  assert drawn["x"] - shown["x"] == pytest.approx(left * scale, abs=3)
  assert drawn["y"] - shown["y"] == pytest.approx(top * scale, abs=3)

  page.get_by_role("button", name="Stop the camera").click()
  _expect_label(page, "?")
  expect(outline).to_have_count(0)
  assert page.locator("#camera video").evaluate("v => v.srcObject") is None


def test_the_camera_stops_when_another_tab_is_opened(page):
  page.get_by_role("tab", name="Camera").click()
  page.get_by_role("button", name="Start the camera").click()
  _expect_label(page, "7")
  page.get_by_role("tab", name="Draw").click()
  page.wait_for_function("document.querySelector('#camera video').srcObject === null")


@pytest.fixture
def upload_tab(page):
  page.get_by_role("tab", name="Upload").click()
  return page


def _upload(page, file):
  page.locator("#upload input[type=file]").set_input_files(file)


def test_an_uploaded_picture_is_read(upload_tab, tmp_path):
  file = tmp_path / "seven.jpg"
  _draw_seven().save(file)
  _upload(upload_tab, file)
  _expect_label(upload_tab, "7")
  _expect_seen(upload_tab, images.read(file))


def test_a_pasted_picture_is_read(upload_tab):
  buffer = io.BytesIO()
  _draw_seven().save(buffer, "PNG")
  upload_tab.evaluate(
    """async (data) => {
      const blob = await (await fetch(data)).blob();
      await navigator.clipboard.write([new ClipboardItem({"image/png": blob})]);
    }""",
    "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(),
  )
  upload_tab.get_by_role("button", name="Paste from clipboard").click()
  _expect_label(upload_tab, "7")


def test_a_file_that_is_no_picture_is_told_by_its_name(upload_tab, tmp_path):
  file = tmp_path / "letter.png"
  file.write_text("Dear reader")
  _upload(upload_tab, file)
  expect(_note(upload_tab)).to_have_text(re.compile("^letter.png is not a picture"))
  _expect_label(upload_tab, "?")


def test_an_upload_over_the_limit_is_refused(upload_tab, url, tmp_path):
  file = tmp_path / "large.png"
  file.write_bytes(bytes(21_000_000))
  _upload(upload_tab, file)
  message = upload_tab.get_by_text(re.compile("exceed the maximum allowed size of 20"))
  expect(message.first).to_be_visible()
  _expect_label(upload_tab, "?")
  # Nor does the server take it from somebody else.
  parts = {"files": {"name": "large.png", "mimeType": "image/png", "buffer": file.read_bytes()}}
  response = upload_tab.request.post(f"{url}/gradio_api/upload", multipart=parts)
  assert response.status == 413


def test_the_browser_is_told_to_load_nothing_from_elsewhere(page):
  """What `browser.opened` asserts, even of what Gradio asks for elsewhere."""
  refused = page.evaluate(
    """() => new Promise((resolve) => {
      document.addEventListener("securitypolicyviolation", (e) => resolve(e.blockedURI));
      new Image().src = "http://192.0.2.1/font.png";
    })"""
  )
  assert refused == "http://192.0.2.1/font.png"


def test_it_listens_to_this_machine_alone_and_shares_nothing(url):
  port = int(url.rpartition(":")[2])
  with urllib.request.urlopen(f"{url}/config") as response:
    settings = json.load(response)
  assert settings["analytics_enabled"] is False
  # A server that listens to all networks answers at every address of this machine.
  with pytest.raises(ConnectionRefusedError):
    socket.create_connection(("127.0.0.2", port), timeout=10)


def test_a_port_in_use_is_refused_with_the_remedy():
  with socket.create_server(("127.0.0.1", 0)) as other:
    port = other.getsockname()[1]
    error = commands.run(f"--port={port}", module="demo").error
  assert error == f"error: --port={port}: Address already in use; choose another, or 0 for any"


@pytest.mark.parametrize(
  ("module", "extra"), [("gradio", "demo"), ("cv2", "camera")], ids=["demo", "camera"]
)
def test_a_missing_extra_is_named_with_the_remedy(module, extra):
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


def test_a_library_that_opencv_misses_is_named(tmp_path):
  missing = "libxcb.so.1: cannot open shared object file: No such file or directory"
  (tmp_path / "cv2.py").write_text(f"raise ImportError({missing!r})")
  error = commands.run(module="camera", environment={"PYTHONPATH": str(tmp_path)}).error
  assert error == (
    f"error: OpenCV can't be loaded: {missing} (on Debian, apt-get install libgl1 libglib2.0-0 "
    "libxcb1 brings its libraries)"
  )


def test_a_signal_ends_it_and_its_uploads(chromium, tmp_path):
  """Here with a page open, whose connection stays."""
  process, url = _started(environment={"TMPDIR": str(tmp_path)})
  with browser.opened(chromium, url) as page:
    expect(page.locator("#sketch canvas")).to_be_visible()
    assert [*tmp_path.iterdir()] != []
    process.send_signal(signal.SIGINT)
    finished = commands.finish(process)
  assert finished.returncode == 128 + signal.SIGINT
  assert "Traceback" not in finished.stderr
  assert "error" not in finished.stderr
  assert [*tmp_path.iterdir()] == []
