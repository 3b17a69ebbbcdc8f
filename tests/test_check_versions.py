"""Tests of scripts/check_versions.py: its table, its environments, and its checks of commands."""

import sys
from pathlib import Path

import check_versions
import commands
import pytest
import version_checks
from absl import flags
from check_versions import Target
from version_checks import CheckError, Environment

from mnist_research.runtime.errors import UserError

_VERSIONS = {
  "tensorflow": "2.21.0", "keras": "3.15.1", "tensorflow-datasets": "4.9.10",
  "tensorboard": "2.21.0", "numpy": "2.1.0", "protobuf": "7.36.2",
}  # fmt: skip
_GOOD = {
  "python": "3.13.0", "resolution": "lowest", "versions": _VERSIONS,
  "passed": ["doctor", "train"], "failed": {}, "skipped": [],
}  # fmt: skip
_HEADER = (
  "| Python | versions | TensorFlow | Keras | TFDS | NumPy | protobuf | checks |\n"
  "|---|---|---|---|---|---|---|---|\n"
)


def test_table_has_a_row_per_environment():
  failed = {**_GOOD, "failed": {"report": "KeyError: 'a|b'"}, "skipped": ["export"]}
  missing = {"python": "3.14", "resolution": "newest", "missing": "no interpreter"}
  broken = {
    "python": "3.12.1", "resolution": "lowest",
    "passed": [], "failed": {"install": "no wheel"}, "skipped": [],
  }  # fmt: skip
  assert check_versions.table([_GOOD, failed, missing, broken]) == (
    _HEADER + "| 3.13.0 | lowest | 2.21.0 | 3.15.1 | 4.9.10 | 2.1.0 | 7.36.2 | 2 of 2 |\n"
    "| 3.13.0 | lowest | 2.21.0 | 3.15.1 | 4.9.10 | 2.1.0 | 7.36.2 "
    "| 2 of 4; report: KeyError: 'a\\|b' |\n"
    "| 3.14 | newest |  |  |  |  |  | not run: no interpreter |\n"
    "| 3.12.1 | lowest |  |  |  |  |  | 0 of 1; install: no wheel |\n"
  )


@pytest.fixture
def fake_uv(tmp_path):
  """A uv that finds only this interpreter, makes an environment of it, and records its calls."""
  program = tmp_path / "uv"
  program.write_text(
    f"#!{sys.executable}\n"
    "import pathlib, sys\n"
    f"with open({str(tmp_path / 'calls')!r}, 'a') as calls: print(*sys.argv[1:], file=calls)\n"
    "if sys.argv[1:3] == ['python', 'find']:\n"
    "  if sys.argv[-1] != 'mine': sys.exit('error: No interpreter found for ' + sys.argv[-1])\n"
    f"  print({sys.executable!r})\n"
    "if sys.argv[1] == 'venv':\n"
    "  path = pathlib.Path(sys.argv[-1], 'bin'); path.mkdir(parents=True)\n"
    f"  (path / 'python').symlink_to({sys.executable!r})\n"
  )
  program.chmod(0o755)
  return program


def _calls(uv):
  return uv.with_name("calls").read_text().splitlines()


def test_missing_interpreter_is_reported(fake_uv, tmp_path):
  result = check_versions.check(str(fake_uv), Target("3.14", "lowest"), tmp_path / "x.whl")
  assert result == {
    "python": "3.14", "resolution": "lowest", "missing": "No interpreter found for 3.14",
  }  # fmt: skip
  # No Python is downloaded in its place.
  assert _calls(fake_uv) == ["python find --no-python-downloads 3.14"]


def test_environment_gets_the_requested_versions(fake_uv, tmp_path, monkeypatch):
  ran = []
  checks = {"train": lambda environment: ran.append(environment)}
  monkeypatch.setattr(version_checks, "CHECKS", checks)
  monkeypatch.setattr(version_checks, "EXTRA_CHECKS", {"demo": lambda _: _fail("no page")})
  monkeypatch.setattr(version_checks, "result_of", lambda *_: {"test_loss": 2.5})
  monkeypatch.setattr(check_versions, "versions_in", lambda _: _VERSIONS)
  wheel = tmp_path / "wheel" / "x.whl"
  target = Target("mine", "lowest", ("demo",), ("tensorflow==2.22.0rc0",))
  result = check_versions.check(str(fake_uv), target, wheel)
  assert result.pop("seconds") >= 0
  assert result == {
    "python": ".".join(map(str, sys.version_info[:3])), "resolution": "lowest",
    "versions": _VERSIONS, "passed": ["requirements", "train"],
    "failed": {"extra demo": "no page"}, "skipped": [], "test_loss": 2.5,
  }  # fmt: skip
  compiled = next(call for call in _calls(fake_uv) if call.startswith("pip compile"))
  assert "--resolution=lowest-direct" in compiled and "--extra=demo" in compiled
  assert compiled.endswith(str(tmp_path / "sources" / "setup.cfg"))
  assert [call.split()[:2] for call in _calls(fake_uv)] == [
    ["python", "find"], ["pip", "compile"], ["venv", "--quiet"], ["pip", "install"],
    ["pip", "install"], ["pip", "check"],
  ]  # fmt: skip
  assert ran == [Environment(ran[0].python, ran[0].directory)]
  assert not ran[0].directory.exists()  # The environment is removed.


def _fail(line):
  raise CheckError(line)


def test_checks_that_need_a_run_are_skipped_without_one(fake_uv, monkeypatch, tmp_path):
  checks = dict.fromkeys(version_checks.CHECKS, lambda _: None)
  monkeypatch.setattr(version_checks, "CHECKS", {**checks, "train": lambda _: _fail("no")})
  environment = Environment(Path(sys.executable), tmp_path)
  assert check_versions.run_checks(environment, (), str(fake_uv)) == {
    "passed": ["requirements", "doctor", "predict", "replicas"],
    "failed": {"train": "no"},
    "skipped": ["resume", "evaluate", "report", "export", "tensorboard"],
    "test_loss": None,
  }


def test_failure_is_the_last_line_of_the_program():
  program = "import sys; print('error: one\\n\\nerror: two\\n', file=sys.stderr); sys.exit(2)"
  with pytest.raises(CheckError, match=r"^two$"):
    version_checks.call([sys.executable, "-c", program], {})
  with pytest.raises(CheckError, match=r"^exit code 3$"):
    version_checks.call([sys.executable, "-c", "import sys; sys.exit(3)"], {})
  with pytest.raises(CheckError, match="nowhere"):
    version_checks.call(["/nowhere"], {})


def test_unexpected_value_is_a_failure():
  version_checks.expect("the number", "407", "407")
  with pytest.raises(CheckError, match=r"^the number is '401', not '407'$"):
    version_checks.expect("the number", "401", "407")


def test_commands_run_with_the_settings_of_a_new_user(monkeypatch, tmp_path):
  for name in ("PYTHONPATH", "TFDS_DATA_DIR", "KERAS_BACKEND", "MNIST_RESEARCH_DATASET"):
    monkeypatch.setenv(name, "elsewhere")
  variables = Environment(Path(sys.executable), tmp_path).variables()
  assert "elsewhere" not in variables.values()
  assert variables["PATH"]


def test_server_is_queried_and_stopped(tmp_path):
  program = (
    "from http.server import SimpleHTTPRequestHandler, test;"
    "test(SimpleHTTPRequestHandler, port=0, bind='127.0.0.1')"
  )
  (tmp_path / "a.txt").write_text("here")
  environment = Environment(Path(sys.executable), tmp_path)
  command = [sys.executable, "-u", "-c", program]
  with version_checks.served(environment, command) as url:
    assert version_checks.fetch(url + "a.txt") == "here"
    assert version_checks.fetch(url + "b.txt") == ""
  assert version_checks.fetch(url + "a.txt") == ""
  with (
    pytest.raises(CheckError, match=r"^no port$"),
    version_checks.served(environment, [sys.executable, "-c", "print('no port')"]),
  ):
    pass


def test_checks_pass_in_this_environment(tmp_path):
  class Here(Environment):
    def variables(self):
      return {**super().variables(), "PYTHONPATH": str(commands.REPOSITORY)}

  environment = Here(Path(sys.executable), tmp_path)
  version_checks.train(environment)
  version_checks.resume(environment)
  version_checks.evaluate(environment)


def test_wheel_is_built_from_a_copy(tmp_path, monkeypatch):
  def build(command):
    assert sorted(each.name for each in Path(command[-1]).iterdir()) == sorted(
      check_versions.SOURCES
    )
    (tmp_path / "wheel").mkdir()
    (tmp_path / "wheel" / "mnist_research.whl").touch()

  monkeypatch.setattr(check_versions, "call", build)
  assert check_versions.build_wheel("uv", tmp_path) == tmp_path / "wheel" / "mnist_research.whl"


def test_unrunnable_request_is_rejected(monkeypatch):
  values = flags.FlagValues()
  check_versions.define_flags(values)
  values(["check_versions", "--uv=no-such-program"])
  with pytest.raises(UserError, match="--uv=no-such-program is not a program"):
    check_versions.main(values, [])
  monkeypatch.setattr(check_versions.shutil, "which", lambda _: "uv")
  values.extras = ["camera"]
  with pytest.raises(UserError, match="camera: checks exist for export, sweep, demo"):
    check_versions.main(values, [])
