"""Says which digit a picture shows: `python -m mnist_research.predict IMAGE...`.

An IMAGE is a file, a folder of them, or `-` for standard input; `--index=N` takes the N-th test
example instead. Prints one JSON object a picture on stdout: file, label, label_name, probability,
probabilities. With `--digits` a picture holds a number: file, number, and digits, from left to
right, each with its label, label_name, probability, probabilities and box in pixels.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags

from mnist_research import app, config
from mnist_research.errors import UserError
from mnist_research.workdir import trained_workdir

flags.adopt_module_key_flags(config)
_INDEX = flags.DEFINE_integer("index", None, "which test example, from 0", lower_bound=0)
_DIGITS = flags.DEFINE_bool("digits", False, "read each picture as a number of several digits")
_FIGURE = flags.DEFINE_string(
  "figure", "", "PNG to draw: each picture, what the network saw of it, and the probabilities"
)

_DIGIT_NAMES = tuple("0123456789")


def main(arguments: list[str]) -> None:
  """Predicts for the pictures in `arguments`, or for the example that --index names."""
  index = _INDEX.value
  if bool(arguments) == (index is not None):
    raise UserError("name either pictures or --index=N, a test example")
  if _DIGITS.value and index is not None:
    raise UserError("--digits reads pictures, and a test example has one digit: leave one out")
  workdir = trained_workdir(flags.FLAGS.workdir)
  trained = workdir.trained_config()
  settings = config.from_flags_over(trained)
  from mnist_research import images

  files, problems = images.list_files(arguments)
  _check_figure(files)
  pictures = images.read_files(files, problems, several_digits=_DIGITS.value)
  # Read before TensorFlow is loaded: where no picture is good, that is told at once.
  first = list(itertools.islice(pictures, 1))
  if index is None and not first:
    raise UserError("; ".join(problems))
  app.load_tensorflow()
  from mnist_research import data, figures, predictions, recognition

  recognizer = recognition.load(workdir, settings)
  names = recognizer.label_names
  if _DIGITS.value and names != _DIGIT_NAMES:
    raise UserError(f"--digits: this network tells {', '.join(names)} apart, which make no number")
  if index is not None:
    name, image = data.read_test_example(data.prepare(settings), index)
    first = [images.as_picture(name, image)]
  panels: list[figures.Panel] = []
  count = 0
  for picture in itertools.chain(first, pictures):
    seen = np.stack([digit.image for digit in picture.digits])
    answer = predictions.Answer(picture, recognizer.probabilities(seen[..., None]), names)
    app.print_json(answer.number() if _DIGITS.value else answer.digit())
    count += len(seen)
    if _FIGURE.value and len(panels) < figures.MAX_PANELS:
      panels += answer.panels()
  if panels:
    title = f"{trained.model}, trained on {trained.dataset}"
    figure = figures.recognition(panels, label_names=names, count=count, title=title)
    figures.save(figure, _FIGURE.value)
  if problems:
    raise UserError("; ".join(problems))


def _check_figure(files: Sequence[str]) -> None:
  """Raises UserError where the figure can't be drawn to the place that --figure names."""
  if not _FIGURE.value:
    return
  figure = Path(_FIGURE.value)
  if figure.suffix.lower() != ".png" or figure.is_dir():
    raise UserError(f"--figure={figure}: name a file that ends in .png")
  if not figure.parent.is_dir():
    raise UserError(f"--figure={figure}: there is no folder {figure.parent}; make it first")
  if figure.resolve() in [Path(file).resolve() for file in files]:
    raise UserError(f"--figure={figure} is one of the pictures; name another file")


if __name__ == "__main__":
  app.run(main)
