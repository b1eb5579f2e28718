"""The campaign files of the set in skf_out: whoever follows its README must not meet a refusal."""

from pathlib import Path

import pytest

from dftbparam.campaign.campaign_file import read_campaign
from dftbparam.campaign.element_job import check_elements
from dftbparam.elements import all_symbols

ROOT = Path(__file__).resolve().parents[2] / "skf_out"


@pytest.mark.parametrize(
    "name",
    [
        "bootstrap/1-elements.toml",
        "bootstrap/2-oxygen.toml",
        "bootstrap/3-compounds.toml",
        "bootstrap/4-oxygen.toml",
        "dftbparam-2026.1.toml",
    ],
)
def test_campaign_files_can_be_run(name, monkeypatch):
    # The sampler turbo needs PyTorch; everything else of the plans is checked without it, too.
    monkeypatch.setattr("dftbparam.campaign.fit_plan.proposer", lambda name: None)
    campaign = read_campaign(ROOT / name)
    assert check_elements(campaign, list(campaign.elements)) == []


def test_every_element_is_in_the_last_one_or_is_oxygen():
    campaign = read_campaign(ROOT / "dftbparam-2026.1.toml")
    assert {*campaign.elements, "O"} == set(all_symbols())
