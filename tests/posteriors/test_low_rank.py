"""The low-rank posterior."""

from pyro_bvae.posteriors import LowRankPosterior
from tests.contracts import PosteriorContract


class TestLowRankPosterior(PosteriorContract):
    def make(self, latents=3, encoder=None, features=None):
        return LowRankPosterior(encoder or self.encoder(), latents, rank=2, features=features)
