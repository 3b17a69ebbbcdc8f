"""PyTorch: the recipe of `configs/fast.cfg`, with a whole run in each turn.

Every turn starts from new weights. Its time covers the steps, including ordering and gathering.
After each turn, the accuracy on the last 5,000 examples, which are held out, goes to stderr.
"""

import sys

import numpy as np
import turns

try:
  import torch
  from torch import nn
except ImportError:
  turns.absent("torch==2.13.0")

STEPS, BATCH, HELD_OUT = 170, 256, 5000
PEAK, RISE, START = 2.0, 0.3, 1 / 25
# As in `mnist_research.models.networks.whiten`.
WHITENED_IMAGES, FLOOR = 200, 1e-3


def main() -> None:
  """Trains for as many turns as requested."""
  arguments = turns.parse_arguments(
    __doc__, step=["model", "eager"], precision=["bfloat16", "float32"]
  )
  arrays = np.load(arguments.arrays)
  pixels = arrays["images"].transpose(0, 3, 1, 2) / np.float32(255)
  images = torch.from_numpy(pixels).to(memory_format=torch.channels_last)
  labels = torch.from_numpy(arrays["labels"].astype(np.int64))
  model = create_model(whitening_kernels(pixels[:WHITENED_IMAGES, 0]))
  if arguments.step == "model":
    model.compile(dynamic=False)
  mixed = arguments.precision == "bfloat16"

  def training() -> float:
    order = torch.randperm(len(labels) - HELD_OUT)[: STEPS * BATCH]
    batches = zip(images[order].split(BATCH), labels[order].split(BATCH), strict=True)
    optimizer, schedule = create_optimizer(model)
    model.train()
    for inputs, targets in batches:
      with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        loss = nn.functional.cross_entropy(model(inputs), targets, label_smoothing=0.1)
      optimizer.zero_grad(set_to_none=True)
      loss.backward()
      optimizer.step()
      schedule.step()
    return loss.item()

  def runs():
    for result in turns.timed_epochs(training, STEPS * BATCH):
      correct = count_correct(model, images[-HELD_OUT:], labels[-HELD_OUT:])
      print(f"PyTorch: {correct / HELD_OUT:.2%} of the held-out examples", file=sys.stderr)
      initialize(model)
      yield result

  turns.serve(runs(), {"torch": torch.__version__})


def create_model(kernels: np.ndarray) -> nn.Module:
  """Returns the model; its first convolution has the fixed `kernels` [16, 1, 5, 5]."""
  first = nn.Conv2d(1, 16, 5, bias=False)
  first.weight = nn.Parameter(torch.from_numpy(kernels), requires_grad=False)
  model = nn.Sequential(
    first, nn.MaxPool2d(3), nn.ReLU(),
    nn.Conv2d(16, 64, 3, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(64, eps=1e-3), nn.ReLU(),
    nn.Flatten(), nn.Linear(64 * 3 * 3, 128, bias=False), nn.BatchNorm1d(128, eps=1e-3), nn.ReLU(),
    nn.Linear(128, 10),
  )  # fmt: skip
  model = model.to(memory_format=torch.channels_last)
  initialize(model)
  return model


def initialize(model: nn.Module) -> None:
  """Draws new weights: He et al. 2015 (arXiv:1502.01852) and, for the logits, Glorot 2010."""
  for layer in model:
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
      layer.reset_parameters()
    elif isinstance(layer, nn.Conv2d | nn.Linear) and layer.weight.requires_grad:
      is_last = layer.bias is not None
      draw = nn.init.xavier_uniform_ if is_last else nn.init.kaiming_normal_
      draw(layer.weight)
      if is_last:
        nn.init.zeros_(layer.bias)


def whitening_kernels(images: np.ndarray) -> np.ndarray:
  """Returns the principal components of patches of `images` [N, 28, 28], and their negatives."""
  patches = np.lib.stride_tricks.sliding_window_view(images, (5, 5), axis=(1, 2)).reshape(-1, 25)
  variances, components = np.linalg.eigh(np.cov(patches, rowvar=False))
  strongest = (components / np.sqrt(variances + FLOOR))[:, -8:].T.reshape(8, 1, 5, 5)
  return np.concatenate([strongest, -strongest]).astype(np.float32)


def create_optimizer(model: nn.Module):
  """Returns SGD with Nesterov momentum, and a one-cycle schedule of the learning rate."""
  trained = [weights for weights in model.parameters() if weights.requires_grad]
  optimizer = torch.optim.SGD(trained, PEAK, momentum=0.9, nesterov=True, fused=True)
  schedule = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, PEAK, total_steps=STEPS + 1, pct_start=RISE, div_factor=1 / START,
    cycle_momentum=False, final_div_factor=1e4,
  )  # fmt: skip
  return optimizer, schedule


@torch.no_grad()
def count_correct(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> int:
  """Returns how many predictions are correct."""
  model.eval()
  # Calls `forward`, because the compiled model would be compiled again for this batch size.
  return int((model.forward(images).argmax(1) == labels).sum())


if __name__ == "__main__":
  main()
