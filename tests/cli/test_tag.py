"""What `samptag tag` writes, read back as its users read it."""

import csv
import io
import json
import os
from dataclasses import replace

import numpy as np
import pytest
from tiny_weights import TINY_NAME, TINY_TAGS

import samptag
from samptag.core.weights import read_weights, save_model
from samptag.tagging.tagger import Tagger


def records(process) -> list[dict]:
    return [json.loads(line) for line in process.stdout.decode().splitlines()]


def read_npz(path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def test_one_file_is_one_object_that_equals_the_library(tag, valid, demo_clip, tiny_weights):
    # On a narrow terminal too: nothing that wraps lines may come near the document.
    record = json.loads(tag(demo_clip, "--json", "--top", "0", env={"COLUMNS": "20"}).stdout)
    result = Tagger.from_pretrained(tiny_weights).tag(demo_clip)
    assert record == result.to_record(top=None)
    valid("tag", record)
    assert record["model"] == TINY_NAME
    assert record["weights"] == {"name": TINY_NAME, "sha256": read_weights(tiny_weights).sha256}
    assert record["version"] == samptag.__version__
    assert record["sample_rate"] == 44_100
    assert record["duration"] == pytest.approx(30.0, abs=0.1)
    assert {item["tag"] for item in record["tags"]} == set(TINY_TAGS)
    scores = [item["score"] for item in record["tags"]]
    assert scores == sorted(scores, reverse=True)


def test_every_format_tells_the_same(tag, media):
    files = [media / "bay.wav", media / "void-sensor.ogg", media / "set" / "calm-01-honor-bound.opus"]
    array = json.loads(tag(*files, "--json", "--top", "0").stdout)
    assert [record["path"] for record in array] == [str(file) for file in files]
    scores = {record["path"]: {item["tag"]: item["score"] for item in record["tags"]} for record in array}

    assert records(tag(*files, "--format", "jsonl", "--top", "0")) == array

    rows = list(csv.reader(io.StringIO(tag(*files, "--format", "csv").stdout.decode())))
    assert rows[0] == ["path", *TINY_TAGS]
    assert {row[0]: dict(zip(TINY_TAGS, map(float, row[1:]), strict=True)) for row in rows[1:]} == scores

    lines = [line.split("\t") for line in tag(*files, "--format", "tsv", "--top", "0").stdout.decode().splitlines()]
    assert {path: {t: float(s) for p, t, s in lines if p == path} for path in scores} == scores


def test_piped_tables_are_tab_separated_lines_of_the_five_best_tags(tag, demo_clip, tiny_weights):
    process = tag(demo_clip, env={"COLUMNS": "20"})
    lines = [line.split("\t") for line in process.stdout.decode().splitlines()]
    best = Tagger.from_pretrained(tiny_weights).tag(demo_clip).top(5)
    assert lines == [[str(demo_clip), item.tag, f"{item.score:.6f}"] for item in best]
    assert process.stderr == b""


def test_a_threshold_or_a_choice_of_tags_lifts_the_limit_of_five(tag, demo_clip, tiny_weights):
    scores = [item.score for item in Tagger.from_pretrained(tiny_weights).tag(demo_clip).top(None)]
    threshold = (scores[5] + scores[6]) / 2
    above = json.loads(tag(demo_clip, "--json", "--threshold", threshold).stdout)["tags"]
    assert [item["score"] for item in above] == pytest.approx(scores[:6], abs=1e-6)
    chosen = json.loads(tag(demo_clip, "--json", "--tags", "FLÖTE, piano", "--tags", "drums, loud").stdout)["tags"]
    assert {item["tag"] for item in chosen} == {"flöte", "piano", "drums, loud"}
    header = tag(demo_clip, "--format", "csv", "--tags", "piano,guitar").stdout.decode().splitlines()[0]
    assert header == "path,piano,guitar"


def test_of_tags_that_differ_in_case_alone_the_first_is_meant_unless_one_is_spelled_so(
    samptag, demo_clip, tiny_weights, tmp_path
):
    weights, tags = read_weights(tiny_weights), ("Guitar", "guitar", *TINY_TAGS[2:])
    save_model(tmp_path / "cases.safetensors", weights.tensors, card=replace(weights.card, tags=tags))
    for asked, meant in (("GUITAR", "Guitar"), ("guitar", "guitar")):
        done = samptag("tag", demo_clip, "--model", tmp_path / "cases.safetensors", "--json", "--tags", asked)
        assert [item["tag"] for item in json.loads(done.stdout)["tags"]] == [meant]


def test_an_unknown_tag_is_refused_with_names_like_it(tag, demo_clip):
    process = tag(demo_clip, "--tags", "gitar,piano", check=2)
    assert process.stderr.decode() == "samptag: error: unknown tag 'gitar': did you mean 'guitar'?\n"


def test_a_folder_is_an_array_in_order_whatever_jobs_is(tag, short_set):
    one = tag(short_set, "--json", "--jobs", "1", "--batch-size", "1")
    many = tag(short_set, "--json", "--jobs", "7", "--batch-size", "64")
    assert one.stdout == many.stdout
    paths = [record["path"] for record in json.loads(one.stdout)]
    assert paths == sorted(str(path) for path in short_set.iterdir())
    assert len(paths) == 24


def test_standard_input_by_pipe_and_by_redirection(tag, demo_clip, tiny_weights):
    expected = Tagger.from_pretrained(tiny_weights).tag(demo_clip).to_record()
    piped = json.loads(tag("-", "--json", input=demo_clip.read_bytes()).stdout)
    with demo_clip.open("rb") as file:
        redirected = json.loads(tag("-", "--json", stdin=file).stdout)
    assert piped == redirected == {**expected, "path": "-"}


def test_a_folder_or_list_with_one_file_is_an_array_all_the_same(tag, write_sound, tmp_path):
    listing = tmp_path / "list.txt"
    listing.write_text(f"{write_sound('lib/only.wav')}\n")
    assert len(json.loads(tag(tmp_path / "lib", "--json").stdout)) == 1
    assert len(json.loads(tag("--files-from", listing, "--json").stdout)) == 1


def test_lists_of_files_from_a_file_and_from_standard_input(tag, media, tmp_path):
    names = [media / "bay.wav", media / "lava.opus"]
    listing = tmp_path / "list.txt"
    listing.write_text("".join(f"{name}\n" for name in names))
    by_file = json.loads(tag("--files-from", listing, "--json").stdout)
    assert [record["path"] for record in by_file] == [str(name) for name in names]
    data = b"".join(os.fsencode(name) + b"\0" for name in names)
    assert json.loads(tag("--files-from", "-", "-0", "--json", input=data).stdout) == by_file


def test_taggram_and_embeddings_come_beside_the_tags(tag, demo_clip, broken_file, tmp_path):
    npz, table, vectors = tmp_path / "t.npz", tmp_path / "t.csv", tmp_path / "e.npz"
    bad = broken_file("text.mp3")
    options = ("--hop", "0.5", "--json", "--top", "0")
    process = tag(demo_clip, bad, demo_clip, *options, "--taggram", npz, "--embeddings", vectors, check=1)
    record = json.loads(process.stdout)[0]
    archive = read_npz(npz)
    assert archive["paths"].tolist() == [str(demo_clip)] * 2
    assert archive["tags"].tolist() == list(TINY_TAGS)
    assert archive["model"] == TINY_NAME
    assert archive["taggram_0"].shape == (record["segments"], len(TINY_TAGS))
    np.testing.assert_array_equal(archive["taggram_0"], archive["taggram_1"])
    mean = dict(zip(TINY_TAGS, archive["taggram_0"].mean(axis=0, dtype=np.float64), strict=True))
    assert {item["tag"]: item["score"] for item in record["tags"]} == pytest.approx(mean, abs=1e-6)
    starts = archive["starts_0"]
    np.testing.assert_allclose(np.diff(starts)[:-1], 0.5)
    assert starts[-1] == pytest.approx(record["duration"] - 6561 / 22_050, abs=1e-3)

    matrix = read_npz(vectors)
    assert matrix["embeddings"].shape == (2, 512)
    assert matrix["embeddings"].dtype == np.float32
    assert np.isfinite(matrix["embeddings"]).all()
    assert matrix["sample_rate"] == 22_050

    tag(demo_clip, *options, "--taggram", table)
    rows = list(csv.reader(io.StringIO(table.read_text())))
    assert rows[0] == ["path", "start", *TINY_TAGS]
    np.testing.assert_allclose(np.array([row[2:] for row in rows[1:]], float), archive["taggram_0"], atol=1e-6)
    np.testing.assert_allclose([float(row[1]) for row in rows[1:]], starts, atol=1e-3)


def test_weights_that_are_not_there_are_code_3_and_devices_code_4(tag, samptag, demo_clip):
    process = samptag("tag", demo_clip, "--json", "--model", "no-such-weights", check=3)
    assert (process.stdout, process.stderr.count(b"\n")) == (b"", 1)
    process = tag(demo_clip, "--json", "--device", "cuda:9", check=4)
    assert (process.stdout, process.stderr.count(b"\n")) == (b"", 1)
    assert b"cpu" in process.stderr
    assert b"the hop must be at least one sample" in tag(demo_clip, "--hop", "0", check=2).stderr


def test_progress_goes_to_standard_error_only(tag, media):
    clips = sorted((media / "set").iterdir())[:3]
    quiet = tag(*clips, "--json")
    loud = tag(*clips, "--json", "--progress")
    assert quiet.stderr == b""
    assert loud.stdout == quiet.stdout
    assert "3 of 3 inputs done, 0:18 heard, " in loud.stderr.decode()
    assert loud.stderr.decode().endswith("× real time\n")
