"""The runner: what a run's folder holds, early stopping, continuing, and what stays after a failure."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from runs import TINY, configured, text_of

from nmfdnn.errors import NmfdnnError
from nmfdnn.model import load as load_model
from nmfdnn.records import read_metrics, read_summary
from nmfdnn.runs import checkpoint, experiment
from nmfdnn.runs.experiment import prepare, run
from nmfdnn.runs.tracking import EVENTS, read_pictures
from nmfdnn.training import METHODS, AlternatingTrainer

BP = ["method=bp", "bp.dropout=0.2", "bp.batch_size=32", "network.start=he", "bp.learning_rate=0.01"]
NMF = ["method=nmf", "nmf.averaging=0.5", "nmf.batch_size=50"]
JACOBI = ["method=jacobi", "jacobi.batch_size=50", "jacobi.gram_every=3"]
EACH = pytest.mark.parametrize("method", [NMF, JACOBI, BP], ids=["nmf", "jacobi", "bp"])


def weights(folder):
    return load_model(folder).network.weights


def without_seconds(folder):
    return [{k: v for k, v in row.items() if k != "train_seconds"} for row in read_metrics(folder)]


@EACH
def test_what_a_run_leaves(method, tmp_path):
    config = configured(*TINY, *method, "epochs=3")
    summary = run(config, tmp_path, text_of(*TINY, *method, "epochs=3"), [*TINY, *method])
    assert summary == read_summary(tmp_path)
    required = """method experiment data layers seed device dtype epochs train_error validation_error
        test_error best_validation_epoch train_seconds pretrain_seconds peak_memory_mb parameters versions
        git_commit"""
    assert set(required.split()) <= set(summary)
    assert summary["layers"] == [12, 16, 8, 3]
    assert summary["parameters"] == sum(W.numel() for W in weights(tmp_path)) == 13 * 16 + 17 * 8 + 9 * 3
    rows = read_metrics(tmp_path)
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    seconds = [row["train_seconds"] for row in rows]
    assert seconds[0] == 0
    assert seconds == sorted(seconds)
    assert summary["train_seconds"] == seconds[-1] > 0
    assert summary["peak_memory_mb"] > 50
    best = min(reversed(rows), key=lambda row: row["validation_error"])  # of equal ones the latest
    assert summary["best_validation_epoch"] == best["epoch"]
    for part in ("train", "validation", "test"):
        assert summary[f"{part}_error"] == best[f"{part}_error"]
    assert (tmp_path / EVENTS).stat().st_size > 0


@pytest.mark.parametrize("start", ["pretrained", "he"])
def test_a_convolutional_run_shows_the_parts_of_patches_that_it_starts_from(start, tmp_path):
    settings = [
        *("experiment=conv", "data=digits", "data.train_samples=200", "epochs=2", f"network.start={start}"),
        "network.convolution=[{channels:6,kernel:3,padding:1,pool:2},{channels:8,kernel:3}]",
        *("pretraining.outer_iterations=4", "pretraining.nmf_iterations=5", "pretraining.lsq_iterations=5"),
    ]
    summary = run(configured(*settings), tmp_path)
    assert summary["layers"] == [64, 8 * 8 * 6, 2 * 2 * 8, 10]
    assert summary["test_error"] < 60
    parts = {"images/nmf_parts", "images/reconstructions"}
    assert parts & set(read_pictures(tmp_path)) == (parts if start == "pretrained" else set())


def test_without_validation_the_last_weights_are_kept(tmp_path):
    summary = run(configured(*TINY, *NMF, "epochs=2", "data.validation=0"), tmp_path)
    assert summary["validation_error"] is None
    assert summary["best_validation_epoch"] is None
    assert summary["test_error"] == read_metrics(tmp_path)[-1]["test_error"]


@EACH
def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(method, tmp_path):
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder, seed in zip(folders, (1, 1, 2), strict=True):
        folder.mkdir()
        run(configured(*TINY, *method, "epochs=2", f"seed={seed}"), folder)
    a, b, c = map(weights, folders)
    assert all(map(torch.equal, a, b))
    assert not any(map(torch.equal, a, c))


@EACH
@pytest.mark.parametrize(("stop", "parts"), [(0, 1), (1, 1), (3, 1), (3, 2)])
def test_a_run_that_was_broken_off_continues_to_the_same_bits(method, stop, parts, tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    overrides = [*TINY, *method, "epochs=5", f"records_per_epoch={parts}"]
    run(configured(*overrides), whole)
    save = checkpoint.save
    saved = iter(range(10))

    def save_then_die(folder, state):
        save(folder, state)
        if next(saved) == stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save_then_die)
    with pytest.raises(KeyboardInterrupt):
        run(configured(*overrides), broken)
    monkeypatch.undo()
    run(configured(*overrides, "resume=true"), broken)
    assert all(map(torch.equal, weights(whole), weights(broken)))
    assert without_seconds(whole) == without_seconds(broken)


@EACH
def test_more_records_do_not_change_the_run(method, tmp_path):
    folders = [tmp_path / name for name in ("one", "two")]
    for parts, folder in enumerate(folders, start=1):
        folder.mkdir()
        run(configured(*TINY, *method, "epochs=2", "data.validation=0", f"records_per_epoch={parts}"), folder)
    assert all(map(torch.equal, *map(weights, folders)))
    one, two = map(without_seconds, folders)
    assert [row["epoch"] for row in two] == [0, 0.5, 1, 1.5, 2]
    assert [row["test_error"] for row in two[::2]] == [row["test_error"] for row in one]


def test_a_damaged_checkpoint_costs_an_epoch_and_no_bit(tmp_path, caplog):
    whole, damaged = tmp_path / "whole", tmp_path / "damaged"
    whole.mkdir()
    damaged.mkdir()
    run(configured(*TINY, *NMF, "epochs=4"), whole)
    run(configured(*TINY, *NMF, "epochs=3"), damaged)
    path = damaged / checkpoint.CURRENT
    path.write_bytes(path.read_bytes()[:1000])
    run(configured(*TINY, *NMF, "epochs=4", "resume=true"), damaged)
    assert "checkpoint.pt is damaged" in caplog.text
    assert all(map(torch.equal, weights(whole), weights(damaged)))
    assert without_seconds(whole) == without_seconds(damaged)


def test_patience_stops_and_keeps_the_best(tmp_path):
    summary = run(configured(*TINY, *NMF, "epochs=60", "patience=2", "data.noise=0.4"), tmp_path)
    rows = read_metrics(tmp_path)
    first_best = min(rows, key=lambda row: row["validation_error"])  # an equal error is no better one
    assert summary["epochs_trained"] == first_best["epoch"] + 2 < summary["epochs"] == 60


def test_a_run_that_diverges_says_so_and_keeps_its_records(tmp_path, monkeypatch):
    update = AlternatingTrainer.update

    def explode(self, batch):
        codes = update(self, batch)
        if self.updates > 6:
            self.weights[0] = self.weights[0] * float("nan")
        return codes

    monkeypatch.setattr(AlternatingTrainer, "update", explode)
    with pytest.raises(NmfdnnError, match=r"lower .*omega"):
        run(configured(*TINY, *NMF, "epochs=9"), tmp_path)
    rows = read_metrics(tmp_path)
    assert len(rows) >= 2
    assert (
        checkpoint.load(tmp_path, torch.device("cpu"))["progress"]["records"][-1]["epoch"]
        == rows[-1]["epoch"]
    )


def test_both_methods_start_from_the_same_network_and_split(tmp_path):
    rows = []
    for method in ("nmf", "bp"):
        (tmp_path / method).mkdir()
        run(configured(*TINY, f"method={method}", "epochs=0"), tmp_path / method)
        rows.append(read_metrics(tmp_path / method)[0])
    assert all(
        rows[0][f"{part}_error"] == rows[1][f"{part}_error"] for part in ("train", "validation", "test")
    )
    assert all(map(torch.equal, weights(tmp_path / "nmf"), weights(tmp_path / "bp")))


def test_threads_and_precision_are_set(tmp_path):
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        prepare(configured("threads=1", "matmul_precision=high"))
        assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == (1, "high")
    finally:
        torch.set_num_threads(before[0])
        torch.set_float32_matmul_precision(before[1])


def test_the_kernels_backend_does_not_change_the_result(tmp_path):
    results = []
    for backend in ("reference", "compiled"):
        (tmp_path / backend).mkdir()
        overrides = [*TINY, *NMF, "epochs=2", f"kernels={backend}", "dtype=float64"]
        run(configured(*overrides), tmp_path / backend)
        results.append(weights(tmp_path / backend))
    for reference, compiled in zip(*results, strict=True):
        torch.testing.assert_close(reference, compiled, rtol=1e-6, atol=1e-8)


def test_the_summary_is_plain_json(tmp_path):
    run(configured(*TINY, "epochs=0"), tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert all(isinstance(summary["versions"][name], str) for name in ("nmfdnn", "torch", "python"))


def test_start_and_order_have_random_streams_of_their_own(tmp_path, monkeypatch):
    """Drawn from the same one, the batches would follow the numbers that the weights were made of."""
    seeds = []

    def spying(original):
        def spy(*arguments):
            (generator,) = (a for a in arguments if isinstance(a, torch.Generator))
            seeds.append(generator.initial_seed())
            return original(*arguments)

        return spy

    monkeypatch.setattr(experiment, "_start", spying(experiment._start))
    monkeypatch.setitem(METHODS, "nmf", replace(METHODS["nmf"], make=spying(METHODS["nmf"].make)))
    for seed in (1, 2):
        (tmp_path / str(seed)).mkdir()
        run(configured(*TINY, "epochs=0", f"seed={seed}"), tmp_path / str(seed))
    assert len(seeds) == len(set(seeds)) == 4
