"""Tables as other programs write them: .csv, .tsv and .parquet, one sample a row, one column the label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import DataError
from .files import bad_file, check_memory
from .preprocessing import numbered, places

if TYPE_CHECKING:
    import pandas

TEXT, PARQUET = (".csv", ".tsv", ".txt", ".data"), (".parquet", ".pq")
LABELS = ("y", "label", "target", "class")  # in this order
REMEDY = "set data.target to the name of the label's column (for real values set data.task=regression, too)"


class Table(NamedTuple):
    """Features X (n × columns, float64), labels y (n, or n × m), their columns' names, and weights w (n).

    The names of features are none where they would be numbers.
    """

    X: np.ndarray
    y: np.ndarray
    names: list[str]
    w: np.ndarray | None
    features: tuple[str, ...]


def read_table(path: Path, target: str | None, weight: str | None = None, several: bool = False) -> Table:
    """What a table holds.

    ``target`` names the label's column, or with ``several`` any number of columns with commas between them;
    None takes the first of `LABELS` that there is, in any case of letters, else the last column. ``weight``
    names the weights', if there is one. A text file's columns are separated by commas, semicolons or tabs.
    Its first row holds their names, unless one of them is a number (other than the column's own, counted from
    0); then the names are 0, 1, 2, .... A first column without a name counts rows and is left out.

    Raises `DataError` where features are text or missing.
    """
    table = _read(path)
    names = [str(name) for name in table.columns]
    if len(names) < 2 or len(table) == 0:
        found = f"{len(table)} rows of {len(names)}"
        raise bad_file(path, "rows of at least one feature and a label", found, "write one sample a row")
    w, named = None, not numbered(names)
    if weight is not None:
        if weight not in names:
            remedy = "set data.weight to the name of the weights' column"
            raise bad_file(path, f"the column {weight!r} of data.weight", f"{_listed(names)}", remedy)
        w = table.pop(table.columns[names.index(weight)]).to_numpy()
        names.remove(weight)
    targets = _targets(path, names, target, several)
    X, y = _split(path, table, [names.index(name) for name in targets])
    features = tuple(name for name in names if name not in targets) if named else ()
    return Table(X, y, targets, w, features)


def read_features(
    path: Path, count: int, target: str | None, known: Sequence[str] = (), features: Sequence[str] = ()
) -> tuple[np.ndarray, np.ndarray | None]:
    """Features X (n × ``count``, float64) of a table that may have labels y (n, or n × m) besides, or None.

    Features are the columns ``features``, in this order, if there are any and the table's columns have names.
    Those of labels are the ``known`` ones, if all are there, or found as in `read_table`. Raises `DataError`
    as that does, for columns that are missing, and for another number of them.
    """
    table = _read(path)
    names = [str(name) for name in table.columns]
    if features and not numbered(names):
        at = places(features, names)
        others = [name for i, name in enumerate(names) if i not in at]
        if target is not None:
            wanted = _targets(path, others, target, several=len(known) > 1)
        elif known or len(others) == 1:
            wanted = [name for name in known or others if name in others]
        else:
            wanted = [name for name in others if name.strip().lower() in LABELS][:1]
        table = table.iloc[:, [*at, *map(names.index, wanted)]]
        if len(wanted) < max(1, len(known)):
            return _without_labels(path, table.iloc[:, :count]), None
        return _split(path, table, [*range(count, count + len(wanted))])
    if len(names) == count and target is None:
        return _without_labels(path, table), None
    targets = list(known) if target is None and known and set(known) <= set(names) else None
    targets = targets or _targets(path, names, target, several=len(known) > 1)
    if len(names) != count + len(targets):
        most = len(known) if len(known) > 1 else "one"
        expected = f"{count} columns of features, and at most {most} of labels"
        raise bad_file(path, expected, f"{len(names)}", "give the columns that the model was trained on")
    return _split(path, table, [names.index(name) for name in targets])


def _read(path: Path) -> pandas.DataFrame:
    return _read_parquet(path) if path.suffix.lower() in PARQUET else _read_text(path)


def _split(path: Path, table: pandas.DataFrame, at: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels (n, of several columns n × m) of a table whose columns ``at`` are the labels'."""
    names = [str(name) for name in table.columns]
    target = names[at[0]]
    y, X = table.iloc[:, at], table.iloc[:, [i for i in range(len(names)) if i not in at]]
    if X.shape[1] == 0:
        raise bad_file(path, "at least one column of features", f"labels alone, {_listed(names)}", REMEDY)
    unknown = {
        str(name): _first_text(column) for name, column in X.items() if column.dtype.kind not in "fiub"
    }
    text = [f"{name} ({value!r})" for name, value in unknown.items() if value]
    if text:
        dummies = f"pandas.get_dummies(table.drop(columns={target!r})).assign(label=table[{target!r}])"
        remedy = f"encode them as numbers, for example with {dummies}"
        raise bad_file(path, "columns of numbers beside the label", f"text in {_listed(text)}", remedy)
    values = X.to_numpy(dtype=np.float64, na_value=np.nan)
    missing = ~np.isfinite(values)
    if missing.any() or y.isna().any(axis=None):
        columns = [name for name, bad in zip(X.columns, missing.any(axis=0), strict=True) if bad]
        columns += [name for name, bad in zip(y.columns, y.isna().any(), strict=True) if bad]
        remedy = "fill them in or drop these rows, for example with table.dropna()"
        if np.isinf(values).any():
            remedy += ", after table.replace([numpy.inf, -numpy.inf], numpy.nan)"
        found = f"missing or infinite ones in {_listed(columns)}"
        raise bad_file(path, "a number in every place", found, remedy)
    labels = (y.iloc[:, 0] if len(at) == 1 else y).to_numpy()
    return values, labels.astype(str) if labels.dtype.kind in "OTM" else labels


def _without_labels(path: Path, table: pandas.DataFrame) -> np.ndarray:
    return _split(path, table.assign(**{" ": 0}), [table.shape[1]])[0]


def _targets(path: Path, names: list[str], target: str | None, several: bool) -> list[str]:
    wanted = [target]
    if several and target is not None and target not in names:
        wanted = [name.strip() for name in target.split(",")]
    return [_target(path, names, name) for name in wanted]


def _target(path: Path, names: list[str], target: str | None) -> str:
    if target is not None:
        if target not in names:
            raise bad_file(path, f"the column {target!r} of data.target", f"{_listed(names)}", REMEDY)
        return target
    for label in LABELS:
        found = [name for name in names if name.strip().lower() == label]
        if found:
            return found[0]
    return names[-1]


def _first_text(column: pandas.Series) -> str:
    """The first value that is no number, empty where all are missing."""
    return next((str(value) for value in column.dropna() if not _is_number(value)), "")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"the column{'s' * (len(names) > 1)} {', '.join(map(str, names[:5]))}{more}"


def _read_text(path: Path) -> pandas.DataFrame:
    import pandas

    check_memory(path.stat().st_size, f"{path}", "store the samples as an .npz file of a narrower type")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline(1_000_000)
        separator = max(",;\t", key=first.count)
        names = pandas.read_csv(
            path, sep=separator, header=None, nrows=1, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
        fields = names.iloc[0].tolist()
        named = not any(_is_number(field) and field != str(i) for i, field in enumerate(fields))
        table = pandas.read_csv(
            path,
            sep=separator,
            header=0 if named else None,
            skipinitialspace=True,
            compression=None,
            encoding="utf-8-sig",
            low_memory=False,
        )
    except (ValueError, OSError, MemoryError, OverflowError) as error:  # pandas' own are ValueErrors
        remedy = "write it with pandas.DataFrame.to_csv(path, index=False)"
        raise bad_file(path, "a table of text in UTF-8", f"{error}".strip(), remedy) from error
    if named:
        table.columns = pandas.Index(fields)
        if not fields[0]:
            table = table.iloc[:, 1:]
    return table


def _is_number(field: Any) -> bool:
    try:
        float(field)
    except (TypeError, ValueError):
        return False
    return True


def _read_parquet(path: Path) -> pandas.DataFrame:
    import pandas

    try:
        from pyarrow import parquet
    except ImportError as error:
        remedy = "pip install 'nmfdnn[tables]', or write a .csv file"
        raise DataError(f"{path}: reading .parquet files needs pyarrow ({error}); {remedy}") from error
    try:
        with parquet.ParquetFile(path) as file:
            size = 8 * file.metadata.num_rows * file.metadata.num_columns
        check_memory(2 * size, f"{path}: reading this table", "store fewer samples")
        return pandas.read_parquet(path, engine="pyarrow")
    except DataError:
        raise
    except Exception as error:  # a damaged file can fail in any way
        remedy = "write it with pandas.DataFrame.to_parquet(path)"
        raise bad_file(path, "a whole .parquet file", f"{error}".strip(), remedy) from error
