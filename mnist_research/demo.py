"""Serves a page that reads digits: drawn, shown to a camera, or uploaded.

  python -m mnist_research.demo
  python -m mnist_research.demo --workdir=runs/cnn --port=8000
  python -m mnist_research.demo --host=192.168.1.7  # share it on that network

Prints one JSON object on stdout when the page is up: url, and the step of the model. Ctrl-C stops
it. At an address other than 127.0.0.1, the url contains a token, and requests without it are
rejected. HTTP isn't encrypted, and without HTTPS, browsers don't let a page from another machine
use the camera.
"""

import errno
import socket
from typing import Any

from absl import flags

from mnist_research.config import Config
from mnist_research.config import flags as config_flags
from mnist_research.live.page import address as addresses
from mnist_research.live.page.address import Address
from mnist_research.runtime import app, user_data
from mnist_research.runtime.errors import UserError

# Many people may draw at the same time; each page waits for an answer before its next request.
_REQUESTS_OF_A_CLASS = 64


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags: the model, and the address of the page."""
  config_flags.define(flag_values, ["workdir", "device"])
  config_flags.define_step(flag_values)
  config_flags.define_accept_all(flag_values)
  flags.DEFINE_string(
    "host", addresses.LOCAL, "IP address of this machine to listen on; with any but "
    f"{addresses.LOCAL}, others on that network can open the page by the printed link",
    flag_values=flag_values,
  )  # fmt: skip
  flags.DEFINE_integer(
    "port", 7860, "port of the page; 0: any free port", lower_bound=0, upper_bound=65535,
    flag_values=flag_values,
  )  # fmt: skip


def main(flag_values: flags.FlagValues, arguments: list[str]) -> None:
  """Serves the page for the model in a workdir."""
  app.refuse_arguments(arguments)
  from mnist_research.workdir import trained_workdir

  workdir = trained_workdir(flag_values.workdir)
  settings = config_flags.from_flags_over(workdir.trained_config(), flag_values)
  for module in ("starlette", "uvicorn"):
    app.require_extra(module, "demo")
  with _listen(flag_values.host, flag_values.port) as listener:
    address = addresses.address_of(listener)
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
    # The first answer compiles the model, so it is computed before anyone waits.
    recognizer.probabilities(np.zeros((1, *recognizer.image_shape), np.uint8))
    # With --step, the model may not be the one that the result describes.
    step = recognizer.trained.step
    result = workdir.read_result() if step == workdir.tested_step() else None
    description = f"{describe(settings, result, step)} {_describe_privacy(address)}"
    limits = Limits() if address.token is None else Limits(requests=_REQUESTS_OF_A_CLASS)
    page = create(recognizer, description, limits)
    if address.token is not None:
      logging.warning(
        "the page is open to the network of %s: anyone with the link can use it, and what they "
        "send is not encrypted; stop the command when you are done",
        address.host,
      )
    logging.info("reading digits at %s; Ctrl-C stops", address.link)
    app.print_json({"url": address.link, "step": recognizer.trained.step})
    serve(page, listener, address, limits)


def describe(settings: Config, result: dict[str, Any] | None, step: int) -> str:
  """Describes the model."""
  # Results of earlier versions don't name the dataset.
  if result is None or "dataset" not in result:
    trained = f"trained for {step:,} steps on {user_data.short_name(settings.data.dataset)}"
  else:
    # With `--score_test=false`, there is only a validation accuracy.
    split = "test" if "test_accuracy" in result else "validation"
    share = f"{result[f'{split}_accuracy']:.2%}"
    trained = (
      f"correct on {share} of the {split} examples of {user_data.short_name(result['dataset'])}"
    )
  return f"Read by a model ({settings.model.model}, {trained})."


def _describe_privacy(address: Address) -> str:
  """Describes where pictures go."""
  if address.token is None:
    return "What you draw, show or upload stays on this machine."
  return (
    f"What you draw or upload goes, unencrypted, to the machine at {address.host}, which keeps "
    "none of it."
  )


def _listen(host: str, port: int) -> socket.socket:
  """Returns a listening socket; raises UserError if it can't be opened."""
  try:
    listener = socket.socket(addresses.family_of(host))
  except ValueError as error:
    raise UserError(
      f"--host={host} {error}: use an address of this machine, as shown by `ip address`, "
      "`ifconfig` or `ipconfig`"
    ) from error
  listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
  try:
    listener.bind((host, port))
    listener.listen()
  except OSError as error:
    listener.close()
    if error.errno == errno.EADDRNOTAVAIL:
      raise UserError(f"--host={host} isn't an address of this machine") from error
    raise UserError(f"--port={port}: {error.strerror}; choose another, or 0 for any") from error
  return listener


if __name__ == "__main__":
  app.run(main, define_flags, config_flags.TRAINING_ONLY)
