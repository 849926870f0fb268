"""Parameters that a module has by `pyro.param` are among its weights."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

from pyro_bvae import fit
from pyro_bvae.training import Run

X = torch.linspace(-1.0, 1.0, 40).reshape(20, 2)


class Scaled(nn.Linear):
    """A module whose noise, or a network beside it, is Pyro's alone; with extra state."""

    def __init__(self, *, beside=None):
        super().__init__(2, 1)
        self.__dict__["beside"] = beside

    def get_extra_state(self):
        return {"version": 1}

    def set_extra_state(self, state):
        pass

    def model(self, x):
        pyro.module("scaled", self)
        sigma = pyro.param("sigma", torch.tensor(1.0), constraint=dist.constraints.positive)
        if self.beside is not None:
            pyro.module("beside", self.beside)
            sigma = sigma + self.beside(torch.ones(1, 1)).exp().squeeze()
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, sigma), obs=x.sum(-1))

    def guide(self, x):
        pyro.module("scaled", self)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(self(x).squeeze(-1), 0.5))


def trained(run, **options):
    module = Scaled(**options)
    adam = lambda parameters: torch.optim.Adam(parameters, lr=0.1)  # noqa: E731
    fit(module, X, steps=5, batch_size=20, optim=adam, compile="eager", progress=False, run=run)
    return module


@pytest.mark.parametrize("exists", [False, True])
def test_weights_bring_back_what_the_store_alone_has(exists, tmp_path):
    module = trained(tmp_path)
    sigma = pyro.param("sigma").item()
    assert sigma != 1.0
    pyro.clear_param_store()
    other = Scaled()
    if exists:
        other.model(X)
    Run(tmp_path).load_into(other)
    other.model(X)
    assert pyro.param("sigma").item() == sigma
    assert torch.equal(other.weight, module.weight)


def test_a_network_of_the_store_alone_is_asked_for(tmp_path):
    beside = nn.Linear(1, 1)
    trained(tmp_path, beside=beside)
    pyro.clear_param_store()
    other = Scaled(beside=nn.Linear(1, 1))
    before = other.weight.clone()
    with pytest.raises(ValueError, match=r"beside\$\$\$bias.*run model and guide once"):
        Run(tmp_path).load_into(other)
    assert torch.equal(other.weight, before)
    other.model(X)
    Run(tmp_path).load_into(other)
    assert torch.equal(other.beside.weight, beside.weight)


def test_another_constraint_is_refused(tmp_path):
    trained(tmp_path)
    pyro.clear_param_store()
    pyro.param("sigma", torch.tensor(1.0))
    other = Scaled()
    before = other.weight.clone()
    with pytest.raises(ValueError, match=r"'sigma' with the constraint \['real'\].*'greater_than'"):
        Run(tmp_path).load_into(other)
    assert torch.equal(other.weight, before)
