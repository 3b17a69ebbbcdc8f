"""Predicts which digit a picture shows.

  python -m mnist_research.predict digit.png more/
  python -m mnist_research.predict --workdir=runs/dense --index=7
  python -m mnist_research.predict --digits number.jpg --figure=seen.png

An IMAGE is a file, a folder of pictures, or `-` for standard input; `--index=N` uses the N-th test
example instead. Prints one JSON object per picture on stdout: file, label, label_name, probability,
probabilities, and the step of the model. With `--digits` a picture shows a number, or rows of
numbers, and the object has: file, number (one line per row), rows (the numbers), digits (from left
to right, each with label, label_name, probability, probabilities, row, and box in pixels), step.

For a model trained with --outliers, the object also has digit_score, the probability that the
picture shows a digit, and is_digit, whether that is at least 0.5. In a number, a non-digit is a
question mark.

For models with MNIST's image shape, digits in a picture are found and converted to MNIST's style.
For other models, the picture is center-cropped and scaled.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from mnist_research.config import flags as config_flags
from mnist_research.runtime import app, command_line, user_data
from mnist_research.runtime.errors import UserError

if TYPE_CHECKING:  # It loads NumPy.
  from mnist_research import images

_DIGIT_NAMES = tuple("0123456789")


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags that choose the model and how to read pictures."""
  config_flags.define(flag_values, config_flags.AFTER_TRAINING)
  config_flags.define_step(flag_values)
  config_flags.define_accept_all(flag_values)
  flags.DEFINE_integer(
    "index", None, "index of a test example, from 0", lower_bound=0, flag_values=flag_values
  )
  flags.DEFINE_bool(
    "digits",
    False,
    "read each row of digits in a picture as a number, not a single digit",
    flag_values=flag_values,
  )
  command_line.define_path(
    "figure", "", "PNG to write: each picture, the model's input, and the probabilities",
    flag_values,
  )  # fmt: skip


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Predicts the pictures in `arguments`, or the test example chosen by --index."""
  index, several, figure_path = flag_values.index, flag_values.digits, flag_values.figure
  _check_what_to_predict(arguments, index, several=several)
  # Imported here because it loads absl's logging flags.
  from mnist_research.runtime import progress

  with progress.loading("NumPy"):
    from mnist_research import images
  from mnist_research.workdir import trained_workdir

  workdir = trained_workdir(flag_values.workdir)
  trained = workdir.trained_config()
  settings = config_flags.from_flags_over(trained, flag_values).with_pinned_data()

  files, problems = images.list_files(arguments)
  _check_figure(figure_path, files)
  if index is None and not files:
    raise UserError("; ".join(problems))
  app.load_tensorflow()
  from mnist_research import figures
  from mnist_research.data import datasets, splits
  from mnist_research.inference import readings
  from mnist_research.inference.recognizer import load_recognizer

  recognizer = load_recognizer(
    workdir, settings, flag_values.step, accept_all=flag_values.accept_all
  )
  names = recognizer.label_names
  if several:
    readings.check_reads_digits(recognizer, "--digits")
    _check_classes_are_digits(names)
  pictures: Iterable[images.Picture]
  if index is None:
    shape = recognizer.image_shape
    pictures = images.read_files(files, problems, image_shape=shape, several_digits=several)
    pictures = _with_progress(pictures, len(files), problems)
  else:
    source = datasets.prepare(settings)
    datasets.check_fits(source, names, recognizer.image_shape)
    pictures = [images.as_picture(*splits.read_test_example(source, index))]
  panels: list[figures.Panel] = []
  count = 0
  for picture, results in readings.read_pictures(recognizer, pictures):
    if len(results) > 1 and not several:
      problems.append(images.several_digits_message(picture.file, len(results)))
      continue
    record = readings.number(results, names) if several else results[0].record(names)
    app.print_json({"file": picture.file, **record, "step": recognizer.trained.step})
    count += len(results)
    if figure_path and len(panels) < figures.MAX_PANELS:
      panels += readings.panels(picture, results)
  if panels:
    title = f"{trained.model.model}, trained on {user_data.short_name(trained.data.dataset)}"
    figure = figures.recognition(panels, label_names=names, count=count, title=title)
    figures.save(figure, figure_path)
  if problems:
    raise UserError("; ".join(problems))


def _check_what_to_predict(pictures: Sequence[str], index: int | None, *, several: bool) -> None:
  """Raises UserError unless there are either pictures or a test example to predict."""
  if bool(pictures) == (index is not None):
    raise UserError("name either pictures or --index=N, a test example")
  if several and index is not None:
    raise UserError("--digits can't be combined with --index: a test example has only one digit")


def _check_classes_are_digits(names: Sequence[str]) -> None:
  if names != _DIGIT_NAMES:
    raise UserError(f"--digits: the classes of this model aren't digits: {', '.join(names)}")


def _with_progress(
  pictures: "Iterable[images.Picture]", count: int, problems: Sequence[str]
) -> "Iterator[images.Picture]":
  """Yields pictures and shows how many of `count` files have been read or skipped."""
  from mnist_research.runtime import progress

  with progress.Progress(total=count, unit="picture", task="reading", brief=True) as shown:
    for number, picture in enumerate(pictures, start=1):
      yield picture
      if number + len(problems) < count:  # Nothing to show after the last file.
        shown.update(number + len(problems))


def _check_figure(name: str, files: Sequence[str]) -> None:
  """Raises UserError if the figure can't be written to the path in --figure."""
  if not name:
    return
  figure = Path(name)
  if figure.suffix.lower() != ".png" or figure.is_dir():
    raise UserError(f"--figure={figure}: the name of the file must end in .png")
  if not figure.parent.is_dir():
    raise UserError(f"--figure={figure}: there is no folder {figure.parent}; create it first")
  if figure.resolve() in [Path(file).resolve() for file in files]:
    raise UserError(f"--figure={figure} is one of the pictures; name another file")


if __name__ == "__main__":
  app.run(main, define_flags, config_flags.TRAINING_ONLY)
