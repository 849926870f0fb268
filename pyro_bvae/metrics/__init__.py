"""Disentanglement metrics: arrays of codes and factors in, numbers out."""

from pyro_bvae.metrics.information import entropy, mutual_information_matrix, r2_matrix

__all__ = ["entropy", "mutual_information_matrix", "r2_matrix"]
