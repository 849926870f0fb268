"""Student's t as a prior."""

import math

import pytest
import torch
from scipy import stats

from pyro_bvae.priors import NormalPrior, StudentTPrior
from tests.contracts import PriorContract


class TestStudentTPrior(PriorContract):
    def make(self, latents=3):
        return StudentTPrior(latents, df=3, scale=0.7)


class TestStudentTPriorLearned(PriorContract):
    def make(self, latents=3):
        return StudentTPrior(latents, df=0.9, scale="learned")


@pytest.mark.parametrize("df", [0.5, 1, 4.0])
def test_density_is_that_of_scipy(df):
    z = 3 * torch.randn(7, 2)
    expected = torch.tensor(stats.t.logpdf(z, df, scale=0.6)).sum(-1)
    assert torch.allclose(StudentTPrior(2, df=df, scale=0.6)().log_prob(z), expected, rtol=1e-12)


def test_becomes_the_normal_prior():
    """To order 1/df: log t − log N = (z⁴ − 2z² − 1) / 4df + O(1/df²)."""
    z, df = torch.randn(7, 2), 1e6
    difference = StudentTPrior(2, df=df)().log_prob(z) - NormalPrior(2)().log_prob(z)
    assert torch.allclose(df * difference, ((z**4 - 2 * z**2 - 1) / 4).sum(-1), atol=1e-3)


@pytest.mark.parametrize("df", [0, -1.0, math.nan, math.inf, True, "learned"])
def test_refuses_degrees_of_freedom(df):
    with pytest.raises(ValueError, match="df: expected a finite number > 0, got"):
        StudentTPrior(3, df=df)
