"""Weights of many draws come from a recording, and are those that the pair itself gives."""

import pytest
import torch

from pyro_bvae.diagnostics import repeated
from pyro_bvae.diagnostics.weights import log_weights
from tests.diagnostics.pairs import X, as_functions, as_vae, diagonal

DATA = torch.cat([X, -X, X / 2])


@pytest.mark.parametrize("made", [as_vae, as_functions])
def test_recorded_weights_are_the_pairs_own_to_the_last_bit(made, monkeypatch):
    recordings = []
    record = repeated.record
    monkeypatch.setattr(repeated, "record", lambda *given: recordings.append(1) or record(*given))
    found = log_weights(made(diagonal()), DATA, num_samples=301, batch_size=9)
    monkeypatch.setattr(repeated, "EARNED", 10**9)
    expected = log_weights(made(diagonal()), DATA, num_samples=301, batch_size=9)
    assert len(recordings) == 2
    assert torch.equal(found, expected)
