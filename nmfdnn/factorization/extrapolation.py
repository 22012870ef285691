"""Extrapolation with restart: how far beyond its end a step goes, whether it is taken (Ang & Gillis 2019)."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .inputs import Pair

GROWTH, CEILING_GROWTH, BACKOFF = 1.05, 1.01, 1.5
"""Of β, and of its ceiling, after a step that was taken; what β is divided by else."""


class Momentum:
    """The weight β of the last move, which is added once more to each factor; it starts at `start`.

    A step that raises the objective is not taken; the next one starts from the last that was, without
    extrapolation, and is taken in any case, because where each half of it is a descent only rounding can have
    raised the objective. Nothing here waits for the device: everything is a 0-d tensor, float64.
    """

    def __init__(self, like: Tensor, start: float = 0.5) -> None:
        def number(value: float) -> Tensor:
            return torch.tensor(value, dtype=torch.float64, device=like.device)

        self.beta, self.next, self.ceiling, self.last_good = (number(v) for v in (0.0, start, 1.0, start))
        self.value = number(float("inf"))

    def beyond(self, new: Tensor, old: Tensor) -> Tensor:
        """New + β(new − old)."""
        return old.lerp(new, (1 + self.beta).to(new.dtype))

    def judge(self, value: Tensor) -> Tensor:
        """Whether a step that led to this objective is taken (0-d, bool); β for the next one."""
        plain = self.beta == 0
        keep = (value <= self.value) | plain
        grown = torch.minimum(self.ceiling, GROWTH * self.beta)
        ceiling = (CEILING_GROWTH * self.ceiling).clamp_max(1.0)
        self.next = torch.where(keep, self.next, self.beta / BACKOFF)
        self.ceiling = torch.where(keep, torch.where(plain, self.ceiling, ceiling), self.last_good)
        self.last_good = torch.where(keep & ~plain, self.beta, self.last_good)
        self.beta = torch.where(keep, torch.where(plain, self.next, grown), 0.0)
        self.value = torch.where(keep, value, self.value)
        return keep


def chosen(keep: Tensor, new: tuple[Tensor, ...], old: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """`new` where `keep` (0-d, bool), else `old`, tensor by tensor."""
    return tuple(torch.where(keep, a, b) for a, b in zip(new, old, strict=True))


class Descent(Protocol):
    """A step that does not raise an objective from where extrapolation has not led."""

    def end(self, pair: Pair, plain: Tensor) -> Pair:
        """Where the step from this pair ends; `plain` (0-d, bool): the pair is the last one taken."""

    def value(self, pair: Pair) -> Tensor:
        """The objective; 0-d, float64."""


class Extrapolated:
    """Steps of a descent, each carried on along its move, where that lowers the objective.

    A new object for each run: it remembers the move.
    """

    def __init__(
        self, like: Tensor, descent: Descent, nonnegative: tuple[bool, bool], start: float = 0.5
    ) -> None:
        """Of (Z, W) those that are `nonnegative` are projected; `like` has their type and device."""
        self.descent, self.floor = descent, [0.0 if sign else -torch.inf for sign in nonnegative]
        self.momentum = Momentum(like, start)
        self.taken: tuple[Tensor, ...] = ()
        self.beyond: tuple[Tensor, ...] = ()

    def __call__(self, pair: Pair) -> Pair:
        """The next pair taken, which is the last one again where the move had gone too far."""
        if not self.taken:
            self.taken = self.beyond = tuple(pair)
        end = self.descent.end(Pair(*self.beyond), self.momentum.beta == 0)
        keep = self.momentum.judge(self.descent.value(end))
        moves = zip(end, self.taken, self.floor, strict=True)
        moved = tuple(self.momentum.beyond(new, old).clamp_min_(floor) for new, old, floor in moves)
        self.beyond = chosen(keep, moved, self.taken)
        self.taken = chosen(keep, tuple(end), self.taken)
        return Pair(*self.taken)
