"""β-VAE priors p(z): modules that return distributions."""
