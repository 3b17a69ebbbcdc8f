"""Writes a trained network for other programs: `python -m mnist_research.export --output=PATH`.

`--format` says as what: `saved_model`, `tflite`, `tflite_int8` or `onnx`. The last line on stdout
is one JSON object: format, output, bytes, label_names.
"""

import dataclasses
from pathlib import Path

from absl import flags, logging

from mnist_research import app, config
from mnist_research.errors import UserError
from mnist_research.workdir import trained_workdir

# Training examples on which the ranges of the activations are measured for int8.
_CALIBRATION_EXAMPLES = 500

flags.adopt_module_key_flags(config)
_FORMAT = flags.DEFINE_enum(
  "format", "saved_model", ["saved_model", "tflite", "tflite_int8", "onnx"], "what to write"
)
flags.DEFINE_string("output", "", "file to write; a directory for --format=saved_model")


def main(arguments: list[str]) -> None:
  """Writes the network of a workdir in the format that the flags name."""
  app.refuse_arguments(arguments)
  output = Path(app.required("output"))
  workdir = trained_workdir(flags.FLAGS.workdir)
  settings = config.from_flags_over(workdir.trained_config())
  if output.exists():
    raise UserError(f"--output={output} is there already: remove it, or name another --output")
  if _FORMAT.value == "onnx":
    app.require_extra("tf2onnx", "export")
  # 16 bits pay only where the processor has them; the weights have 32 in any case.
  settings = dataclasses.replace(settings, precision="float32")
  app.load_tensorflow()
  from mnist_research import data, recognition, serving

  trained = recognition.load(workdir, settings).trained
  calibration_images = None
  if _FORMAT.value == "tflite_int8":
    split = data.read_split(data.prepare(settings), settings, "train")
    calibration_images = split.images[:_CALIBRATION_EXAMPLES]
  with app.without_noise():
    size = serving.export(
      trained.model, _FORMAT.value, output, calibration_images=calibration_images
    )
  logging.info("%s after %d steps, as %s in %s", workdir.path, trained.step, _FORMAT.value, output)
  app.print_json(
    {
      "format": _FORMAT.value,
      "output": str(output),
      "bytes": size,
      "label_names": trained.label_names,
    }
  )


if __name__ == "__main__":
  app.run(main)
