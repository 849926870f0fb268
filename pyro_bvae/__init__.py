"""The β-VAE and its family in Pyro: models, guides, β, σ, objectives and SVI."""
