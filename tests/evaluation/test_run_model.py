import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from media_manifest import make_manifest
from sklearn.metrics import average_precision_score, roc_auc_score
from tiny_weights import TINY_NAME, TINY_TAGS, save_tiny_weights

from samptag.audio.decode import open_audio
from samptag.core.protocols import segment_starts
from samptag.core.weights import read_weights
from samptag.data.cache import build_cache
from samptag.data.formats import open_dataset
from samptag.data.formats.mtat import TAGS as MTAT_TAGS
from samptag.errors import DatasetError, UsageError
from samptag.evaluation import Scoring, evaluate, evaluate_scores, truth_of
from samptag.evaluation.perturb import parse_perturbation
from samptag.evaluation.predictions import ScoreTable
from samptag.evaluation.run import default_protocol, default_weights, score_clips
from samptag.pretrained import DEFAULT
from samptag.tagging.tagger import Tagger
from samptag.training.batches import consecutive_segments

QUICK = Scoring(resamples=100)


MEDIA = Path(__file__).parents[1] / "media"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return read_weights(save_tiny_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")).loaded()


@pytest.fixture(scope="module")
def tagger(loaded):
    return Tagger(loaded, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_manifest(tmp_path_factory.mktemp("set"), short=True)


@pytest.fixture(scope="module")
def report(folder, tagger):
    return evaluate(folder, model=tagger, scoring=QUICK)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return make_manifest(tmp_path_factory.mktemp("few"), clips=8, short=True)


def test_scores_are_the_taggers_and_figures_scikit_learns(folder, tagger, report):
    clips = open_dataset(folder).select("test")
    scores = np.array([[item.score for item in tagger.tag(clip.path).scores] for clip in clips], dtype=np.float32)
    assert report.scores.keys == tuple(clip.key for clip in clips)
    assert report.scores.tags == TINY_TAGS
    np.testing.assert_allclose(report.scores.values, scores, atol=1e-6)
    tags = open_dataset(folder).tags
    for measured in report.tags:
        present = np.array([clip.labels[tags.index(measured.tag)] > 0 for clip in clips])
        column = scores[:, TINY_TAGS.index(measured.tag)]
        assert measured.positives == present.sum()
        assert measured.roc_auc == pytest.approx(roc_auc_score(present, column))
        assert measured.pr_auc == pytest.approx(average_precision_score(present, column))
    assert report.macro.roc_auc == pytest.approx(np.mean([measured.roc_auc for measured in report.tags]))


def test_the_report_says_on_what(folder, report):
    dataset = open_dataset(folder)
    record = report.to_dict()
    assert record["split"] == {"name": "manifest", "hash": dataset.split_hash, "part": "test"}
    assert (record["clips"], record["groups"], record["model"]) == (24, 8, TINY_NAME)
    assert [tag["tag"] for tag in record["tags"]] == ["quiet", "strings", "techno"]
    assert record["excluded_tags"] == ["flöte"]
    assert record["missing_tags"] == ["didgeridoo"]
    assert record["failed"] == []
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_the_predictions_score_the_same_as_the_model(folder, report):
    """What --predictions writes can be scored again, without the model, to the same figures."""
    truth = truth_of(open_dataset(folder))
    known = [tag for tag in truth.tags if tag in TINY_TAGS]
    restricted = ScoreTable(
        name="again",
        keys=report.scores.keys,
        tags=(*TINY_TAGS, "didgeridoo"),
        values=np.column_stack([report.scores.values, np.zeros(24)]),
    )
    again = evaluate_scores(restricted, truth=truth, scoring=QUICK)
    by_tag = {tag.tag: tag for tag in again.tags}
    for tag in report.tags:
        assert tag.tag in known
        assert by_tag[tag.tag] == tag


def test_another_split_and_unknown_parts(folder, tagger):
    with pytest.raises(DatasetError, match="no valid clips"):
        evaluate(folder, model=tagger, part="valid", scoring=QUICK)


def test_clips_that_cannot_be_read_are_left_out_and_named(tmp_path, tagger):
    """The hash is that of a training on the same files, and of a split that never listed the broken one."""
    (tmp_path / "not-audio.wav").write_bytes(b"this is not sound at all" * 100)
    listed = open_dataset(make_manifest(tmp_path, clips=6, also=["not-audio.wav"]))
    report = evaluate(listed, model=tagger, scoring=QUICK)
    assert report.clips == 6
    assert [clip.path for clip in report.failed] == ["not-audio.wav"]
    assert "not-audio.wav" in report.failed[0].error
    assert "not-audio.wav" not in report.scores.keys
    trained = build_cache(listed, sample_rate=tagger.sample_rate, directory=tmp_path / "cache")
    whole = open_dataset(make_manifest(tmp_path, clips=6))
    assert report.split_hash == trained.split_hash == whole.split_hash != listed.split_hash
    assert evaluate(whole, model=tagger, scoring=QUICK).split_hash == whole.split_hash


def test_missing_clips_of_the_data_set_are_a_warning(tmp_path, tagger):
    folder = make_manifest(tmp_path, clips=6)
    (folder / "calm-01-honor-bound.opus").unlink()
    report = evaluate(folder, model=tagger, scoring=QUICK)
    assert report.clips == 5
    assert any("calm-01-honor-bound.opus" in warning for warning in report.warnings)


@pytest.mark.parametrize(
    ("tag", "message"),
    [("quiet", r"none of 1 clips can be read.*a\.wav"), ("didgeridoo", "tiny-test knows none of its 1 tags")],
)
def test_nothing_to_score_is_an_error(tmp_path, tagger, tag, message):
    """That no tag is known is found out before any clip is decoded."""
    (tmp_path / "a.wav").write_bytes(b"no sound" * 100)
    (tmp_path / "manifest.csv").write_text(f"path,split,tags\na.wav,test,{tag}\n")
    with pytest.raises(DatasetError, match=message):
        evaluate(tmp_path, model=tagger, scoring=QUICK)


def test_every_perturbation_reaches_the_net(few, tagger):
    """Each moves the scores, and a gain of 0 dB does not."""
    clips = open_dataset(few).select("test")
    clean, failed = score_clips(tagger, clips)
    assert failed == ()
    for text, moved in (
        ("noise:20", True),
        ("gain:-6", True),
        ("mp3:32k", True),
        ("lowpass:4000", True),
        ("gain:0", False),
    ):
        table, _ = score_clips(tagger, clips, perturbation=parse_perturbation(text))
        assert table.keys == clean.keys
        assert (np.abs(table.values - clean.values).max() > 0.001) == moved, text


@pytest.fixture(scope="module")
def preview(tmp_path_factory):
    """One clip as long as MagnaTagATune's, 29.124 s, of real music, and one shorter than a segment."""
    folder = tmp_path_factory.mktemp("preview")
    parts = []
    for path in sorted((MEDIA / "set").glob("*.opus"))[:6]:
        with open_audio(path, sample_rate=22_050) as stream:
            parts += list(stream)
    waveform = np.concatenate(parts)[:642_184]
    assert len(waveform) == 642_184
    soundfile.write(folder / "long.wav", waveform, 22_050, subtype="FLOAT")
    soundfile.write(folder / "short.wav", waveform[:3000], 22_050, subtype="FLOAT")
    (folder / "manifest.csv").write_text("path,split,tags\nlong.wav,test,quiet\nshort.wav,test,techno\n")
    return folder, waveform


@pytest.mark.parametrize("protocol", ["paper", "won"])
def test_a_protocol_scores_the_segments_it_names_and_no_others(preview, tagger, loaded, protocol):
    folder, waveform = preview
    length = loaded.card.config.input_length
    starts = segment_starts(len(waveform), protocol=protocol, length=length, sample_rate=22_050)
    segments = np.stack([waveform[start : start + length] for start in starts])
    short = np.pad(waveform[:3000], (0, length - 3000))[None]
    table, failed = score_clips(tagger, open_dataset(folder).select("test"), protocol=protocol)
    assert (table.keys, table.protocol, failed) == (("long.wav", "short.wav"), protocol, ())
    with torch.no_grad():
        expected = [torch.sigmoid(loaded.model(torch.from_numpy(each))).mean(dim=0) for each in (segments, short)]
    np.testing.assert_allclose(table.values, torch.stack(expected).numpy(), atol=1e-5)
    everything, _ = score_clips(tagger, open_dataset(folder).select("test"))
    assert np.abs(everything.values - table.values)[0].max() > 1e-4


def test_paper_takes_the_segments_that_validation_in_training_takes(preview, tagger, loaded, tmp_path):
    folder, waveform = preview
    config = loaded.card.config
    cache = build_cache(open_dataset(folder), sample_rate=22_050, directory=tmp_path)
    clip = np.flatnonzero(cache.lengths == len(waveform))
    chosen = consecutive_segments(cache, clip, model=config)
    starts = segment_starts(len(waveform), protocol="paper", length=config.input_length, sample_rate=22_050)
    np.testing.assert_array_equal(chosen.starts - cache.starts[clip], starts)
    assert len(starts) == 97


def test_degraded_clips_are_cut_by_the_protocol_too(preview, tagger):
    clips = open_dataset(preview[0]).select("test")[:1]
    quiet = parse_perturbation("gain:0")
    clean, _ = score_clips(tagger, clips, protocol="won")
    again, _ = score_clips(tagger, clips, protocol="won", perturbation=quiet)
    np.testing.assert_allclose(again.values, clean.values, atol=1e-6)


@pytest.mark.parametrize(
    ("format", "model", "protocol"),
    [
        ("mtat", "samplecnn-3-9-mtat50", "paper"),
        ("mtat", "my-own", "paper"),
        ("mtat", "sota-mtat-se", "won"),
        ("jamendo", "sota-jamendo-sample", "won"),
        ("manifest", "sota-mtat-se", "all"),
        ("folders", "samplecnn-3-9-mtat50", "all"),
    ],
)
def test_the_default_protocol_is_that_of_the_published_score(format, model, protocol):
    assert default_protocol(format, model) == protocol


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        (MTAT_TAGS, "samplecnn-3-9-mtat50"),
        (("guitar", "jazz", "hip-hop"), "samplecnn-3-9-library"),
        (("guitar", "techno"), DEFAULT),  # as many in each
        (("didgeridoo",), DEFAULT),
    ],
)
def test_the_default_weights_are_those_that_know_most_of_the_tags(tags, name, monkeypatch, tmp_path):
    assert default_weights(tags) == name
    # A group's own list of weights need not have any of ours.
    (tmp_path / "registry.json").write_text('{"schema": "samptag.registry/1", "tag_lists": {}, "weights": []}')
    monkeypatch.setenv("SAMPTAG_REGISTRY", str(tmp_path / "registry.json"))
    assert default_weights(tags) == DEFAULT


def test_a_data_set_is_scored_by_the_weights_that_know_its_tags(tmp_path):
    (tmp_path / "set.csv").write_text(
        "path,split,tags\n"
        + "".join(
            f"{MEDIA / name},test,{tags}\n"
            for name, tags in (
                ("bay.wav", "no vocals;female voice"),
                ("void-sensor.ogg", "beat;techno"),
            )
        )
    )
    assert evaluate(tmp_path / "set.csv", scoring=QUICK).model == "samplecnn-3-9-mtat50"


def test_every_report_names_its_protocol(few, tagger, loaded, report):
    assert report.protocol == report.to_dict()["protocol"] == "all (hop 0.2976 s, tail overlap)"
    dense = Tagger(loaded, device="cpu", hop_seconds=0.5, tail="drop")
    assert evaluate(few, model=dense, scoring=QUICK).protocol == "all (hop 0.5 s, tail drop)"
    mine = evaluate(few, model=tagger, protocol="won", scoring=QUICK)
    assert (mine.protocol, mine.scores.protocol) == ("won", "won")
    compared = evaluate(few, model=tagger, protocol="paper", against=mine.scores, scoring=QUICK)
    assert any("tiny-test was scored by the protocol won, tiny-test by paper" in text for text in compared.warnings)
    with pytest.raises(UsageError, match="needs a Tagger whose segments touch"):
        evaluate(few, model=dense, protocol="paper", scoring=QUICK)
    with pytest.raises(UsageError, match="leave out --hop and --tail"):
        evaluate(few, model=tagger, protocol="won", hop_seconds=0.5, scoring=QUICK)


def test_perturbations_are_tabulated_against_clean(few, tagger):
    steps = []
    options = {"scoring": QUICK, "progress": lambda *report: steps.append(report)}
    report = evaluate(few, model=tagger, perturbations=["noise:0dB", "gain:0"], **options)
    noisy, unbroken = report.perturbations
    assert (noisy.perturbation, unbroken.perturbation) == ("noise:0dB", "gain:+0dB")
    assert [tag.tag for tag in noisy.tags] == [tag.tag for tag in report.tags]
    assert noisy.pr_auc_loss.value == pytest.approx(report.macro.pr_auc - noisy.macro.pr_auc)
    assert noisy.pr_auc_loss.value != 0
    assert unbroken.macro == report.macro
    assert (unbroken.roc_auc_loss.value, unbroken.roc_auc_loss.ci95) == (0.0, (0.0, 0.0))
    assert steps == [("evaluating", done, 24) for done in range(1, 25)]


def test_degraded_clips_score_as_if_they_were_files(few, tagger, tmp_path):
    """Low-passed on the way to the net is what low-passed in the file is, and not what the clean clip is."""
    perturbation = parse_perturbation("lowpass:250")
    records = [json.loads(line) for line in (few / "manifest.jsonl").read_text().splitlines()]
    for record in records:
        with open_audio(few / record["path"], sample_rate=tagger.sample_rate) as stream:
            blocks = perturbation.apply(stream, sample_rate=tagger.sample_rate, key="any")
            dull = np.concatenate(list(blocks))
        record["path"] = record["path"].replace(".flac", ".wav")
        soundfile.write(tmp_path / record["path"], dull, tagger.sample_rate, subtype="FLOAT")
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    on_the_way = evaluate(few, model=tagger, perturbations=[perturbation], scoring=QUICK)
    in_the_file = evaluate(tmp_path, model=tagger, scoring=QUICK)
    assert on_the_way.perturbations[0].tags == in_the_file.tags
    assert on_the_way.tags != in_the_file.tags


def test_the_seed_decides_the_noise(few, tagger):
    def noisy(seed):
        return evaluate(few, model=tagger, perturbations=["noise:0"], scoring=Scoring(resamples=20, seed=seed))

    first, again, other = (noisy(seed).perturbations[0].macro for seed in (0, 0, 1))
    assert first == again
    assert first.pr_auc != other.pr_auc


@pytest.mark.parametrize("text", ["mp3:33k", "lowpass:11025", "reverb:1"])
def test_impossible_perturbations_are_refused(folder, tagger, text):
    with pytest.raises(UsageError, match="--perturb"):
        evaluate(folder, model=tagger, perturbations=[text], scoring=QUICK)


def test_a_model_against_predictions_on_file(folder, tagger, report):
    shuffled = report.scores.values[::-1]
    other = ScoreTable(name="other.csv", keys=report.scores.keys, tags=report.scores.tags, values=shuffled)
    compared = evaluate(folder, model=tagger, against=other, scoring=QUICK).against
    assert compared.model == "other.csv"
    assert compared.roc_auc.value == pytest.approx(report.macro.roc_auc - compared.macro.roc_auc)
