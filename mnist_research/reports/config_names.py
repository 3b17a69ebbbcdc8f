"""Names configs by the directories of their runs: `dense` for dense-seed0 and dense-seed1."""

import re
from collections.abc import Sequence
from pathlib import Path

# Names of a sweep's trials, 0003-activation=relu, of runs without --workdir, and numbers.
_GENERATED = re.compile(r"^\d{4}-|-[0-9a-f]{8}$|^\d+$")
# The end of dense-seed0, dense_s1 or dense2; all of seed3.
_SEED = re.compile(r"(^|[-_. ])(seed|s)?[-_. ]?\d+$|\d+$")


def directory_names(configs: Sequence[Sequence[Path]]) -> list[str]:
  """Returns the common name of each config's directories; all are empty unless each is unique.

  A config whose runs are alone in a folder has the name of the folder.

  Args:
    configs: the directories of each config's runs, absolute and without symbolic links.
  """
  names = []
  for paths in configs:
    others = {path for other in configs if other is not paths for path in other}
    parents = {path.parent for path in paths}
    is_alone = len(parents) == 1 and not any(parents & {*path.parents} for path in others)
    names.append(paths[0].parent.name if is_alone else _common_name([path.name for path in paths]))
  return names if all(names) and len(set(names)) == len(configs) else [""] * len(configs)


def _common_name(names: Sequence[str]) -> str:
  """Returns the common name of workdirs without their seeds; empty for generated names."""
  if any(_GENERATED.search(name) for name in names):
    return ""
  common = {_SEED.sub("", name) for name in names} if len(names) > 1 else set(names)
  return common.pop() if len(common) == 1 else ""
