"""The frames of a camera or a video file, and a window that shows them: OpenCV's part."""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

# OpenCV and its window's toolkit write to stderr by themselves, of sources that can't be opened and
# of fonts; they look here when they are loaded.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")

import numpy as np

from mnist_research.runtime.errors import UserError

try:
  import cv2
except ImportError as error:
  # Installed it may be, but pip brings no libraries of the system.
  raise UserError(
    f"OpenCV can't be loaded: {error} (on Debian, apt-get install libgl1 libglib2.0-0 libxcb1 "
    "brings its libraries)"
  ) from error

_TITLE = "mnist_research"
_KEYS_TO_CLOSE = (ord("q"), 27)
# Blue, green, red, as OpenCV orders them.
_COLOUR = (0, 176, 255)


class Video(NamedTuple):
  """A source of frames.

  Attributes:
    source: how the user called it.
    is_live: it is a camera, whose frames come as time passes.
    capture: OpenCV's own.
  """

  source: str
  is_live: bool
  capture: cv2.VideoCapture

  @property
  def pause(self) -> int:
    """Milliseconds from one shown frame to the next; a camera makes one wait by itself."""
    frames_per_second = self.capture.get(cv2.CAP_PROP_FPS)
    return 1 if self.is_live or frames_per_second <= 0 else max(1, round(1000 / frames_per_second))


class Frame(NamedTuple):
  """A picture of a video.

  Attributes:
    number: its place, from 0.
    seconds: since the first one.
    pixels: uint8 [height, width, 3]: blue, green, red.
  """

  number: int
  seconds: float
  pixels: np.ndarray

  @property
  def grey(self) -> np.ndarray:
    """Grey values: float32 [height, width] between 0, black, and 1, white."""
    return cv2.cvtColor(self.pixels, cv2.COLOR_BGR2GRAY).astype(np.float32) / 255


def open_video(source: str) -> Video:
  """Opens a camera, by its number, or a video file.

  Raises:
    UserError: it can't be opened.
  """
  is_live = source.isdecimal()
  try:
    capture = cv2.VideoCapture(int(source) if is_live else source)
  except (cv2.error, OverflowError):
    capture = cv2.VideoCapture()
  if not capture.isOpened():
    raise UserError(
      f"--source={source} can't be opened; name a video file, or the number of a camera that is "
      "plugged in and free"
    )
  return Video(source, is_live, capture)


def read_frames(video: Video) -> Iterator[Frame]:
  """Yields the frames of a video to its end, or of a camera as they come.

  Raises:
    UserError: there is none, or the camera stops to give any.
  """
  start = None
  for number in itertools.count():
    found, pixels = video.capture.read()
    if not found:
      break
    seconds = video.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
    if video.is_live:
      start = start or time.monotonic()
      seconds = time.monotonic() - start
    yield Frame(number, seconds, pixels)
  if number == 0 or video.is_live:
    raise UserError(f"--source={video.source} gives no frames; check the camera or the file")


def has_display() -> bool:
  """Whether a window can be opened.

  OpenCV without a window's toolkit raises an error; with one, it ends the process where the display
  that the environment names doesn't answer. So a process of its own tries.
  """
  if not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")):
    return False
  program = f"import cv2; cv2.namedWindow({_TITLE!r})"
  return subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0


def show(frame: Frame, outline: tuple[int, int, int, int] | None, text: str, pause: int) -> bool:
  """Shows a frame in a window; returns whether the user left it open.

  Args:
    frame: it is drawn upon.
    outline: left, top, right, bottom of a rectangle to draw, in pixels.
    text: what to write in the upper left corner.
    pause: how long it stays at least, in milliseconds.
  """
  if outline:
    cv2.rectangle(frame.pixels, outline[:2], outline[2:], _COLOUR, 2, cv2.LINE_AA)
  cv2.putText(frame.pixels, text, (12, 36), cv2.FONT_HERSHEY_SIMPLEX, 1.0, _COLOUR, 2, cv2.LINE_AA)
  cv2.imshow(_TITLE, frame.pixels)
  key = cv2.waitKey(pause) & 0xFF
  return key not in _KEYS_TO_CLOSE and cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) >= 1
