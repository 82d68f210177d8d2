import json
from pathlib import Path

import pytest
import weights_server as ws

from samptag.errors import WeightsError
from samptag.pretrained.registry import load_registry

ROOT = Path(__file__).resolve().parents[2]
ENTRY = ws.registry_entry("mine", b"content")
SUMS = {"size": 7, "sha256": "0"}
REMOTE = {key: ENTRY[key] for key in ENTRY if key != "file"} | {"url": "https://example.org/mine", "format": "sota-se"}


def test_the_registry_of_the_project_is_valid_and_its_bundled_files_are_there():
    registry = load_registry(ROOT / "weights" / "registry.json")
    assert {f"sota-{data}-{net}" for data in ("mtat", "msd", "jamendo") for net in ("sample", "se")} <= set(
        registry.entries
    )
    for entry in registry.entries.values():
        assert all(score.protocol for score in entry.scores), f"{entry.name}: a score without its protocol"
        bundled = registry.bundled_path(entry)
        if bundled is not None:
            assert entry.checksums.problem(bundled) is None


@pytest.mark.parametrize("name", ["sota-mtat-sample", "sota-msd-se", "sota-jamendo-se"])
def test_public_weights_are_pinned(name: str):
    entry = load_registry().entries[name]
    assert "/4e1d652d4a7b12437a624965e85890b70b4a111d/models/" in entry.url
    assert entry.checksums.git_blob_sha1 is not None
    assert entry.licence == "MIT (repository); trained on data with non-commercial terms"
    assert entry.sample_rate == 16_000
    assert len(entry.tags.tags) == 50
    assert 0.8 < entry.scores[0].roc_auc < 0.92


PONS = ("musicnn-mtat50", "vgg-mtat50", "musicnn-msd50", "vgg-msd50")
WON = ("won-musicnn-mtat50", "won-fcn-mtat50", "won-fcn-msd50", "won-musicnn-jamendo50", "won-fcn-jamendo50")


@pytest.mark.parametrize("name", [*PONS, *WON])
def test_spectrogram_networks_are_pinned(name: str):
    entry = load_registry().entries[name]
    commit = "516acb2a0ff5ef73f64547898e018e793152c506" if name in PONS else "4e1d652d4a7b12437a624965e85890b70b4a111d"
    assert f"/{commit}/" in entry.url
    assert all(original.checksums.size and original.checksums.sha256 for original in entry.originals)
    assert [original.suffix for original in entry.originals] == (
        [".data-00000-of-00001", ".index"] if name in PONS else [".pth"]
    )
    tags = load_registry().tag_lists[{"mtat50": "mtat50-won"}.get(name.split("-")[-1], name.split("-")[-1])]
    assert (entry.tags, entry.sample_rate) == (tags, 16_000)
    assert "trained on data with" in entry.licence


def test_tag_orders_of_the_public_weights():
    entries = load_registry().entries
    mtat = entries["sota-mtat-se"].tags.tags
    assert mtat[:3] == ("guitar", "classical", "slow")
    assert mtat[-4:] == ("country", "metal", "female voice", "choral")
    assert entries["sota-msd-sample"].tags.tags[-3:] == ("sad", "House", "happy")
    jamendo = entries["sota-jamendo-sample"].tags
    joined = [f"{category}---{tag}" for category, tag in zip(jamendo.categories, jamendo.tags, strict=True)]
    assert joined == sorted(joined)
    assert joined[25] == "genre---rock"


def test_published_tag_list_differs_in_two_places_from_the_one_of_2020():
    """The one of Won et al., and of musicnn's networks, has two tags in each other's place."""
    lists = load_registry().tag_lists
    pairs = zip(lists["mtat50"].tags, lists["mtat50-won"].tags, strict=True)
    assert [pair for pair in pairs if pair[0] != pair[1]] == [("female voice", "metal"), ("metal", "female voice")]


def changed(**changes: object) -> dict[str, object]:
    return ENTRY | changes


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([changed(colour="blue")], "'mine': .*unexpected keyword argument 'colour'"),
        ([{key: ENTRY[key] for key in ENTRY if key != "licence"}], "'mine': .*'licence'"),
        ([{"file": "mine.safetensors"}], "'name' is missing"),
        ([ENTRY, ENTRY], "'mine' occurs twice"),
        ([ENTRY, changed(name="MINE")], "'MINE' occurs twice"),
        ([changed(name="../mine")], "letters, digits"),
        ([changed(name="")], "letters, digits"),
        ([changed(format="pickle")], "format 'pickle' is none of"),
        ([changed(format="sota-se")], "must have the format 'samptag'"),
        ([changed(file="../mine.safetensors")], "bare name"),
        ([changed(url="https://example.org/mine")], "exactly one of file and url"),
        ([changed(file=None)], "exactly one of file and url"),
        ([changed(file=None, url="file:///etc/passwd")], "not an http or https address"),
        ([changed(sha256=None)], "needs sha256"),
        ([changed(file=None, url="https://example.org/mine", sha256=None)], r"needs sha256 \(or git_blob_sha1"),
        ([REMOTE | {"format": "tf-vgg"}], "an index belongs to"),
        ([REMOTE | {"index": SUMS}], "an index belongs to"),
        ([REMOTE | {"format": "tf-vgg", "index": {"sha256": "0"}}], "size and sha256 of both its files"),
        ([REMOTE | {"format": "tf-vgg", "index": SUMS, "size": None}], "size and sha256 of both its files"),
        ([REMOTE | {"format": "tf-vgg", "index": SUMS}], r"ends in \.data-00000-of-00001"),
        ([REMOTE | {"format": "tf-vgg", "index": SUMS | {"md5": "0"}}], "argument 'md5'"),
        ([changed(tags="mtat51")], "no tag list 'mtat51'"),
        ([changed(tags=[])], "the tag list is empty"),
        ([changed(tags=["a", "b", "a"])], "has 'a' twice"),
        ([changed(tags=["a", " "])], "empty tag"),
        ([changed(tags=["a", 1])], "'mine': "),
        ([changed(scores=[{"split": "s", "roc_auc": 0.9}])], "'mine': .*'source'"),
        ([changed(scores=[{"split": "s", "roc_auc": 0.9, "source": "x", "auc": 1}])], "argument 'auc'"),
        (["mine"], "registry"),
    ],
)
def test_what_does_not_belong_is_named(tmp_path: Path, entries: list[object], message: str):
    path = ws.write_registry(tmp_path, *entries)
    with pytest.raises(WeightsError, match=message) as caught:
        load_registry(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": "samptag.registry/2", "weights": []}', '{"weights": {}}'])
def test_damaged_document(tmp_path: Path, text: str):
    path = tmp_path / "registry.json"
    path.write_text(text)
    with pytest.raises(WeightsError, match=r"registry\.json"):
        load_registry(path)


def test_missing_document(tmp_path: Path):
    with pytest.raises(WeightsError, match="reinstall samptag"):
        load_registry(tmp_path / "registry.json")


def test_categories_are_taken_apart_only_where_all_tags_have_one(tmp_path: Path):
    document = {
        "schema": "samptag.registry/1",
        "tag_lists": {
            "all": ["genre---rock", "mood/theme---happy"],
            "some": ["genre---rock", "happy"],
            "clash": ["genre---electronic", "instrument---electronic"],
        },
        "weights": [],
    }
    path = tmp_path / "registry.json"
    path.write_text(json.dumps(document))
    lists = load_registry(path).tag_lists
    assert (lists["all"].tags, lists["all"].categories) == (("rock", "happy"), ("genre", "mood/theme"))
    assert (lists["some"].tags, lists["some"].categories) == (("genre---rock", "happy"), None)
    assert lists["clash"].tags == ("genre---electronic", "instrument---electronic")
