"""Predictions of a trained model for a file of samples, as a table. `nmfdnn-predict`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import files
from .text import one_line_errors, print_anything

if TYPE_CHECKING:
    import pandas

    from .model import Model


def table(model: Model, X: np.ndarray) -> pandas.DataFrame:
    """A row for each of the samples X (n × …), with its class and the scores of all classes.

    Scores are probabilities where the model is calibrated, else outputs.
    """
    import pandas

    scores = model.decision_function(X) if model.temperature is None else model.predict_proba(X)
    name = "output" if model.temperature is None else "probability"
    columns = {f"{name}_{label}": scores[:, i] for i, label in enumerate(model.classes)}
    predicted = np.array(model.classes)[scores.argmax(axis=1)]
    return pandas.DataFrame({"predicted": predicted, **columns})


def main() -> None:
    """Entry point."""
    print_anything()
    parser = argparse.ArgumentParser(prog="nmfdnn-predict", description=__doc__)
    parser.add_argument("run", help="folder of a run, or its network.pt")
    parser.add_argument("file", help="samples: .npy, .npz (X, or X_test if there is no X), .csv or .parquet")
    parser.add_argument("-o", "--output", type=Path, help="a .csv file; default: print")
    parser.add_argument("--label", help="a table's column of labels, if it has one without a usual name")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    from .data.samples import read_samples  # after the help: PyTorch takes seconds to load
    from .model import load

    with one_line_errors(arguments.output):
        model = load(arguments.run, arguments.device)
        X, labels = read_samples(arguments.file, model.network.layers[0].inputs, arguments.label)
        found = table(model, X)
        text = found.to_csv(index_label="sample")
        if arguments.output is None:
            sys.stdout.write(text)
        else:
            files.replace_text(arguments.output, text)
    if labels is not None:
        wrong = 100 * np.mean(found["predicted"].to_numpy() != labels)
        print(f"{len(labels)} labelled samples, error {wrong:.2f} %", file=sys.stderr)


if __name__ == "__main__":
    main()
