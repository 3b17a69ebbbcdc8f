"""A sweep shared by two processes through a real PostgreSQL, as by two machines."""

import getpass
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import commands
import pytest

pytest.importorskip("pg8000", reason="the extra postgresql is not installed")

_PASSWORD = secrets.token_hex(8)
_SWEEP = (
  "--dataset=synthetic_digits/2000_500", "--validation_examples=500", "--hidden_units=16",
  "--batch_size=50", "--epochs=2", "--xla=off", "--summaries=none",
  "--sweep=activation=relu,tanh;seed=0..2",
)  # fmt: skip


def _programs() -> Path:
  """Debian installs them outside of PATH, in a folder for each version."""
  found = shutil.which("initdb")
  folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
  if not folders:
    pytest.skip("PostgreSQL isn't installed")
  return folders[-1]


def _as_its_user() -> list[str]:
  """The prefix of a command: PostgreSQL refuses to run as root."""
  if getpass.getuser() != "root":
    return []
  return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
  """The URL of a separate database on the loopback."""
  programs, prefix = _programs(), _as_its_user()
  with tempfile.TemporaryDirectory() as directory, socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    data, password = Path(directory) / "data", Path(directory) / "password"
    password.write_text(_PASSWORD)
    if prefix:
      for path in (Path(directory), password):
        shutil.chown(path, "postgres", "postgres")
    subprocess.run(
      [*prefix, programs / "initdb", "--username=sweep", f"--pwfile={password}", "--no-sync",
       "--auth=scram-sha-256", f"--pgdata={data}"],
      check=True, capture_output=True, cwd=directory,
    )  # fmt: skip
    server = subprocess.Popen(
      [*prefix, programs / "postgres", "-D", data, "-p", str(port), "-k", directory,
       "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"],
      stderr=subprocess.DEVNULL, cwd=directory,
    )  # fmt: skip
    try:
      _wait_for(port)
      yield f"postgresql+pg8000://sweep:{_PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
      server.terminate()
      server.wait()


def _wait_for(port: int) -> None:
  deadline = time.monotonic() + 60
  while time.monotonic() < deadline:
    try:
      socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
      time.sleep(0.1)
    else:
      return
  raise AssertionError("PostgreSQL doesn't answer")


def _finished(workdir: Path) -> set[str]:
  return {path.parent.name for path in workdir.glob("*/result.json")}


@pytest.mark.timeout(600)
def test_two_processes_share_a_sweep_and_survive_a_kill(storage, prepared, tmp_path):
  flags = [*_SWEEP, f"--storage={storage}", f"--data_dir={prepared}"]
  workdirs = [tmp_path / name for name in ("one", "other")]
  sweeps = [commands.start(*flags, f"--workdir={workdir}", module="sweep") for workdir in workdirs]
  commands.wait_until(lambda: len(_finished(workdirs[1])) >= 1, sweeps[1])
  sweeps[1].kill()
  sweeps[1].communicate()
  first = commands.finish(sweeps[0])
  assert first.returncode == 0, first.stderr
  again = commands.run(*flags, f"--workdir={workdirs[1]}", module="sweep")
  assert again.record["finished"] == 6
  assert (again.record["running"], again.record["waiting"], again.record["failed"]) == (0, 0, 0)
  done = [_finished(workdir) for workdir in workdirs]
  assert len(done[0] | done[1]) == 6 and not done[0] & done[1]
  for text in (first.stderr, first.stdout, again.stderr, again.stdout):
    assert _PASSWORD not in text
  kept = [path for path in tmp_path.rglob("*") if path.is_file()]
  assert not [path for path in kept if _PASSWORD.encode() in path.read_bytes()]


def test_wrong_password_is_reported_without_revealing_it(storage, prepared, tmp_path):
  wrong = storage.replace(_PASSWORD, "WRONGSECRET")
  finished = commands.run(
    *_SWEEP, f"--storage={wrong}", f"--data_dir={prepared}", f"--workdir={tmp_path}",
    module="sweep",
  )  # fmt: skip
  assert finished.returncode == 2
  assert finished.error.startswith("error: --storage=postgresql+pg8000://sweep:***@127.0.0.1:")
  assert "password authentication failed" in finished.error
  assert "WRONGSECRET" not in finished.stderr + finished.stdout
