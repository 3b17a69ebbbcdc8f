"""Tests of the settings: ranges, and round trips through flags and flagfiles."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from hypothesis import example, given
from hypothesis import strategies as st

from mnist_research import config as config_lib
from mnist_research.config import FIELDS, Config
from mnist_research.config import flags as config_flags
from mnist_research.runtime import command_line
from mnist_research.runtime.errors import UserError

_CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs").glob("*.cfg"))

# Lines of a flagfile are stripped, so a value can't end with a space.
_TEXTS = st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" ")).map(
  str.strip
)
_PATHS = _TEXTS | st.sampled_from(["~/a #1", "a \\\\# b", "a \\# # b", "~"])
_DATASETS = st.sampled_from(["kmnist", "a_b/C.1-x+y", "mnist:3.*.*", "a/b:1.2.3", "~/a #1.py:B"])
_COUNTS = st.integers(1, 2**31 - 1)
_PAIRS = st.tuples(_COUNTS, _COUNTS)
_SHARES = st.floats(0, 1, exclude_max=True)
_SIZES = st.floats(0, 2**31, exclude_min=True, exclude_max=True)

_VALUES = {
  "dataset": _DATASETS,
  "fallback_dataset": _DATASETS,
  "data_dir": _PATHS,
  "manual_dir": _PATHS,
  "mirror": _TEXTS,
  "validation_examples": _COUNTS,
  "outliers": _DATASETS,
  "augment_settings": st.just("strength=2"),
  "model_settings": st.just("width=64,kind=wide"),
  "loss_settings": st.just("gamma=2"),
  "optimizer_settings": st.just("beta_1=0.8"),
  "learning_rate_schedule_settings": st.just("power=2"),
  "augment": st.lists(st.sampled_from(config_lib.AUGMENTATIONS[:-2]), unique=True).map(tuple),
  "shift_pixels": _SIZES,
  "rotation_degrees": _SIZES,
  "scale_range": _SIZES,
  "shear_degrees": _SHARES,
  "elastic_pixels": _SIZES,
  "distortion_probability": _SHARES,
  "erasing_probability": _SHARES,
  "mixing_alpha": _SIZES,
  "model": st.sampled_from(sorted(config_lib.MODELS)),
  "filters": _PAIRS,
  "kernel_sizes": _PAIRS,
  "pool_sizes": _PAIRS,
  "padding": st.sampled_from(["valid", "same"]),
  "global_pooling": st.booleans(),
  "whitening": st.just(False),  # It is compatible with few numbers of filters.
  "batch_norm": st.booleans(),
  "input_dropout_rate": _SHARES,
  "clip_norm": _SIZES,
  "hidden_units": st.lists(_COUNTS, max_size=4).map(tuple),
  "activation": st.sampled_from(config_lib.ACTIVATIONS),
  "dropout_rate": _SHARES,
  "noise": _SIZES,
  "loss": st.sampled_from(config_lib.LOSSES),
  "label_smoothing": _SHARES,
  "teacher": st.lists(st.sampled_from(["runs/a", "/runs/b@0123456789abcdef"])).map(tuple),
  "distillation_weight": st.floats(0, 1, exclude_min=True),
  "distillation_temperature": _SIZES,
  "optimizer": st.sampled_from(config_lib.OPTIMIZERS),
  "learning_rate": _SIZES,
  "learning_rate_schedule": st.sampled_from(config_lib.SCHEDULES),
  "warmup_steps": _COUNTS,
  "weight_decay": _SIZES,
  "ema_decay": _SHARES,
  "batch_size": _COUNTS,
  "epochs": _SIZES,
  "steps": _COUNTS,
  "steps_per_loop": _COUNTS,
  "evaluate_every": _COUNTS,
  "checkpoint_every": _COUNTS,
  "select": st.sampled_from(["last", "best"]),
  "early_stopping": st.integers(0, 2**31 - 1),
  "seed": st.integers(0, 2**31 - 1),
  "deterministic": st.booleans(),
  "score_test": st.booleans(),
  "precision": st.sampled_from(["float32", "bfloat16"]),
  "xla": st.sampled_from(["auto", "on", "off"]),
  "device": st.sampled_from(["auto", "cpu", "gpu"]),
  "strategy": st.sampled_from(["auto", "one_device", "mirrored"]),
  "device_count": _COUNTS,
  "summaries": st.sampled_from(["none", "basic", "all"]),
  "profile_steps": _COUNTS,
  "workdir": _PATHS,
}
_MAY_CHANGE = {
  "fallback_dataset",
  "data_dir",
  "manual_dir",
  "mirror",
  "device",
  "strategy",
  "device_count",
  "summaries",
  "profile_steps",
  "score_test",
  "workdir",
}

# A non-default value of each setting.
_CHANGED = {
  "dataset": "kmnist",
  "outliers": "non_digits",
  "fallback_dataset": "synthetic_digits",
  "data_dir": "/data",
  "manual_dir": "/files",
  "mirror": "https://example.com/mnist",
  "validation_examples": 1000,
  "augment": ("shift", "elastic"),
  "augment_settings": "strength=2",
  "model_settings": "width=64",
  "loss_settings": "gamma=2",
  "optimizer_settings": "beta_1=0.8",
  "learning_rate_schedule_settings": "power=2",
  "shift_pixels": 1.0,
  "rotation_degrees": 5.0,
  "scale_range": 0.2,
  "shear_degrees": 5.0,
  "elastic_pixels": 0.5,
  "distortion_probability": 0.3,
  "erasing_probability": 0.1,
  "mixing_alpha": 0.2,
  "model": "cnn",
  "filters": (8, 8),
  "kernel_sizes": (3, 3),
  "pool_sizes": (1, 2),
  "padding": "same",
  "global_pooling": True,
  "whitening": True,
  "batch_norm": True,
  "input_dropout_rate": 0.2,
  "clip_norm": 1.0,
  "hidden_units": (128,),
  "activation": "gelu",
  "dropout_rate": 0.1,
  "noise": 0.3,
  "loss": "categorical_crossentropy",
  "label_smoothing": 0.1,
  "teacher": ("runs/a", "runs/b"),
  "distillation_weight": 0.5,
  "distillation_temperature": 4.0,
  "optimizer": "muon",
  "learning_rate": 0.002,
  "learning_rate_schedule": "one_cycle",
  "warmup_steps": 10,
  "weight_decay": 0.01,
  "ema_decay": 0.99,
  "batch_size": 64,
  "epochs": 0.5,
  "steps": 7,
  "steps_per_loop": 3,
  "evaluate_every": 5,
  "checkpoint_every": 6,
  "select": "best",
  "early_stopping": 3,
  "seed": 1,
  "deterministic": True,
  "score_test": False,
  "precision": "bfloat16",
  "xla": "off",
  "device": "cpu",
  "strategy": "mirrored",
  "device_count": 2,
  "summaries": "all",
  "profile_steps": 100,
  "workdir": "/runs/1",
}


def _parse(*arguments: str) -> Config:
  values = flags.FlagValues()
  config_flags.define(values)
  assert command_line.parse(values, arguments) == []
  return config_flags.from_flags(values)


def _written(directory: Path, text: str) -> Path:
  path = directory / "written.cfg"
  path.write_text(text, encoding="utf-8")
  return path


# ---- Flag <-> Config <-> flagfile ----


def test_every_field_has_test_values():
  assert set(_VALUES) == set(FIELDS)
  assert set(_CHANGED) == set(_VALUES)


def test_every_convolution_needs_its_sizes():
  with pytest.raises(
    UserError, match=r"--filters=8,16,32, --kernel_sizes=5,3 and --pool_sizes=2,2"
  ):
    Config(filters=(8, 16, 32))


@pytest.mark.parametrize("filters", [7, 20])
def test_whitening_uses_each_component_twice(filters):
  settings = {"filters": (filters, 8), "kernel_sizes": (3, 3), "whitening": True}
  with pytest.raises(UserError, match=rf"--whitening: --filters={filters},8 .* even .* up to 18"):
    Config(model="cnn", **settings)
  assert not Config(model="dense", **settings).model.whitens


@pytest.mark.parametrize("settings", [{"select": "best"}, {"early_stopping": 2}])
def test_selecting_by_validation_needs_validation_examples(settings):
  with pytest.raises(UserError, match="--validation_examples must be more than 0"):
    Config(validation_examples=0, **settings)


def test_no_flags_give_defaults():
  assert _parse() == Config()


@given(settings=st.fixed_dictionaries(_VALUES))
@example(settings=_CHANGED)
@example(settings={"hidden_units": (), "mirror": "# no comment", "data_dir": "a b=c --seed=1"})
@example(settings={"learning_rate": 5e-324, "epochs": 2147483647.5})
def test_settings_round_trip_through_flagfile(tmp_path_factory, settings):
  config = Config(**settings)
  path = _written(tmp_path_factory.getbasetemp(), config.to_flagfile())
  expected = config.replace(workdir="")
  assert config_flags.from_flagfile(path) == expected
  assert _parse(f"--flagfile={path}") == expected


@given(settings=st.fixed_dictionaries(_VALUES))
@example(settings=_CHANGED)
def test_settings_round_trip_through_flags(settings):
  config = Config(**settings)
  assert _parse(*(f"--{name}={text}" for name, text in config.to_texts().items())) == config


@pytest.mark.parametrize(("name", "value"), _CHANGED.items())
def test_each_flag_sets_only_its_field(name, value):
  text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
  assert _parse(f"--{name}={text}") == Config(**{name: value})


def test_tilde_expands_to_home_directory(monkeypatch):
  monkeypatch.setenv("HOME", "/home/me")
  assert _parse("--workdir=~/a", "--data_dir=~").run.workdir == "/home/me/a"
  assert Config(workdir="~/a", data_dir="~").data.data_dir == "/home/me"


def test_too_many_layers_are_rejected():
  Config(hidden_units=(1,) * 1000)
  with pytest.raises(
    UserError, match=r"^--hidden_units: 1,001 entries; at most 1,000 are allowed$"
  ):
    Config(hidden_units=(1,) * 1001)


def test_flagfile_may_contain_comments_and_blank_lines(tmp_path):
  path = _written(tmp_path, "# a remark\n\n  \n--seed=3\n  # another\n")
  assert config_flags.from_flagfile(path) == Config(seed=3)


@pytest.mark.parametrize(
  ("text", "named"),
  [
    ("--sede=3\n", "line 1: --sede is not a setting; did you mean --seed\\?"),
    ("# a\n--flagfile=/etc/passwd\n", "line 2: --flagfile is not a setting"),
    ("--undefok=x\n", "line 1: --undefok is not a setting"),
    ("--verbosity=1\n", "line 1: --verbosity is not a setting"),
    ("--help\n", "line 1: --help is not a setting"),
    ("--seed=three\n", "seed"),
    ("--activation=rellu\n", "activation"),
    ("--hidden_units=1,x\n", "hidden_units"),
    ("--batch_size=0\n", "--batch_size=0"),
    ("--deterministic=perhaps\n", "deterministic"),
    ("seed=3\n", "seed=3"),
  ],
)
def test_bad_flagfile_line_is_named(tmp_path, text, named):
  with pytest.raises(UserError, match=named):
    config_flags.from_flagfile(_written(tmp_path, text))


@pytest.mark.parametrize("content", [None, b"\xff\xfe--seed=1\n"])
def test_unreadable_flagfile_is_named(tmp_path, content):
  path = tmp_path / "config.cfg"
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(UserError, match=r"config\.cfg can't be read"):
    config_flags.from_flagfile(path)


@pytest.mark.parametrize("path", _CONFIGS, ids=lambda path: path.name)
def test_shipped_configs_parse(path):
  config = config_flags.from_flagfile(path)
  assert config == _parse(f"--flagfile={path}")
  assert config.optimization.total_steps(60_000) > config.optimization.warmup_steps


def test_configs_exist():
  assert "dense.cfg" in [path.name for path in _CONFIGS]


# ---- Ranges ----


@pytest.mark.parametrize(
  ("name", "value", "remedy"),
  [
    *(
      ("dataset", name, "must be the name of a TFDS dataset, such as mnist")
      for name in (
        "",
        "gs://bucket/x",
        "huggingface:mnist",
        "kaggle:digits",
        "..",
        "mnist:3",
        "a b",
        "mnist[x]",
        "\u0661",
        "https://host/x.py",
      )
    ),
    ("fallback_dataset", "s3://x/y", "must be the name of a TFDS dataset"),
    ("validation_examples", -1, "at least 0"),
    ("model", "mlp", "choose one of dense"),
    ("hidden_units", (128, 0), "at least 1"),
    ("hidden_units", (-5,), "at least 1"),
    ("activation", "swish", "choose one of relu, gelu"),
    ("dropout_rate", -0.1, "at least 0"),
    ("noise", -0.1, "at least 0"),
    ("dropout_rate", 1.0, "below 1"),
    ("dropout_rate", float("nan"), "finite"),
    ("loss", "mse", "choose one of sparse_categorical_crossentropy, categorical_crossentropy"),
    ("label_smoothing", -0.01, "at least 0"),
    ("label_smoothing", 1.0, "below 1"),
    ("optimizer", "lion", "choose one of sgd, momentum, nesterov, adam"),
    ("learning_rate", 0.0, "more than 0"),
    ("learning_rate", -1e-3, "more than 0"),
    ("learning_rate", float("inf"), "finite"),
    ("learning_rate", float("nan"), "finite"),
    ("learning_rate_schedule", "step", "choose one of constant, cosine"),
    ("warmup_steps", -1, "at least 0"),
    ("weight_decay", -1e-9, "at least 0"),
    ("weight_decay", float("inf"), "finite"),
    ("ema_decay", -0.5, "at least 0"),
    ("ema_decay", 1.0, "below 1"),
    ("batch_size", 0, "at least 1"),
    ("epochs", 0.0, "more than 0"),
    ("epochs", float("inf"), "finite"),
    ("steps", -1, "at least 0"),
    ("steps_per_loop", -1, "at least 0"),
    ("evaluate_every", -1, "at least 0"),
    ("checkpoint_every", -1, "at least 0"),
    ("seed", -1, "at least 0"),
    ("seed", 2**63, "below 9223372036854775808"),
    ("batch_size", 2**31, "below 2147483648"),
    ("precision", "float8", "choose one of auto, float32, bfloat16"),
    ("xla", "yes", "choose one of auto, on, off"),
    ("device", "tpu", "choose one of auto, cpu, gpu"),
    ("strategy", "parameter_server", "choose one of auto, one_device, mirrored"),
    ("device_count", -1, "at least 0"),
  ],
)
def test_out_of_range_value_is_rejected(name, value, remedy):
  with pytest.raises(UserError, match=rf"^--{name}=.*{remedy}"):
    Config(**{name: value})


@pytest.mark.parametrize("name", ["dataset", "data_dir", "manual_dir", "workdir"])
def test_multiline_text_is_rejected(name):
  with pytest.raises(UserError, match=f"^--{name}=.*printable"):
    Config(**{name: "mnist\n--seed=1"})


@pytest.mark.parametrize(
  "settings",
  [
    {"validation_examples": 0, "warmup_steps": 0, "weight_decay": 0.0, "seed": 0},
    {"dropout_rate": 0.0, "label_smoothing": 0.0, "ema_decay": 0.0},
    {"dropout_rate": 0.999, "label_smoothing": 0.999, "ema_decay": 0.9999},
    {"hidden_units": (), "batch_size": 1, "epochs": 1e-9, "learning_rate": 1e-30},
    {"hidden_units": (1,), "seed": 2**63 - 1},
  ],
)
def test_range_endpoints_are_allowed(settings):
  config = Config(**settings)
  values = config.to_dict()
  assert {name: values[name] for name in settings} == settings


# ---- Lengths ----


@pytest.mark.parametrize(
  ("settings", "num_examples", "steps"),
  [
    ({"epochs": 1.0, "batch_size": 32}, 64, 2),
    ({"epochs": 1.0, "batch_size": 32}, 65, 3),
    ({"epochs": 0.5, "batch_size": 10}, 55, 3),
    ({"epochs": 10.0, "batch_size": 32}, 60_000, 18_750),
    ({"epochs": 10.0, "batch_size": 32, "steps": 7}, 60_000, 7),
    # As floats, 8.3 times 60,000 is a little more than 498,000.
    ({"epochs": 8.3, "batch_size": 1}, 60_000, 498_000),
  ],
)
def test_epochs_determine_total_steps(settings, num_examples, steps):
  assert Config(**settings).optimization.total_steps(num_examples) == steps


def test_steps_are_counted_in_integers():
  """Compares with exact fractions, for every tenth of an epoch up to 30."""
  for tenths, num_examples, batch_size in itertools.product(
    range(1, 301), (54_999, 55_000, 60_000), (1, 7, 32, 100, 128)
  ):
    config = Config(epochs=tenths / 10, batch_size=batch_size)
    examples = -(-tenths * num_examples // 10)
    assert config.optimization.total_steps(num_examples) == -(-examples // batch_size)


def test_partial_epoch_is_rounded_up():
  assert Config(batch_size=32).optimization.epoch_steps(65) == 3


# ---- Differences and names ----


@pytest.mark.parametrize(("name", "value"), _CHANGED.items())
def test_setting_differs_unless_it_may_change(name, value):
  differences = Config(**{name: value}).differences(Config())
  assert [line.partition("=")[0] for line in differences] == (
    [] if name in _MAY_CHANGE else [f"--{name}"]
  )


def test_differences_list_both_values():
  mine = Config(hidden_units=(64,), seed=2, deterministic=True, data_dir="/a")
  assert mine.differences(Config(hidden_units=(), data_dir="/b")) == [
    "--hidden_units=64, not ",
    "--seed=2, not 0",
    "--deterministic=true, not false",
  ]


@pytest.mark.parametrize(("name", "value"), _CHANGED.items())
def test_default_workdir_depends_on_deciding_settings(name, value):
  same = Config(**{name: value}).default_workdir() == Config().default_workdir()
  assert same == (name in _MAY_CHANGE)


def test_hyperparameters_are_the_deciding_settings():
  values = Config(hidden_units=(64, 32), deterministic=True, workdir="runs/a").hyperparameters()
  assert (values["hidden_units"], values["deterministic"]) == ("64,32", True)
  assert (values["augment"], values["epochs"]) == ("", 10.0)
  assert not {"workdir", "data_dir", "summaries", "device"} & values.keys()


def test_default_workdir_is_stable():
  # 158cd6ad begins the SHA-256 of "dataset=emnist/digits\nseed=3\nxla=off".
  config = Config(dataset="emnist/digits", seed=3, xla="off")
  assert config.default_workdir() == "runs/emnist-digits-dense-seed3-67e0f108"


def test_equal_settings_share_default_workdir():
  assert Config(epochs=5) == Config(epochs=5.0)
  assert Config(epochs=5).default_workdir() == Config(epochs=5.0).default_workdir()


# ---- Flags over stored settings ----


def _over(stored: Config, *arguments: str) -> Config:
  values = flags.FlagValues()
  config_flags.define(values, config_flags.AFTER_TRAINING)
  command_line.parse(values, arguments, config_flags.TRAINING_ONLY)
  return config_flags.from_flags_over(stored, values)


def test_given_flags_replace_stored_settings():
  stored = Config(dataset="kmnist", seed=5, hidden_units=(3,))
  assert _over(stored, "--dataset=mnist", "--workdir=/w") == stored.replace(
    dataset="mnist", workdir="/w"
  )


def test_omitted_flags_keep_stored_settings():
  stored = Config(dataset="kmnist", device="cpu", seed=5)
  assert _over(stored) == stored


def test_training_flag_cannot_override_stored_settings():
  with pytest.raises(UserError, match="--seed belongs to training"):
    _over(Config(), "--seed=0")


def test_with_texts_parses_like_flags():
  config = Config(hidden_units=(5,), workdir="runs/x")
  changed = config_flags.with_texts(config, {"hidden_units": "64,32", "learning_rate": "1e-4"})
  assert changed == config.replace(hidden_units=(64, 32), learning_rate=1e-4)
  assert config_flags.with_texts(config, {"hidden_units": ""}).model.hidden_units == ()


@pytest.mark.parametrize(
  ("texts", "error"),
  [
    ({"learning_rate": "fast"}, "--learning_rate=fast"),
    ({"dropout_rate": "1"}, "--dropout_rate=1.0: must be below 1"),
    ({"activation": "relo"}, "--activation=relo"),
  ],
)
def test_with_texts_rejects_invalid_settings(texts, error):
  with pytest.raises(UserError, match=f"^{re.escape(error)}"):
    config_flags.with_texts(Config(), texts)


def test_deciding_texts_exclude_paths_and_devices():
  texts = Config(seed=3, data_dir="/data", workdir="w").deciding_texts()
  assert texts["seed"] == "3"
  assert not {"data_dir", "workdir", "device", "strategy"} & texts.keys()


@pytest.mark.parametrize("name", ["data_dir", "manual_dir", "workdir"])
@pytest.mark.parametrize("address", ["gs://bucket/x", "https://host/x", "s3:/bucket", "file:///x"])
def test_directory_rejects_remote_address(name, address):
  with pytest.raises(UserError, match=f"--{name}={address}: must be a local directory"):
    Config(**{name: address})


def test_directory_may_contain_a_colon():
  assert Config(data_dir="/a:b/c", workdir="run:1").data.data_dir == "/a:b/c"


# ---- From Python ----


@pytest.mark.parametrize(
  ("name", "given", "value"),
  [
    ("workdir", Path("runs/x"), "runs/x"),
    ("hidden_units", [32, np.int64(16)], (32, 16)),
    ("hidden_units", 32, (32,)),
    ("hidden_units", "32,16", (32, 16)),
    ("augment", ["shift"], ("shift",)),
    ("augment", "shift", ("shift",)),
    ("batch_size", 32.0, 32),
    ("batch_size", np.int32(32), 32),
    ("learning_rate", 1, 1.0),
    ("learning_rate", np.float32(0.5), 0.5),
    ("xla", "on", "on"),
  ],
)
def test_equivalent_types_are_accepted(name, given, value):
  config = Config(**{name: given})
  assert config == Config(**{name: value})
  texts = config.to_texts()
  assert texts[name] == Config(**{name: value}).to_texts()[name]


@pytest.mark.parametrize(
  ("name", "given", "expected"),
  [
    ("seed", None, "an integer"),
    ("batch_size", 32.5, "an integer"),
    ("batch_size", True, "an integer"),
    ("learning_rate", "fast", "a number"),
    ("hidden_units", ["a"], "a sequence of integers"),
    ("augment", [3], "a sequence of strings"),
    ("workdir", 3, "a string"),
    ("deterministic", "maybe", "true or false"),
  ],
)
def test_wrong_type_is_rejected_by_name(name, given, expected):
  with pytest.raises(UserError, match=re.escape(f"--{name}={given!r}: must be {expected}")):
    Config(**{name: given})
