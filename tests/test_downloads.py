"""Tests of downloads from a local server that also disconnects, refuses and stalls."""

import gzip
import http.server
import re
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow_datasets as tfds

from mnist_research.config import Config
from mnist_research.data import datasets, downloads, original_files, splits
from mnist_research.runtime.errors import UserError

_IMAGES = "train-images-idx3-ubyte.gz"


class _Handler(http.server.BaseHTTPRequestHandler):
  """Serves the files of a directory by base name, with a fault in one of them."""

  def do_HEAD(self) -> None:
    self.server.requests.append(f"HEAD {self.path}")
    self.send_response(200)
    self.end_headers()

  def do_GET(self) -> None:
    self.server.requests.append(f"GET {self.path}")
    name = self.path.rpartition("/")[2]
    content = (self.server.directory / name).read_bytes()
    fault = self.server.fault if name == _IMAGES else ""
    if fault == "once" and f"GET {self.path}" in self.server.requests[:-1]:
      fault = ""
    if fault.isdecimal():
      self.send_error(int(fault))
      return
    self.send_response(200)
    self.send_header("Content-Length", str(len(content)))
    self.end_headers()
    if fault in ("cut", "once"):
      self.wfile.write(content[:100_000])
    elif fault == "bytes":
      self.wfile.write(content[:-1] + bytes([content[-1] ^ 1]))
    elif fault == "stall":
      self.wfile.write(content[:100_000])
      self.server.ended.wait(20)
    else:
      self.wfile.write(content)

  def log_message(self, *_) -> None:
    """Drops the log."""


@pytest.fixture
def server(mnist_dir, monkeypatch) -> Iterator[SimpleNamespace]:
  """A server of MNIST's files on the loopback, without a proxy."""
  monkeypatch.setenv("NO_PROXY", "127.0.0.1")
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as served:
    served.directory, served.fault, served.requests = mnist_dir, "", []
    served.ended = threading.Event()
    served.url = f"http://127.0.0.1:{served.server_port}/mnist"
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield served
    served.ended.set()
    served.shutdown()


def _prepare(mirror: str, data_dir: Path, **settings) -> datasets.Source:
  return datasets.prepare(
    Config(**{"dataset": "mnist", "data_dir": str(data_dir), "mirror": mirror, **settings})
  )


def _fetch(server, directory: Path) -> None:
  infos = tfds.builder("mnist", data_dir=directory).url_infos
  downloads.fetch("mnist", infos, server.url, directory / "fetched")


def test_mnist_is_downloaded_from_a_mirror(server, tmp_path):
  test = splits.read(_prepare(f"{server.url}/", tmp_path), "test")
  with gzip.open(server.directory / "t10k-images-idx3-ubyte.gz") as file:
    images = file.read()[16:]
  assert sorted(map(bytes, test.images)) == sorted(
    images[i : i + 784] for i in range(0, len(images), 784)
  )
  paths = [line for line in server.requests if line.startswith("GET")]
  assert sorted(paths) == sorted(f"GET /mnist/{name}" for name in original_files.NAMES)


def test_dropped_connection_is_retried(server, tmp_path):
  server.fault = "once"
  _fetch(server, tmp_path)
  for name in original_files.NAMES:
    assert (tmp_path / "fetched" / name).read_bytes() == (server.directory / name).read_bytes()
  assert server.requests.count(f"GET /mnist/{_IMAGES}") == 2
  # Existing files aren't downloaded again, and the host isn't contacted.
  server.requests.clear()
  _fetch(server, tmp_path)
  assert not server.requests


@pytest.mark.parametrize(
  ("fault", "attempts", "problem"),
  [
    ("cut", 3, "its download failed: .*IncompleteRead"),
    ("403", 1, "its download failed: 403 Client Error"),
    ("503", 3, "its download failed: 503 Server Error"),
    ("stall", 3, "its download failed: .*timed out"),
    ("bytes", 1, f"/{_IMAGES} has a wrong checksum.*--mirror=URL.*--manual_dir=DIR"),
  ],
)
def test_failed_download_is_reported(server, tmp_path, monkeypatch, fault, attempts, problem):
  monkeypatch.setattr(downloads, "STALL_SECONDS", 0.3)
  server.fault = fault
  began = time.monotonic()
  with pytest.raises(UserError) as raised:
    _prepare(server.url, tmp_path)
  assert time.monotonic() - began < 10
  assert re.search(problem, str(raised.value)), raised.value
  assert server.requests.count(f"GET /mnist/{_IMAGES}") == attempts
  assert not list(tmp_path.rglob(f"*{_IMAGES}*"))
  assert not list(tmp_path.rglob("*.tfrecord*"))


def test_fallback_is_used_if_the_host_refuses(server, prepared):
  server.fault = "403"
  source = _prepare(server.url, Path(prepared), fallback_dataset="synthetic_digits/2000_500")
  assert source.name == "synthetic_digits/2000_500"


def test_tfds_downloads_use_the_environment_proxy(server, tmp_path, monkeypatch):
  for name in ("no_proxy", "NO_PROXY"):
    monkeypatch.delenv(name, raising=False)
  for name in ("http_proxy", "HTTP_PROXY"):
    monkeypatch.setenv(name, server.url.removesuffix("/mnist"))
  # The proxy serves MNIST's files, which aren't those of Fashion-MNIST.
  with pytest.raises(UserError, match=r"http://fashion-mnist\..*ubyte\.gz has a wrong checksum"):
    _prepare("", tmp_path, dataset="fashion_mnist")
  assert server.requests[0].startswith("HEAD http://fashion-mnist.s3-website.")
  assert server.requests[1].startswith("GET http://fashion-mnist.s3-website.")


def test_unresponsive_host_fetches_nothing(tmp_path):
  with pytest.raises(UserError, match=r"127\.0\.0\.1:9 doesn't answer.*--mirror=URL"):
    _prepare("http://127.0.0.1:9", tmp_path)


@pytest.fixture
def certificate(tmp_path) -> Path:
  """A self-signed certificate for the loopback, and its key."""
  if shutil.which("openssl") is None:
    pytest.skip("openssl isn't installed")
  path = tmp_path / "certificate.pem"
  subprocess.run(
    ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
     "-nodes", "-days", "2", "-subj", "/CN=proxy", "-addext", "subjectAltName=IP:127.0.0.1",
     "-keyout", path, "-out", tmp_path / "public.pem"],
    check=True, capture_output=True,
  )  # fmt: skip
  path.write_text(path.read_text() + (tmp_path / "public.pem").read_text())
  return path


def test_environment_certificate_is_trusted(server, certificate, tmp_path, monkeypatch):
  context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
  context.load_cert_chain(certificate)
  server.socket = context.wrap_socket(server.socket, server_side=True)
  server.url = server.url.replace("http:", "https:")
  for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
    monkeypatch.delenv(name, raising=False)
  with pytest.raises(UserError) as raised:
    _prepare(server.url, tmp_path)
  assert re.search(
    r"127\.0\.0\.1:\d+ has a certificate that isn't trusted.*REQUESTS_CA_BUNDLE=FILE",
    str(raised.value),
  )
  assert not server.requests
  monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "public.pem"))
  _fetch(server, tmp_path)
  for name in original_files.NAMES:
    assert (tmp_path / "fetched" / name).read_bytes() == (server.directory / name).read_bytes()
