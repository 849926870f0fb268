"""Arguments of the theory, checked once at the door and turned into tensors of one type."""

import torch
from torch import Tensor

Real = float | Tensor


def positive(value: Real, name: str, *, like: Tensor) -> Tensor:
    """Return a finite number > 0 as a 0-dim tensor of the type of `like`, else raise ValueError."""
    tensor = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    if tensor.dim() or not (torch.isfinite(tensor) and tensor > 0):
        raise ValueError(f"{name}: expected one finite number > 0, got {value!r}")
    return tensor


def not_negative(value: Real, name: str, *, like: Tensor) -> Tensor:
    """Return a finite number >= 0 as a 0-dim tensor of the type of `like`, or raise ValueError."""
    tensor = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    if tensor.dim() or not (torch.isfinite(tensor) and tensor >= 0):
        raise ValueError(f"{name}: expected one finite number >= 0, got {value!r}")
    return tensor


def level_of(beta: Real, likelihood_scale: Real, *, like: Tensor) -> Tensor:
    """Return t = βσ_x² as a 0-dim tensor of the type of `like`, or raise ValueError."""
    scale = positive(likelihood_scale, "likelihood_scale", like=like)
    return positive(beta, "beta", like=like) * scale**2


def type_of(*values: Real) -> Tensor:
    """Return the first floating point tensor among the values, or one of the default type."""
    tensors = [v for v in values if isinstance(v, Tensor) and v.is_floating_point()]
    return tensors[0] if tensors else torch.empty(0)


def whole(value: int, name: str) -> int:
    """Return a whole number >= 1, else raise ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}: expected a whole number >= 1, got {value!r}")
    return value


def prior_variances(prior_scale: Real, *, latents: int, like: Tensor) -> Tensor:
    """Return r `[latents]` of a prior scale σ_z, one number or one for every latent."""
    scale = torch.as_tensor(prior_scale, dtype=like.dtype, device=like.device)
    if scale.shape not in ((), (latents,)) or not (torch.isfinite(scale) & (scale > 0)).all():
        raise ValueError(
            f"prior_scale: expected finite numbers > 0, one or [{latents}] of them, "
            f"got {prior_scale!r}"
        )
    return (scale**2).expand(latents)


def falling(spectrum: Tensor) -> Tensor:
    """Return the eigenvalues of a covariance `[data]` from largest to smallest.

    Raises: ValueError if they are not floating point numbers that are finite and >= 0.
    """
    values = torch.as_tensor(spectrum)
    if values.dim() != 1 or not values.numel() or not values.is_floating_point():
        raise ValueError(
            "spectrum: expected the eigenvalues of the data covariance, floating point, [data], "
            f"got {tuple(values.shape)} of {values.dtype}"
        )
    if not (torch.isfinite(values) & (values >= 0)).all():
        raise ValueError(f"spectrum: expected finite eigenvalues >= 0, got {values.tolist()}")
    return values.sort(descending=True).values


def varying(spectrum: Tensor) -> Tensor:
    """Return what `falling` does, or raise ValueError if no eigenvalue is > 0."""
    values = falling(spectrum)
    if values[0] == 0:
        raise ValueError("spectrum: expected an eigenvalue > 0, got only zeros: constant data")
    return values


def leading(spectrum: Tensor, latents: int) -> Tensor:
    """Return λ `[latents]`, the largest eigenvalues of a falling spectrum, then zeros."""
    missing = max(whole(latents, "latents") - len(spectrum), 0)
    return torch.cat([spectrum[:latents], spectrum.new_zeros(missing)])


def matrix(value: Tensor, name: str) -> Tensor:
    """Return a finite floating point matrix, else raise ValueError."""
    if value.dim() != 2 or not value.is_floating_point() or not torch.isfinite(value).all():
        raise ValueError(
            f"{name}: expected a matrix of finite floating point numbers, "
            f"got {tuple(value.shape)} of {value.dtype}"
        )
    return value


def covariance_matrix(
    value: Tensor, name: str = "covariance", *, size: int | None = None
) -> Tensor:
    """Return a symmetric matrix `[size, size]` with no negative eigenvalue, or raise ValueError."""
    square = matrix(value, name)
    size = square.shape[0] if size is None else size
    if square.shape != (size, size):
        raise ValueError(f"{name}: expected shape [{size}, {size}], got {list(square.shape)}")
    if not torch.allclose(square, square.mT, rtol=1e-4):
        raise ValueError(f"{name}: expected a symmetric matrix, got {square.tolist()}")
    eigenvalues = torch.linalg.eigvalsh(square.detach())
    if eigenvalues[0] < -1e-5 * eigenvalues[-1].abs():
        raise ValueError(
            f"{name}: expected eigenvalues >= 0, as a covariance has, got {eigenvalues.tolist()}"
        )
    return square
