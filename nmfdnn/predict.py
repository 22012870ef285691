"""Predictions of a trained model for a file of samples, as a table. `nmfdnn-predict`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from . import files
from .data.samples import read_samples
from .errors import NmfdnnError
from .model import Model, load
from .text import print_anything


def table(model: Model, X: np.ndarray) -> str:
    """CSV: a row for each of the samples X (n × …), with its class and the scores of all classes.

    Scores are probabilities where the model is calibrated, else outputs.
    """
    import pandas

    scores = model.decision_function(X) if model.temperature is None else model.predict_proba(X)
    name = "output" if model.temperature is None else "probability"
    columns = {f"{name}_{label}": scores[:, i] for i, label in enumerate(model.classes)}
    predicted = np.array(model.classes)[scores.argmax(axis=1)]
    return str(pandas.DataFrame({"predicted": predicted, **columns}).to_csv(index_label="sample"))


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
    try:
        model = load(arguments.run, arguments.device)
        X, labels = read_samples(arguments.file, model.network.layers[0].inputs, arguments.label)
        text = table(model, X)
        if arguments.output is None:
            sys.stdout.write(text)
        else:
            files.replace_text(arguments.output, text)
        if labels is not None:
            wrong = 100 * np.mean(model.predict(X) != labels)
            print(f"{len(labels)} labelled samples, error {wrong:.2f} %", file=sys.stderr)
    except NmfdnnError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"cannot write {error.filename}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
