"""From raw rows, as a source stores them, to what a network sees."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from .folder import Stored

if TYPE_CHECKING:
    import pandas

CHOICES = ("auto", "standard", "minmax", "none")
VALUES_AT_ONCE = 1 << 22  # 32 MB in float64, where a copy of all rows would double the memory
IN_CACHE = 1 << 17  # values that several operations in turn find in the processor's cache


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """(x − ``offset``) / ``scale`` of raw values x: what every row goes through before a network sees it.

    ``kind`` is one of

    - "standard": offset and scale are mean and standard deviation of each feature;
    - "minmax": they are minimum and range, so that the fitted rows lie in [0, 1];
    - "none": offset 0, and scale the one value that stands for 1, such as 255 for bytes.

    Both are float64, n features each or, for "none", single numbers. A feature that was constant where this
    was fitted has the scale ∞ and so becomes 0 in every row: nothing could be learnt about it. ``shape`` is
    that of one raw row, None for any. ``names`` are those of a table's features, empty where there are none.
    """

    kind: str = "none"
    shape: tuple[int, ...] | None = None
    offset: Tensor = field(default_factory=lambda: torch.tensor(0.0, dtype=torch.float64))
    scale: Tensor = field(default_factory=lambda: torch.tensor(1.0, dtype=torch.float64))
    names: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls,
        kind: str,
        X: np.ndarray | Stored,
        rows: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        maximum: float = 1.0,
        weights: np.ndarray | None = None,
    ) -> Preprocessing:
        """Fit to the given ``rows`` of ``X`` (n × ...) alone, which count ``weights`` (len(rows)) times each.

        ``low`` and ``high`` are the least and largest value of each feature in these rows; ``maximum`` stands
        for 1 where kind is "none". "auto" is "standard" for a table (n × features) and "none" for bytes and
        for pictures; in pictures of other numbers, the largest magnitude in these rows stands for 1. Only
        "standard" reads the rows, twice.
        Raises `DataError` if no feature varies, or if one varies by more than float64 can hold.
        """
        shape = X.shape[1:]
        if (low == high).all():
            raise DataError(
                f"all features are constant in the {len(rows)} training samples, there is nothing to learn: "
                "check how X was made, or take more samples"
            )
        if kind == "auto" and X.ndim > 2 and X.dtype != np.uint8:
            kind, maximum = "none", max(float(high.max()), -float(low.min()))
        elif kind == "auto":
            kind = "none" if X.dtype == np.uint8 else "standard"
        if kind == "none":
            return cls(kind, shape, scale=torch.tensor(maximum, dtype=torch.float64))

        shares = np.ones((len(rows), 1)) if weights is None else weights[:, None]

        def values() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for part in parts(len(rows), low.size):
                yield X[rows[part]].reshape(-1, low.size).astype(np.float64), shares[part]

        low, high = (extreme.reshape(-1).astype(np.float64) for extreme in (low, high))
        # In units of a power of two, squares neither overflow nor vanish, and nothing is rounded.
        largest = np.maximum(np.abs(low), np.abs(high))
        unit = np.ldexp(1.0, np.frexp(largest)[1] - 1)
        unit[largest == 0] = 1
        low, high = low / unit, high / unit
        if kind == "minmax":
            offset, spread = low, high - low
        else:
            # Sums of differences from the lowest value: those of a constant are exactly 0.
            offset = low + sum((w * (part / unit - low)).sum(axis=0) for part, w in values()) / shares.sum()
            squares = sum((w * (part / unit - offset) ** 2).sum(axis=0) for part, w in values())
            spread = np.sqrt(squares / shares.sum())
        constant = spread <= 4 * np.finfo(np.float64).eps  # what rounding can make of a constant
        with np.errstate(over="ignore"):
            scale = np.where(constant, np.inf, spread * unit)
        if np.isinf(scale[~constant]).any():
            raise DataError(
                f"feature {np.flatnonzero(np.isinf(scale) & ~constant)[0]} of X varies by more than float64 "
                "can hold: rescale it"
            )
        return cls(kind, shape, torch.from_numpy(offset * unit), torch.from_numpy(scale))

    def apply(
        self,
        X: np.ndarray | Tensor | pandas.DataFrame,
        rows: np.ndarray | None = None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        out: Tensor | None = None,
    ) -> Tensor:
        """What the network sees of the raw samples ``X`` (n × ...), or of the given ``rows`` of them.

        The result is n × features; pictures may have their channels first or last, and those without channels
        may be rows of pixels, and the other way round. Of a data frame the columns ``names`` are taken, if
        its columns have names. Features with an offset are computed on the host in float64, so that an offset
        far beyond the precision of ``dtype`` does no harm. Needs little memory besides the result, which is
        ``out`` if given; that may be the memory of these rows of ``X`` themselves.
        Raises `DataError` for samples of another shape, and for values that ``dtype`` cannot hold.
        """
        if hasattr(X, "columns"):
            X = self._frame(X)
        if isinstance(X, Tensor):
            X = X.detach().cpu()
            X = (X.float() if X.dtype == torch.bfloat16 else X).numpy()
        X = np.asarray(X)
        if X.ndim == 4 and (X.shape[3], *X.shape[1:3]) == self.shape:
            X = np.moveaxis(X, 3, 1)
        if self.shape is not None and X.ndim > 1 and _same_pixels(X.shape[1:], self.shape):
            X = X.reshape(len(X), *self.shape)
        if X.dtype.kind not in "fiub" or X.ndim < 2 or (self.shape is not None and X.shape[1:] != self.shape):
            expected = "rows" if self.shape is None else f"n × {' × '.join(map(str, self.shape))}"
            raise DataError(f"samples must be real numbers, {expected}, got shape {X.shape} of {X.dtype}")
        n, features = len(X if rows is None else rows), int(np.prod(X.shape[1:]))
        result = torch.empty(n, features, dtype=dtype, device=device) if out is None else out
        for part in parts(n, features, IN_CACHE):
            raw = X[part] if rows is None else X[rows[part]]
            raw = np.require(raw, requirements=["C", "W"]).reshape(
                -1, features
            )  # copies what torch cannot share
            # torch knows neither foreign byte orders nor long doubles.
            known = raw.dtype.newbyteorder("=") if raw.dtype.itemsize <= 8 else np.float64
            values = torch.from_numpy(raw.astype(known, copy=False))
            if self.offset.ndim:
                wide = values.to(torch.float64, copy=True)
                result[part] = wide.sub_(self.offset).div_(self.scale)
            else:  # bytes travel as bytes and are widened on the device
                result[part] = values.to(device) if values.dtype == torch.uint8 else values.to(dtype)
                result[part] /= self.scale.item()
            # A sum, which is cheap, is finite only if all of its terms are.
            if not (result[part].sum().isfinite() or result[part].isfinite().all()):
                raise DataError(
                    f"some values of X are not finite in {dtype}: fill in what is missing, or choose "
                    "dtype=float64 or data.standardize=standard"
                )
        return result

    def _frame(self, X: pandas.DataFrame) -> np.ndarray:
        """Features of a data frame, in order; truth values and numbers side by side as numbers."""
        if self.names and not numbered(X.columns):
            X = X.iloc[:, places(self.names, X.columns)]
        kinds = {dtype.kind for dtype in X.dtypes}
        mixed = len(kinds) > 1 and kinds <= set("fiub")
        return X.to_numpy(np.float64, na_value=np.nan) if mixed else X.to_numpy()

    def state(self) -> dict[str, Any]:
        """As plain containers and tensors."""
        return dict(vars(self))

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Preprocessing:
        """The inverse of `state`."""
        shape = None if state["shape"] is None else tuple(state["shape"])
        names = tuple(state.get("names", ()))
        return cls(state["kind"], shape, state["offset"].cpu(), state["scale"].cpu(), names)


def numbered(names: Iterable[Any]) -> bool:
    """Whether the names of a table's columns are their numbers alone."""
    return all(str(name) == str(i) for i, name in enumerate(names))


def places(wanted: Sequence[str], names: Iterable[Any]) -> list[int]:
    """Where in a table's columns the wanted ones are.

    Raises `DataError` where one is missing.
    """
    found = {str(name): i for i, name in enumerate(names)}
    missing = [name for name in wanted if name not in found]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise DataError(
            f"the model was trained on columns that are not there: {', '.join(missing[:5])}{more}; give the "
            "columns names as they were then, in any order, others may be there too"
        )
    return [found[name] for name in wanted]


def _same_pixels(given: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether rows or pictures differ by a single channel, or by being a row, and so in nothing else.

    Of several channels it is not known which come first in a row.
    """
    one, other = (tuple(size for size in shape if size != 1) for shape in (given, wanted))
    rows = min(len(one), len(other)) <= 1 and max(len(one), len(other)) <= 2
    return one == other or (rows and math.prod(one) == math.prod(other))


def parts(n: int, features: int, values: int | None = None) -> Iterator[slice]:
    """Slices of n rows that hold a bounded number of values, `VALUES_AT_ONCE` unless told otherwise."""
    step = max(1, (values or VALUES_AT_ONCE) // max(1, features))
    for start in range(0, n, step):
        yield slice(start, start + step)
