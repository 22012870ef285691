"""Published figures: settings are those of the net that is named, distances are told with their signs."""

from __future__ import annotations

import pytest
from boards import done
from runs import configured

import board  # isort: skip  (after boards, which knows where these are)
import published

from nmfdnn.training.opponents import OPPONENTS

RUN = [claim for claim in published.CLAIMS if claim.ours]


def test_every_family_has_a_claim_and_each_says_what_ours_has_otherwise():
    names = [claim.name for claim in published.CLAIMS]
    assert len(set(names)) == len(names)
    assert {name.split("_")[0] for name in names} == set(OPPONENTS)
    assert all(claim.source and claim.differs for claim in published.CLAIMS)


@pytest.mark.parametrize("claim", RUN, ids=lambda claim: claim.name)
def test_a_run_has_the_net_that_is_named(claim):
    job = published.job_of(claim)
    config = configured(*board.arguments_of(job, published.data_of(claim), published.Path()))
    named = next(one for one in (claim, *RUN) if "×" in one.net and one.name.split("_")[0] == config.method)
    layers, _, rest = named.net.partition(" × ")
    assert config.network.hidden == [int(rest.split(",")[0])] * int(layers)
    assert config.method == claim.name.split("_")[0]
    assert config.data.name == claim.data
    assert config.data.validation == 0
    assert (config.seed, config.threads) == (1, 1)


def test_the_table_has_distances_and_what_was_not_run(tmp_path):
    record = board.Record(tmp_path / "published.jsonl")
    claims = {claim.name: claim for claim in published.CLAIMS}
    for name, above in (("pc", 0.3), ("dtp", 0.31), ("dfa", -0.5)):
        claim = claims[name]
        record.add(done(published.job_of(claim), 90, claim.error + above, seconds=7))
    record.add(done(published.job_of(claims["ff"]), failed="ConfigError: no longer finite"))
    record.add(done(published.job_of(claims["admm"]), 90, 3.5))
    rows = {line.split("`")[1]: line.split(" | ") for line in published.table(record)[2:]}
    assert rows["pc"][3:] == ["1.89", "2.19", "+0.30", "yes", "25", "25", "7 |"]
    assert rows["dtp"][4:7] == ["2.25", "+0.31", "**no**"]
    assert rows["dfa"][5:7] == ["-0.50", "yes"]
    assert rows["ff"][4:7] == ["diverged", "", ""]
    assert rows["admm"][3:7] == ["no number", "3.50", "", ""]
    assert rows["bcd"][4:7] == ["not run", "", ""]
    assert rows["signsymmetry"][3:7] == ["0.91", "not run", "", ""]
    page = published.page(record)
    assert all(f"- `{name}`: {claim.source}" in page for name, claim in claims.items())
    assert f"within {published.CLOSE:g}" in page
