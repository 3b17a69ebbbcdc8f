"""Tests of notebooks/quickstart.ipynb: executed from top to bottom, and as stored."""

import base64
import http.server
import importlib.util
import json
import os
import re
import signal
import threading
import time
from pathlib import Path

import commands
import lesson_notebook
import nbclient
import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

# On a busy machine TensorBoard may take a minute to start.
pytestmark = pytest.mark.timeout(600)

_NOTEBOOK = commands.REPOSITORY / "notebooks" / "quickstart.ipynb"


def _outputs(notebook):
  """Returns the outputs of each code cell, by the cell's name."""
  return {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def _text(outputs):
  """Returns the output and the results of a cell, including HTML."""
  texts = [output.get("text", "") for output in outputs]
  for output in outputs:
    texts += [text for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
  return "\n".join(texts)


def _pictures(outputs):
  """Returns the PNGs of a cell's outputs."""
  data = [output.get("data", {}).get("image/png") for output in outputs]
  return [base64.b64decode(picture) for picture in data if picture]


def _processes(word):
  """Returns the processes with `word` in their command lines."""
  found = []
  for process in Path("/proc").glob("[0-9]*"):
    try:
      command = (process / "cmdline").read_bytes()
    except OSError:  # It has exited meanwhile.
      continue
    if word.encode() in command:
      found.append(int(process.name))
  return found


@pytest.fixture(scope="module")
def executed(prepared, tmp_path_factory):
  """The notebook after a run on few examples; terminates its TensorBoard if still running."""
  directory = tmp_path_factory.mktemp("notebook")
  notebook = nbformat.read(_NOTEBOOK, as_version=4)
  for cell in notebook.cells:
    if cell.cell_type == "code":
      cell.outputs, cell.execution_count = [], None
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("MNIST_RESEARCH_DATASET", "synthetic_digits/2000_500")
    patch.setenv("TFDS_DATA_DIR", prepared)
    for name in ("TMPDIR", "IPYTHONDIR"):
      patch.setenv(name, str(directory))
    try:
      client = nbclient.NotebookClient(notebook, timeout=200, kernel_name="python3")
      client.execute(cwd=str(directory))
      deadline = time.monotonic() + 20
      while (left := _processes(f"{directory}/quickstart-")) and time.monotonic() < deadline:
        time.sleep(0.05)
    finally:
      for process in _processes(f"{directory}/quickstart-"):
        os.kill(process, signal.SIGKILL)
  return notebook, left


def test_notebook_runs_from_top_to_bottom(executed):
  outputs = _outputs(executed[0])
  assert "synthetic_digits/2000_500: 1,500 training and 500 test examples" in _text(outputs["load"])
  accuracy = float(re.search(r"'test_accuracy': ([\d.]+)", _text(outputs["train"])).group(1))
  assert accuracy > 0.8
  assert f"accuracy {accuracy:.2%}" in _text(outputs["evaluate"])
  assert "This is a 7" in _text(outputs["draw"])
  for name, count in {"look": 1, "curves": 1, "evaluate": 1, "predict": 1, "draw": 2}.items():
    pictures = _pictures(outputs[name])
    assert len(pictures) == count, name
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)


def test_tensorboard_is_shown_and_stopped(executed):
  notebook, left = executed
  shown = _text(_outputs(notebook)["tensorboard"])
  assert "<iframe" in shown
  assert "ERROR" not in shown
  assert not left


def test_stored_outputs_come_from_one_run():
  notebook = nbformat.read(_NOTEBOOK, as_version=4)
  cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
  assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
  outputs = _outputs(notebook)
  # It contains neither MNIST images nor details of the machine.
  assert _text(outputs["load"]).startswith("synthetic_digits: ")
  for name, kept in outputs.items():
    assert not re.search(r"/(home|root|tmp|usr|work)\b|Traceback|WARNING", _text(kept)), name
  assert [len(_pictures(outputs[name])) for name in ("look", "curves", "predict")] == [1, 1, 1]
  assert _NOTEBOOK.stat().st_size < 500_000


# The cell that installs the package if it is missing.


class _Colab(http.server.BaseHTTPRequestHandler):
  """The answer of Colab's server: the sessions, and the source of each."""

  opened = ""

  def do_GET(self):
    found = self.path == "/api/sessions"
    self.send_response(200 if found else 404)
    self.end_headers()
    self.wfile.write(json.dumps([{"name": "a.ipynb", "path": self.opened}]).encode())

  def log_message(self, *arguments):
    del arguments


@pytest.fixture
def install(monkeypatch, tmp_path):
  """Runs the cell in an empty folder; returns its arguments for pip."""
  monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
  (tmp_path / "notebooks").mkdir()
  monkeypatch.chdir(tmp_path / "notebooks")
  for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
    monkeypatch.delenv(name, raising=False)
  code = TransformerManager().transform_cell(lesson_notebook.install_cell())
  called = []

  class Shell:
    """A fake IPython, which substitutes variables in commands."""

    @staticmethod
    def run_line_magic(name, line):
      called.append((name, line.replace("$source", names["source"])))

  names = {"get_ipython": Shell}

  def run():
    exec(compile(code, "install", "exec"), names)
    return called

  return run


def test_clone_installs_itself(install, tmp_path):
  (tmp_path / "setup.cfg").touch()
  assert install() == [("pip", "install --quiet ..")]


@pytest.mark.parametrize(
  ("opened", "source"),
  [
    (
      "fileId=https%3A%2F%2Fgithub.com%2Fsomeone%2Fdigits%2Fblob%2Fv2%2Fnotebooks%2Fa.ipynb",
      "git+https://github.com/someone/digits@v2",
    ),
    (
      "fileId=https%3A//github.com/a-b/c.d/blob/main/notebooks/a.ipynb",
      "git+https://github.com/a-b/c.d@main",
    ),
    # From Drive.
    ("fileId=1aBcD", None),
  ],
)
def test_colab_installs_the_repository_it_was_opened_from(install, monkeypatch, opened, source):
  monkeypatch.setattr(_Colab, "opened", opened)
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Colab) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("COLAB_JUPYTER_IP", "127.0.0.1")
    monkeypatch.setenv("KMP_TARGET_PORT", str(server.server_port))
    if source:
      assert install() == [("pip", f"install --quiet {source}")]
    else:
      with pytest.raises(SystemExit, match="Open this notebook by File, Open notebook, GitHub"):
        install()
    server.shutdown()


def test_installed_package_is_not_reinstalled(install, monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
  assert install() == []


def test_notebooks_ask_for_no_input():
  for path in (_NOTEBOOK, lesson_notebook.NOTEBOOK):
    for cell in nbformat.read(path, as_version=4).cells:
      assert cell.cell_type != "code" or "input(" not in cell.source
