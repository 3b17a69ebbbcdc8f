"""Tests of the syntax of a sweep's settings."""

import re

import pytest

from mnist_research.config import Config
from mnist_research.runtime.errors import UserError
from mnist_research.sweeps import space
from mnist_research.sweeps.space import Range, Values

_BASE = Config(workdir="runs/sweep")


def test_values_and_integer_ranges_are_parsed():
  assert space.parse_sweep(" activation = relu, gelu ; seed=0..3;", _BASE) == [
    Values("activation", ("relu", "gelu")),
    Values("seed", ("0", "1", "2", "3")),
  ]


def test_bar_separates_values_that_contain_commas():
  (axis,) = space.parse_sweep("hidden_units=64|128,64|512,512", _BASE)
  assert axis.texts == ("64", "128,64", "512,512")


def test_ranges_are_parsed():
  text = "learning_rate=log(1e-4, 1e-2);dropout_rate=linear(0,0.5);batch_size=log(16,256)"
  assert space.parse_search(text + ";activation=relu,gelu", _BASE) == [
    Range("learning_rate", 1e-4, 1e-2, log=True, is_integer=False),
    Range("dropout_rate", 0.0, 0.5, log=False, is_integer=False),
    Range("batch_size", 16, 256, log=True, is_integer=True),
    Values("activation", ("relu", "gelu")),
  ]


def test_points_are_all_combinations():
  axes = [Values("activation", ("relu", "gelu")), Values("seed", ("0", "1"))]
  assert space.points(axes) == [
    {"activation": "relu", "seed": "0"},
    {"activation": "relu", "seed": "1"},
    {"activation": "gelu", "seed": "0"},
    {"activation": "gelu", "seed": "1"},
  ]


def test_rounded_fractions_stay_in_range():
  axes = [
    Range("learning_rate", 1e-4, 1e-2, log=True, is_integer=False),
    Range("dropout_rate", 0.0, 0.99999, log=False, is_integer=False),
    Range("batch_size", 16, 256, log=True, is_integer=True),
    Values("hidden_units", ("64", "128,64")),
  ]
  values = {"learning_rate": 0.00123456, "dropout_rate": 0.999989, "batch_size": 17}
  assert space.to_texts(axes, {**values, "hidden_units": "128,64"}) == {
    "learning_rate": "0.001235",
    "dropout_rate": "0.99999",  # The value 1, out of four digits, would be refused.
    "batch_size": "17",
    "hidden_units": "128,64",
  }


@pytest.mark.parametrize(
  ("text", "error"),
  [
    ("", "name settings with their values"),
    (";", "name settings with their values"),
    ("activation", "'activation' is not a setting with values"),
    ("activation=", "'activation=' is not a setting with values"),
    ("act=relu", "there is no setting 'act'"),
    ("workdir=a,b", "--workdir doesn't change what is trained"),
    ("dataset=mnist,kmnist", "dataset changes the scored examples"),
    ("activation=relu;activation=gelu", "activation is given twice"),
    ("activation=relu,,gelu", "has an empty value"),
    ("activation=relo,relu", "--activation=relo"),
    ("dropout_rate=0,1", "--dropout_rate=1.0: must be below 1"),
    ("hidden_units=64,x", "--hidden_units=x"),
    ("seed=4..0", "must go from the lower number to the higher"),
    ("seed=0..10000", "must go from the lower number to the higher, with at most 10,000 values"),
    ("seed=0...4", "seed=0...4 can't be read"),
    ("seed=0..999;batch_size=1..99", "99,000 trials; at most 10,000"),
    ("epochs=1,1.0", "two of its values are the same"),
    ("learning_rate=log(1e-4,1e-2)", "is a range, for --search"),
  ],
)
def test_malformed_sweep_is_rejected(text, error):
  with pytest.raises(UserError, match=re.escape(error)):
    space.parse_sweep(text, _BASE)


@pytest.mark.parametrize(
  ("text", "error"),
  [
    ("learning_rate=log(0,1)", "a log scale must start above 0"),
    ("learning_rate=log(1,0.1)", "must go from the lower number to the higher"),
    ("learning_rate=log(1e-4,1e-2", "can't be read"),
    ("learning_rate=exp(1,2)", "can't be read"),
    ("learning_rate=log(a,b)", "needs two numbers"),
    ("learning_rate=linear(nan,1)", "must go from the lower number to the higher"),
    ("learning_rate=linear(1,inf)", "must be a finite number"),
    ("dropout_rate=linear(0,1)", "--dropout_rate=1.0: must be below 1"),
    ("batch_size=linear(1.5,3)", "needs two integers"),
    ("activation=log(1,2)", "is a range, but activation is not a number"),
    ("seed=0,1", "the seed can't be searched"),
  ],
)
def test_malformed_search_is_rejected(text, error):
  with pytest.raises(UserError, match=re.escape(error)):
    space.parse_search(text, _BASE)
