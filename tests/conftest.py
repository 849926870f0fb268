"""Every test runs in float64, from seed 0, and must leave Pyro's global state as it found it."""

import os

os.environ.setdefault("MPLBACKEND", "agg")

import pyro
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def float64_seeded_and_clean():
    """Float64, seed 0 and an empty parameter store; torch's own float32 afterwards."""
    torch.set_default_dtype(torch.float64)
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    yield
    pyro.clear_param_store()
    torch.set_default_dtype(torch.float32)
