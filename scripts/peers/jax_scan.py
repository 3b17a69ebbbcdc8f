"""JAX: a whole epoch is one compiled `lax.scan` over arrays on the device.

The weights' buffers are donated. `--gather=epoch` gathers the images of an epoch before the scan,
`--gather=step` gathers a batch at a time within it. `--unroll` unrolls several steps into an
iteration of the loop.
"""

import functools
import itertools

import numpy as np
import turns

try:
  import jax
  import optax
  from jax import lax
  from jax import numpy as jnp
except ImportError:
  turns.absent("jax optax")

OPTIMIZER = optax.adam(1e-3)


def main() -> None:
  """Trains for as many turns as requested."""
  arguments = turns.parse_arguments(
    __doc__,
    gather=["step", "epoch"],
    unroll=["1", "2", "4", "8"],
  )
  arrays = np.load(arguments.arrays)
  images, labels = jnp.asarray(arrays["images"]), jnp.asarray(arrays["labels"])
  steps = arguments.steps or len(labels) // arguments.batch
  forward = {"dense": dense_logits, "cnn": cnn_logits}[arguments.model]
  weights = initial_weights(arguments.model, arguments.hidden)
  state = weights, OPTIMIZER.init(weights)
  keys = iter(jax.random.split(jax.random.key(1), 10_000))

  def mean_loss(weights, batch, labels):
    logits = forward(weights, batch.astype(jnp.float32) / 255)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

  def update(state, batch, labels):
    weights, slots = state
    loss, gradients = jax.value_and_grad(mean_loss)(weights, batch, labels)
    updates, slots = OPTIMIZER.update(gradients, slots)
    return (optax.apply_updates(weights, updates), slots), loss

  def update_by_index(state, index):
    return update(state, images[index], labels[index])

  @functools.partial(jax.jit, donate_argnums=0)
  def scanned(state, key):
    order = jax.random.permutation(key, len(labels))[: steps * arguments.batch]
    order = order.reshape(steps, arguments.batch)
    unroll = int(arguments.unroll)
    if arguments.gather == "step":
      return lax.scan(update_by_index, state, order, unroll=unroll)
    batches = images[order], labels[order]
    return lax.scan(lambda state, batch: update(state, *batch), state, batches, unroll=unroll)

  def epoch() -> float:
    nonlocal state
    state, losses = jax.block_until_ready(scanned(state, next(keys)))
    return float(losses[-1])

  turns.serve(turns.timed_epochs(epoch, steps * arguments.batch), {"jax": jax.__version__})


def initial_weights(model: str, hidden: list[int]) -> list:
  """Returns the kernel and bias of each layer, with kernels drawn as in He et al."""
  sizes = [784, *hidden, 10]
  shapes: list[tuple[int, ...]] = list(itertools.pairwise(sizes))
  if model == "cnn":
    shapes = [(5, 5, 1, 24), (3, 3, 24, 32), (32 * 5 * 5, 256), (256, 10)]
  keys = jax.random.split(jax.random.key(0), len(shapes))
  return [
    (jax.random.normal(key, shape) * np.sqrt(2 / np.prod(shape[:-1])), jnp.zeros(shape[-1]))
    for key, shape in zip(keys, shapes, strict=True)
  ]


def dense_logits(weights, x):
  """Applies dense layers to inputs, [batch, ...]."""
  x = x.reshape(len(x), -1)
  for kernel, bias in weights[:-1]:
    x = jax.nn.relu(x @ kernel + bias)
  kernel, bias = weights[-1]
  return x @ kernel + bias


def cnn_logits(weights, x):
  """Applies two convolutions, each with pooling and relu, then dense layers."""
  for kernel, bias in weights[:2]:
    layout = ("NHWC", "HWIO", "NHWC")
    x = lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=layout) + bias
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = jax.nn.relu(x)
  return dense_logits(weights[2:], x)


if __name__ == "__main__":
  main()
