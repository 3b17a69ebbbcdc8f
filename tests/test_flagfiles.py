"""Tests of reading flagfiles: order, lines, and refusals."""

import pytest
from absl import flags
from hypothesis import given
from hypothesis import strategies as st

from mnist_research.runtime import command_line, flagfiles
from mnist_research.runtime.errors import UserError


def _values(*arguments):
  flag_values = flags.FlagValues()
  for name in ("one", "two"):
    flags.DEFINE_string(name, "", "a text", flag_values=flag_values)
  flags.DEFINE_bool("sure", False, "a choice", flag_values=flag_values)
  assert command_line.parse(flag_values, arguments) == []
  return flag_values.one, flag_values.two


@pytest.fixture
def write(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)

  def write(name, content):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return f"--flagfile={name}"

  return write


# ---- Order ----


def test_command_line_overrides_flagfile_in_any_order(write):
  file = write("a", "--one=file\n--two=file\n")
  assert _values(file, "--one=line") == ("line", "file")
  assert _values("--one=line", file) == ("line", "file")
  assert _values("--one", "line", "--flagfile", "a") == ("line", "file")


def test_later_flagfiles_override_earlier_ones(write):
  first, second = write("a", "--one=a\n--two=a\n"), write("b", "--one=b\n")
  assert _values(first, second) == ("b", "a")
  assert _values(second, first) == ("a", "a")


def test_nested_flagfile_is_expanded_in_place(write):
  write("folder/inner", "--one=inner\n--two=inner\n")
  file = write("folder/outer", "--one=before\n--flagfile=inner\n--two=after\n")
  assert _values(file) == ("inner", "after")


def test_tilde_expands_to_home_directory(write, tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  write("inner", "--one=home\n")
  write("folder/outer", "--flagfile=~/inner\n")
  assert _values("--flagfile=~/folder/outer") == ("home", "")


# ---- Lines ----


@pytest.mark.parametrize(
  ("content", "expected"),
  [
    (b"\xef\xbb\xbf--one=marked\n", "marked"),
    (b"--one=windows\r\n--two=\r\n", "windows"),
    (b"  # a comment\n\n  --one=x y \n", "x y"),
    (b"--one=# no comment", "# no comment"),
    (b"--one=a#b", "a#b"),
    (b"--one=a \\#b", "a #b"),
    (b"--one=a=b --two=c", "a=b --two=c"),
    ("--one=\u00e9".encode(), "\u00e9"),
  ],
)
def test_each_line_is_a_flag(write, content, expected):
  assert _values(write("a", content))[0] == expected


@given(st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" #\\")))
def test_any_value_round_trips(tmp_path_factory, value):
  path = tmp_path_factory.getbasetemp() / "value"
  path.write_text(f"--one={flagfiles.escaped(value.strip())}\n", encoding="utf-8")
  assert _values(f"--flagfile={path}")[0] == value.strip()


# ---- Refused ----


def _error(*arguments):
  with pytest.raises(UserError) as raised:
    _values(*arguments)
  return str(raised.value)


@pytest.mark.parametrize(
  ("content", "error"),
  [
    ("--one=a\n--two=1 # why\n",
     "a, line 2: a comment needs a separate line: move it there, or write \\# for a # in a value"),
    ("// no\n", "a, line 1: '// no' is not a flag: flags start with --, and comments with #"),
    ("--one\n", "a, line 1: --one needs a value: write --one=VALUE"),
    ("\n--noe=1\n",
     "a, line 2: unknown flag --noe; did you mean --one? see --help"),
    ("--sure=maybe\n", "a, line 1: --sure=maybe: must be true or false"),
    ("--nosure=1\n",
     "a, line 1: --nosure=1: takes no value: write --nosure, or --sure=true"),
    ("--flagfile=\n", "a, line 1: --flagfile= names no file: write --flagfile=FILE"),
    ("--one=" + "x" * 64_000, "a, line 1 is longer than 64,000 characters; shorten it"),
    ("\n" * 1_000_001, "a can't be read: it has more than 1,000,000 bytes; name a flagfile"),
    ("--one=\u00e9".encode("utf-16"), "a can't be read: it isn't UTF-8 text; save it as UTF-8"),
    ("--one=x".encode("utf-16-le"), "a can't be read: it isn't UTF-8 text; save it as UTF-8"),
    (b"\xff", "a can't be read: it isn't UTF-8 text; save it as UTF-8"),
  ],
  ids=lambda value: repr(value[:20]),
)  # fmt: skip
def test_bad_line_is_named(write, content, error):
  assert _error(write("a", content)) == error


@pytest.mark.usefixtures("write")
def test_unreadable_files_are_named(tmp_path):
  assert _error("--flagfile=none") == (
    "none can't be read: No such file or directory; name a file of flags"
  )
  assert _error(f"--flagfile={tmp_path}") == (
    f"{tmp_path} can't be read: Is a directory; name a file of flags"
  )
  assert _error("--flagfile=") == "--flagfile needs a value: write --flagfile=VALUE"
  assert "'a\\x00b' can't be read" in _error("--flagfile=a\0b")


def test_circular_flagfiles_are_reported(write):
  write("b", "--flagfile=./a\n")
  assert _error(write("a", "--flagfile=b\n")) == (
    "b, line 1: --flagfile=./a is circular, through a: remove the line"
  )


def test_deeply_nested_flagfiles_are_reported(write):
  for number in range(30):
    write(f"f{number}", f"--flagfile=f{number + 1}\n")
  assert _error("--flagfile=f0") == (
    "f20, line 1: --flagfile=f21 is nested more than 20 deep: merge files"
  )
  write("f20", "--one=deep\n")
  assert _values("--flagfile=f0") == ("deep", "")
