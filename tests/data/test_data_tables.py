"""Tables: .csv as different programs write it, .parquet, which column is the label, what cannot be used."""

from __future__ import annotations

import sys

import numpy as np
import pandas
import pytest
from data_files import load

from nmfdnn.data import Arrays
from nmfdnn.errors import ConfigError, DataError

N = 60
SPECIES = np.array(["ash", "oak", "yew"])


def frame(label="species"):
    rng = np.random.default_rng(0)
    numbers = {"length": rng.random(N), "width": rng.integers(9, size=N), "wild": rng.random(N) < 0.5}
    return pandas.DataFrame({**numbers, label: SPECIES[np.arange(N) % 3]})


@pytest.fixture
def config(tmp_path):
    def config(content, name="table.csv", **keys):
        path = tmp_path / name
        if isinstance(content, pandas.DataFrame):
            content.to_csv(path, index=False)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return Arrays(path=str(path), standardize="none", validation=0, **keys)

    return config


def holds(data, table, label):
    """Whether the data are the table's rows, each with its label."""
    X = table.drop(columns=label).to_numpy(dtype=np.float64)
    expected = sorted((*np.float32(x).tolist(), str(y)) for x, y in zip(X, table[label], strict=True))
    found = []
    for part in (data.train, data.test):
        names = [data.classes[label] for label in part.labels]
        found += [(*x, name) for x, name in zip(part.X.tolist(), names, strict=True)]
    return sorted(found) == expected


def test_numbers_truth_values_and_the_last_column_as_the_label(config):
    data = load(config(frame()))
    assert data.classes == ("ash", "oak", "yew")
    assert (data.features, data.image_shape, data.preprocessing.shape) == (3, None, (3,))
    assert holds(data, frame(), "species")


@pytest.mark.parametrize(
    ("separator", "name"), [(",", "a.csv"), (";", "a.csv"), ("\t", "a.tsv"), (",", "A.CSV")]
)
@pytest.mark.parametrize("line", ["\n", "\r\n"], ids=["unix", "windows"])
def test_separators_and_line_ends(config, separator, name, line):
    text = "\ufeff" + frame().to_csv(index=False, sep=separator, lineterminator=line)
    assert holds(load(config(text, name)), frame(), "species")


def test_a_column_of_row_numbers_is_left_out(config):
    assert holds(load(config(frame().to_csv())), frame(), "species")


@pytest.mark.parametrize("label", ["y", "label", "Target", "CLASS"])
def test_a_column_with_a_usual_name_is_the_label(config, label):
    table = frame(label)[[label, "length", "width", "wild"]]
    assert holds(load(config(table)), table, label)


def test_the_label_can_be_named(config):
    table = frame("y").rename(columns={"wild": "is wild"})
    table["y"] = np.arange(N) % 5
    data = load(config(table, target="is wild"))
    assert data.classes == ("False", "True")
    assert holds(data, table, "is wild")
    with pytest.raises(
        DataError, match=r"the column 'none' of data\.target, found the columns length, width"
    ):
        load(config(table, target="none"))


def test_a_table_without_a_header(config):
    text = frame().to_csv(index=False, header=False)
    assert holds(load(config(text, "iris.data")), frame(), "species")
    text = frame()[["width", "wild", "length"]].to_csv(index=False, header=False)
    data = load(config(text, target="1"))
    assert (data.features, data.classes) == (2, ("False", "True"))


def test_numbered_columns_are_a_header(config):
    table = pandas.DataFrame(np.random.default_rng(0).integers(9, size=(N, 4)))
    table["target"] = np.arange(N) % 3
    assert holds(load(config(table)), table, "target")


def test_whole_floats_and_negative_numbers_as_labels(config):
    table = frame("y")
    table["y"] = np.where(np.arange(N) % 3 == 0, -1.0, 1.0)
    assert load(config(table)).classes == ("-1", "1")


def test_text_features_and_the_remedy(config):
    table = frame().assign(colour=SPECIES[np.arange(N) % 2], place=list("ab") * (N // 2))
    table = table[["colour", "length", "place", "width", "wild", "species"]]
    with pytest.raises(DataError, match=r"text in the columns colour \('ash'\), place \('a'\)") as caught:
        load(config(table))
    expression = str(caught.value).partition("for example with ")[2]
    data = load(config(eval(expression, {"pandas": pandas, "table": table})))
    assert data.features == 7
    assert data.classes == ("ash", "oak", "yew")


def test_a_mark_for_missing_values_is_shown(config):
    table = frame().astype({"width": str})
    table.loc[7, "width"] = "?"
    with pytest.raises(DataError, match=r"text in the column width \('\?'\)"):
        load(config(table))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_missing_values_and_the_remedies(config, bad):
    table = frame("y").astype({"width": float})
    table["y"] = np.arange(N) % 3 + 0.0
    table.loc[3, "width"] = bad
    table.loc[4, "y"] = np.nan
    with pytest.raises(
        DataError, match=r"missing or infinite ones in the columns width, y; .*table\.dropna\(\)"
    ) as caught:
        load(config(table))
    assert ("table.replace([numpy.inf" in str(caught.value)) == np.isinf(bad)
    mended = table.replace([np.inf, -np.inf], np.nan) if np.isinf(bad) else table
    assert len(load(config(mended.dropna())).train) == round(0.8 * (N - 2))


def test_a_measurement_is_no_label(config):
    table = frame().drop(columns="species")[["width", "wild", "length"]]
    with pytest.raises(
        DataError, match=r"labels in the column length, .*is length the label's.*data\.target"
    ):
        load(config(table))
    assert load(config(table, target="width")).outputs == 9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"a table of text in UTF-8, found No columns"),
        ("a\n1\n2\n", r"at least one feature and a label, found 2 rows of 1"),
        ("a,b\n", r"at least one feature and a label, found 0 rows of 2"),
        ("a,b\n1,2\n1,2,3,4\n", r"a table of text in UTF-8, found .*line 3.*DataFrame\.to_csv"),
        (b"a,b\n1,\xff\xfe\n", r"a table of text in UTF-8, found .*utf-8"),
        (bytes(1000), r"table\.csv: expected .*, found "),
    ],
    ids=["empty", "one column", "no rows", "ragged", "another encoding", "zeros"],
)
def test_files_that_are_no_tables(config, content, message):
    with pytest.raises(DataError, match=message):
        load(config(content))


def test_a_key_for_tables_alone(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.eye(9), y=np.arange(9) % 2)
    with pytest.raises(
        ConfigError, match=r"data\.target must be null for an \.npz file or a folder, whose labels are y"
    ):
        load(Arrays(path=str(tmp_path / "a.npz"), target="y"))


def test_parquet(config, tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    table = frame().convert_dtypes().astype({"species": "category"})
    table.to_parquet(path)
    assert holds(load(Arrays(path=str(path), standardize="none", validation=0)), frame(), "species")
    table.loc[5, "width"] = pandas.NA
    table.to_parquet(path)
    with pytest.raises(DataError, match=r"a\.parquet: expected .* missing .* in the column width;"):
        load(Arrays(path=str(path)))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"a\.parquet: expected a whole \.parquet file, found"):
        load(Arrays(path=str(path)))


def test_parquet_without_its_reader(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        DataError, match=r"\.parquet files needs pyarrow .*pip install 'nmfdnn\[tables\]', or"
    ):
        load(Arrays(path=str(tmp_path / "a.parquet")))


def test_a_missing_label(config):
    table = frame()
    table.loc[4, "species"] = None
    with pytest.raises(DataError, match=r"missing or infinite ones in the column species;"):
        load(config(table))
