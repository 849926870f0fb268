"""What stands for a pair."""

from types import SimpleNamespace

import pytest

from pyro_bvae import Pair
from pyro_bvae.types import as_pair


def model():
    """Stand for a model."""


def guide():
    """Stand for a guide."""


@pytest.mark.parametrize(
    "pair", [Pair(model, guide), (model, guide), SimpleNamespace(model=model, guide=guide)]
)
def test_reads_a_pair(pair):
    assert as_pair(pair) == Pair(model, guide)
    assert as_pair(pair).model is model


@pytest.mark.parametrize(
    "bad",
    [
        model,
        (model,),
        (model, guide, model),
        [model, guide],
        (model, 1),
        (None, guide),
        None,
        "mg",
        SimpleNamespace(model=model),
        SimpleNamespace(model=model, guide=2),
    ],
)
def test_refuses_what_is_none(bad):
    message = r"pair: expected an object with a model and a guide .*tuple.*\(model, guide\), got"
    with pytest.raises(TypeError, match=f"{message} {type(bad).__name__}"):
        as_pair(bad)
