"""Data are told apart by a few of them, and reading these changes no random state."""

import random

import numpy as np
import pytest
import torch

from pyro_bvae.datasets import as_source
from pyro_bvae.training.fingerprint import fingerprint

X = torch.arange(50.0).reshape(10, 5)


class Drawn(torch.utils.data.Dataset):
    """Data with noise of a generator that is everyone's, or the data set's own."""

    def __init__(self, draw):
        self.draw = draw

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return X[index] + self.draw()


def changed(row, to=1e-3):
    x = X.clone()
    x[row] += to
    return x


@pytest.mark.parametrize(
    "other", [changed(0), changed(5), changed(9), X.double(), X[:, None], (X, X), X.flip(0)]
)
def test_other_data_have_another_fingerprint(other):
    assert fingerprint(as_source(other)) != fingerprint(X)


def test_the_same_data_have_the_same_wherever_they_are():
    torch.set_default_dtype(torch.float32)
    assert (
        fingerprint(as_source(X.numpy())) == fingerprint(X.clone()) == fingerprint(X.mT.clone().mT)
    )
    assert fingerprint(X[:1]) != fingerprint(X[:2])


@pytest.mark.parametrize("draw", [lambda: torch.rand(()), np.random.rand, random.random])
def test_no_random_state_is_touched_and_none_matters(draw):
    source, first = as_source(Drawn(draw)), float(draw())
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    found = fingerprint(source)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(states[0], after[0])
    assert states[1:] == after[1:]
    assert float(draw()) != first
    assert fingerprint(source) == found
    assert "sha256" in found


def test_data_that_are_drawn_anew_are_told_by_their_shape():
    own = [np.random.default_rng(seed) for seed in (0, 1)]
    found = [fingerprint(as_source(Drawn(generator.random))) for generator in own]
    assert found == ["float32 [5], drawn anew"] * 2
