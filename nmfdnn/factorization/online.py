"""NMF of a stream: rows come block by block, what is kept does not grow with them.

Legend: A (b × m) a block of nonnegative rows; Z (b × k) its codes; W (k × m) parts; S (k × k), C (k × m)
weighted sums of ZᵀZ and ZᵀA over all rows so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from .. import parallel
from ..errors import ConfigError, require, require_whole
from ..kernels.coordinates import coordinate_descent
from .driver import Result, Stopping
from .entries import entries
from .inputs import Pair, Units, check_matrix, in_units, source, unit
from .nmf import FROM_ZERO, SWEEPS, fitted_weights
from .objective import objective
from .starts import STARTS, share, starting_pair
from .transform import transform

FIRST = Stopping(max_iterations=100, tolerance=1e-6)
"""On the first rows: the updates that follow are not extrapolated and would mend little."""


class OnlineNMF:
    """Parts W (k × m) of a stream of blocks A (b × m) with A ≈ ZW, Z ≥ 0, W ≥ 0 (Mairal et al. 2010).

    For each block: codes for the present W; S ← ρS + ZᵀZ, C ← ρC + ZᵀA; then W fits both, that is, all rows
    so far with the codes that they had. ρ = (1 − b/n)^`forgetting` with n rows so far, this block included: a
    row that was the s-th counts (s/n)^`forgetting`. Codes are not kept: `transform` gives those of any rows.

    Attributes:
        rows: how many rows were seen, over all passes.
        S, C: the statistics, in the `units` of the first block.
        objective: ½‖A − ZW‖² of each block that was handed over, with the W that it met, in the unit of the
            data. It is no objective of the final W; `transform` gives that.
    """

    def __init__(
        self,
        rank: int,
        *,
        forgetting: float = 3.0,
        batch: int = 1000,
        start: str | Tensor = "nndsvda",
        generator: torch.Generator | None = None,
    ) -> None:
        """A model that has seen nothing.

        Args:
            rank: number of parts k ≥ 1.
            forgetting: ≥ 0; 0 counts all rows alike. 3 leaves a row seen halfway an eighth.
            batch: a block of more rows is taken in equal parts of at most this many on each rank, ≥ 1.
            start: W (k × m) ≥ 0, or a start of `nmf`, from which W is fitted to the first rows, `batch` or
                twenty times the rank. They should be like those that follow.
            generator: source of all randomness, which is that of the start; default a new one with seed 0.

        Raises:
            ConfigError: an argument is outside its range.
        """
        self.rank, self.batch = require_whole(rank, "rank", 1), require_whole(batch, "batch", 1)
        require(0 <= forgetting < float("inf"), "forgetting", "finite and ≥ 0", forgetting)
        known = isinstance(start, Tensor) or (isinstance(start, str) and start in STARTS)
        require(known, "start", f"a matrix W or one of {', '.join(STARTS)}", start)
        self.forgetting, self.start, self.generator = forgetting, start, generator
        self.rows, self.objective, self.units = 0, list[float](), Units()
        self._W: Tensor | None = None

    @property
    def W(self) -> Tensor:  # noqa: N802 - as everywhere
        """Parts (k × m) in the unit of the data.

        Raises:
            ConfigError: no block with an entry above zero was seen.
        """
        if self._W is None:
            raise ConfigError("W is not known before a block that is not zero: call partial_fit(A) first")
        return self.units.outer(Pair(self.S, self._W)).W

    @torch.no_grad()
    def partial_fit(self, A: Any) -> OnlineNMF:
        """Take in the rows of A (b × m), dense or sparse, nonnegative, in the unit and type of those before.

        Rows may be shared out over ranks (`nmfdnn.parallel`), blocks for blocks.

        Raises:
            ConfigError: A is not a finite nonnegative matrix like those before.
        """
        A, _, _ = entries(A, negative="shift or clip it: the parts of a stream are nonnegative", nan="")
        top = float(parallel.largest(A.max()))
        if self._W is None:
            if top == 0:
                self.rows += share(len(A))[0]  # zero rows have zero codes, which change no sum
                self.objective.append(0.0)
                return self
            self._begin(A)
        W = self._W
        assert W is not None  # for the type checker
        require(A.shape[1] == W.shape[1], "A", f"of {W.shape[1]} columns like the blocks before", A.shape)
        same = (A.dtype, A.device) == (W.dtype, W.device)
        require(same, "A", f"{W.dtype} on {W.device} like the blocks before", f"{A.dtype} on {A.device}")
        value = torch.zeros((), dtype=torch.float64, device=W.device)
        if not top / self.units.A < torch.finfo(A.dtype).max ** 0.25:  # the sums would leave its range
            raise ConfigError(
                f"A is too large beside the first block for {A.dtype}: its largest entry is {top:.1e}, "
                f"and the sums are kept in units of {self.units.A:.1e}; scale the blocks, or use float64"
            )
        # As many parts on every rank, whatever rows it has.
        parts = int(parallel.largest(value + -(-len(A) // self.batch)))
        for i in range(parts):
            here = A[len(A) * i // parts : len(A) * (i + 1) // parts]
            value += self._step(in_units(here, self.units.A))
        self.objective.append(float(value) * self.units.A * self.units.A)
        return self

    def fit(self, blocks: Any, passes: int = 1) -> OnlineNMF:
        """`partial_fit` of all blocks, `passes` times.

        Args:
            blocks: a `nmfdnn.source.Source`, an iterable of matrices, or a function that returns one.
            passes: ≥ 1.

        Raises:
            ConfigError: a later pass finds no blocks, or as `partial_fit`.
        """
        for number in range(require_whole(passes, "passes", 1)):
            before = len(self.objective)
            for block in _blocks(blocks):
                self.partial_fit(block)
            if len(self.objective) == before:
                remedy = "hand over a function that returns a new iterator" if number else "hand over some"
                raise ConfigError(f"pass {number + 1} found no blocks: {remedy}")
        return self

    def transform(self, A: Any, stopping: Stopping | None = None) -> Result:
        """Codes of any rows for the present W, see `factorization.transform`."""
        return transform(A, self.W, stopping=stopping)

    def _begin(self, A: Any) -> None:
        """W, the units and empty statistics."""
        u = unit(A)
        self.units = Units(u, u**0.5)
        if isinstance(self.start, Tensor):
            remedy = "clip it at zero"
            check_matrix(self.start, "start", like=A, shape=(self.rank, A.shape[1]), negative=remedy)
            W = self.units.inner(Pair(A.new_zeros(1, self.rank), self.start)).W
        else:
            few = in_units(A[: max(self.batch, 20 * self.rank)], u)
            draws = source(self.generator, A.device)
            pair = starting_pair(few, self.rank, self.start, draws)
            W = fitted_weights(objective(few), pair, draws, FIRST)
        self._W, self.S, self.C = W, A.new_zeros(self.rank, self.rank), A.new_zeros(*W.shape)

    def _step(self, A: Any) -> Tensor:
        """One update; ½‖A − ZW‖² for the W before it (0-d, float64)."""
        W = self._W
        assert W is not None  # for the type checker
        many = share(len(A))[0]
        self.rows += many
        keep = (1 - many / self.rows) ** self.forgetting
        products, G = W @ A.T, W @ W.T
        Z = coordinate_descent(A.new_zeros(self.rank, len(A)), products, G, FROM_ZERO)
        fit = ((G @ Z - 2 * products) * Z).sum(dtype=torch.float64) + A.square().sum(dtype=torch.float64)
        S, C, value = parallel.totals(Z @ Z.T, Z @ A, 0.5 * fit)
        self.S, self.C = keep * self.S + S, keep * self.C + C
        self._W = coordinate_descent(W, self.C, self.S, SWEEPS)
        return value.clamp_min(0)


def _blocks(blocks: Any) -> Iterator[Any]:
    """One pass."""
    if hasattr(blocks, "passes"):
        return (batch.X for batch in blocks.passes())
    found: Iterable[Any] | Callable[[], Iterable[Any]] = blocks
    require(
        callable(found) or (isinstance(found, Iterable) and not isinstance(found, Tensor)),
        "blocks",
        "a source, an iterable of matrices, or a function that returns one",
        type(found).__name__,
    )
    return iter(found() if callable(found) else found)
