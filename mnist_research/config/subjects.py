"""The settings by subject: each class is a group of flags, and each field is a flag.

Long because it shows every setting of a run in one place.
"""

import dataclasses
import math
import typing
from fractions import Fraction
from typing import Any

from mnist_research.config import setting as setting_lib
from mnist_research.config.setting import INTEGER_LIMIT, setting, to_text
from mnist_research.runtime.errors import UserError

ACTIVATIONS = ("relu", "gelu", "silu", "tanh", "elu", "selu", "sigmoid", "leaky_relu")
LOSSES = ("sparse_categorical_crossentropy", "categorical_crossentropy")
AUGMENTATIONS = (
  "shift", "rotation", "scale", "shear", "elastic", "flip", "pen", "hollow", "lines", "bands",
  "contrast", "light", "blur", "noise", "erasing", "mixup", "cutmix",
)  # fmt: skip
# This package's models, named by references like custom ones, so that checking a flag doesn't load
# TensorFlow.
MODELS = {
  "dense": "mnist_research.models.networks:DenseNetwork",
  "cnn": "mnist_research.models.networks:ConvolutionalNetwork",
}
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "lamb", "muon")
SCHEDULES = ("constant", "cosine", "linear", "one_cycle", "exponential")


class _Settings:
  """Checks the values of a dataclass of settings when it is created."""

  def __post_init__(self) -> None:
    kinds = typing.get_type_hints(type(self))
    for field in dataclasses.fields(typing.cast(Any, self)):
      value = setting_lib.coerced(field, kinds[field.name], getattr(self, field.name))
      setting_lib.check(field, value)
      object.__setattr__(self, field.name, value)
      if field.name.endswith("_settings"):
        setting_lib.parse_keywords(field.name, value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig(_Settings):
  """The training examples and their source."""

  dataset: str = setting(
    "mnist",
    "TFDS dataset of labeled images of one size: mnist, fashion_mnist, kmnist, emnist/digits, "
    "synthetic_digits; a folder of pictures by class, ./letters, or an .npz file; or a builder of "
    "your own, path/to/file.py:MyBuilder",
    is_dataset=True,
  )
  fallback_dataset: str = setting(
    "",
    "dataset to use instead, with a warning, if --dataset is neither prepared nor reachable",
    may_change=True,
    is_dataset=True,
  )
  data_dir: str = setting(
    "", "where TFDS keeps prepared datasets; empty: its default", may_change=True, is_path=True
  )
  manual_dir: str = setting(
    "",
    "directory with the dataset's original files, used instead of a download",
    may_change=True,
    is_path=True,
  )
  mirror: str = setting(
    "",
    "URL of a directory with the dataset's original files, https://host/mnist, to download from; "
    "checksums are verified",
    may_change=True,
  )
  validation_examples: int = setting(
    5000, "examples held out from the end of train; 0: none", at_least=0
  )
  outliers: str = setting(
    "",
    "TFDS dataset of images that belong to no class, added to the training examples so that the "
    "model learns to reject them: non_digits, which this package generates; empty: none",
    is_dataset=True,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentationConfig(_Settings):
  """Random changes to training examples."""

  augment: tuple[str, ...] = setting(
    (),
    f"random changes to each training example: {', '.join(AUGMENTATIONS)}, or a function of "
    "your own, path/to/file.py:warp",
    choices=AUGMENTATIONS,
    open_to=["references"],
  )
  augment_settings: str = setting("", "arguments for your own augmentation: strength=2")
  shift_pixels: float = setting(2.0, "largest `shift` in each direction, in pixels", at_least=0)
  rotation_degrees: float = setting(10.0, "largest angle of `rotation`, in degrees", at_least=0)
  scale_range: float = setting(
    0.1, "largest relative change of width and height by `scale`", at_least=0
  )
  shear_degrees: float = setting(10.0, "largest slant by `shear`, in degrees", at_least=0, below=90)
  elastic_pixels: float = setting(
    1.0, "standard deviation of the displacements of `elastic`, in pixels", at_least=0
  )
  distortion_probability: float = setting(
    0.2, "share of the images that each of `pen`, `hollow`, `lines`, `bands`, `contrast`, `light`, "
    "`blur` and `noise` changes", at_least=0, at_most=1,
  )  # fmt: skip
  erasing_probability: float = setting(
    0.5, "share of the images in which `erasing` blanks a rectangle", at_least=0, at_most=1
  )
  mixing_alpha: float = setting(
    1.0, "mixup and cutmix draw their shares from Beta(alpha, alpha)", more_than=0
  )

  @property
  def mixes_examples(self) -> bool:
    """Whether training examples are mixtures, with targets instead of labels."""
    return "mixup" in self.augment or "cutmix" in self.augment


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig(_Settings):
  """The model.

  The settings after `model_settings` are for this package's models: each is passed to the classes
  that have an argument of its name.
  """

  model: str = setting(
    "dense",
    "model: dense, cnn (convolutions before the hidden layers), or a class of your own, "
    "path/to/file.py:MyNet or package.module:MyNet",
    choices=MODELS,
    open_to=["references"],
  )
  model_settings: str = setting("", "arguments for your own model: width=64,depth=3")
  filters: tuple[int, ...] = setting((24, 32), "cnn: filters of each convolution", at_least=1)
  kernel_sizes: tuple[int, ...] = setting(
    (5, 3), "cnn: side of each convolution's kernel", at_least=1
  )
  pool_sizes: tuple[int, ...] = setting(
    (2, 2), "cnn: side of the max pooling after each convolution; 1: none", at_least=1
  )
  padding: str = setting("valid", "cnn: padding of the convolutions", choices=("valid", "same"))
  global_pooling: bool = setting(False, "cnn: average each map before the hidden layers")
  whitening: bool = setting(
    False,
    "cnn: the first convolution is not trained: its kernels are the principal components of the "
    "training examples, whitened, and their negatives",
  )
  batch_norm: bool = setting(False, "batch normalization before each activation")
  hidden_units: tuple[int, ...] = setting(
    (128, 128), "units of each hidden layer; empty: none", at_least=1
  )
  activation: str = setting("relu", "activation of the hidden layers", choices=ACTIVATIONS)
  dropout_rate: float = setting(
    0.0,
    "share of the inputs that training drops in each layer after the first; in a cnn, before the "
    "hidden layers and the logits",
    at_least=0,
    below=1,
  )
  input_dropout_rate: float = setting(
    0.0, "share of the pixels that training drops", at_least=0, below=1
  )
  noise: float = setting(
    0.0,
    "standard deviation of the normal noise that training adds to the pixels (0 to 1) and before "
    "the activations of the dense layers",
    at_least=0,
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    if len({len(self.filters), len(self.kernel_sizes), len(self.pool_sizes)}) > 1:
      raise UserError(
        f"--filters={to_text(self.filters)}, --kernel_sizes={to_text(self.kernel_sizes)} and "
        f"--pool_sizes={to_text(self.pool_sizes)} must have the same length, one entry per "
        "convolution"
      )
    if self.whitens:
      most = 2 * self.kernel_sizes[0] ** 2
      if self.filters[0] % 2 or self.filters[0] > most:
        raise UserError(
          f"--whitening: --filters={to_text(self.filters)} must start with an even number up to "
          f"{most}: each principal component and its negative"
        )

  @property
  def whitens(self) -> bool:
    """Whether the model's first layer is computed from the training examples."""
    return self.whitening and self.model == "cnn"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizationConfig(_Settings):
  """The loss, the optimizer, and the length of training."""

  loss: str = setting(
    LOSSES[0],
    f"loss: {', '.join(LOSSES)}, or a function of your own, path/to/file.py:my_loss",
    choices=LOSSES,
    open_to=["references"],
  )
  loss_settings: str = setting("", "arguments for your own loss: gamma=2")
  label_smoothing: float = setting(
    0.0, "share of the target spread evenly over all classes", at_least=0, below=1
  )
  teacher: tuple[str, ...] = setting(
    (), "workdirs of finished runs to distill, runs/a,runs/b: the mean of their probabilities on "
    "each training image is a second target, next to its label; empty: none", is_pinned=True,
  )  # fmt: skip
  distillation_weight: float = setting(
    0.9, "weight of the teachers' target; the rest is the label's", more_than=0, at_most=1
  )
  distillation_temperature: float = setting(
    2.0, "temperature: divides the logits of teachers and student for that target", more_than=0
  )
  optimizer: str = setting(
    "adam",
    f"optimizer: {', '.join(OPTIMIZERS)}, a class of tf.keras.optimizers such as Lion, or of your "
    "own, path/to/file.py:MyOptimizer",
    choices=OPTIMIZERS,
    open_to=["references", "keras"],
  )
  optimizer_settings: str = setting("", "more arguments for the optimizer: beta_1=0.8,epsilon=1e-6")
  learning_rate: float = setting(1e-3, "highest learning rate", more_than=0)
  learning_rate_schedule: str = setting(
    "cosine",
    f"learning rate by step: {', '.join(SCHEDULES)}, a class of tf.keras.optimizers.schedules such "
    "as PolynomialDecay, or of your own, path/to/file.py:MySchedule",
    choices=SCHEDULES,
    open_to=["references", "keras"],
  )
  learning_rate_schedule_settings: str = setting(
    "", "arguments for a Keras schedule or your own: decay_steps=1000,power=2"
  )
  warmup_steps: int = setting(
    0,
    "steps over which the learning rate rises linearly; 0: none, or 30% of the run for one_cycle. "
    "The rise also multiplies a Keras schedule or your own",
    at_least=0,
  )
  weight_decay: float = setting(
    0.0, "decoupled weight decay of the kernels, times the learning rate", at_least=0
  )
  clip_norm: float = setting(0.0, "global norm to which gradients are clipped; 0: none", at_least=0)
  ema_decay: float = setting(
    0.0,
    "decay of the exponential moving average of the weights, which is then evaluated; 0: none",
    at_least=0,
    below=1,
  )
  batch_size: int = setting(32, "examples per step, over all replicas", at_least=1)
  epochs: float = setting(
    10.0, "passes over the training examples", more_than=0, below=INTEGER_LIMIT
  )
  steps: int = setting(0, "length of the run in steps; 0: from --epochs", at_least=0)

  def total_steps(self, num_examples: int) -> int:
    """Returns the length of the run in steps, enough to see every example `epochs` times.

    Raises:
      UserError: the number of steps is too large.
    """
    # In exact arithmetic, so that the decimal as written counts, not the nearest float.
    steps = self.steps or math.ceil(Fraction(str(self.epochs)) * num_examples / self.batch_size)
    if steps >= INTEGER_LIMIT:
      raise UserError(f"--epochs={self.epochs}: {steps} steps, which must be below {INTEGER_LIMIT}")
    return steps

  def epoch_steps(self, num_examples: int) -> int:
    """Returns the number of steps until each of `num_examples` was seen, rounded up."""
    return math.ceil(num_examples / self.batch_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(_Settings):
  """The schedule of a run and its output."""

  steps_per_loop: int = setting(
    0, "steps per compiled block; 0: at most about one second of steps", at_least=0
  )
  evaluate_every: int = setting(
    0, "steps between evaluations on the validation examples; 0: an epoch", at_least=0
  )
  checkpoint_every: int = setting(0, "steps between checkpoints; 0: an epoch", at_least=0)
  select: str = setting(
    "last",
    "weights to test and use: the last, or the best on the validation examples",
    choices=("last", "best"),
  )
  early_stopping: int = setting(
    0,
    "end the run after this many evaluations on validation without improvement; 0: never",
    at_least=0,
  )
  score_test: bool = setting(
    True,
    "score the test split once, after the last step; turn it off while you compare settings on the "
    "validation examples",
    may_change=True,
  )
  seed: int = setting(
    0,
    "seed of the initial weights, the order of examples, augmentation and dropout",
    at_least=0,
    below=2**63,
  )
  deterministic: bool = setting(False, "the same bits in every run on the same machine")
  summaries: str = setting(
    "basic",
    "output for TensorBoard; basic: metrics, settings, pictures; all: also histograms, curves, "
    "graph and embedding",
    choices=("none", "basic", "all"),
    may_change=True,
  )
  profile_steps: int = setting(
    0,
    "steps that TensorFlow's profiler traces after the first block, in whole blocks; 0: none",
    at_least=0,
    may_change=True,
  )
  workdir: str = setting(
    "",
    "directory of the run; empty: for training, a name under runs/ made from the settings; "
    "for other commands, the model that ships with the package",
    may_change=True,
    is_path=True,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceConfig(_Settings):
  """Where and how a run computes."""

  precision: str = setting(
    "float32", "arithmetic of the layers; auto: 16 bits if faster", choices=PRECISIONS
  )
  xla: str = setting(
    "auto", "compile the steps with XLA; auto: if it is faster", choices=("auto", "on", "off")
  )
  device: str = setting(
    "auto", "auto: GPUs if there are any", choices=("auto", "cpu", "gpu"), may_change=True
  )
  strategy: str = setting(
    "auto",
    "tf.distribute strategy; auto: by TF_CONFIG and the number of devices",
    choices=("auto", "one_device", "mirrored", "multi_worker"),
    may_change=True,
  )
  device_count: int = setting(
    0,
    "number of devices, logical ones on a CPU; 0: all GPUs, or one CPU",
    at_least=0,
    may_change=True,
  )
