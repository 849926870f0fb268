"""σ as a module."""

import math

import pytest
import torch

from pyro_bvae.scale import Scale

SHAPES = {"learned": (), "per_latent": (3,)}


def test_a_number_is_a_buffer_that_may_change_in_place():
    scale = Scale(0.5)
    assert scale().shape == ()
    assert list(scale.parameters()) == []
    assert set(scale.state_dict()) == {"value"}
    scale.value.fill_(2.0)
    assert scale() == 2.0


@pytest.mark.parametrize("name", SHAPES)
def test_a_name_is_a_positive_parameter_that_starts_at_one(name):
    scale = Scale(name, learned=SHAPES)
    assert scale().shape == SHAPES[name]
    assert (scale() == 1).all()
    with torch.no_grad():
        scale.log_value.fill_(-5.0)
    assert torch.allclose(scale(), torch.tensor(math.exp(-5.0)))
    scale().sum().backward()
    assert torch.allclose(scale.log_value.grad, scale())


@pytest.mark.parametrize("bad", [0, 0.0, -1, math.nan, math.inf, "sigma", True, None, [1.0]])
def test_refuses(bad):
    message = "scale: expected a finite number > 0 or 'learned' or 'per_latent', got"
    with pytest.raises(ValueError, match=message):
        Scale(bad, learned=SHAPES)
    with pytest.raises(ValueError, match="scale: expected a finite number > 0, got"):
        Scale(bad)
