"""Says which digit a picture shows: `python -m mnist_research.predict --workdir=DIR IMAGE...`.

With `--index=N` in place of pictures, the N-th example of a split. Prints one JSON object a picture
on stdout: file, label, label_name, probability, probabilities.
"""

from collections.abc import Iterator

import numpy as np
from absl import flags

from mnist_research import app, config
from mnist_research.errors import UserError
from mnist_research.workdir import Workdir

config.define_flags()
flags.adopt_module_key_flags(config)
_INDEX = flags.DEFINE_integer("index", None, "which example of --split, from 0", lower_bound=0)
_SPLIT = flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "split of --index")


def main(arguments: list[str]) -> None:
  """Predicts for the pictures in `arguments`, or for the example that --index names."""
  if bool(arguments) == (_INDEX.value is not None):
    raise UserError("name either pictures or --index=N: the example of --split to predict")
  workdir = Workdir(app.required("workdir"))
  settings = config.from_flags_over(
    workdir.trained_config(), ("dataset", "data_dir", "manual_dir", "device")
  )
  # A picture that can't be read is told before TensorFlow is loaded.
  pictures = None if _INDEX.value is not None else list(_read_pictures(arguments))
  app.load_tensorflow()
  from mnist_research import data, distribution, evaluation, state, steps

  with distribution.create_strategy(settings).scope():
    trained = state.load_trained(settings, workdir.checkpoints)
  if pictures is None:
    pictures = [data.read_example(data.prepare(settings), settings, _SPLIT.value, _INDEX.value)]
  score = steps.create_scorer(trained.model)
  for file, image in pictures:
    probabilities = np.exp(evaluation.log_softmax(score(image[None])))[0]
    label = int(probabilities.argmax())
    app.print_json(
      {
        "file": file,
        "label": label,
        "label_name": trained.label_names[label],
        "probability": float(probabilities[label]),
        "probabilities": probabilities.tolist(),
      }
    )


def _read_pictures(files: list[str]) -> Iterator[tuple[str, np.ndarray]]:
  """Yields each file's name and the image, uint8 [28, 28, 1], that the network gets."""
  from mnist_research import images

  for file in files:
    prepared = images.prepare(images.read(file))
    if prepared is None:
      raise UserError(f"{file} is blank; give a picture of a digit")
    yield file, prepared.image[..., None]


if __name__ == "__main__":
  app.run(main)
