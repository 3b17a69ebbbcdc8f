"""Tests of a run's directory: lock, metrics, and atomic files."""

import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from mnist_research.config import Config
from mnist_research.run_files import Predictions
from mnist_research.runtime.errors import UserError
from mnist_research.runtime.files import write_atomically
from mnist_research.workdir import Workdir

_REPOSITORY = Path(__file__).resolve().parents[1]
_HOLDER = """
import sys
from mnist_research.workdir import Workdir
with Workdir(sys.argv[1]).opened():
  print("held", flush=True)
  sys.stdin.read()
"""


def _line(step: int, split: str = "train", **values) -> dict:
  return {"step": step, "split": split, **values}


def _written(path: Path, *records: dict | str) -> Workdir:
  """A workdir whose metrics.jsonl has `records`; strings are written verbatim."""
  path.mkdir(exist_ok=True)
  lines = [record if isinstance(record, str) else json.dumps(record) + "\n" for record in records]
  (path / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")
  return Workdir(path)


@pytest.fixture
def small_files():
  """A disk that accepts only ten bytes of a file."""
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
  yield
  resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# ---- The lock ----


@pytest.fixture
def holder(tmp_path):
  """Another process that holds the workdir."""
  process = subprocess.Popen(
    [sys.executable, "-c", _HOLDER, str(tmp_path / "run")],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    cwd=_REPOSITORY,
  )
  assert process.stdout.readline() == b"held\n"
  yield process
  process.kill()
  process.communicate()


@pytest.mark.usefixtures("holder")
def test_workdir_is_exclusive(tmp_path):
  with (
    pytest.raises(UserError, match=r"--workdir=.*/run: another process is training there"),
    Workdir(tmp_path / "run").opened(),
  ):
    pytest.fail("both hold it")


def test_killed_process_releases_the_lock(tmp_path, holder):
  holder.kill()
  holder.wait()
  with Workdir(tmp_path / "run").opened():
    pass


def test_finished_process_releases_the_lock(tmp_path, holder):
  holder.communicate()
  assert holder.returncode == 0
  with Workdir(tmp_path / "run").opened():
    pass


def test_lock_is_released_on_error(tmp_path):
  workdir = Workdir(tmp_path / "run")
  with pytest.raises(KeyError), workdir.opened():
    raise KeyError
  with workdir.opened():
    pass


def test_opening_creates_parent_directories(tmp_path):
  with Workdir(tmp_path / "a" / "b").opened():
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("path", ["file", "file/run"])
def test_file_in_place_of_workdir_is_rejected(tmp_path, path):
  (tmp_path / "file").write_text("mine")
  with pytest.raises(UserError, match=f"--workdir={tmp_path / path}: .*choose a directory"):  # noqa: SIM117
    with Workdir(tmp_path / path).opened():
      pytest.fail("it was opened")
  assert (tmp_path / "file").read_text() == "mine"


# ---- Settings and environment ----


def test_settings_round_trip(tmp_path):
  config = Config(seed=3, hidden_units=(5, 6), data_dir="/data", workdir=str(tmp_path))
  workdir = Workdir(tmp_path)
  workdir.begin(config, devices=["CPU:0"], step=0)
  assert workdir.read_config() == workdir.trained_config()
  assert workdir.read_config() == Config(seed=3, hidden_units=(5, 6), data_dir="/data")


def test_new_workdir_has_no_settings(tmp_path):
  assert Workdir(tmp_path / "absent").read_config() is None
  with pytest.raises(UserError, match=r"absent holds no run: name the --workdir"):
    Workdir(tmp_path / "absent").trained_config()


def test_environment_is_recorded(tmp_path):
  Workdir(tmp_path).begin(Config(), devices=["CPU:0", "CPU:1"], step=0)
  environment = json.loads((tmp_path / "environment.json").read_text())
  assert environment["devices"] == ["CPU:0", "CPU:1"]
  assert environment["tensorflow"] == metadata.version("tensorflow")
  assert environment["python"] == sys.version.split()[0]
  assert environment["command"][1:] == sys.argv


# ---- Metrics ----


def test_metrics_round_trip_in_order(tmp_path):
  workdir = Workdir(tmp_path)
  workdir.append_metrics(_line(1, loss=2.5), _line(1, "validation", accuracy=0.5))
  workdir.append_metrics(_line(2, loss=1.5))
  expected = [_line(1, loss=2.5), _line(1, "validation", accuracy=0.5), _line(2, loss=1.5)]
  assert workdir.read_metrics() == expected
  lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
  assert [line.pop("crc32") for line in lines] == ["d8760ab6", "889b2660", "132fbc50"]
  assert lines == expected


def test_new_workdir_has_no_metrics(tmp_path):
  assert Workdir(tmp_path).read_metrics() == []


def test_resume_drops_later_metrics(tmp_path):
  early = [_line(5, loss=3.0), _line(10, loss=2.0), _line(10, "validation", accuracy=0.5)]
  workdir = _written(tmp_path, *early, _line(15, loss=1.0), _line(20, "validation", accuracy=1.0))
  workdir.begin(Config(), devices=[], step=10)
  assert workdir.read_metrics() == early


def test_resume_at_the_end_drops_the_test_line(tmp_path):
  workdir = _written(tmp_path, _line(10, loss=2.0), _line(10, "test", loss=2.5))
  workdir.begin(Config(), devices=[], step=10)
  assert workdir.read_metrics() == [_line(10, loss=2.0)]


def test_truncated_last_line_is_dropped(tmp_path):
  workdir = _written(tmp_path, _line(5), '{"step": 10, "spl')
  assert workdir.read_metrics() == [_line(5)]
  workdir.begin(Config(), devices=[], step=10)
  workdir.append_metrics(_line(15))
  assert workdir.read_metrics() == [_line(5), _line(15)]


@pytest.mark.parametrize(
  "corrupt",
  [
    "{]", "[]", "7", '{"step": 3}', '{"split": "train"}', '{"step": null, "split": ""}',
    '{"step": 1e308, "split": "train"}', '{"step": 7.0, "split": "train"}',
    f'{{"step": {10**40}, "split": "train"}}', '{"step": "7", "split": "train"}',
    '{"step": -1, "split": "train"}', '{"step": true, "split": "train"}',
    '{"step": 7, "split": ["train"]}', '{"step": 7, "split": "dev"}',
    '{"step": 7, "split": "train", "loss": "1"}', '{"step": 7, "split": "train", "loss": 1e308}',
    f'{{"step": 7, "split": "train", "loss": {10**400}}}',
    '{"step": 7, "split": "validation", "loss": 1}',
    "[" * 20_000, '{"step":' * 10_000, f'{{"step": {"1" * 5_000}, "split": "train"}}',
    "x" * 200_000,
    '{"step": 7, "split": "train", "crc32": "00000000"}', '{"step": 7, "crc32": 3}',
  ],
)  # fmt: skip
def test_corrupt_line_is_named(tmp_path, corrupt):
  workdir = _written(tmp_path, _line(5), corrupt + "\n", _line(10))
  before = (tmp_path / "metrics.jsonl").read_bytes()
  with pytest.raises(UserError, match=r"metrics\.jsonl is corrupt in line 2; delete that line"):
    workdir.begin(Config(), devices=[], step=10)
  assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_non_text_metrics_are_named(tmp_path):
  (tmp_path / "metrics.jsonl").write_bytes(b"\xff\xfe\n")
  with pytest.raises(UserError, match=r"metrics\.jsonl is corrupt"):
    Workdir(tmp_path).read_metrics()


@pytest.mark.usefixtures("small_files")
def test_full_disk_is_reported_for_metrics(tmp_path):
  with pytest.raises(UserError, match=r"metrics\.jsonl can't be written: File too large"):
    Workdir(tmp_path).append_metrics(_line(5, loss=1.0))


# ---- The result ----


def test_result_round_trips(tmp_path):
  result = {"step": 7, "test_accuracy": 0.5, "dataset": "mnist"}
  written = Workdir(tmp_path).write_result(result)
  text = json.dumps(result).encode()
  assert written == {**result, "sha256": hashlib.sha256(text).hexdigest()}
  assert Workdir(tmp_path).read_result() == written
  assert json.loads((tmp_path / "result.json").read_text()) == written
  assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_unfinished_run_has_no_result(tmp_path):
  assert Workdir(tmp_path).read_result() is None


@pytest.mark.parametrize(
  "content",
  [
    b"", b"{", b"[]", b"{}", b'{"step": "x"}', b"\xff", b"[" * 10_000, b'{"step": 1e308}',
    b'{"step": %d}' % 10**40, b'{"step": 7.5}', b'{"step": -1}', b" " * 2_000_000,
    b'{"step": 7, "test_accuracy": "high"}', b'{"step": 7, "test_accuracy": NaN}',
    b'{"step": 7, "test_accuracy": 1.01}', b'{"step": 7, "parameters": %d}' % 10**400,
    b'{"step": 7, "best_step": "x"}', b'{"step": 7, "dataset": 3}',
    b'{"step": 7, "sha256": "00"}', b'{"step": 7, "sha256": null}',
  ],
)  # fmt: skip
def test_corrupt_result_is_named_with_remedy(tmp_path, content):
  (tmp_path / "result.json").write_bytes(content)
  with pytest.raises(UserError, match=r"result\.json is corrupt; delete it"):
    Workdir(tmp_path).read_result()


def test_result_is_written_atomically(tmp_path, request):
  write_atomically(tmp_path / "result.json", "old")
  request.getfixturevalue("small_files")
  with pytest.raises(UserError, match=r"result\.json can't be written: File too large"):
    write_atomically(tmp_path / "result.json", "new" * 10)
  assert (tmp_path / "result.json").read_text() == "old"
  assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_write_replaces_leftovers_of_a_killed_one(tmp_path):
  (tmp_path / ".result.json.partial").write_text("half")
  write_atomically(tmp_path / "result.json", "complete")
  assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("result.json", "complete")]


# ---- Predictions ----


def _predictions() -> Predictions:
  probabilities = np.array([[0.25, 0.75], [1.0, 0.0]], np.float32)
  return Predictions(np.array([1, 0], np.int32), probabilities, ("no", "yes"))


def test_predictions_round_trip_with_types(tmp_path):
  Workdir(tmp_path).write_predictions(_predictions())
  found = Workdir(tmp_path).read_predictions()
  assert found.labels.dtype == np.int32
  assert found.probabilities.dtype == np.float32
  np.testing.assert_array_equal(found.labels, [1, 0])
  np.testing.assert_array_equal(found.probabilities, [[0.25, 0.75], [1.0, 0.0]])
  assert found.label_names == ("no", "yes")
  assert [path.name for path in tmp_path.iterdir()] == ["predictions-test.npz"]


def test_run_without_predictions_has_none(tmp_path):
  assert Workdir(tmp_path).read_predictions() is None


@pytest.mark.parametrize("keep", [0, 10, 200, -1])
def test_corrupt_predictions_are_named(tmp_path, keep):
  Workdir(tmp_path).write_predictions(_predictions())
  path = tmp_path / "predictions-test.npz"
  path.write_bytes(path.read_bytes()[:keep])
  with pytest.raises(UserError, match=r"predictions-test\.npz is corrupt"):
    Workdir(tmp_path).read_predictions()


@pytest.mark.parametrize(
  "change",
  [
    {"label_names": ("no",)},
    {"labels": np.array([1, 2], np.int32)},
    {"labels": np.array([1.0, 0.0])},
    {"labels": np.array([1], np.int32)},
    {"probabilities": np.full((2, 2), np.nan, np.float32)},
    {"labels": np.zeros(0, np.int32), "probabilities": np.zeros((0, 2), np.float32)},
  ],
)
def test_inconsistent_predictions_are_corrupt(tmp_path, change):
  Workdir(tmp_path).write_predictions(_predictions()._replace(**change))
  with pytest.raises(UserError, match=r"predictions-test\.npz is corrupt"):
    Workdir(tmp_path).read_predictions()


@pytest.mark.parametrize("content", [None, "{", "[1]", "[" * 10_000, '{"sha256": "0"}'])
def test_unreadable_environment_is_named(tmp_path, content):
  if content:
    (tmp_path / "environment.json").write_text(content)
  with pytest.raises(UserError, match=r"environment\.json can't be read"):
    Workdir(tmp_path).read_environment()


# ---- Digests ----

_RECORDS = ("config.cfg", "environment.json", "metrics.jsonl", "result.json")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A workdir with every record and two lines of metrics."""
  path = tmp_path_factory.mktemp("finished")
  workdir = Workdir(path)
  workdir.begin(Config(seed=3), devices=["CPU:0"], step=0)
  workdir.append_metrics(_line(5, loss=1.5), _line(5, "validation", loss=1.0, accuracy=0.25))
  digest = workdir.write_predictions(_predictions())
  workdir.write_result({"step": 5, "test_accuracy": 0.9, "predictions_sha256": digest})
  return workdir


def _read_all(workdir: Workdir) -> None:
  workdir.read_config()
  workdir.read_environment()
  workdir.read_metrics()
  workdir.read_result()
  workdir.read_predictions()


def test_intact_records_are_read(finished):
  _read_all(finished)
  assert finished.read_config() == Config(seed=3)


@pytest.mark.parametrize("name", _RECORDS)
def test_flipped_bit_in_any_record_byte_is_reported(finished, tmp_path, name):
  path = Path(shutil.copytree(finished.path, tmp_path / "run")) / name
  content = path.read_bytes()
  step = max(1, len(content) // 400)
  for place in range(0, len(content), step):
    flipped = bytearray(content)
    flipped[place] ^= 1 << place % 8
    path.write_bytes(flipped)
    try:
      _read_all(Workdir(path.parent))
    except UserError as error:
      assert str(path) in str(error)
      continue
    # The end of the last line looks like a killed process's; the key of a digest has no meaning.
    if name == "metrics.jsonl":
      assert place == len(content) - 1
    else:
      assert name == "environment.json"
      before, after = json.loads(content), json.loads(bytes(flipped))
      del before["sha256"]
      assert before.items() <= after.items()


def test_changed_digit_in_any_record_is_reported(finished, tmp_path):
  for name, old, new, remedy in (
    ("result.json", "0.9", "0.8", "is corrupt; delete it, and the same train command"),
    ("metrics.jsonl", "1.5", "1.4", "is corrupt in line 1; delete that line"),
    ("config.cfg", "--seed=3", "--seed=4", "restore it"),
    ("environment.json", "CPU:0", "CPU:1", "restore it"),
  ):
    path = Path(shutil.copytree(finished.path, tmp_path / name)) / name
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    with pytest.raises(UserError, match=f"{name}.*{remedy}"):
      _read_all(Workdir(path.parent))


def test_record_without_its_digest_is_corrupt(finished, tmp_path):
  for name in ("config.cfg", "metrics.jsonl", "result.json"):
    path = Path(shutil.copytree(finished.path, tmp_path / name)) / name
    lines = path.read_text().splitlines()
    if name == "config.cfg":
      path.write_text("\n".join(lines[:-1]) + "\n")
    elif name == "metrics.jsonl":
      path.write_text(lines[0].partition(', "crc32"')[0] + "}\n")
    else:
      path.write_text(json.dumps({"step": 5}))
    with pytest.raises(UserError, match=f"{name}.*(is missing|differs from its)"):
      _read_all(Workdir(path.parent))


def test_records_of_previous_versions_are_read(tmp_path):
  workdir = _written(tmp_path, _line(5, loss=1.5))
  (tmp_path / "config.cfg").write_text(Config(seed=3).to_flagfile())
  (tmp_path / "environment.json").write_text('{"python": "3.11"}')
  (tmp_path / "result.json").write_text('{"step": 5, "test_accuracy": 0.9}')
  _read_all(workdir)
  assert workdir.read_result() == {"step": 5, "test_accuracy": 0.9}
  # A resumed run adds digests everywhere, and appends lines with digests.
  workdir.begin(Config(seed=3), devices=["CPU:0"], step=5)
  workdir.append_metrics(_line(6, loss=1.0))
  (tmp_path / "result.json").unlink()
  _read_all(workdir)
  assert (tmp_path / "metrics.jsonl").read_text().count("crc32") == 2


def test_config_with_crlf_line_endings_is_the_same(finished, tmp_path):
  path = Path(shutil.copytree(finished.path, tmp_path / "run")) / "config.cfg"
  path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
  assert Workdir(path.parent).read_config() == Config(seed=3)


def test_predictions_of_another_run_are_rejected(finished, tmp_path):
  copy = Workdir(shutil.copytree(finished.path, tmp_path / "run"))
  copy.write_predictions(_predictions()._replace(labels=np.array([0, 0], np.int32)))
  with pytest.raises(UserError, match=r"predictions-test\.npz is corrupt: it differs from its dig"):
    copy.read_predictions()


def test_result_names_the_tested_network(tmp_path):
  workdir = Workdir(tmp_path)
  assert workdir.tested_step() is None
  workdir.write_result({"step": 7})
  assert workdir.tested_step() == 7
  workdir.write_result({"step": 7, "best_step": 5})
  assert workdir.tested_step() == 5


def test_changed_copy_of_user_code_is_rejected(tmp_path):
  source = tmp_path / "net.py"
  source.write_text("class Net: pass\n")
  workdir = Workdir(tmp_path / "run")
  with workdir.opened():
    workdir.begin(Config(model=f"{source}:Net"), devices=[], step=0)
  assert workdir.trained_config().model.model.endswith("run/source/net.py:Net")
  (workdir.sources / "net.py").write_text("class Net: fast = True\n")
  with pytest.raises(UserError, match=r"source/net\.py differs from its digest; restore it"):
    workdir.trained_config()


# ---- Hostile files ----


def _as_pipe(path: Path) -> None:
  os.mkfifo(path)


def _as_device(path: Path) -> None:
  path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [_as_pipe, _as_device, Path.mkdir])
@pytest.mark.parametrize(
  "name", ["config.cfg", "metrics.jsonl", "predictions-test.npz", "result.json"]
)
def test_non_regular_files_are_rejected_unopened(tmp_path, name, make):
  make(tmp_path / name)
  with pytest.raises(UserError, match=rf"{name}.*isn't an ordinary file"):
    workdir = Workdir(tmp_path)
    workdir.read_config()
    workdir.read_metrics()
    workdir.read_result()
    workdir.read_predictions()


def _predictions_file(path: Path, **arrays) -> None:
  np.savez(path / "predictions-test.npz", **{**_predictions()._asdict(), **arrays})


def _with_header(path: Path, shape: tuple[int, ...], kind: str) -> None:
  """Writes predictions whose labels claim a shape that doesn't fit into memory."""
  header = io.BytesIO()
  described = {"descr": kind, "fortran_order": False, "shape": shape}
  np.lib.format.write_array_header_1_0(header, described)
  with zipfile.ZipFile(path / "predictions-test.npz", "w") as archive:
    archive.writestr("labels.npy", header.getvalue() + bytes(8))


@pytest.mark.parametrize(
  "write",
  [
    lambda path: np.save((path / "predictions-test.npz").open("wb"), np.zeros(3)),
    lambda path: np.save((path / "predictions-test.npz").open("wb"), np.float32(3)),
    lambda path: _predictions_file(path, labels=np.int32(3)),
    lambda path: _predictions_file(path, label_names=np.array("no")),
    lambda path: _predictions_file(path, probabilities=np.float32(0.5)),
    lambda path: _with_header(path, (10**13,), "<i4"),
    lambda path: _with_header(path, (10**13,), "<U0"),
    lambda path: _with_header(path, (-1, 10**13), "<i4"),
    lambda path: _with_header(path, (1,), "|O"),
    lambda path: np.savez_compressed(path / "predictions-test.npz", **_predictions()._asdict()),
  ],
)
def test_malformed_predictions_are_corrupt(tmp_path, write):
  write(tmp_path)
  with pytest.raises(UserError, match=r"predictions-test\.npz is corrupt: .*; delete it"):
    Workdir(tmp_path).read_predictions()
