"""Says which digit a picture shows: `python -m mnist_research.predict --workdir=DIR IMAGE...`.

With `--index=N` in place of pictures, the N-th test example. Prints one JSON object a picture
on stdout: file, label, label_name, probability, probabilities.
"""

import numpy as np
from absl import flags, logging

from mnist_research import app, config
from mnist_research.errors import UserError
from mnist_research.workdir import trained_workdir

flags.adopt_module_key_flags(config)
_INDEX = flags.DEFINE_integer("index", None, "which test example, from 0", lower_bound=0)


def main(arguments: list[str]) -> None:
  """Predicts for the pictures in `arguments`, or for the example that --index names."""
  if bool(arguments) == (_INDEX.value is not None):
    raise UserError("name either pictures or --index=N, a test example")
  workdir = trained_workdir(flags.FLAGS.workdir)
  settings = config.from_flags_over(workdir.trained_config())
  pictures, problems = _read_pictures(arguments)
  if problems and not pictures:  # Told before TensorFlow is loaded.
    raise UserError("; ".join(problems))
  app.load_tensorflow()
  from mnist_research import data, recognition

  recognizer = recognition.load(workdir, settings)
  if _INDEX.value is not None:
    pictures = [data.read_test_example(data.prepare(settings), _INDEX.value)]
  for file, image in pictures:
    (probabilities,) = recognizer.probabilities(image[None])
    label = int(probabilities.argmax())
    app.print_json(
      {
        "file": file,
        "label": label,
        "label_name": recognizer.label_names[label],
        "probability": float(probabilities[label]),
        "probabilities": probabilities.tolist(),
      }
    )
  if problems:
    raise UserError("; ".join(problems))


def _read_pictures(files: list[str]) -> tuple[list[tuple[str, np.ndarray]], list[str]]:
  """Reads pictures and prepares them as MNIST was.

  Returns:
    The name of each good file with the image, uint8 [28, 28, 1], that the network gets; and what
    is wrong with each of the others.
  """
  from mnist_research import images

  pictures, problems = [], []
  for file in files:
    try:
      picture = images.read(file)
    except UserError as error:
      problems.append(str(error))
      continue
    prepared = images.prepare(picture)
    if prepared is None:
      problems.append(f"{file} is blank; give a picture of a digit")
      continue
    shapes = len(images.find_digits(picture))
    if shapes > 1:
      logging.warning("%s shows %d separate shapes; they are read as one digit", file, shapes)
    pictures.append((file, prepared.image[..., None]))
  return pictures, problems


if __name__ == "__main__":
  app.run(main)
