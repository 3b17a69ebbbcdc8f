"""Reads digits that are drawn, shown to a camera or uploaded, on a page of this machine.

`python -m mnist_research.demo [--port=N]`. Prints one JSON object on stdout once the page is there:
url. Ctrl-C ends it.
"""

import os
import socket
import tempfile
from typing import Any

import numpy as np
from absl import flags, logging

from mnist_research import app, config
from mnist_research.errors import UserError
from mnist_research.workdir import trained_workdir

flags.adopt_module_key_flags(config)
_PORT = flags.DEFINE_integer(
  "port", 7860, "port of the page; 0: any that is free", lower_bound=0, upper_bound=65535
)
_HOST = "127.0.0.1"


def main(arguments: list[str]) -> None:
  """Serves the page for the network of a workdir."""
  app.refuse_arguments(arguments)
  workdir = trained_workdir(flags.FLAGS.workdir)
  settings = config.from_flags_over(workdir.trained_config())
  app.require_extra("gradio", "demo")
  with _listen(_PORT.value) as listener, tempfile.TemporaryDirectory() as directory:
    # Where Gradio keeps uploads, read when it is imported: they go when the page does.
    os.environ["GRADIO_TEMP_DIR"] = directory
    app.load_tensorflow()
    from mnist_research import page, recognition

    recognizer = recognition.load(workdir, settings)
    # The first answer compiles the network: nobody should wait for it.
    recognizer.probabilities(np.zeros((1, 28, 28, 1), np.uint8))
    url = "http://{}:{}".format(*listener.getsockname())
    logging.info("digits are read at %s; Ctrl-C ends it", url)
    app.print_json({"url": url})
    description = _description(settings, workdir.read_result(), recognizer.trained.step)
    page.serve(page.create(recognizer, description), listener)


def _description(settings: config.Config, result: dict[str, Any] | None, step: int) -> str:
  """Says what the network is, and where pictures go."""
  if result is None:
    trained = f"trained for {step:,} steps on {settings.dataset}"
  else:
    trained = f"right on {result['test_accuracy']:.2%} of the test examples of {result['dataset']}"
  return (
    f"Read by a network ({settings.model}, {trained}). "
    "What you draw, show or upload stays on this machine."
  )


def _listen(port: int) -> socket.socket:
  listener = socket.socket()
  listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
  try:
    listener.bind((_HOST, port))
    listener.listen()
  except OSError as error:
    listener.close()
    raise UserError(f"--port={port}: {error.strerror}; choose another, or 0 for any") from error
  return listener


if __name__ == "__main__":
  app.run(main)
