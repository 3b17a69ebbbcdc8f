"""The text of `--help`: what a command does, and its flags."""

import shutil
import textwrap
from collections.abc import Iterable, Iterator

from absl import flags

from mnist_research.runtime import command_line, flagfiles

# The end of the titles of sections after the command's flags.
SETTINGS = " settings"
_NARROWEST, _WIDEST = 40, 100
_INDENT = " " * 6


def write(description: str, flag_values: flags.FlagValues) -> str:
  """Returns the help of a command.

  Args:
    description: its paragraphs; indented ones are shown verbatim.
    flag_values: the flags that it accepts.
  """
  width = max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size((_WIDEST, 0)).columns))
  sections = flag_values.flags_by_module_dict()
  specific = [
    flag for section, group in sections.items() if _is_specific(section) for flag in group
  ]
  settings = {section: group for section, group in sections.items() if section.endswith(SETTINGS)}
  blocks = [*_paragraphs(description, width)]
  if specific:
    blocks.append(_section("Flags of this command", specific, width))
  blocks += [
    _section(section.removesuffix(SETTINGS), group, width) for section, group in settings.items()
  ]
  blocks.append(_section("Every command", sections.get(command_line.GENERAL, []), width))
  blocks[-1] += "\n" + "\n".join(
    [
      _entry("--flagfile=FILE", flagfiles.RULES, width),
      _entry("--version", "print the version", width),
      _entry("-h, --help", "print this help", width),
    ]
  )
  return "\n\n".join(blocks) + "\n"


def _is_specific(section: str) -> bool:
  return not section.endswith(SETTINGS) and section != command_line.GENERAL


def _paragraphs(description: str, width: int) -> Iterator[str]:
  for paragraph in description.strip().split("\n\n"):
    if paragraph.startswith(" "):
      yield paragraph
    elif paragraph.startswith("- "):
      for item in paragraph.split("\n- "):
        yield textwrap.fill(item.removeprefix("- "), width, initial_indent="- ",
                            subsequent_indent="  ")  # fmt: skip
    else:
      yield textwrap.fill(paragraph.replace("`", ""), width)


def _section(title: str, group: Iterable[flags.Flag], width: int) -> str:
  return "\n".join([f"{title}:", *(_entry(_usage(flag), _text(flag), width) for flag in group)])


def _entry(usage: str, text: str, width: int) -> str:
  return f"  {usage}\n" + textwrap.fill(
    text, width, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False
  )


def _usage(flag: flags.Flag) -> str:
  if flag.boolean:
    return f"--[no]{flag.name}"
  return f"--{flag.name}={_placeholder(flag)}"


def _placeholder(flag: flags.Flag) -> str:
  parser = flag.parser
  if isinstance(parser, command_line.PathParser):
    return "PATH"
  if isinstance(parser, (flags.IntegerParser, flags.FloatParser)):
    return "N"
  if isinstance(parser, command_line.PathsParser):
    return "PATH,PATH"
  return "A,B" if isinstance(flag.value, (list, tuple)) else "TEXT"


def _text(flag: flags.Flag) -> str:
  text = " ".join((flag.help or "").split())
  choices = getattr(flag.parser, "enum_values", None)
  if choices:  # absl puts them in front.
    text = f"{text.partition('>: ')[2]}; one of {', '.join(choices)}"
  default = flag.default
  if default is None or default in ("", [], ()):
    return f"{text} (default: none)" if default is None else f"{text} (default: empty)"
  return f"{text} (default: {str(flag.default_as_str).strip(chr(39))})"
