"""Random malformed inputs: flags, flagfiles, files of a run, pictures.

The tests draw a few of them, and `scripts/fuzz.py` draws for as long as it is asked to. Each is a
function of a `random.Random` alone, so that its seed repeats it.
"""

import io
import random
from pathlib import Path

from absl import flags as absl_flags
from PIL import Image

from mnist_research.config import FIELDS, Config
from mnist_research.config import flags as config_flags
from mnist_research.config.setting import to_text
from mnist_research.runtime import app, command_line

# Texts that no setting of a type accepts.
BAD = {
  int: ["", "x", "1.5", "-1", "1e3", "--", "9" * 30, "0x", "nan", "1 2", "\uff11.\uff10"],
  float: ["", "x", "nan", "inf", "-inf", "-1", "1,5", "0.1.2", "1e999", "--"],
  bool: ["maybe", "2", "nein", "-", "tru"],
  str: ["", "x", "Adam ", "ADAM", "adam,sgd", "\n", "🙂", "../x"],
  tuple: ["0", "-3", "a,b", "1,,2", "1.5", "128;64", "1e2", ",", "128,0"],
}
# Texts that some settings accept and others don't.
_ODD = [
  "0", "1", "-0", "+1", " 1", "1_000", "2147483647", "2147483648", "1e-320", "0.999999999", "true",
  "T", "yes", "gs://b/x", "huggingface:x", "a:B", "file.py:X", "~", "~nobody/x", "[v2]", "a\\b",
  "a b", "a=b", "# x", "é", "\u202e", "\x7f", "%s", "{}", "1,1,1", "x" * 5000, "None", "--seed=1",
]  # fmt: skip
PICTURE_KINDS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")
_TF_CONFIG = (
  b'{"cluster": {"chief": ["a:2222"], "worker": ["b:2222", "10.0.0.3:2222"]}, '
  b'"task": {"type": "worker", "index": 1}}'
)


def flags(number: int, values: random.Random) -> list[str]:
  """A flag of `train` with an invalid value, among valid flags."""
  fields = [f for f in FIELDS.values() if not isinstance(f.default, str) or f.metadata["choices"]]
  field = fields[number % len(fields)]
  bad = values.choice(BAD[type(field.default)])
  if field.name == "seed" and bad == "-1":
    bad = str(2**63)
  good = values.sample(["--seed=3", "--epochs=2", "--optimizer=sgd", "--steps=5"], 2)
  return [*(flag for flag in good if field.name not in flag), f"--{field.name}={bad}"]


def any_flags(values: random.Random) -> list[str]:
  """One to four flags of `train`, with valid, odd or invalid values, some of them truncated."""
  lines = []
  for _ in range(values.randint(1, 4)):
    field = values.choice(list(FIELDS.values()))
    choices = [*field.metadata["choices"], *_ODD, *(each for kind in BAD.values() for each in kind)]
    text = to_text(field.default) if values.random() < 0.4 else values.choice(choices)
    line = f"--{field.name}={text}"
    if values.random() < 0.2:
      line = corrupted(line.encode(), values).decode(errors="replace")
    lines.append(line)
  return lines


def read_settings(arguments: list[str]) -> Config:
  """Parses a command line of `train` into settings without a workdir; raises UserError."""
  flag_values = absl_flags.FlagValues()
  command_line.define_general(flag_values)
  config_flags.define(flag_values)
  app.refuse_arguments(command_line.parse(flag_values, arguments))
  return config_flags.from_flags(flag_values).replace(workdir="")


def flagfile(values: random.Random) -> bytes:
  """A corrupt flagfile, of valid or of arbitrary settings."""
  lines = list(Config(seed=values.randrange(100), hidden_units=(8, 4)).to_flagfile().splitlines())
  if values.random() < 0.5:
    lines = [line.replace("\n", " ") for line in any_flags(values)]
  text = "\n".join(["# ours", *lines, ""])
  content = text.encode(values.choice(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16"]))
  return corrupted(content, values) if values.random() < 0.8 else content


def tf_config(values: random.Random) -> str:
  """The text of a corrupt TF_CONFIG."""
  content = _TF_CONFIG
  for _ in range(values.randint(1, 3)):
    content = corrupted(content, values)
  return content.decode(errors="replace")


def picture(kind: str, values: random.Random) -> bytes:
  """A picture file of noise, truncated or emptied so that nothing can be read."""
  content = _noise(kind, values)
  return values.choice([b"", values.randbytes(100), content[:20], content[: len(content) // 3]])


def any_picture(values: random.Random) -> bytes:
  """A picture file of noise with any corruption."""
  return corrupted(_noise(values.choice(PICTURE_KINDS), values), values)


def _noise(kind: str, values: random.Random) -> bytes:
  file = io.BytesIO()
  Image.frombytes("L", (40, 40), values.randbytes(1600)).save(file, kind)
  return file.getvalue()


def corrupted(content: bytes, values: random.Random) -> bytes:
  """Returns bytes with one change: bits, a range, a number, a line, or the end."""
  place = values.randrange(len(content) + 1)
  end = min(len(content), place + values.choice([1, 2, 8, 100]))
  kind = values.randrange(8)
  if kind < 2 and content:  # Disks flip bits.
    place %= len(content)
    return _replaced(content, place, place + 1, bytes([content[place] ^ 1 << values.randrange(8)]))
  if kind == 2:
    return content[:place]
  if kind == 3:
    return _replaced(content, place, end, b"")
  if kind == 4:
    return _replaced(content, place, place, content[place:end])
  if kind == 5:
    return _replaced(content, place, end, values.randbytes(end - place))
  if kind == 6:
    return _other_number(content, values)
  lines = content.splitlines(keepends=True) or [b""]
  lines.insert(values.randrange(len(lines)), lines.pop(values.randrange(len(lines))))
  return b"".join(lines)


def _other_number(content: bytes, values: random.Random) -> bytes:
  """Replaces a digit with something extreme."""
  digits = [place for place, byte in enumerate(content) if byte in b"0123456789"]
  if not digits:
    return content + b"\x00"
  place = values.choice(digits)
  others = [b"9", b"-1", b"1e308", b"9" * 40, b"NaN", b"null", b'"x"', b"[" * 10_000, b"true", b""]
  return _replaced(content, place, place + 1, values.choice(others))


def _replaced(content: bytes, begin: int, end: int, others: bytes) -> bytes:
  return content[:begin] + others + content[end:]


# The files of a run that commands read; the rest is for people and for TensorBoard.
_READ = (
  "config.cfg", "metrics.jsonl", "result.json", "environment.json", "predictions-test.npz",
  "test_scores.jsonl",
)  # fmt: skip


def corrupt_run(workdir: Path, values: random.Random) -> str:
  """Corrupts one file of a run; returns its name and what was done."""
  files = [workdir / name for name in _READ]
  files += [*workdir.glob("checkpoints/*/*"), *workdir.glob("best/*/*")]
  path = values.choice(sorted(path for path in files if path.is_file()))
  content = path.read_bytes()
  if values.random() < 0.1:
    path.unlink()
    what = "deleted"
  else:
    path.write_bytes(corrupted(content, values))
    what = "unchanged" if path.read_bytes() == content else "changed"
  return f"{path.relative_to(workdir)} {what}"
