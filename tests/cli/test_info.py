import json

import soundfile
import torch

from samptag.pretrained import DEFAULT


def test_info_says_what_a_bug_report_needs(samptag, valid, media, tmp_path):
    facts = json.loads(samptag("info", "--json").stdout)
    valid("info", facts)
    assert torch.__version__.startswith(facts["torch"])  # the build, as in 2.13.0+cpu, is not always in the metadata
    assert facts["libsndfile"] == soundfile.__libsndfile_version__
    assert facts["devices"][0] == "cpu"
    assert facts["cache"] == str(tmp_path / "cache")
    assert facts["offline"] is True
    assert facts["cores"] >= 1
    assert not any(weights["installed"] for weights in facts["weights"])
    assert {"name", "installed", "problem"} == set(facts["weights"][0])
    default = facts["default_weights"]
    assert json.loads(samptag("tag", media / "bay.wav", "--json").stdout)["weights"] == default
    assert f"default     {default['name']} (sha256 {default['sha256']})\n" in samptag("info").stdout.decode()


def test_info_for_people_shows_ranks(samptag):
    text = samptag("info", env={"RANK": "1", "WORLD_SIZE": "4"}).stdout.decode()
    assert "RANK=1, WORLD_SIZE=4" in text
    assert f"torch       {torch.__version__.split('+')[0]}" in text


def test_help_names_the_default_weights(samptag):
    words = samptag("tag", "--help").stdout.decode().replace("│", " ").split()
    assert f"by default {DEFAULT}. [env var: SAMPTAG_MODEL]" in " ".join(words)
