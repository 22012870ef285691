"""Sparse data: what solvers ask of A, answered by products with it and its transpose, or at its entries.

The one seam between solvers and A: they take its shape, type and device, `X @ A`, `X @ A.T`, `A @ X`,
`A / u`, `A - b`, some of its rows `A[rows]`, and sums and largest entries. A dense tensor has all of these,
and so has `Sparse`; only the objective asks which it is (`objective.SparseObjective`). Nothing here is ever
as large as a dense A.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .. import parallel
from ..errors import ConfigError
from ..linalg import check_dense, gram
from .inputs import check_matrix

STRIP = 4096
"""Rows whose part of the objective is taken at a time, in float64."""

LAYOUTS = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)


class Sparse:
    """A (n × m), or A − 1bᵀ, whose entries that are not stored are zero.

    Compressed rows of A, and of Aᵀ from the first product that needs them: only products from the left with
    compressed rows are fast, with MKL and with cuSPARSE. For 20,000 × 10,000 with 0.5 % of entries and 50
    columns, one thread: 0.02 s, and 0.03 s for Aᵀ; SciPy 0.05 and 0.06; products with a transposed view, or
    with coordinates, 0.4 to 2 s.
    """

    rounding = 1e-15
    """Of the objective, in ½‖A‖² or, for a divergence, in ΣA."""

    def __init__(
        self, sides: list[Tensor | None], offset: Tensor | None = None, turned: bool = False
    ) -> None:
        self.sides, self.offset, self.turned = sides, offset, turned
        known = next(side for side in sides if side is not None)
        self.dtype, self.device = known.dtype, known.device

    @property
    def shape(self) -> tuple[int, ...]:
        known = self.sides[0] if self.sides[0] is not None else self._other(self.sides[1])
        return tuple(known.shape[::-1] if self.turned else known.shape)

    @property
    def T(self) -> Sparse:  # noqa: N802 - as of a tensor
        return Sparse(self.sides, self.offset, not self.turned)

    def __len__(self) -> int:
        return self.shape[0]

    def __matmul__(self, X: Tensor) -> Tensor:
        found = self._rows() @ X.contiguous()
        if self.offset is None:
            return found
        b = self.offset
        return found - (b[:, None] * X.sum(0) if self.turned else b @ X)

    def __rmatmul__(self, X: Tensor) -> Tensor:
        return (self.T @ X.T).T

    def __truediv__(self, u: float) -> Sparse:
        return self._with(lambda values: values / u)

    def __sub__(self, b: Tensor) -> Sparse:
        """A − 1bᵀ for a row b (m)."""
        return Sparse(self.sides, b)

    def __getitem__(self, rows: Tensor | slice) -> Sparse:
        A = self._rows()
        rows = torch.arange(len(A), device=self.device)[rows]
        starts, counts = A.crow_indices()[:-1][rows], A.crow_indices().diff()[rows]
        crow = torch.cat([counts.new_zeros(1), counts.cumsum(0, dtype=counts.dtype)])
        places = torch.repeat_interleave(starts - crow[:-1], counts)
        places = places + torch.arange(len(places), device=self.device)
        shape = (len(rows), A.shape[1])
        return Sparse([_compressed(crow, A.col_indices()[places], A.values()[places], shape), None])

    def square(self) -> Sparse:
        return self._with(torch.square)

    def sum(self, dim: int | None = None, dtype: torch.dtype | None = None) -> Tensor:
        """The sum of all entries, or, for `dim` 0, of each column, for 1 of each row."""
        if dim is None:
            return self._rows().values().sum(dtype=dtype)
        side = self if dim else self.T
        return (side @ self.new_zeros(side.shape[1], 1).add_(1)).squeeze(1)

    def aminmax(self) -> tuple[Tensor, Tensor]:
        """The least and the largest entry."""
        values = self._rows().values()
        some = len(values) < self.shape[0] * self.shape[1]  # that are not stored
        return torch.aminmax(torch.cat([values, values.new_zeros(int(some))]))

    def max(self) -> Tensor:
        """The largest entry."""
        return self.aminmax()[1]

    def new_zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def half_square(self) -> Tensor:
        """½‖A‖² (Frobenius) over all ranks; 0-d, float64."""
        return 0.5 * parallel.total(self._rows().values().double().square().sum())

    def half_distance(self, Z: Tensor, W: Tensor) -> Tensor:
        """½‖A − ZW‖² = ½‖A‖² − ⟨AWᵀ, Z⟩ + ½⟨ZᵀZ, WWᵀ⟩ over all ranks, Z with ones for a bias row of W.

        0-d, ≥ 0. Everything is taken in float64, so what cancels leaves an error of about 1e-15‖A‖²
        (`rounding`): a residual is told from zero down to 3e-8‖A‖, less than rounding of factors in float32
        leaves, but not all that float64 could tell.
        """
        W, bias = W.double(), len(W) > Z.shape[1]
        across, square = torch.zeros(2, dtype=torch.float64, device=self.device), gram(W.T)
        for part, codes in zip(self._strips(), Z.split(STRIP), strict=True):
            codes = torch.cat([codes, codes.new_ones(len(codes), 1)], 1) if bias else codes
            codes = codes.double()
            across += torch.stack([((part @ W.T) * codes).sum(), (gram(codes) * square).sum()])
        cross, fit = parallel.total(across)
        return (self.half_square() - cross + 0.5 * fit).clamp_min(0)

    def ratio(self, Z: Tensor, W: Tensor, least: float) -> Sparse:
        """A/(ZW), where an entry of ZW counts as no less than `least`; zero where A has none."""
        return self._with(lambda values: values / _sampled(self._rows(), Z, W).clamp_min_(least))

    def divergence(self, Z: Tensor, W: Tensor, least: float) -> Tensor:
        """Σ a log(a/b) − a + b of A and B = ZW over all ranks, ΣB from sums of the factors; `least` as above.

        0-d, ≥ 0. Everything is taken in float64, as by `half_distance`.
        """
        W = W.double()
        found = Z.sum(0, dtype=torch.float64) @ W.sum(1)
        for part, codes in zip(self._strips(), Z.split(STRIP), strict=True):
            a = part.values()
            found += (torch.xlogy(a, a / _sampled(part, codes.double(), W).clamp_min_(least)) - a).sum()
        return parallel.total(found).clamp_min(0)

    def _strips(self) -> Iterator[Tensor]:
        """Rows, `STRIP` at a time, in float64."""
        A = self._rows()
        crow = A.crow_indices()
        for first in range(0, len(A), STRIP):
            part = crow[first : first + STRIP + 1]
            here = slice(int(part[0]), int(part[-1]))
            shape = (len(part) - 1, A.shape[1])
            yield _compressed(part - part[0], A.col_indices()[here], A.values()[here].double(), shape)

    def _rows(self) -> Tensor:
        """Compressed rows of A, or of Aᵀ where it is turned."""
        side = self.sides[self.turned]
        if side is None:
            side = self.sides[self.turned] = self._other(self.sides[not self.turned])
        return side

    @staticmethod
    def _other(A: Tensor | None) -> Tensor:
        """Compressed rows of the transpose."""
        assert A is not None  # for the type checker: one side is always there
        columns, order = A.col_indices().sort(stable=True)
        n, m = A.shape
        rows = torch.arange(n, dtype=columns.dtype, device=A.device)
        rows = torch.repeat_interleave(rows, A.crow_indices().diff())
        crow = torch.searchsorted(columns, torch.arange(m + 1, dtype=columns.dtype, device=A.device))
        return _compressed(crow, rows[order], A.values()[order], (m, n))

    def _with(self, change: Callable[[Tensor], Tensor]) -> Sparse:
        """The same with other values."""
        A = self._rows()
        changed = _compressed(A.crow_indices(), A.col_indices(), change(A.values()), A.shape)
        return Sparse([None, changed] if self.turned else [changed, None], turned=self.turned)


def _sampled(A: Tensor, Z: Tensor, W: Tensor) -> Tensor:
    """The entries of ZW where A (compressed rows) stores one, in its order.

    For 1.2 million of them and 50 parts, one thread, float32 and float64: 7 and 25 ms; rows gathered strip by
    strip 30 and 50, dense strips 260 and 530.
    """
    return torch.sparse.sampled_addmm(A, Z, W, beta=0).values()


def given(A: Any, negative: str | None = None) -> Any:
    """A `Sparse` for a sparse matrix of torch or SciPy; anything else as it is, and unchecked.

    Raises:
        ConfigError: it is sparse, and not a finite matrix in float32 or float64, or has negative entries
            where `negative`, the remedy, is given.
    """
    if isinstance(A, Tensor) and A.layout in LAYOUTS:
        if A.ndim != 2 or A.shape.numel() == 0:
            check_dense(torch.empty(A.shape))
        if A.dtype.is_floating_point:
            A = _of_torch(A.detach())
    elif hasattr(A, "tocsr") and A.dtype in ("float32", "float64") and 0 not in A.shape:
        A = _of_scipy(A)
    elif hasattr(A, "tocsr"):
        what = f"a non-empty matrix of float32 or float64, got {A.dtype} of shape {tuple(A.shape)}"
        raise ConfigError(f"A must be {what}: convert it with A.astype('float32')")
    else:
        return A
    values = A.values()
    check_matrix(values[None] if len(values) else torch.zeros(1, 1, dtype=A.dtype), negative=negative)
    return Sparse([A, None])


def _of_torch(A: Tensor) -> Tensor:
    if A.layout == torch.sparse_csr:
        counts = A.crow_indices().diff()
        rows = torch.repeat_interleave(torch.arange(len(A), device=A.device), counts)
        place = rows * A.shape[1] + A.col_indices()
        if bool((place.diff() > 0).all()):
            return _compressed(A.crow_indices(), A.col_indices(), A.values(), A.shape)
        A = torch.sparse_coo_tensor(torch.stack([rows, A.col_indices()]), A.values(), A.shape)
    elif A.layout == torch.sparse_csc:
        turned = torch.sparse_csr_tensor(A.ccol_indices(), A.row_indices(), A.values(), A.shape[::-1])
        return Sparse._other(_of_torch(turned))
    A = A.coalesce()
    rows, columns = A.indices()
    crow = torch.searchsorted(rows.contiguous(), torch.arange(len(A) + 1, device=A.device))
    return _compressed(crow, columns, A.values(), A.shape)


def _of_scipy(A: Any) -> Tensor:
    A = A.tocsr()
    if not A.has_canonical_format:
        A = A.copy()
        A.sum_duplicates()
    crow, columns, values = (torch.from_numpy(part) for part in (A.indptr, A.indices, A.data))
    return _compressed(crow, columns, values, A.shape)


def _compressed(crow: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Compressed rows; with indices in 32 bits, which MKL takes as they are, where they fit."""
    index = torch.int32 if max(len(values), *shape) < 2**31 else torch.int64
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that PyTorch calls compressed rows a beta feature
        return torch.sparse_csr_tensor(crow.to(index), columns.to(index), values, tuple(shape))
