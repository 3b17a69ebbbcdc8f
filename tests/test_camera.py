"""Tests of `python -m mnist_research.camera` on videos that OpenCV writes."""

import signal
import sys

import commands
import numpy as np
import pytest

from mnist_research.data.synthetic_digits import drawing
from mnist_research.runtime.errors import UserError

# OpenCV needs system libraries, which may be missing.
cv2 = pytest.importorskip("cv2", exc_type=ImportError)
from mnist_research.live import video  # noqa: E402 - it needs OpenCV.

_RATE = 10  # Frames per second.
_SHOWN = 6  # The number of frames that show each digit.
_LEFT, _TOP, _SIDE = 90, 50, 140
# A display that doesn't respond: the command opens no window.
_NO_DISPLAY = {"DISPLAY": ":4711", "WAYLAND_DISPLAY": ""}


@pytest.fixture(scope="module")
def digits(recognizer):
  """An image of each digit that the network classifies correctly with high confidence."""
  images, labels = next(drawing.draw_examples("test", 500))
  probabilities = recognizer.probabilities(images)[np.arange(len(labels)), labels]
  return [images[np.argmax(probabilities * (labels == digit)), ..., 0] for digit in range(10)]


def _write_video(file, shown, digits):
  """Writes a video that shows the digits in `shown` one after the other; None: only paper."""
  writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), _RATE, (320, 240))
  assert writer.isOpened()
  for digit in shown:
    frame = np.full((240, 320), 200, np.float64)
    if digit is not None:
      ink = cv2.resize(digits[digit], (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
      frame[_TOP : _TOP + _SIDE, _LEFT : _LEFT + _SIDE] -= 0.6 * ink
    for _ in range(_SHOWN):
      writer.write(cv2.cvtColor(frame.astype(np.uint8), cv2.COLOR_GRAY2BGR))
  writer.release()
  return file


def _run(source, **options):
  return commands.run(f"--source={source}", module="camera", environment=_NO_DISPLAY, **options)


def test_each_change_of_the_answer_is_printed(digits, tmp_path):
  shown = [None, 3, 3, 7, None, None, 1, 4, 4, 0, 8, None]
  finished = _run(_write_video(tmp_path / "digits.avi", shown, digits))
  records = finished.records
  # Names the network and the source, and how to stop.
  assert len(finished.stderr.splitlines()) == 2
  numbers = [record["number"] for record in records]
  assert numbers == ["3", "7", "", "1", "4", "0", "8", ""]
  changes = [1, 3, 4, 6, 7, 9, 10, 11]
  # The frames of 0.3 seconds vote, with a majority of two thirds.
  late = [record["frame"] - _SHOWN * index for record, index in zip(records, changes, strict=True)]
  assert set(late) <= {1, 2, 3}
  for record in records:
    assert list(record) == ["frame", "seconds", "number", "rows", "digits", "step"]
    assert record["seconds"] == pytest.approx(record["frame"] / _RATE)
    if not record["number"]:
      assert record["rows"] == record["digits"] == []
      continue
    (digit,) = record["digits"]
    assert [record["number"]] == record["rows"] == [digit["label_name"]]
    assert 0.5 < digit["probability"] <= 1
    x, y, width, height = digit["box"].values()
    # The digit's longer side is 20 of its image's 28 pixels.
    assert max(width, height) == pytest.approx(_SIDE * 20 / 28, abs=8)
    assert _LEFT <= x < x + width <= _LEFT + _SIDE
    assert _TOP <= y < y + height <= _TOP + _SIDE


@pytest.mark.parametrize("source", ["99", "99999999999999", "missing.avi", "-1", "", "."])
def test_unopenable_source_is_rejected(source, tmp_path):
  finished = _run(source, cwd=tmp_path)
  assert finished.error == (
    f"error: --source={source} can't be opened; name a video file, or the number of a connected "
    "camera that no other program uses"
  )


def test_file_without_frames_is_rejected(tmp_path):
  file = tmp_path / "3.png"
  file.write_bytes(bytes(100))
  with pytest.raises(UserError) as raised:
    list(video.read_frames(video.open_video(str(file))))
  assert str(raised.value) == f"--source={file} delivers no frames; check the camera or the file"


def test_no_display_without_a_named_one(monkeypatch):
  monkeypatch.delenv("DISPLAY", raising=False)
  monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
  monkeypatch.setattr(sys, "executable", "not asked")
  assert not video.has_display()


def test_ctrl_c_stops_the_command(digits, tmp_path):
  file = _write_video(tmp_path / "long.avi", 400 * [3, 7], digits)
  process = commands.start(f"--source={file}", module="camera", environment=_NO_DISPLAY)
  assert process.stdout.readline()
  process.send_signal(signal.SIGINT)
  finished = commands.finish(process)
  assert finished.returncode == 128 + signal.SIGINT
  assert "Traceback" not in finished.stderr
