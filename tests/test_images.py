"""Tests of users' pictures: decoding files, and preparing digits."""

import concurrent.futures
import io
import os
import struct
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from mnist_research import images
from mnist_research.runtime.errors import UserError

LOSSLESS = {"PNG": {}, "BMP": {}, "GIF": {}, "TIFF": {}, "WEBP": {"lossless": True}}


def _five(size, *, pen=0.08, gap=0.0):
  """Ink, in [0, 1], of a 5 that fills 60% of a square; `gap` detaches its bar."""
  scale = 4
  picture = Image.new("L", (size * scale, size * scale), 0)
  draw = ImageDraw.Draw(picture)

  def at(*points):
    return [(x * size * scale, y * size * scale) for x, y in points]

  width = max(1, round(pen * size * scale))
  draw.line(at((0.36, 0.22 + gap), (0.34, 0.46), (0.5, 0.44)), 255, width, "curve")
  draw.arc(at((0.32, 0.42), (0.68, 0.8)), 260, 500, 255, width)
  draw.line(at((0.36 + gap, 0.22), (0.68, 0.22)), 255, width)
  return np.asarray(picture.resize((size, size), Image.Resampling.BOX), np.float32) / 255


def _seven(size, *, pen=0.08):
  scale = 4
  picture = Image.new("L", (size * scale, size * scale), 0)
  points = [(0.3, 0.2), (0.7, 0.2), (0.45, 0.8)]
  width = max(1, round(pen * size * scale))
  line = [(x * size * scale, y * size * scale) for x, y in points]
  ImageDraw.Draw(picture).line(line, 255, width, "curve")
  return np.asarray(picture.resize((size, size), Image.Resampling.BOX), np.float32) / 255


def _on_paper(ink, *, paper=0.9, pen=0.1):
  return (paper + (pen - paper) * ink).astype(np.float32)


def _bytes(gray):
  return np.rint(np.asarray(gray) * 255).astype(np.uint8)


def _encode(image, kind="PNG", **options):
  stream = io.BytesIO()
  image.save(stream, kind, **options)
  return stream.getvalue()


def _read(data):
  return images.read(io.BytesIO(data))


def _image(picture):
  (digit,) = images.find_digits(picture)
  return digit.image


def _difference(one, other):
  """Difference as a fraction of the brighter one's total: 0 if equal, about 2 if disjoint.

  A center of mass halfway between two pixels may be rounded to either.
  """
  one, other = one.astype(float), other.astype(float)
  shifted = [np.roll(one, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
  return min(np.abs(each - other).sum() for each in shifted) / max(one.sum(), other.sum())


def _center(image):
  return np.array(ndimage.center_of_mass(image.astype(float)))


def _ink_box(image):
  rows, columns = np.nonzero(image)
  return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


# Reading.


@pytest.mark.parametrize(
  ("kind", "mode"),
  # WebP has no palettes.
  [(k, m) for k in sorted(LOSSLESS) for m in ("1", "L", "P", "RGB") if (k, m) != ("WEBP", "P")],
)
def test_lossless_formats_keep_gray_values(kind, mode):
  gray = np.tile(np.arange(0, 256, 5, dtype=np.uint8), (7, 1))
  image = Image.fromarray(gray).convert(mode, dither=Image.Dither.NONE)
  expected = np.asarray(image.convert("L"), np.float32) / 255
  picture = _read(_encode(image, kind, **LOSSLESS[kind]))
  assert picture.dtype == np.float32
  # A GIF's first frame has its own palette, and WebP rounds in its conversion to YUV.
  np.testing.assert_allclose(picture, expected, atol=1.01 / 255)


def test_jpeg_approximates_gray_values():
  gray = _on_paper(_five(100))
  picture = _read(_encode(Image.fromarray(_bytes(gray)), "JPEG", quality=95))
  np.testing.assert_allclose(picture, gray, atol=0.06)


def test_colors_are_weighted_by_luminance():
  image = Image.new("RGB", (3, 1))
  for x, color in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
    image.putpixel((x, 0), color)
  np.testing.assert_allclose(_read(_encode(image)), [[0.299, 0.587, 0.114]], atol=0.003)


@pytest.mark.parametrize(
  ("paper", "pen"),
  [((0, 110, 0), (216, 0, 0)), ((255, 255, 255), (255, 255, 0)), ((90, 90, 90), (0, 60, 255))],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_ink_that_differs_mostly_in_color_is_read(kind, paper, pen):
  ink = _five(200)[..., None]
  noise = np.random.default_rng(0).normal(0, 2, ink.shape)
  pixels = np.array(paper) + ink * np.subtract(pen, paper) + noise
  colored = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
  image = _image(_read(_encode(colored, kind)))
  assert _difference(image, _image(_on_paper(_five(200)))) < 0.15


def test_gray_values_of_colored_noise_are_weighted_by_luminance():
  pixels = np.random.default_rng(0).integers(100, 150, (60, 60, 3)).astype(np.uint8)
  picture = _read(_encode(Image.fromarray(pixels)))
  np.testing.assert_allclose(picture, pixels @ [0.299, 0.587, 0.114] / 255, atol=0.005)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_white_is_white(kind):
  image = Image.new("CMYK", (16, 8), (0, 0, 0, 0))
  image.paste((0, 0, 0, 255), (0, 0, 8, 8))
  picture = _read(_encode(image, kind))
  np.testing.assert_allclose(picture[:, :8], 0, atol=0.02)
  np.testing.assert_allclose(picture[:, 8:], 1, atol=0.02)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_images_are_scaled_not_clipped(kind):
  values = np.array([[0, 256, 1000, 32768, 65535]], np.uint16)
  picture = _read(_encode(Image.fromarray(values), kind))
  np.testing.assert_allclose(picture, values / 65535, atol=1e-6)


def test_sixteen_bit_images_in_big_endian_order():
  values = np.array([[0, 256, 1000, 65535]], ">u2")
  image = Image.frombytes("I;16B", (4, 1), values.tobytes())
  np.testing.assert_allclose(_read(_encode(image, "TIFF")), values / 65535, atol=1e-6)


def test_thirty_two_bit_images_are_rejected():
  data = _encode(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF")
  with pytest.raises(UserError, match="32 bits per pixel; save it"):
    _read(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_applied(kind, orientation):
  upright = np.full((48, 64), 230, np.uint8)
  upright[8:40, 16:24] = 20
  upright[8:16, 16:56] = 90
  stored = {
    1: upright,
    2: upright[:, ::-1],
    3: upright[::-1, ::-1],
    4: upright[::-1],
    5: upright.T,
    6: np.rot90(upright),
    7: np.rot90(upright, 2).T,
    8: np.rot90(upright, -1),
  }[orientation]
  exif = Image.Exif()
  exif[0x0112] = orientation
  options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(kind, {})
  data = _encode(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options)
  np.testing.assert_allclose(_read(data), upright / 255, atol=0.08 if kind == "JPEG" else 0.005)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("pen", [0, 255])
def test_transparent_background_becomes_contrasting_paper(mode, pen):
  ink = _five(60)
  if mode == "P":
    image = Image.fromarray((ink > 0.5).astype(np.uint8))
    image.putpalette([128, 128, 128, pen, pen, pen])
    data = _encode(image, transparency=0)
    expected = np.where(ink > 0.5, pen / 255, 1 - pen / 255)
  else:
    layers = [np.full(ink.shape, pen, np.uint8)] * (len(mode) - 1) + [_bytes(ink)]
    data = _encode(Image.fromarray(np.stack(layers, -1), mode))
    expected = pen / 255 * ink + (1 - pen / 255) * (1 - ink)
  np.testing.assert_allclose(_read(data), expected, atol=0.005)


@pytest.mark.parametrize(("paper", "pen"), [(0.95, 0.1), (0.05, 0.9)])
def test_transparent_corners_become_paper(paper, pen):
  gray = _bytes(_on_paper(_five(80), paper=paper, pen=pen))
  opacity = np.full(gray.shape, 255, np.uint8)
  opacity[:10, :10] = 0
  picture = _read(_encode(Image.fromarray(np.stack([gray, opacity], -1), "LA")))
  assert (picture[:10, :10] == round(paper)).all()
  np.testing.assert_allclose(picture[10:], gray[10:] / 255, atol=0.005)


def test_fully_transparent_picture_is_blank():
  picture = _read(_encode(Image.new("RGBA", (40, 40), (255, 0, 0, 0))))
  assert images.find_digits(picture) == []


def test_only_the_first_frame_is_read():
  frames = [Image.fromarray(np.full((8, 8), value, np.uint8)) for value in (40, 200)]
  picture = _read(_encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))
  np.testing.assert_allclose(picture, 40 / 255, atol=0.005)


def test_path_and_stream_give_the_same_picture(tmp_path):
  path = tmp_path / "five.png"
  path.write_bytes(_encode(Image.fromarray(_bytes(_on_paper(_five(40))))))
  with path.open("rb") as stream:
    np.testing.assert_array_equal(images.read(stream), images.read(path))
  np.testing.assert_array_equal(images.read(str(path)), images.read(path))


def test_pipe_is_read(tmp_path):
  data = _encode(Image.fromarray(_bytes(_on_paper(_five(40)))))
  pipe = tmp_path / "pipe"
  os.mkfifo(pipe)
  with concurrent.futures.ThreadPoolExecutor() as threads:
    threads.submit(pipe.write_bytes, data)
    np.testing.assert_array_equal(images.read(pipe), _read(data))


def test_endless_pipe_is_rejected():
  class Endless(io.RawIOBase):
    name = "endless"

    def seekable(self):
      return False

    def read(self, size=-1):
      return bytes(size)

  assert _error(Endless()) == "endless has more than 50 million pixels; scale it down"


# Refusals.


def _error(source):
  with pytest.raises(UserError) as raised:
    images.read(source)
  message = str(raised.value)
  assert "\n" not in message
  return message


def test_missing_file_is_named(tmp_path):
  message = _error(tmp_path / "none.png")
  assert message.startswith(f"{tmp_path / 'none.png'} can't be read: No such file")


def test_directory_is_named(tmp_path):
  assert _error(tmp_path).startswith(f"{tmp_path} can't be read: Is a directory")


@pytest.mark.parametrize("data", [b"", b"hello", b"%PDF-1.4\n", bytes(1000)])
def test_non_picture_is_named(tmp_path, data):
  path = tmp_path / "letter.txt"
  path.write_bytes(data)
  assert _error(path).startswith(f"{path} is not a picture; give a PNG, JPEG")


def test_other_pillow_formats_are_rejected(tmp_path):
  path = tmp_path / "five.ppm"
  Image.new("L", (8, 8)).save(path)
  assert "is not a picture" in _error(path)


def test_name_with_newline_stays_on_one_line(tmp_path):
  assert r"a\nb.png" in _error(tmp_path / "a\nb.png")


def test_unnamed_stream_is_called_the_picture():
  assert _error(io.BytesIO(b"hello")).startswith("the picture is not")


def _samples():
  image = Image.fromarray(_bytes(_on_paper(_five(64))))
  samples = {kind: _encode(image, kind, **options) for kind, options in LOSSLESS.items()}
  exif = Image.Exif()
  exif[0x0112] = 6
  samples["JPEG"] = _encode(image, "JPEG", exif=exif)
  samples["TIFF_LZW"] = _encode(image, "TIFF", compression="tiff_lzw")
  return samples


@pytest.mark.parametrize(("kind", "data"), _samples().items(), ids=list(_samples()))
def test_truncated_files_are_rejected(kind, data, tmp_path, capfd):
  path = tmp_path / "cut"
  for length in np.linspace(0, len(data) * 0.8, 60).astype(int):
    path.write_bytes(data[:length])
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      assert str(path) in _error(path), (kind, length)
  assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("kind", "data"), _samples().items(), ids=list(_samples()))
def test_corrupt_files_are_read_or_rejected(kind, data, capfd):
  generator = np.random.default_rng(sum(kind.encode()))
  for _ in range(150):
    broken = bytearray(data)
    # Changes in headers break the most.
    reach = len(data) if generator.random() < 0.5 else min(len(data), 120)
    for place in generator.integers(0, reach, generator.integers(1, 6)):
      broken[place] = generator.integers(256)
    with warnings.catch_warnings():
      warnings.simplefilter("error")
      try:
        picture = _read(bytes(broken))
      except UserError as refusal:
        assert str(refusal).startswith("the picture ")
      else:
        assert picture.ndim == 2
        assert picture.min() >= 0
        assert picture.max() <= 1
  assert capfd.readouterr() == ("", "")


def _png(width, height):
  """A PNG of a few bytes that claims an arbitrary size."""
  header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
  data = b"IDAT" + zlib.compress(bytes(1000))
  chunks = [header, data, b"IEND"]
  return b"\x89PNG\r\n\x1a\n" + b"".join(
    struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    for chunk in chunks
  )


@pytest.mark.parametrize("size", [(60_000, 60_000), (7_072, 7_072), (50_000_001, 1)])
def test_too_many_pixels_are_rejected_from_the_header(size, tmp_path):
  path = tmp_path / "bomb.png"
  path.write_bytes(_png(*size))
  images.read(io.BytesIO(_encode(Image.new("L", (1, 1)))))
  tracemalloc.start()
  message = _error(path)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert message == f"{path} has more than 50 million pixels; scale it down"
  assert peak < 1e6


def test_empty_picture_is_rejected():
  assert "the picture" in _error(io.BytesIO(_png(0, 5)))


# Preparing.


def test_digit_is_prepared_as_in_mnist():
  image = _image(_on_paper(_five(200)))
  assert image.dtype == np.uint8
  assert image.shape == (28, 28)
  assert image.max() == 255
  assert np.median(image) == 0
  left, top, right, bottom = _ink_box(image)
  assert bottom - top == 20
  assert 11 <= right - left <= 16
  assert np.abs(_center(image) - 14).max() <= 0.5


def test_wide_digit_is_scaled_by_width():
  left, top, right, bottom = _ink_box(_image(_on_paper(_five(100)[:, ::-1].T)))
  assert right - left == 20
  assert bottom - top < 17


def test_digit_is_neither_mirrored_nor_rotated():
  ink = _five(280)
  expected = Image.fromarray(_bytes(ink)).resize((28, 28), Image.Resampling.BOX)
  image = _image(_on_paper(ink)).astype(float)
  # The 5 fills 0.66 of its square and 20 / 28 of the frame, and is shifted a little.
  scores = {
    name: np.corrcoef(
      ndimage.gaussian_filter(image, 1).ravel(),
      ndimage.gaussian_filter(turn(np.asarray(expected, float)), 1).ravel(),
    )[0, 1]
    for name, turn in {"same": lambda a: a, "mirror": np.fliplr, "flip": np.flipud}.items()
  }
  assert scores["same"] > 0.75
  assert scores["same"] > scores["mirror"] + 0.2
  assert scores["same"] > scores["flip"] + 0.2


@pytest.mark.parametrize("size", [28, 60, 300])
def test_both_polarities_give_the_same_image(size):
  picture = _on_paper(_five(size))
  assert _difference(_image(picture), _image(1 - picture)) < 0.01


def test_size_and_position_do_not_matter():
  expected = _image(_on_paper(_five(400)))
  for size, place in [(40, (0, 0)), (90, (7, 100)), (250, (200, 40)), (1500, (500, 900))]:
    canvas = np.zeros((size + place[0] + 30, size + place[1] + 50), np.float32)
    canvas[place[0] : place[0] + size, place[1] : place[1] + size] = _five(size)
    # Thin strokes are thickened in steps, so a stroke may end up a little wider or narrower.
    assert _difference(_image(_on_paper(canvas)), expected) < 0.13, size


def test_contrast_does_not_matter():
  expected = _image(_on_paper(_five(200)))
  for paper, pen in [(1, 0), (0.6, 0.4), (0.3, 0.1), (0.2, 0.9)]:
    assert _difference(_image(_on_paper(_five(200), paper=paper, pen=pen)), expected) < 0.02


@pytest.mark.parametrize("pen", [0.1, 0.9])
def test_uneven_light_does_not_matter(pen):
  ink = _five(300)
  rows, columns = np.mgrid[-1:1:300j, -1:1:300j]
  light = 0.55 + 0.2 * columns - 0.1 * rows - 0.05 * (rows**2 + columns**2)
  picture = light * (1 - 0.8 * ink) if pen < 0.5 else light + (1 - light) * 0.8 * ink
  assert _difference(_image(picture.astype(np.float32)), _image(_on_paper(ink))) < 0.1


@pytest.mark.parametrize("pen", [0.15, 0.85])
def test_dark_corners_and_soft_shadow_are_not_ink(pen):
  """Paper photographed by a phone: the lens darkens the corners, a hand shades one side."""
  ink = np.pad(np.concatenate([_five(120), _seven(120)], axis=1), ((90, 90), (60, 60)))
  rows, columns = np.meshgrid(*(np.linspace(-1, 1, size) for size in ink.shape), indexing="ij")
  corners = 0.08 * (rows**2 + columns**2) ** 2
  shade = 0.25 / (1 + np.exp(-12 * (columns + 0.5 * rows - 0.6)))
  light = 0.85 - corners - shade
  picture = light * (1 - 0.7 * ink) if pen < 0.5 else 1 - light * (1 - 0.7 * ink)
  noise = np.random.default_rng(0).normal(0, 0.004, ink.shape)
  first, second = images.find_digits(np.clip(picture + noise, 0, 1).astype(np.float32))
  assert _difference(first.image, _image(_on_paper(_five(300)))) < 0.2
  assert _difference(second.image, _image(_on_paper(_seven(300)))) < 0.2


def test_noise_and_jpeg_do_not_matter():
  ink = _five(300)
  noise = np.random.default_rng(3).normal(0, 0.04, ink.shape)
  picture = np.clip(_on_paper(ink, paper=0.8, pen=0.2) + noise, 0, 1)
  read = _read(_encode(Image.fromarray(_bytes(picture)), "JPEG", quality=30))
  assert _difference(_image(read), _image(_on_paper(ink))) < 0.1


@pytest.mark.parametrize(("pen", "width"), [(1, 2.5), (3, 2.5), (30, 5)])
def test_thin_strokes_become_as_wide_as_half_of_mnists(pen, width):
  ink = np.zeros((160, 160))
  ink[20:140, 20 : 20 + pen] = 1
  ink[20 : 20 + pen, 20:100] = 1
  middle = _image(_on_paper(ink))[12:20].astype(float)
  assert (middle.sum(1) / 255).mean() == pytest.approx(width, abs=0.5)


def test_hairline_on_large_picture_stays_visible():
  picture = np.ones((3000, 4000), np.float32)
  picture[500:2500, 2000] = 0
  picture[500, 1000:2000] = 0
  image = _image(picture)
  left, top, right, bottom = _ink_box(image)
  assert bottom - top == 20
  assert right - left in (10, 11, 12)
  # A vertical stroke of 1.9 pixels by 20 and a horizontal one by 8.
  assert 0.7 * 50 < image.sum() / 255 < 1.4 * 50


def test_specks_are_ignored():
  clean = _on_paper(_five(300))
  dusty = clean.copy()
  generator = np.random.default_rng(1)
  for row, column in generator.integers(4, 290, (12, 2)):
    dusty[row : row + 4, column : column + 5] = 0.3
  dusty[2:8, 2:8] = 0.1
  (clean_digit,), (digit,) = images.find_digits(clean), images.find_digits(dusty)
  assert _difference(digit.image, clean_digit.image) < 0.15
  np.testing.assert_allclose(digit.box, clean_digit.box, atol=4)


def test_detached_stroke_is_kept():
  connected, broken = _on_paper(_five(300)), _on_paper(_five(300, gap=0.08))
  (digit,) = images.find_digits(broken)
  np.testing.assert_array_equal(digit.image, _image(broken))
  np.testing.assert_allclose(digit.box, images.find_digits(connected)[0].box, atol=4)
  assert digit.image[4:8, 14:18].max() > 200


def test_desk_around_the_paper_is_ignored():
  picture = _on_paper(_five(300))
  clean = _image(picture)
  rows, columns = np.mgrid[:300, :300]
  for desk in (rows < 20, columns > 285, rows + columns < 70):
    assert _difference(_image(np.where(desk, 0.2, picture).astype(np.float32)), clean) < 0.05


def test_tightly_cropped_digit_is_read():
  ink = _five(200, pen=0.12)
  left, top, right, bottom = _ink_box(_bytes(ink))
  close = _on_paper(ink[top:bottom, left:right])
  assert _difference(_image(close), _image(_on_paper(ink))) < 0.05


@pytest.mark.parametrize("negative", [False, True])
def test_picture_in_mnist_style_is_unchanged(negative):
  image = _image(_on_paper(_five(200)))
  picture = image.astype(np.float32) / 255
  (digit,) = images.find_digits(1 - picture if negative else picture)
  np.testing.assert_array_equal(digit.image, image)
  assert digit.box == _ink_box(image)


def test_input_array_is_not_modified():
  picture = _on_paper(_five(100))
  before = picture.copy()
  images.find_digits(picture)
  np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize(("level", "slope"), [(0, 0), (0.4, 0), (0.4, 0.3), (0.8, 0.3), (1, 0)])
@pytest.mark.parametrize(
  ("shape", "noise"),
  [((28, 28), 0), ((28, 28), 0.01), ((240, 320), 0), ((240, 320), 0.03), ((900, 700), 0.06)],
)
def test_blank_paper_is_reported(level, slope, shape, noise):
  generator = np.random.default_rng(0)
  picture = level + slope * np.linspace(-0.5, 0.5, shape[1]) + generator.normal(0, noise, shape)
  picture = np.clip(picture, 0, 1).astype(np.float32)
  assert images.find_digits(picture) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 3), (5, 2000)])
def test_odd_shapes_are_accepted(shape):
  generator = np.random.default_rng(0)
  for picture in (np.zeros(shape, np.float32), generator.random(shape, np.float32)):
    for digit in images.find_digits(picture):
      assert digit.image.max() == 255


def test_any_small_picture_is_accepted():
  generator = np.random.default_rng(0)
  for _ in range(1000):
    picture = generator.random(generator.integers(1, 30, 2), np.float32)
    if generator.random() < 0.5:
      picture = (picture > generator.random()).astype(np.float32)
    for digit in images.find_digits(picture):
      assert digit.image.max() == 255


def test_digits_are_ordered_left_to_right_with_positions():
  canvas = np.zeros((300, 700), np.float32)
  canvas[60:260, 20:220] = _seven(200)
  canvas[20:220, 240:440] = _five(200, gap=0.06)
  canvas[100:200, 500:600] = _seven(100)
  picture = _on_paper(canvas)
  digits = images.find_digits(picture)
  assert len(digits) == 3
  for digit, ink, (left, top) in zip(
    digits,
    [_seven(200), _five(200, gap=0.06), _seven(100)],
    [(20, 60), (240, 20), (500, 100)],
    strict=True,
  ):
    expected = np.add(_ink_box(ink > 0.5), (left, top, left, top))
    np.testing.assert_allclose(digit.box, expected, atol=3)
    # The whole picture is reduced before segmentation; the single digits aren't.
    assert _difference(digit.image, _image(_on_paper(ink))) < 0.25


def _page(rows, *, side=100, slope=0.0):
  """Ink of rows of drawn digits, each `side` wide, which descend by `slope` pixels per pixel."""
  digits = [np.concatenate(row, axis=1) for row in rows]
  width = max(row.shape[1] for row in digits) + side
  canvas = np.zeros((side * (len(rows) + 1) + round(abs(slope) * width), width), np.float32)
  for place, row in enumerate(digits):
    canvas[side // 2 + place * side :][:side, side // 2 : side // 2 + row.shape[1]] = row
  drop = np.rint(slope * np.arange(width)).astype(int)
  return np.stack([np.roll(canvas[:, x], drop[x]) for x in range(width)], axis=1)


@pytest.mark.parametrize("slope", [-0.06, 0, 0.06])
def test_rows_are_read_top_to_bottom(slope):
  five, seven = _five(100), _seven(100)
  page = _page([[seven, five, five], [five, seven], [seven] * 5, [five]], slope=max(0, slope))
  digits = images.find_digits(_on_paper(page if slope >= 0 else page[::-1, ::-1]))
  expected = [0] * 3 + [1] * 2 + [2] * 5 + [3]
  rows = [digit.row for digit in digits]
  assert rows == (expected if slope >= 0 else [3 - row for row in expected[::-1]])
  for row in set(rows):
    lefts = [digit.box.left for digit in digits if digit.row == row]
    assert lefts == sorted(lefts)
  if slope == 0:
    kinds = [seven, five, five, five, seven, *[seven] * 5, five]
    for digit, kind in zip(digits, kinds, strict=True):
      assert _difference(digit.image, _image(_on_paper(kind))) < 0.25


def test_stacked_digits_are_two_rows():
  page = np.concatenate([_five(200)[30:170, 50:150], _seven(200)[30:170, 50:150]])
  digits = images.find_digits(_on_paper(np.pad(page, 40)))
  assert [digit.row for digit in digits] == [0, 1]


@pytest.mark.parametrize("cut", [0.3, 0.5, 0.65])
def test_broken_digit_stays_one_digit(cut):
  """As by a fold, or a pen that skips."""
  broken = _five(300)
  broken[round(cut * 300) : round(cut * 300) + 8] = 0
  (digit,) = images.find_digits(_on_paper(broken))
  assert _difference(digit.image, _image(_on_paper(_five(300)))) < 0.25


def _printed(kind, shape, pitch, angle, *, width=1.0):
  """Lines of ruled or grid paper, in [0, 1], rotated by an angle in degrees."""
  rows, columns = np.mgrid[: shape[0], : shape[1]]
  rotated = (columns - shape[1] / 2 + 1j * (rows - shape[0] / 2)) * np.exp(-1j * np.deg2rad(angle))

  def lines(places):
    return np.clip(width / 2 + 0.5 - np.abs((places + pitch / 2) % pitch - pitch / 2), 0, 1)

  ruled = lines(rotated.imag)
  return ruled if kind == "ruled" else np.maximum(ruled, lines(rotated.real))


@pytest.mark.parametrize(
  ("pitch", "angle", "noise"), [(24, 0, 0), (28, 1, 0), (40, -3, 0), (40, -3, 0.01), (60, 7, 0.01)]
)
@pytest.mark.parametrize("kind", ["ruled", "squared"])
def test_ruled_paper_is_blank_and_digit_on_it_is_read(kind, pitch, angle, noise):
  lines = _printed(kind, (480, 640), pitch, angle)
  grain = np.random.default_rng(0).normal(0, noise, lines.shape) if noise else 0
  for depth in (0.25, 0.4) if noise else (0.1, 0.25, 0.4):
    paper = 0.8 - depth * lines
    assert images.find_digits((paper + grain).astype(np.float32)) == []
    for drawn in (_five(240), _seven(240)):
      ink = np.zeros(lines.shape)
      ink[120:360, 200:440] = drawn
      seen = np.minimum(paper, 0.8 - 0.65 * ink) + grain
      (digit,) = images.find_digits(seen.astype(np.float32))
      assert _difference(digit.image, _image(_on_paper(drawn))) < 0.35


def test_digits_in_table_cells_are_read_by_row():
  table = np.zeros((300, 400), np.float32)
  table[np.r_[10:13, 100:103, 190:193, 280:283], 10:390] = 1
  table[10:283, np.r_[10:13, 103:106, 196:199, 290:293, 387:390]] = 1
  kinds = [_five(90), _seven(90), _seven(90), _five(90)]
  for row in range(3):
    for column, drawn in enumerate(kinds):
      table[10 + 90 * row :, 13 + 93 * column :][:90, :90] += drawn
  digits = images.find_digits(_on_paper(np.minimum(table, 1)))
  assert [digit.row for digit in digits] == [0] * 4 + [1] * 4 + [2] * 4
  for digit, drawn in zip(digits, kinds * 3, strict=True):
    assert _difference(digit.image, _image(_on_paper(drawn))) < 0.35


@pytest.mark.parametrize("frame", [2, 9])
def test_thick_frame_of_a_table_hides_no_digit(frame):
  ink = np.zeros((380, 380))
  for place in range(10, 380, 40):
    ink[10:372, place : place + 2] = ink[place : place + 2, 10:372] = 1
  for edge in (np.s_[10 : 10 + frame], np.s_[372 - frame : 372]):
    ink[edge, 10:372] = ink[10:372, edge] = 1
  for row, column in ((1, 2), (1, 6), (5, 4)):
    top, left = 10 + 40 * row, 10 + 40 * column
    ink[top + 7 : top + 37, left + 7 : left + 37] = _five(30)
  digits = images.find_digits(_on_paper(ink))
  assert [digit.row for digit in digits] == [0, 0, 1]
  assert all(18 <= digit.box.height <= 24 for digit in digits)


@pytest.mark.parametrize("margin", [5, 12, 55])
def test_frame_around_a_digit_is_ignored(margin):
  picture = np.zeros((300, 260), np.float32)
  picture[margin : 300 - margin, margin : 260 - margin] = 1
  picture[margin + 3 : 297 - margin, margin + 3 : 257 - margin] = 0
  picture[75:225, 55:205] += _five(150)
  (digit,) = images.find_digits(_on_paper(picture))
  assert _difference(digit.image, _image(_on_paper(_five(150)))) < 0.2


def test_straight_strokes_are_not_ruling():
  one = np.zeros((200, 300), np.float32)
  one[10:190, 148:154] = 1
  assert images.find_digits(_on_paper(one))[0].box[1:4:2] == (10, 190)
  tally = np.zeros((120, 400), np.float32)
  for left in range(40, 360, 60):
    tally[20:100, left : left + 6] = 1
  assert len(images.find_digits(_on_paper(tally))) == 6


def test_boxes_on_large_pictures_are_in_original_pixels():
  canvas = np.zeros((2000, 3000), np.float32)
  canvas[800:1600, 100:900] = _five(800)
  canvas[700:1500, 1900:2700] = _seven(800)
  first, second = images.find_digits(_on_paper(canvas))
  np.testing.assert_allclose(first.box, np.add(_ink_box(_five(800) > 0.5), (100, 800) * 2), atol=8)
  expected = np.add(_ink_box(_seven(800) > 0.5), (1900, 700) * 2)
  np.testing.assert_allclose(second.box, expected, atol=8)


def test_pale_thin_digit_next_to_bold_one_is_normalized():
  canvas = np.zeros((230, 460), np.float32)
  canvas[:230, :230] = _five(230)
  canvas[20:210, 350] = 0.5
  five, one = images.find_digits(_on_paper(canvas))
  assert _difference(five.image, _image(_on_paper(_five(230)))) < 0.1
  assert one.box == (350, 20, 351, 210)
  expected = np.zeros((28, 28), np.uint8)
  expected[4:24, 13:15] = 255
  assert _difference(one.image, expected) < 0.35


@pytest.mark.parametrize(("paper", "pen"), [(1.0, 0.96), (0.0, 0.04), (0.5, 0.46)])
def test_pale_strokes_are_read(paper, pen):
  expected = _image(_on_paper(_five(200)))
  assert _difference(_image(_on_paper(_five(200), paper=paper, pen=pen)), expected) < 0.05
  eight_bits = _bytes(_on_paper(_five(200), paper=paper, pen=pen)).astype(np.float32) / 255
  assert _difference(_image(eight_bits), expected) < 0.3


def test_period_is_not_a_digit():
  canvas = np.zeros((300, 400), np.float32)
  canvas[50:250, 50:250] = _seven(200)
  canvas[200:216, 300:316] = 1
  (digit,) = images.find_digits(_on_paper(canvas))
  assert digit.box[2] < 250


def test_mnist_is_unchanged_and_survives_photographing(read_mnist):
  digits = read_mnist("t10k-images-idx3-ubyte")[:300]
  for digit in digits:
    picture = digit.astype(np.float32) / 255
    np.testing.assert_array_equal(_image(picture), digit)
    np.testing.assert_array_equal(_image(1 - picture), digit)
  differences = []
  for digit in digits[:100]:
    large = Image.fromarray(digit).resize((168, 168), Image.Resampling.BICUBIC)
    canvas = np.pad(np.asarray(large, np.float32) / 255, ((30, 80), (90, 20)))
    data = _encode(Image.fromarray(_bytes(_on_paper(canvas, paper=0.8))), "JPEG")
    differences.append(_difference(_image(_read(data)), digit))
  assert np.mean(differences) < 0.25


# Files and folders.


def _save_five(path):
  path.write_bytes(_encode(Image.fromarray(_bytes(_on_paper(_five(60))))))


def test_folder_is_listed_by_name(tmp_path):
  for name in ("b.JPG", "a.png", "c.webp", "notes.txt", ".hidden.png", "d.tif"):
    (tmp_path / name).write_bytes(b"")
  (tmp_path / "deeper.png").mkdir()
  (tmp_path / "deeper.png" / "e.png").write_bytes(b"")
  files, problems = images.list_files(["first", str(tmp_path), "-"])
  expected = [str(tmp_path / name) for name in ("a.png", "b.JPG", "c.webp", "d.tif")]
  assert files == ["first", *expected, "-"]
  assert problems == []


def test_folder_without_pictures_is_reported(tmp_path):
  (tmp_path / "notes.txt").write_bytes(b"")
  files, problems = images.list_files([str(tmp_path), "other.png"])
  assert files == ["other.png"]
  (problem,) = problems
  assert problem.startswith(f"{tmp_path} has no pictures; name a folder with PNG, JPEG")


def test_files_are_read_in_order_and_problems_collected(tmp_path):
  good, blank, two = (str(tmp_path / name) for name in ("good.png", "blank.png", "two.png"))
  _save_five(tmp_path / "good.png")
  Image.new("L", (60, 60), 255).save(blank)
  canvas = np.concatenate([_on_paper(_five(60)), _on_paper(_seven(60))], axis=1)
  Image.fromarray(_bytes(canvas)).save(two)
  problems = ["an earlier one"]
  named = [blank, good, two, str(tmp_path / "none.png"), good]
  pictures = list(images.read_files(named, problems, several_digits=False))
  assert [picture.file for picture in pictures] == [good, good]
  np.testing.assert_array_equal(pictures[0].pixels, images.read(good))
  assert [digit.box for digit in pictures[0].prepared] == [
    images.find_digits(images.read(good))[0].box
  ]
  assert problems == [
    "an earlier one",
    f"{blank} is blank; give a picture of a digit",
    f"{two} shows 2 digits; --digits reads them as a number",
    f"{tmp_path / 'none.png'} can't be read: No such file or directory; give the path of a picture",
  ]
  (number,) = images.read_files([two], problems, several_digits=True)
  assert len(number.prepared) == 2
  assert len(problems) == 4


def test_page_is_rejected_if_one_digit_is_expected(tmp_path):
  page = str(tmp_path / "page.png")
  drawn = _on_paper(_page([[_five(100), _seven(100)], [_seven(100)]]))
  Image.fromarray(_bytes(drawn)).save(page)
  problems = []
  assert list(images.read_files([page], problems)) == []
  assert problems == [f"{page} shows 3 digits in 2 rows; --digits reads a number in each"]


def test_batches_hold_many_small_or_one_large_picture():
  def sized(*shape):
    return images.Picture("a.png", np.zeros(shape, np.float32), [])

  small, large = sized(100, 100), sized(3000, 3000)
  taken = []

  def pictures():
    for picture in [*[small] * 130, large, small, large, large]:
      taken.append(picture)
      yield picture

  batches = images.in_batches(pictures())
  assert [len(next(batches)) for _ in range(2)] == [64, 64]
  # Files are read lazily.
  assert len(taken) == 128
  assert [len(batch) for batch in batches] == [3, 2, 1]
  assert list(images.in_batches([])) == []


def test_dataset_image_is_unchanged():
  image = np.random.default_rng(0).integers(0, 256, (28, 28, 1), np.uint8)
  picture = images.as_picture("mnist/test[3]", image)
  assert picture.file == "mnist/test[3]"
  np.testing.assert_allclose(picture.pixels, image[..., 0] / 255, atol=1e-6)
  ((seen, box, row, ink),) = picture.prepared
  np.testing.assert_array_equal(seen, image[..., 0])
  assert (box, row, ink) == ((0, 0, 28, 28), 0, None)


# ---- For networks of other images ----


def test_color_pictures_are_upright_on_white():
  pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
  rotated = Image.fromarray(np.rot90(pixels).copy())
  exif = Image.Exif()
  exif[0x0112] = 6  # Rotated by 90 degrees counterclockwise.
  read = images.read(io.BytesIO(_encode(rotated, exif=exif)), colors=True)
  np.testing.assert_allclose(read, pixels / 255, atol=1e-6)
  transparent = Image.fromarray(np.dstack([pixels, np.zeros((5, 7), np.uint8)]))
  assert (images.read(io.BytesIO(_encode(transparent)), colors=True) == 1).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "I;16", "CMYK"])
def test_gray_pictures_have_equal_channels(mode):
  gray = Image.fromarray(np.linspace(0, 255, 48).reshape(6, 8).astype(np.uint8))
  kind = "TIFF" if mode == "CMYK" else "PNG"
  data = _encode(gray.convert("I").convert(mode) if mode == "I;16" else gray.convert(mode), kind)
  read = images.read(io.BytesIO(data), colors=True)
  assert (read.shape, read.dtype) == ((6, 8, 3), np.float32)
  np.testing.assert_array_equal(read[..., 0], read[..., 2])
  np.testing.assert_allclose(read[..., 0], images.read(io.BytesIO(data)), atol=0.01)


@pytest.mark.parametrize(
  ("size", "shape", "box"),
  [
    ((30, 50), (10, 10), (10, 0, 40, 30)),
    ((50, 30), (10, 10), (0, 10, 30, 40)),
    ((30, 60), (10, 20), (0, 0, 60, 30)),
    ((60, 60), (20, 24), (0, 5, 60, 55)),
    ((1, 9), (20, 20), (4, 0, 5, 1)),
  ],
)
def test_center_is_cropped_and_scaled(size, shape, box):
  picture = np.full((*size, 3), 0.2, np.float32)
  picture[box[1] : box[3], box[0] : box[2]] = (0.4, 0.6, 1.0)
  prepared = images.crop_and_scale(picture, (*shape, 3))
  assert prepared.box == box
  assert (prepared.image.shape, prepared.image.dtype) == ((*shape, 3), np.uint8)
  assert (prepared.image == (102, 153, 255)).all()
  gray = images.crop_and_scale(picture[..., 0], (*shape, 1))
  np.testing.assert_array_equal(gray.image, prepared.image[..., 0])


def test_image_of_target_size_is_unchanged():
  image = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
  prepared = images.crop_and_scale(image.astype(np.float32) / 255, (20, 24, 3))
  np.testing.assert_array_equal(prepared.image, image)


def test_files_are_prepared_for_the_network_input(tmp_path):
  pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
  Image.fromarray(pixels).save(tmp_path / "a.png")
  problems = []
  (colors,) = images.read_files([str(tmp_path / "a.png")], problems, image_shape=(20, 24, 3))
  (gray,) = images.read_files([str(tmp_path / "a.png")], problems, image_shape=(20, 24, 1))
  assert (colors.pixels.shape, gray.pixels.shape) == ((40, 48, 3), (40, 48))
  assert [each.image.shape for each in (*colors.prepared, *gray.prepared)] == [
    (20, 24, 3), (20, 24)
  ]  # fmt: skip
  assert not problems
