"""Step sizes and scales of Hamiltonian chains, learnt from their first steps."""

import torch
from torch import Tensor

_ACCEPTANCE = 0.8
_SHRINKAGE, _DELAY, _FORGETTING = 0.05, 10.0, 0.75
_FIRST_STEP = 0.1
_FIRST_WINDOW = 25
_PRIOR_DRAWS = 5.0


def windows(warmup: int) -> tuple[int, list[int]]:
    """Return after how many steps scales begin to be learnt, and after how many they are set.

    In the manner of Stan: none in the first 15 % nor the last 10 % of the steps, at most 75 and 50;
    in between, windows of 25 steps and twice as many each time, the last one as long as is left.

    >>> windows(1000)
    (75, [100, 150, 250, 450, 950])
    >>> windows(100)
    (15, [40, 90])
    """
    start, last = min(75, warmup * 15 // 100), warmup - min(50, warmup // 10)
    ends, size = [], _FIRST_WINDOW
    end = start + size
    while end + 2 * size <= last:
        ends.append(end)
        size *= 2
        end += size
    return start, [*ends, last] if last - start > 1 else []


class Warmup:
    """Dual averaging of the log step size of each chain, and the covariance of its draws.

    Attributes:
        step: the step sizes `[chains]`.
        scale: lower triangular, of the covariances' Cholesky factorisation `[chains, dim, dim]`.

    Args:
        spread: standard deviations to begin with, `[chains, dim]`, which count as five draws.
        steps: how long to learn.

    References:
        Hoffman, Gelman (2014), The No-U-Turn Sampler, section 3.2.
        Carpenter et al. (2017), Stan: A Probabilistic Programming Language, for the windows.
    """

    def __init__(self, spread: Tensor, steps: int) -> None:
        self.scale = torch.diag_embed(spread)
        self.step = spread.new_full((len(spread),), _FIRST_STEP)
        self._steps = steps
        self._first, self._ends = windows(steps)
        self._centre, self._error, self._mean, self._time = self.step.new_zeros(4, len(spread))
        self._centre += (10 * self.step).log()
        self._count = torch.zeros_like(self.step)
        self._middle, self._squares = torch.zeros_like(spread), torch.zeros_like(self.scale)

    def learn(self, chains: Tensor, done: Tensor, draws: Tensor, acceptance: Tensor) -> None:
        """Learn from a step of some chains, each after `done` steps, unless that was enough."""
        chains = chains[done[chains] < self._steps]
        done = done[chains] + 1
        self._average(chains, acceptance[chains])
        self._collect(chains[done > self._first], draws)
        ends = torch.tensor(self._ends, device=done.device)
        self._rescale(chains[torch.isin(done, ends)])
        last = chains[done == self._steps]
        self.step[last] = self._mean[last].exp()

    def _average(self, chains: Tensor, acceptance: Tensor) -> None:
        """Take a step of dual averaging towards the wanted acceptance."""
        self._time[chains] += 1
        time = self._time[chains]
        weight = 1 / (time + _DELAY)
        self._error[chains] += weight * (_ACCEPTANCE - acceptance - self._error[chains])
        value = self._centre[chains] - time.sqrt() / _SHRINKAGE * self._error[chains]
        self._mean[chains] += time**-_FORGETTING * (value - self._mean[chains])
        self.step[chains] = value.exp()

    def _collect(self, chains: Tensor, draws: Tensor) -> None:
        """Update mean and covariance by a draw each (Welford 1962)."""
        self._count[chains] += 1
        away = draws[chains] - self._middle[chains]
        self._middle[chains] += away / self._count[chains, None]
        now = draws[chains] - self._middle[chains]
        self._squares[chains] += away[:, :, None] * now[:, None]

    def _rescale(self, chains: Tensor) -> None:
        """Set the scales by the covariance of what was collected, and begin both anew.

        Correlations count as less, the fewer draws there are for each coordinate. Steps stay as
        long as they were: what the scales' geometric mean gains, the step size loses.
        """
        before = self._size(chains)
        count = self._count[chains, None, None]
        found = self._squares[chains] / (count - 1).clamp(min=1)
        known = self.scale[chains] @ self.scale[chains].mT
        mixed = (count * found + _PRIOR_DRAWS * known) / (count + _PRIOR_DRAWS)
        trust = count / (count + _PRIOR_DRAWS + mixed.shape[-1])
        alone = torch.diag_embed(mixed.diagonal(dim1=1, dim2=2))
        self.scale[chains] = torch.linalg.cholesky(trust * mixed + (1 - trust) * alone)
        for zero in (self._count, self._middle, self._squares, self._time, self._error):
            zero[chains] = 0
        self._mean[chains] += before - self._size(chains)
        self._centre[chains] = self._mean[chains]
        self.step[chains] = self._mean[chains].exp()

    def _size(self, chains: Tensor) -> Tensor:
        """The log of the geometric mean of the scales `[chains]`."""
        return self.scale[chains].diagonal(dim1=1, dim2=2).log().mean(1)
