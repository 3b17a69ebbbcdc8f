"""Exports a trained model.

  python -m mnist_research.export --output=digits.tflite --format=tflite
  python -m mnist_research.export --workdir=runs/cnn --output=~/models/cnn

`--format` is `saved_model`, `tflite`, `tflite_int8` or `onnx`. The last line on stdout
is one JSON object: format, output, bytes, label_names, step. A model trained with --outliers has
a second output, class_scores.
"""

from pathlib import Path

from absl import flags

from mnist_research.config import flags as config_flags
from mnist_research.runtime import app, command_line
from mnist_research.runtime.errors import UserError

# The number of training examples that calibrate the ranges of activations for int8.
_CALIBRATION_EXAMPLES = 500


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the model, the format and the output."""
  config_flags.define(flag_values, config_flags.AFTER_TRAINING)
  config_flags.define_step(flag_values)
  flags.DEFINE_enum(
    "format", "saved_model", ["saved_model", "tflite", "tflite_int8", "onnx"], "what to write",
    flag_values=flag_values,
  )  # fmt: skip
  command_line.define_path(
    "output", "", "file to write; a directory for --format=saved_model", flag_values
  )


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Exports the model of a workdir in the format that the flags name."""
  app.refuse_arguments(arguments)
  file_format = flag_values.format
  output = Path(app.required(flag_values, "output"))
  from mnist_research.workdir import trained_workdir

  workdir = trained_workdir(flag_values.workdir)
  trained_config = workdir.trained_config()
  settings = config_flags.from_flags_over(trained_config, flag_values).with_pinned_data()
  if output.exists():
    raise UserError(f"--output={output} already exists: remove it, or choose another --output")
  if file_format == "onnx":
    app.require_extra("tf2onnx", "export")
  # Another machine may not support 16 bits; the weights have 32 bits anyway.
  settings = settings.replace(precision="float32")
  app.load_tensorflow()
  from absl import logging

  from mnist_research.data import datasets, splits
  from mnist_research.inference import exporting
  from mnist_research.inference.recognizer import load_recognizer

  trained = load_recognizer(workdir, settings, flag_values.step).trained
  calibration_images = None
  if file_format == "tflite_int8":
    split = splits.read_split(datasets.prepare(settings), settings, "train")
    calibration_images = split.images[:_CALIBRATION_EXAMPLES]
  with app.without_noise():
    size = exporting.export(
      trained.model,
      file_format,
      output,
      image_shape=trained.image_shape,
      rejects=bool(trained_config.data.outliers),
      calibration_images=calibration_images,
    )
  logging.info("%s after %d steps, as %s in %s", workdir.path, trained.step, file_format, output)
  app.print_json(
    {
      "format": file_format,
      "output": str(output),
      "bytes": size,
      "label_names": trained.label_names,
      "step": trained.step,
    }
  )


if __name__ == "__main__":
  app.run(main, define_flags, config_flags.TRAINING_ONLY)
