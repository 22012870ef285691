"""Samples without, or with, labels: what a trained model is asked about."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .files import bad_file, expand
from .tables import PARQUET, TEXT, read_features

REMEDY = "write it with numpy.save(path, X) or numpy.savez(path, X=X)"


def read_samples(
    location: str,
    features: int,
    label: str | None,
    columns: Sequence[str] = (),
    names: Sequence[str] = (),
) -> tuple[np.ndarray, np.ndarray | None]:
    """Samples X (n × …) and, where the file has them, their labels y (n, or n × m).

    An .npy file is X; of an .npz file it is X with y, or where there is no X, X_test with y_test; a table has
    ``features`` columns, those with ``names`` if it has a row of names, and perhaps more for labels, named
    ``label`` or ``columns`` or as in `read_table`.
    Raises `DataError` for anything else; never runs code from the file.
    """
    path = expand(location, "the file of samples")
    if not path.is_file():
        raise bad_file(path, "a file of samples", "nothing there", "give its path")
    if path.suffix.lower() in (*TEXT, *PARQUET):
        return read_features(path, features, label, columns, names)
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded, None
        with loaded:
            part = "" if "X" in loaded else "_test"
            X = loaded[f"X{part}"]
            return X, loaded.get(f"y{part}")
    except Exception as error:  # a damaged or foreign file can fail in any way
        reason = str(error) or type(error).__name__
        raise bad_file(path, "samples as NumPy stores them", f"something else ({reason})", REMEDY) from error
