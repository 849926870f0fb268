"""The flow posterior."""

from pyro_bvae.posteriors import FlowPosterior
from tests.contracts import PosteriorContract


class TestSplineFlowPosterior(PosteriorContract):
    def make(self, latents=3, encoder=None, features=None):
        return FlowPosterior(encoder or self.encoder(), latents, features=features, kind="spline")
