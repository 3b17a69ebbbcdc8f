"""PyTorch: an eager step, with the model compiled or not, or the whole step compiled.

All images are converted to floats once, and an epoch is gathered at once; batches are slices of it.
`--step=compiled` makes one graph of forward pass, backward pass and Adam. `torch.func` computes the
gradients, so that neither autograd's engine nor the optimizer's Python code runs between steps.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import turns

try:
  import torch
  from torch import nn
except ImportError:
  turns.absent("torch==2.13.0")

LEARNING_RATE, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.999, 1e-8


def main() -> None:
  """Trains for as many turns as requested."""
  arguments = turns.parse_arguments(
    __doc__,
    step=["eager", "model", "compiled"],
    input=["epoch", "loader"],
    precision=["float32", "bfloat16"],
    # For products this small, a second thread can cost more than it saves.
    threads=["all", "one"],
  )
  if arguments.threads == "one":
    torch.set_num_threads(1)
  arrays = np.load(arguments.arrays)
  # Converted once, because a float for each pixel fits in memory.
  images = torch.from_numpy(arrays["images"].transpose(0, 3, 1, 2) / np.float32(255))
  labels = torch.from_numpy(arrays["labels"].astype(np.int64))
  batches = {"epoch": GatheredEpochs, "loader": loaded_batches}[arguments.input](
    images, labels, arguments.batch
  )
  steps = arguments.steps or len(labels) // arguments.batch
  model = create_model(arguments.model, arguments.hidden)
  if arguments.step == "model":
    model.compile(dynamic=False)
  create_step = create_compiled_step if arguments.step == "compiled" else create_eager_step
  step = create_step(model, mixed=arguments.precision == "bfloat16")

  def epoch() -> float:
    for inputs, targets in itertools.islice(batches, steps):
      loss = step(inputs, targets)
    return loss.item()

  turns.serve(turns.timed_epochs(epoch, steps * arguments.batch), {"torch": torch.__version__})


class GatheredEpochs:
  """Slices of all examples in a new order in each epoch, without workers or collation."""

  def __init__(self, images: torch.Tensor, labels: torch.Tensor, batch: int):
    self._images, self._labels, self._batch = images, labels, batch

  def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    order = torch.randperm(len(self._labels))
    return zip(
      self._images[order].split(self._batch), self._labels[order].split(self._batch), strict=True
    )


def loaded_batches(images: torch.Tensor, labels: torch.Tensor, batch: int):
  """Returns the DataLoader of the tutorials."""
  dataset = torch.utils.data.TensorDataset(images, labels)
  return torch.utils.data.DataLoader(dataset, batch, shuffle=True)


def create_eager_step(model: nn.Module, *, mixed: bool):
  """Returns a step as in the tutorials, but with fused Adam."""
  optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=True)

  def step(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
      loss = nn.functional.cross_entropy(model(inputs), targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss

  return step


def create_compiled_step(model: nn.Module, *, mixed: bool):
  """Returns a step that is a single Inductor graph, called from C++."""
  torch._inductor.config.cpp_wrapper = True
  weights = {name: value.detach() for name, value in model.named_parameters()}
  means = {name: torch.zeros_like(value) for name, value in weights.items()}
  squares = {name: torch.zeros_like(value) for name, value in weights.items()}
  count = torch.zeros(())

  def mean_loss(weights, inputs, targets):
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
      logits = torch.func.functional_call(model, weights, (inputs,))
      return nn.functional.cross_entropy(logits, targets)

  @torch.compile(fullgraph=True, dynamic=False)
  def step(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    gradients, loss = torch.func.grad_and_value(mean_loss)(weights, inputs, targets)
    count.add_(1)
    # Kingma and Ba 2015 (arXiv:1412.6980), algorithm 1.
    rate = LEARNING_RATE * torch.sqrt(1 - BETA_2**count) / (1 - BETA_1**count)
    for name, gradient in gradients.items():
      means[name].lerp_(gradient, 1 - BETA_1)
      squares[name].lerp_(gradient * gradient, 1 - BETA_2)
      weights[name].sub_(rate * means[name] / (squares[name].sqrt() + EPSILON))
    return loss

  return step


def create_model(name: str, hidden: list[int]) -> nn.Module:
  """Returns the model."""
  if name == "dense":
    sizes = [784, *hidden]
    pairs = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *pairs, nn.Linear(sizes[-1], 10))
  model = nn.Sequential(
    nn.Conv2d(1, 24, 5), nn.MaxPool2d(2), nn.ReLU(),
    nn.Conv2d(24, 32, 3), nn.MaxPool2d(2), nn.ReLU(),
    nn.Flatten(), nn.Linear(32 * 5 * 5, 256), nn.ReLU(), nn.Linear(256, 10),
  )  # fmt: skip
  # This layout is the fastest for oneDNN.
  return model.to(memory_format=torch.channels_last)


if __name__ == "__main__":
  main()
