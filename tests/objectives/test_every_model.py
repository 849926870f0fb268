"""Every objective on every model of the package: each trains, the same way eager and recorded."""

import numpy as np
import pyro
import pytest
import torch

from pyro_bvae import fit
from tests.models.cases import (
    CASES,
    bottleneck,
    conditional,
    hierarchical,
    joint,
    partial_factors,
    semi_supervised,
)
from tests.objectives.examples import FAMILY, OF_CODES

DISCRETE = {joint, semi_supervised}


def trained(name, make, mode, *, steps):
    """Train by an objective, which is about the upper latent of a hierarchy; return the history."""
    pyro.set_rng_seed(0)
    case, objective = make(), FAMILY[name]()
    if make is hierarchical and name in OF_CODES:
        objective.site = "z2"
    return fit(
        case.model,
        tuple(torch.cat([part] * 3) for part in case.data),
        objective=objective,
        beta=0.7,
        steps=steps,
        every=1,
        batch_size=5,
        compile=mode,
        progress=False,
    ).history


@pytest.mark.parametrize("make", CASES)
@pytest.mark.parametrize("name", FAMILY)
def test_every_objective_trains_every_model(name, make):
    if name in ("doubly", "sticking") and make in DISCRETE:
        with pytest.raises(ValueError, match=r"expected continuous latents .* 'y'"):
            trained(name, make, "eager", steps=1)
        return
    history = trained(name, make, "eager", steps=3)
    assert history["loss"].shape == (3,)
    assert all(np.isfinite(values).all() for values in history.values())


@pytest.mark.parametrize(
    ("name", "make"),
    [(name, semi_supervised) for name in OF_CODES]
    + [(name, semi_supervised) for name in ("capacity", "importance")]
    + [(name, hierarchical) for name in ("stratified", "doubly", "free bits")]
    + [(name, joint) for name in ("adversarial", "importance", "dip i")]
    + [(name, partial_factors) for name in ("factor", "sticking", "mmd")]
    + [(name, conditional) for name in ("weighted", "doubly", "dip ii")]
    + [(name, bottleneck) for name in ("capacity", "importance", "sticking")],
)
def test_records_what_eager_steps_do(name, make):
    """Recorded steps are eager ones to the last bit: two are recorded, the last is replayed."""
    eager, recorded = (trained(name, make, mode, steps=4) for mode in ("eager", "recorded"))
    for key, values in eager.items():
        assert np.array_equal(values, recorded[key]), key
