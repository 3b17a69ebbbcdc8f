"""Reads digits that are drawn, shown to a camera or uploaded, on a page of this machine.

  python -m mnist_research.demo
  python -m mnist_research.demo --workdir=runs/cnn --port=8000

Prints one JSON object on stdout once the page is there:
url, and the step of the network. Ctrl-C ends it.
"""

import socket
from typing import Any

from absl import flags

from mnist_research.config import Config
from mnist_research.config import flags as config_flags
from mnist_research.runtime import app, own_data
from mnist_research.runtime.errors import UserError

_HOST = "127.0.0.1"


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: which network, and where the page is."""
  config_flags.define(flag_values, ["workdir", "device"])
  config_flags.define_step(flag_values)
  config_flags.define_accept_all(flag_values)
  flags.DEFINE_integer(
    "port", 7860, "port of the page; 0: any that is free", lower_bound=0, upper_bound=65535,
    flag_values=flag_values,
  )  # fmt: skip


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Serves the page for the network of a workdir."""
  app.refuse_arguments(arguments)
  from mnist_research.workdir import trained_workdir

  workdir = trained_workdir(flag_values.workdir)
  settings = config_flags.from_flags_over(workdir.trained_config(), flag_values)
  for module in ("starlette", "uvicorn"):
    app.require_extra(module, "demo")
  with _listen(flag_values.port) as listener:
    app.load_tensorflow()
    import numpy as np
    from absl import logging

    from mnist_research.inference import readings
    from mnist_research.inference.recognizer import load_recognizer
    from mnist_research.live.page.app import create
    from mnist_research.live.page.guard import Limits
    from mnist_research.live.page.server import serve

    recognizer = load_recognizer(
      workdir, settings, flag_values.step, accept_all=flag_values.accept_all
    )
    readings.check_reads_digits(recognizer, "the page")
    # The first answer compiles the network: nobody should wait for it.
    recognizer.probabilities(np.zeros((1, *recognizer.image_shape), np.uint8))
    # What was tested is another network where --step chose one.
    step = recognizer.trained.step
    result = workdir.read_result() if step == workdir.tested_step() else None
    description = describe(settings, result, step)
    limits = Limits()
    page = create(recognizer, description, limits)
    url = "http://{}:{}".format(*listener.getsockname())
    logging.info("digits are read at %s; Ctrl-C ends it", url)
    app.print_json({"url": url, "step": recognizer.trained.step})
    serve(page, listener, limits)


def describe(settings: Config, result: dict[str, Any] | None, step: int) -> str:
  """Says what the network is, and where pictures go."""
  # Results of older commits don't name the dataset.
  if result is None or "dataset" not in result:
    trained = f"trained for {step:,} steps on {own_data.short_name(settings.data.dataset)}"
  else:
    # `--score_test=false` leaves the figures of validation alone.
    split = "test" if "test_accuracy" in result else "validation"
    share = f"{result[f'{split}_accuracy']:.2%}"
    trained = (
      f"right on {share} of the {split} examples of {own_data.short_name(result['dataset'])}"
    )
  return (
    f"Read by a network ({settings.model.model}, {trained}). "
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
  app.run(main, define_flags, config_flags.OF_TRAINING)
