"""The settings of a run: each is a field of `Config`, an absl flag and a line of config.cfg."""

import dataclasses
import hashlib
import math
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from mnist_research.errors import UserError

ACTIVATIONS = ("relu", "gelu", "silu", "tanh", "elu", "selu", "sigmoid", "leaky_relu")
LOSSES = ("sparse_categorical_crossentropy", "categorical_crossentropy")
AUGMENTATIONS = (
  "shift", "rotation", "scale", "shear", "elastic", "erasing", "mixup", "cutmix"
)  # fmt: skip
MODELS = ("dense", "cnn")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
OPTIMIZERS = ("sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "lamb", "muon")
SCHEDULES = ("constant", "cosine", "linear", "one_cycle", "exponential")


# TensorFlow counts in 32 bits in places.
_INTEGER_LIMIT = 2**31

# What may be chosen anew when a trained network is used.
_AFTER_TRAINING = ("workdir", "dataset", "data_dir", "manual_dir", "device")


def _setting(
  default: Any, help_text: str, *, choices: Iterable[str] = (), at_least: float | None = None,
  below: float | None = None, more_than: float | None = None, may_change: bool = False,
) -> Any:  # fmt: skip
  """A field of `Config`; `may_change` marks what a resumed run may set otherwise."""
  metadata = {
    "help": help_text, "choices": tuple(choices), "at_least": at_least, "below": below,
    "more_than": more_than, "may_change": may_change,
  }  # fmt: skip
  return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """Everything that decides a training run. Made by keyword, or from flags; checked either way.

  Raises:
    UserError: a value is out of its range; the message names the flag and the range.
  """

  dataset: str = _setting(
    "mnist", "TFDS dataset of 28x28x1 images: mnist, fashion_mnist, kmnist, emnist/digits, "
    "synthetic_digits")  # fmt: skip
  fallback_dataset: str = _setting(
    "", "dataset to take, with a warning, where --dataset is neither prepared nor reachable",
    may_change=True)  # fmt: skip
  data_dir: str = _setting(
    "", "where TFDS keeps prepared datasets; empty: its default", may_change=True)  # fmt: skip
  manual_dir: str = _setting(
    "", "directory with the dataset's original files, used instead of a download",
    may_change=True)  # fmt: skip
  validation_examples: int = _setting(
    5000, "the last N examples of train, held out to choose by; 0: none", at_least=0)  # fmt: skip

  augment: tuple[str, ...] = _setting(
    (), "changes made to each training example anew: " + ", ".join(AUGMENTATIONS),
    choices=AUGMENTATIONS)  # fmt: skip
  shift_pixels: float = _setting(2.0, "most that `shift` moves, each way", at_least=0)
  rotation_degrees: float = _setting(10.0, "most that `rotation` turns", at_least=0)
  scale_range: float = _setting(
    0.1, "most that `scale` stretches or shrinks each side, as a share", at_least=0)  # fmt: skip
  shear_degrees: float = _setting(10.0, "most that `shear` slants", at_least=0, below=90)
  elastic_pixels: float = _setting(
    1.0, "standard deviation of the displacements of `elastic`", at_least=0)  # fmt: skip
  erasing_probability: float = _setting(
    0.5, "share of the images from which `erasing` takes a rectangle", at_least=0,
    below=1.0000001)  # fmt: skip
  mixing_alpha: float = _setting(
    1.0, "mixup and cutmix draw their shares from Beta(alpha, alpha)", more_than=0)  # fmt: skip

  model: str = _setting(
    "dense", "network: hidden layers, in `cnn` after convolutions", choices=MODELS)  # fmt: skip
  filters: tuple[int, ...] = _setting(
    (24, 32), "cnn: filters of each convolution", at_least=1)  # fmt: skip
  kernel_sizes: tuple[int, ...] = _setting(
    (5, 3), "cnn: side of each convolution's kernel", at_least=1)  # fmt: skip
  pool_sizes: tuple[int, ...] = _setting(
    (2, 2), "cnn: side of the max pooling after each convolution; 1: none",
    at_least=1)  # fmt: skip
  padding: str = _setting("valid", "cnn: of the convolutions", choices=("valid", "same"))
  global_pooling: bool = _setting(False, "cnn: average each map before the hidden layers")
  whitening: bool = _setting(
    False, "cnn: the first convolution stays as it is made: principal components of the training "
    "examples, whitened, and their negatives")  # fmt: skip
  batch_norm: bool = _setting(False, "batch normalisation before each activation")
  hidden_units: tuple[int, ...] = _setting(
    (128, 128), "units of each hidden layer; empty: none", at_least=1)  # fmt: skip
  activation: str = _setting("relu", "activation of the hidden layers", choices=ACTIVATIONS)
  dropout_rate: float = _setting(
    0.0, "share of the inputs of each layer after the first dropped in training; of the maps of a "
    "cnn, those that its hidden layers see", at_least=0, below=1)  # fmt: skip
  input_dropout_rate: float = _setting(
    0.0, "share of the pixels dropped in training", at_least=0, below=1)  # fmt: skip
  noise: float = _setting(
    0.0, "standard deviation of the normal noise added in training to the pixels, which go from 0 "
    "to 1, and before the activations of the dense layers", at_least=0)  # fmt: skip

  loss: str = _setting(LOSSES[0], "loss", choices=LOSSES)
  label_smoothing: float = _setting(
    0.0, "share of the target spread evenly over all classes", at_least=0, below=1)  # fmt: skip
  optimizer: str = _setting("adam", "optimizer", choices=OPTIMIZERS)
  learning_rate: float = _setting(1e-3, "highest learning rate", more_than=0)
  learning_rate_schedule: str = _setting("cosine", "learning rate by step", choices=SCHEDULES)
  warmup_steps: int = _setting(
    0, "steps over which the learning rate rises; 0: none, for one_cycle 30% of the run",
    at_least=0)  # fmt: skip
  weight_decay: float = _setting(
    0.0, "decoupled weight decay of the kernels, times the learning rate", at_least=0)  # fmt: skip
  clip_norm: float = _setting(
    0.0, "longest gradient over all weights together; 0: any", at_least=0)  # fmt: skip
  ema_decay: float = _setting(
    0.0, "decay of the exponential moving average of the weights that is evaluated; 0: none",
    at_least=0, below=1)  # fmt: skip

  batch_size: int = _setting(32, "examples of a step, over all replicas together", at_least=1)
  epochs: float = _setting(
    10.0, "passes over the training examples", more_than=0, below=_INTEGER_LIMIT
  )
  steps: int = _setting(0, "length of the run in steps; 0: from --epochs", at_least=0)
  steps_per_loop: int = _setting(
    0, "steps of one compiled block; 0: as many as take about a second, or fewer",
    at_least=0)  # fmt: skip
  evaluate_every: int = _setting(
    0, "steps from one scoring of the validation examples to the next; 0: an epoch",
    at_least=0)  # fmt: skip
  checkpoint_every: int = _setting(
    0, "steps from one checkpoint to the next; 0: an epoch", at_least=0)  # fmt: skip

  select: str = _setting(
    "last", "weights that are tested and used: the last, or the best on the validation examples",
    choices=("last", "best"))  # fmt: skip
  early_stopping: int = _setting(
    0, "scorings of the validation examples without a better one that end the run; 0: none do",
    at_least=0)  # fmt: skip

  seed: int = _setting(
    0, "seed of the initial weights, the order of examples and dropout", at_least=0
  )
  deterministic: bool = _setting(False, "same bits in every run on the same machine")
  precision: str = _setting(
    "float32", "arithmetic of the layers; auto: 16 bits where that is faster",
    choices=PRECISIONS)  # fmt: skip
  xla: str = _setting(
    "auto", "compile the steps with XLA; auto: where it pays", choices=("auto", "on", "off")
  )
  device: str = _setting(
    "auto", "auto: GPUs where there are any", choices=("auto", "cpu", "gpu"), may_change=True
  )
  strategy: str = _setting(
    "auto", "tf.distribute strategy; auto: by TF_CONFIG and the number of devices",
    choices=("auto", "one_device", "mirrored", "multi_worker"), may_change=True)  # fmt: skip
  device_count: int = _setting(
    0, "devices to use; on a CPU that many logical ones; 0: all GPUs, or one CPU", at_least=0,
    may_change=True)  # fmt: skip
  summaries: str = _setting(
    "basic", "what TensorBoard is told: none, basic: metrics, settings, pictures, or all: "
    "histograms, curves, graph and embedding too", choices=("none", "basic", "all"),
    may_change=True)  # fmt: skip
  profile_steps: int = _setting(
    0, "steps, after the first block, that TensorFlow's profiler traces, in whole blocks; 0: none",
    at_least=0, may_change=True)  # fmt: skip
  workdir: str = _setting(
    "", "directory of the run; empty: to train, a name under runs/ made from the settings; to use, "
    "the network that comes with the package",
    may_change=True)  # fmt: skip

  def __post_init__(self):
    for field in dataclasses.fields(self):
      _check(field, getattr(self, field.name))
    lengths = {len(self.filters), len(self.kernel_sizes), len(self.pool_sizes)}
    if len(lengths) > 1:
      raise UserError(
        f"--filters={_to_text(self.filters)}, --kernel_sizes={_to_text(self.kernel_sizes)} and "
        f"--pool_sizes={_to_text(self.pool_sizes)} must be as many: one for each convolution"
      )
    if self.whitens:
      most = 2 * self.kernel_sizes[0] ** 2
      if self.filters[0] % 2 or self.filters[0] > most:
        raise UserError(
          f"--whitening: --filters={_to_text(self.filters)} must begin with an even number up to "
          f"{most}: each principal component and its negative"
        )
    if not self.validation_examples and (self.select == "best" or self.early_stopping):
      raise UserError(
        f"--select={self.select} and --early_stopping={self.early_stopping} choose by validation "
        "examples: --validation_examples must be more than 0"
      )
    if self.mixes_examples and self.loss != "categorical_crossentropy":
      raise UserError(
        f"--augment={_to_text(self.augment)} mixes labels: use --loss=categorical_crossentropy"
      )

  @property
  def whitens(self) -> bool:
    """Whether the network's first layer is made of the training examples."""
    return self.whitening and self.model == "cnn"

  @property
  def mixes_examples(self) -> bool:
    """Whether training examples are mixtures, with targets in place of labels."""
    return "mixup" in self.augment or "cutmix" in self.augment

  def total_steps(self, num_examples: int) -> int:
    """Returns the length of the run in steps: every example is seen at least `epochs` times.

    Raises:
      UserError: there are more than can be counted.
    """
    steps = self.steps or math.ceil(self.epochs * num_examples / self.batch_size)
    if steps >= _INTEGER_LIMIT:
      raise UserError(
        f"--epochs={self.epochs}: {steps} steps, which must be below {_INTEGER_LIMIT}"
      )
    return steps

  def epoch_steps(self, num_examples: int) -> int:
    """Steps after which each of `num_examples` was seen, rounded up."""
    return math.ceil(num_examples / self.batch_size)

  def default_workdir(self) -> str:
    """A name under runs/ for these settings: the same for the same, another for others."""
    changed = {
      f.name: getattr(self, f.name)
      for f in dataclasses.fields(self)
      if not f.metadata["may_change"] and getattr(self, f.name) != f.default
    }
    # 5 epochs are 5.0 epochs.
    numbers = {name: float(v) for name, v in changed.items() if isinstance(v, int)}
    digest = hashlib.sha256(repr({**changed, **numbers}).encode()).hexdigest()[:8]
    return f"runs/{self.dataset.replace('/', '-')}-{self.model}-seed{self.seed}-{digest}"

  def to_texts(self) -> dict[str, str]:
    """Returns every setting as a flag takes it."""
    return {name: _to_text(value) for name, value in dataclasses.asdict(self).items()}

  def deciding_texts(self) -> dict[str, str]:
    """Returns the settings on which the result depends, as flags take them."""
    texts = self.to_texts()
    decide = [f.name for f in dataclasses.fields(self) if not f.metadata["may_change"]]
    return {name: texts[name] for name in decide}

  def to_flagfile(self) -> str:
    """The text of a flagfile that repeats this run in another workdir."""
    texts = self.to_texts()
    del texts["workdir"]
    return "".join(f"--{name}={text}\n" for name, text in texts.items())

  def hyperparameters(self) -> dict[str, bool | float | str]:
    """Returns the settings on which the result depends, lists as text."""
    values = {
      f.name: getattr(self, f.name)
      for f in dataclasses.fields(self)
      if not f.metadata["may_change"]
    }
    return {name: _to_text(v) if isinstance(v, tuple) else v for name, v in values.items()}

  def differences(self, other: "Config") -> list[str]:
    """Describes each setting on which the result depends and that differs, as `--flag=a, not b`."""
    return [
      f"--{f.name}={_to_text(getattr(self, f.name))}, not {_to_text(getattr(other, f.name))}"
      for f in dataclasses.fields(self)
      if not f.metadata["may_change"] and getattr(self, f.name) != getattr(other, f.name)
    ]


def _to_text(value: Any) -> str:
  if isinstance(value, bool):
    return str(value).lower()
  return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _check(field: dataclasses.Field, value: Any) -> None:
  """Raises UserError unless `value` is one that `field` allows."""
  limits = field.metadata
  flag = f"--{field.name}={_to_text(value)}"
  chosen = set(value) if isinstance(value, tuple) else {value}
  if limits["choices"] and not chosen <= set(limits["choices"]):
    raise UserError(f"{flag}: choose one of {', '.join(limits['choices'])}")
  if isinstance(value, str) and not value.isprintable():
    raise UserError(f"--{field.name}={value!r}: only printable characters")
  for number in value if isinstance(value, tuple) else (value,):
    if isinstance(number, str):
      continue
    if isinstance(number, float) and not math.isfinite(number):
      raise UserError(f"{flag}: must be a finite number")
    if limits["at_least"] is not None and number < limits["at_least"]:
      raise UserError(f"{flag}: must be at least {limits['at_least']}")
    if limits["more_than"] is not None and number <= limits["more_than"]:
      raise UserError(f"{flag}: must be more than {limits['more_than']}")
    below = _INTEGER_LIMIT if isinstance(number, int) else math.inf
    if limits["below"] is not None:
      below = limits["below"]
    if number >= below:
      raise UserError(f"{flag}: must be below {below}")


class _IntegersParser(flags.ArgumentParser):
  """Parses `128,64` into (128, 64)."""

  syntactic_help = "whole numbers with commas between them"

  def parse(self, argument: str | tuple[int, ...]) -> tuple[int, ...]:
    if isinstance(argument, tuple):
      return argument
    try:
      return tuple(int(part) for part in argument.split(",")) if argument.strip() else ()
    except ValueError:
      raise ValueError(f"not {self.syntactic_help}") from None


class _IntegersSerializer(flags.ArgumentSerializer):
  def serialize(self, value: tuple[int, ...]) -> str:
    return _to_text(value)


def define_flags(flag_values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines one flag for each field of `Config`."""
  types = typing.get_type_hints(Config)
  for field in dataclasses.fields(Config):
    kind, help_text = types[field.name], field.metadata["help"]
    default: Any = field.default
    if kind == tuple[str, ...]:
      flags.DEFINE_list(field.name, list(default), help_text, flag_values)
    elif field.metadata["choices"]:
      choices = list(field.metadata["choices"])
      flags.DEFINE_enum(field.name, default, choices, help_text, flag_values)
    elif kind is bool:
      flags.DEFINE_bool(field.name, default, help_text, flag_values)
    elif kind is int:
      flags.DEFINE_integer(field.name, default, help_text, flag_values=flag_values)
    elif kind is float:
      flags.DEFINE_float(field.name, default, help_text, flag_values=flag_values)
    elif kind is str:
      flags.DEFINE_string(field.name, default, help_text, flag_values)
    else:
      flags.DEFINE(
        _IntegersParser(), field.name, default, help_text, flag_values, _IntegersSerializer()
      )


def from_flags(flag_values: flags.FlagValues = flags.FLAGS) -> Config:
  """Makes the `Config` that parsed flags describe."""
  return Config(**{f.name: _flag_value(f, flag_values) for f in dataclasses.fields(Config)})


def _flag_value(field: dataclasses.Field, flag_values: flags.FlagValues) -> Any:
  value = flag_values[field.name].value
  return tuple(value) if isinstance(value, list) else value


def from_flags_over(stored: Config, flag_values: flags.FlagValues = flags.FLAGS) -> Config:
  """Returns `stored`, the settings of a run, with the flags that were given in their place.

  Raises:
    UserError: a flag was given that can't change once a run is trained.
  """
  given = {f.name: f for f in dataclasses.fields(Config) if flag_values[f.name].present}
  for name in given:
    if name not in _AFTER_TRAINING:
      raise UserError(f"--{name} belongs to training: this command takes it from the workdir")
  values = {name: _flag_value(field, flag_values) for name, field in given.items()}
  return dataclasses.replace(stored, **values)


def with_texts(config: Config, texts: Mapping[str, str]) -> Config:
  """Returns `config` with some settings in place of its own, as flags take them.

  Raises:
    UserError: a value is none for its setting, or they don't go together.
  """
  flag_values = flags.FlagValues()
  define_flags(flag_values)
  all_texts = {**config.to_texts(), **texts}
  try:
    flag_values(["config", *(f"--{name}={text}" for name, text in all_texts.items())])
  except flags.Error as error:
    raise UserError(str(error).removeprefix("flag ")) from error
  return from_flags(flag_values)


def from_flagfile(path: Path) -> Config:
  """Reads a `Config` from a flagfile such as a workdir's config.cfg.

  Raises:
    UserError: the file is missing, unreadable, or holds an unknown flag or a bad value.
  """
  flag_values = flags.FlagValues()
  define_flags(flag_values)
  try:
    lines = path.read_text(encoding="utf-8").splitlines()
    rest = flag_values(["config", *(line for line in lines if line.strip()[:1] not in ("", "#"))])
  except (OSError, UnicodeDecodeError, flags.Error) as error:
    raise UserError(f"{path} can't be read as settings: {error}") from error
  if len(rest) > 1:
    raise UserError(f"{path} can't be read as settings: {rest[1]!r} is no flag")
  try:
    return from_flags(flag_values)
  except UserError as error:
    raise UserError(f"{path} can't be read as settings: {error}") from error


# Those of the command line; every command has them.
define_flags()
