"""PyTorch: an eager loop whose batches come by index from one tensor, or from a DataLoader."""

import itertools
from collections.abc import Iterator

import numpy as np
import turns

try:
  import torch
  from torch import nn
except ImportError:
  turns.absent("torch==2.13.0")


def main() -> None:
  """Trains for as many turns as are asked for."""
  arguments = turns.parse_arguments(
    __doc__,
    input=["index", "loader"],
    precision=["float32", "bfloat16"],
    # For products this small the second thread can cost more than it does.
    threads=["all", "one"],
  )
  if arguments.threads == "one":
    torch.set_num_threads(1)
  arrays = np.load(arguments.arrays)
  images = torch.from_numpy(np.ascontiguousarray(arrays["images"].transpose(0, 3, 1, 2)))
  labels = torch.from_numpy(arrays["labels"].astype(np.int64))
  batches = {"index": IndexedBatches, "loader": loaded_batches}[arguments.input](
    images, labels, arguments.batch
  )
  steps = arguments.steps or len(labels) // arguments.batch
  model = create_model(arguments.model, arguments.hidden)
  optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
  criterion = nn.CrossEntropyLoss()
  mixed = arguments.precision == "bfloat16"

  def epoch() -> float:
    for inputs, targets in itertools.islice(batches, steps):
      with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        loss = criterion(model(inputs), targets)
      optimizer.zero_grad(set_to_none=True)
      loss.backward()
      optimizer.step()
    return loss.item()

  turns.serve(turns.timed_epochs(epoch, steps * arguments.batch), {"torch": torch.__version__})


class IndexedBatches:
  """Batches cut from a new permutation every time: no worker, no collation."""

  def __init__(self, images: torch.Tensor, labels: torch.Tensor, batch: int):
    self._images, self._labels, self._batch = images, labels, batch

  def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for index in torch.randperm(len(self._labels)).split(self._batch):
      yield self._images[index].float() / 255, self._labels[index]


def loaded_batches(images: torch.Tensor, labels: torch.Tensor, batch: int):
  """The DataLoader of the tutorials, on images that are floats already."""
  dataset = torch.utils.data.TensorDataset(images.float() / 255, labels)
  return torch.utils.data.DataLoader(dataset, batch, shuffle=True)


def create_model(name: str, hidden: list[int]) -> nn.Module:
  """Returns the network."""
  if name == "dense":
    sizes = [784, *hidden]
    pairs = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *pairs, nn.Linear(sizes[-1], 10))
  network = nn.Sequential(
    nn.Conv2d(1, 24, 5), nn.MaxPool2d(2), nn.ReLU(),
    nn.Conv2d(24, 32, 3), nn.MaxPool2d(2), nn.ReLU(),
    nn.Flatten(), nn.Linear(32 * 5 * 5, 256), nn.ReLU(), nn.Linear(256, 10),
  )  # fmt: skip
  # The layout that oneDNN is fastest with.
  return network.to(memory_format=torch.channels_last)


if __name__ == "__main__":
  main()
