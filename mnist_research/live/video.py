"""Reads frames from a camera or a video file and shows them in a window, with OpenCV."""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

# Read by OpenCV and its window toolkit while they load; otherwise they print messages about sources
# and fonts to stderr.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")

import numpy as np

from mnist_research.runtime.errors import UserError

try:
  import cv2
except ImportError as error:
  # OpenCV may be installed without the system libraries that it needs; pip doesn't install those.
  raise UserError(
    f"OpenCV can't be loaded: {error} (on Debian, install its libraries: apt-get install libgl1 "
    "libglib2.0-0 libxcb1)"
  ) from error

_TITLE = "mnist_research"
_KEYS_TO_CLOSE = (ord("q"), 27)
# Blue, green, red, in OpenCV's order.
_COLOR = (0, 176, 255)


class Video(NamedTuple):
  """A source of frames.

  Attributes:
    source: its name, as given by the user.
    is_live: whether it is a camera, which delivers frames in real time.
    capture: OpenCV's capture object.
  """

  source: str
  is_live: bool
  capture: cv2.VideoCapture

  @property
  def pause(self) -> int:
    """Milliseconds to wait between frames; 1 for a camera, which sets the pace itself."""
    frames_per_second = self.capture.get(cv2.CAP_PROP_FPS)
    return 1 if self.is_live or frames_per_second <= 0 else max(1, round(1000 / frames_per_second))


class Frame(NamedTuple):
  """A frame of a video.

  Attributes:
    number: its index, from 0.
    seconds: the time since the first frame.
    pixels: uint8 [height, width, 3]: blue, green, red.
  """

  number: int
  seconds: float
  pixels: np.ndarray

  @property
  def gray(self) -> np.ndarray:
    """Gray values, float32 [height, width] from 0 (black) to 1 (white)."""
    return cv2.cvtColor(self.pixels, cv2.COLOR_BGR2GRAY).astype(np.float32) / 255


def open_video(source: str) -> Video:
  """Opens a camera, given its number, or a video file, given its path.

  Raises:
    UserError: the source can't be opened.
  """
  is_live = source.isdecimal()
  try:
    capture = cv2.VideoCapture(int(source) if is_live else source)
  except (cv2.error, OverflowError):
    capture = cv2.VideoCapture()
  if not capture.isOpened():
    raise UserError(
      f"--source={source} can't be opened; name a video file, or the number of a connected camera "
      "that no other program uses"
    )
  return Video(source, is_live, capture)


def read_frames(video: Video) -> Iterator[Frame]:
  """Yields the frames of a video until its end, or of a camera as they arrive.

  Raises:
    UserError: there are no frames, or the camera stops delivering them.
  """
  start = None
  for number in itertools.count():
    has_frame, pixels = video.capture.read()
    if not has_frame:
      break
    seconds = video.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
    if video.is_live:
      start = start or time.monotonic()
      seconds = time.monotonic() - start
    yield Frame(number, seconds, pixels)
  if number == 0 or video.is_live:
    raise UserError(f"--source={video.source} delivers no frames; check the camera or the file")


def has_display() -> bool:
  """Whether a window can be opened.

  OpenCV without a window toolkit raises an error; with one, it terminates the process if the
  display named in the environment doesn't respond. Therefore a subprocess tries it.
  """
  if not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")):
    return False
  program = f"import cv2; cv2.namedWindow({_TITLE!r})"
  return subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0


def show(
  frame: Frame, outlines: Iterable[tuple[int, int, int, int]], text: str, pause: int
) -> bool:
  """Shows a frame in a window.

  Args:
    frame: the frame; outlines and text are drawn onto its pixels.
    outlines: left, top, right, bottom of each rectangle to draw, in pixels.
    text: the text to write in the upper left corner.
    pause: the minimum time to show the frame, in milliseconds.

  Returns:
    Whether the window is still open.
  """
  for outline in outlines:
    cv2.rectangle(frame.pixels, outline[:2], outline[2:], _COLOR, 2, cv2.LINE_AA)
  cv2.putText(frame.pixels, text, (12, 36), cv2.FONT_HERSHEY_SIMPLEX, 1.0, _COLOR, 2, cv2.LINE_AA)
  cv2.imshow(_TITLE, frame.pixels)
  key = cv2.waitKey(pause) & 0xFF
  return key not in _KEYS_TO_CLOSE and cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) >= 1
