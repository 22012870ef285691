"""One pass over everything that was read, for all that needs every value before training."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .dataset import Raw
from .files import bad_file
from .folder import Stored
from .preprocessing import parts


class Survey(NamedTuple):
    """What a pass found: the data with their true type, their digest, and the training part's extremes.

    Bytes of which none is above 1 are truth values rather than pixels. ``digest`` is a SHA-256 in hexadecimal
    of all values with their shapes and types, all labels, weights and names, and whether X stays in its files
    (for then its rows come in another order). ``low`` and ``high`` are the least and largest value of each
    feature in the training rows, in the type and shape of a row.
    """

    raw: Raw
    digest: str
    low: np.ndarray
    high: np.ndarray


def survey(raw: Raw, train: np.ndarray) -> Survey:
    """Read all values once, in order; ``train`` are the rows of ``raw.X`` that are trained on.

    Costs the time of reading and hashing (about 1 GB/s). Raises `DataError` for NaN and infinity.
    """
    digest = hashlib.sha256(repr((raw.targets.names, isinstance(raw.X, Stored))).encode())
    trained = np.zeros(len(raw.X), bool)
    trained[train] = True
    lows, highs, largest = [], [], 0
    sets = {"X": (raw.X, raw.labels)} | ({"X_test": raw.test} if raw.test else {})
    for key, (X, labels) in sets.items():
        digest.update(repr((X.shape, X.dtype.str)).encode())
        bad = np.zeros(X.shape[1:], np.int64)
        for part in parts(len(X), bad.size):
            values = np.ascontiguousarray(X[part])
            digest.update(values.data)
            if X.dtype.kind == "f" and not (finite := np.isfinite(values)).all():
                bad += (~finite).sum(axis=0)
            if X.dtype == np.uint8:
                largest = max(largest, values.max())
            if key == "X" and trained[part].any():
                values = values[trained[part]]
                lows.append(values.min(axis=0))
                highs.append(values.max(axis=0))
        _require_finite(raw, key, bad.reshape(-1))
        digest.update(repr((labels.shape, labels.dtype.str)).encode())
        digest.update(np.ascontiguousarray(labels).data)
    if raw.weights is not None:
        digest.update(np.ascontiguousarray(raw.weights).data)
    low, high = np.min(lows, axis=0), np.max(highs, axis=0)
    if raw.X.dtype == np.uint8 and largest <= 1:
        test = raw.test and (raw.test[0].view(bool), raw.test[1])
        raw = replace(raw, X=raw.X.view(bool), maximum=1, test=test)
        low, high = low.view(bool), high.view(bool)
    return Survey(raw, digest.hexdigest(), low, high)


def _require_finite(raw: Raw, key: str, bad: np.ndarray) -> None:
    if not bad.any():
        return
    columns = np.flatnonzero(bad)
    more = f" and {len(columns) - 5} more" if len(columns) > 5 else ""
    found = f"NaN or infinity in {bad.sum()} places, in features {columns[:5].tolist()}{more}"
    remedy = (
        "fill them in, or drop these samples: "
        f"keep = numpy.isfinite({key}).reshape(len({key}), -1).all(axis=1), then {key}[keep] and the "
        "labels' [keep]"
    )
    raise bad_file(raw.path, f"finite numbers in {key}", found, remedy)
