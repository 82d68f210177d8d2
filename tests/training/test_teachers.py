"""Teaching by other networks: what is heard, kept and learned, and what is refused."""

import json
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import samptag
from samptag.audio.resample import resample
from samptag.core.config import SpectrogramConfig
from samptag.core.model import config_from_name
from samptag.core.spectrogram_model import SpectrogramModel
from samptag.core.weights import ModelCard, read_weights, save_model
from samptag.data.cache import AudioCache, build_cache
from samptag.data.dataset import Dataset
from samptag.data.formats import open_dataset
from samptag.errors import DatasetError, UsageError, WeightsError
from samptag.pretrained import load_weights
from samptag.training import Processes, TrainResult
from samptag.training import teachers as teachers_module
from samptag.training.batches import LARGEST_SHIFT, Taught, consecutive_segments, decode, epoch_segments, mapped_source
from samptag.training.checkpoints import load_checkpoint
from samptag.training.config import TrainConfig
from samptag.training.recipe import DISTIL
from samptag.training.teachers import Teachers, _fitted

TEACHER = "samplecnn-3-9-mtat50"
STUDENT = "frame-mel-729-243"
Train = Callable[..., TrainResult]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory, media: Path) -> Path:
    """A folder with eight clips of 6 s and no labels."""
    folder = tmp_path_factory.mktemp("music")
    for clip in sorted((media / "set").glob("*.opus"))[::3]:
        (folder / clip.name).write_bytes(clip.read_bytes())
    return folder


@pytest.fixture(scope="module")
def music(unlabelled: Path, cache_dir: Path) -> tuple[Dataset, AudioCache]:
    dataset = open_dataset(unlabelled, labelled=False)
    return dataset, build_cache(dataset, sample_rate=22_050, directory=cache_dir)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory, unlabelled: Path, cache_dir: Path) -> tuple[Path, TrainResult]:
    """A short training of the mel system, taught by the bundled weights; `going_on` is a copy to be trained further."""
    out = tmp_path_factory.mktemp("taught") / "out"
    options = {"cache": cache_dir, "device": "cpu", "batch_size": 8, "epochs": 5}
    return out, samptag.train(unlabelled, out=out, teacher=TEACHER, model=STUDENT, **options)


@pytest.fixture
def going_on(taught: tuple[Path, TrainResult], tmp_path: Path) -> tuple[Path, int]:
    """A folder of that training which is the test's own, and the steps it has taken."""
    out, result = taught
    return shutil.copytree(out, tmp_path / "going on"), result.steps


def everything(audio: AudioCache) -> np.ndarray:
    return np.flatnonzero(audio.lengths > 0)


def hear(teachers: Teachers, audio: AudioCache, clips: slice = slice(None), **options: Any) -> Taught:
    usual = {"model": config_from_name(STUDENT), "device": CPU, "processes": Processes()}
    return teachers.teach(audio, everything(audio)[clips], **usual, **options)


def test_a_student_learns_from_music_without_labels(taught: tuple[Path, TrainResult]):
    out, result = taught
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert records[-1]["train_loss"] < 0.6 * records[0]["train_loss"]
    assert result.best is not None
    assert result.best["valid_agreement"] == max(record["valid_agreement"] for record in records)
    assert records[-1]["valid_roc_auc"] is None
    card = read_weights(result.model_path).card
    assert card.tags == load_weights(TEACHER).card.tags
    assert card.training_data.endswith(f"taught by {TEACHER}")
    assert card.metrics["valid_agreement"] == result.best["valid_agreement"]


def test_only_without_teachers_is_a_test_part_missed(small_set: Path, tmp_path: Path, cache_dir: Path):
    lines = [line for line in small_set.read_text().splitlines() if ",test," not in line]
    (tmp_path / "set.csv").write_text("\n".join(lines))
    dataset, config = open_dataset(tmp_path / "set.csv"), TrainConfig(data="set.csv", cache=str(cache_dir))
    for teachers, told in (({}, 1), ({TEACHER: "its digest"}, 0)):
        parts = decode(dataset, config, model=config_from_name(STUDENT), teachers=teachers, progress=None)
        assert parts.cautions.count("test has no clips") == told


def test_the_teacher_says_what_it_says_when_it_tags(music: tuple[Dataset, AudioCache]):
    dataset, audio = music
    said = hear(Teachers([TEACHER]), audio)
    segments = consecutive_segments(audio, everything(audio), model=config_from_name(STUDENT))
    tagger = samptag.Tagger.from_pretrained(TEACHER, device="cpu", tail="drop")
    expected = np.concatenate([tagger.tag(clip.path).taggram for clip in dataset.clips])
    # The audio is kept as int16 and the logits as float16.
    np.testing.assert_allclose(said(segments), expected, atol=5e-3)


def test_a_spectrogram_teacher_hears_its_window_around_the_segment(music: tuple[Dataset, AudioCache], tmp_path: Path):
    """Random weights will do: it matters what is heard, and when."""
    _, audio = music
    torch.manual_seed(0)
    for architecture in ("musicnn", "won-fcn"):
        model = SpectrogramModel(SpectrogramConfig(architecture=architecture, n_tags=3)).eval()
        card = ModelCard(
            name=f"{architecture}-x", config=model.config, tags=("a", "b", "c"), licence="none", training_data="none"
        )
        file = tmp_path / f"{architecture}.safetensors"
        save_model(file, model, card=card)
        said = hear(Teachers([str(file)]), audio, slice(2))
        first = audio.clip(int(everything(audio)[0])) / np.float32(32_768)
        at_16k = resample(first.astype(np.float32), 22_050, 16_000)
        if architecture == "won-fcn":  # 29 s of a clip of 6 s repeated, the same for both segments
            window = np.resize(at_16k, 464_000)
            assert np.array_equal(said.scores[0], said.scores[1])
        else:
            start = round(0.5 * 59_049 * 16_000 / 22_050 - 48_128 / 2)
            assert start < 0
            window = at_16k[:48_128]
        with torch.no_grad():
            expected = torch.sigmoid(model(torch.from_numpy(window)[None]))[0].numpy()
        np.testing.assert_allclose(said.scores[0], expected, atol=2e-3)


def test_live_teachers_hear_a_segment_as_the_student_does(music: tuple[Dataset, AudioCache]):
    _, audio = music
    config = config_from_name(STUDENT)
    segments = consecutive_segments(audio, everything(audio), model=config)
    waveforms = mapped_source(audio, device=CPU)(segments)
    said = hear(Teachers([TEACHER]), audio)(segments)
    live = Teachers([TEACHER]).live(model=config, device=CPU)
    np.testing.assert_allclose(live(waveforms).numpy(), said, atol=2e-3)  # kept as float16
    assert live(waveforms[:1] * -0.25).sub(torch.from_numpy(said[:1])).abs().max() > 1e-2


def test_live_teachers_of_another_rate_and_length_hear_it_resampled_and_repeated(
    music: tuple[Dataset, AudioCache], tmp_path: Path
):
    _, audio = music
    student = config_from_name(STUDENT)
    waveform = mapped_source(audio, device=CPU)(consecutive_segments(audio, everything(audio), model=student).take([0]))
    heard = {}
    for architecture, length in (("musicnn", 48_128), ("won-fcn", 464_000)):
        config = SpectrogramConfig(architecture=architecture, n_tags=3)
        assert config.input_length == length
        heard[architecture] = _fitted(waveform, student=student, teacher=config)[0]
        assert heard[architecture].shape == (length,)
    segment = round(59_049 * 16_000 / 22_050)
    expected = resample(waveform[0].numpy(), 22_050, 16_000)
    middle = slice(1000, segment - 1000)
    assert np.corrcoef(heard["musicnn"][middle], expected[middle])[0, 1] > 0.999
    assert torch.equal(heard["musicnn"][segment:], heard["musicnn"][: 48_128 - segment])
    assert torch.equal(heard["won-fcn"][10 * segment :], heard["won-fcn"][: 464_000 - 10 * segment])
    nearer = replace(student, m=3, n=4)  # a teacher of a third of the length hears the middle
    third = _fitted(waveform, student=student, teacher=nearer)[0]
    assert torch.equal(third, waveform[0, 19_683 : 2 * 19_683])


def test_with_live_teachers_only_what_chooses_the_epoch_is_heard_in_advance(
    unlabelled: Path, tmp_path: Path, train: Train
):
    train = partial(train, cache=tmp_path / "cache")
    result = train(unlabelled, teacher=TEACHER, live_teachers=True, model=STUDENT, batch_size=4, epochs=3)
    (kept,) = (tmp_path / "cache").glob("**/*-59049-*.npy")
    assert kept.is_file()
    records = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert records[-1]["train_loss"] < 0.7 * records[0]["train_loss"]
    assert train(resume=True, max_steps=result.steps + 1).steps == result.steps + 1
    with pytest.raises(WeightsError, match="its --live-teachers is True, not False"):
        train(resume=True, live_teachers=False, max_steps=99)


def test_a_checkpoint_from_before_a_setting_goes_on_with_its_default(going_on: tuple[Path, int]):
    out, steps = going_on
    state = torch.load(out / "last.pt", weights_only=True)
    for setting in (state["config"].pop("live_teachers"), state["config"]["recipe"].pop("segments_per_example")):
        assert setting in (False, 1)
    torch.save(state, out / "last.pt")
    assert samptag.train(out=out, resume=True, device="cpu", max_steps=steps + 1).steps == steps + 1


def test_what_was_said_is_kept_and_only_what_is_missing_is_heard_again(music: tuple[Dataset, AudioCache]):
    _, audio = music
    teachers = Teachers([TEACHER])
    before = hear(teachers, audio)
    kept = sorted(audio.folder.glob("*.npy"))
    stamps = {file: file.stat().st_mtime_ns for file in kept}
    kept[0].unlink()
    heard: list[tuple[str, int, int | None]] = []
    after = hear(teachers, audio, progress=lambda *report: heard.append(report))
    assert heard == [("running the teachers", len(everything(audio)), len(everything(audio)))]
    assert np.array_equal(before.scores, after.scores)
    assert {f: f.stat().st_mtime_ns for f in kept[1:]} == {f: stamps[f] for f in kept[1:]}


def test_a_clip_is_resampled_once_for_all_teachers(unlabelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    audio = build_cache(open_dataset(unlabelled, labelled=False), sample_rate=22_050, directory=tmp_path)
    resampled = []

    def resample(waveform: np.ndarray, *rates: int) -> np.ndarray:
        resampled.append((waveform.tobytes(), rates))
        return waveform

    def listener(weights: object, student: object, device: object):
        return lambda waveform, starts: np.zeros((len(starts), 1), np.float32)

    monkeypatch.setattr(teachers_module, "available_cores", lambda: 1)
    monkeypatch.setattr(teachers_module, "resample", resample)
    monkeypatch.setattr(teachers_module, "_scorer", listener)
    monkeypatch.setattr(Teachers, "_merged", lambda teachers, clip: np.zeros((len(clip[0].starts), 1), np.float32))
    hear(Teachers([TEACHER, "mel"]), audio)
    assert len(resampled) == len(set(resampled)) == len(everything(audio)) > 1


def test_an_interruption_waits_for_the_teacher_that_hears_and_for_no_further_one(
    unlabelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    audio = build_cache(open_dataset(unlabelled, labelled=False), sample_rate=22_050, directory=tmp_path)
    begun, ending, heard = threading.Event(), threading.Event(), []

    class Pool(ThreadPoolExecutor):
        def shutdown(self, *arguments: Any, **options: Any) -> None:
            ending.set()
            super().shutdown(*arguments, **options)

    def hears(at: object, starts: np.ndarray) -> np.ndarray:
        heard.append(at)
        if len(heard) == 3:  # the second clip, by the first of two teachers
            begun.set()
            assert ending.wait(300)
        return np.zeros((len(starts), 1), np.float32)

    def interrupt(what: str, done: int, total: int | None) -> None:
        assert begun.wait(300)
        raise KeyboardInterrupt

    monkeypatch.setattr(teachers_module, "available_cores", lambda: 1)
    monkeypatch.setattr(teachers_module, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(teachers_module, "_scorer", lambda weights, student, device: hears)
    with pytest.raises(KeyboardInterrupt):
        hear(Teachers([TEACHER, "mel"]), audio, progress=interrupt)
    assert len(heard) == 3


def test_a_vocabulary_gives_the_words_and_their_categories(tmp_path: Path, unlabelled: Path, train: Train):
    table = tmp_path / "words.csv"
    table.write_text(
        f"word,category,sources\ncalm,mood,mtat50:slow; mtat50:soft\nguitar,instrument,{TEACHER}:guitar\n",
        encoding="utf-8",
    )
    result = train(unlabelled, teacher=TEACHER, vocabulary=table, model=STUDENT, max_steps=2)
    card = read_weights(result.model_path).card
    assert (card.tags, card.tag_categories) == (("calm", "guitar"), ("mood", "instrument"))


def test_a_training_goes_on_with_the_same_teachers_and_words_alone(going_on: tuple[Path, int], tmp_path: Path):
    out, steps = going_on
    go_on = {"out": out, "resume": True, "device": "cpu"}
    assert samptag.train(max_steps=steps + 1, **go_on).steps == steps + 1
    weights = load_weights(TEACHER)
    tensors = {name: weights.tensors[name] * (2 if name == "head.bias" else 1) for name in weights.tensors}
    other = tmp_path / "other.safetensors"
    save_model(other, tensors, card=replace(weights.card, name="other"))
    with pytest.raises(WeightsError, match=r"its list of teachers is .*, not .*leave that option out"):
        samptag.train(teacher=str(other), max_steps=99, **go_on)
    renamed = tmp_path / "renamed.safetensors"
    save_model(renamed, dict(weights.tensors), card=replace(weights.card, name="renamed"))
    assert samptag.train(teacher=str(renamed), max_steps=steps + 2, **go_on).steps == steps + 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocabulary": "words.csv"}, "give --teacher too"),
        ({"live_teachers": True}, "give --teacher too"),
        (
            {"teacher": TEACHER, "live_teachers": True, "init_from": TEACHER, "freeze_encoder": True},
            "leave out --live-teachers",
        ),
        ({"teacher": TEACHER, "pos_weight": 2}, "with --teacher there are none"),
        ({"teacher": f"{TEACHER},,x"}, "a name between the commas is empty"),
        ({"teacher": f"{TEACHER},{TEACHER}"}, "a teacher is named twice"),
        ({"freeze_modules": 2}, "give them with --init-from"),
        ({"freeze_modules": 2, "init_from": TEACHER, "freeze_encoder": True}, "leave out --freeze-modules"),
        ({"teacher": TEACHER, "freeze_modules": 10, "init_from": TEACHER}, "has 9 modules"),
    ],
)
def test_what_makes_no_sense_is_refused(unlabelled: Path, train: Train, options: dict, message: str):
    with pytest.raises(UsageError, match=message):
        train(unlabelled, **options)


def test_two_teachers_of_one_name_are_refused(tmp_path: Path, unlabelled: Path, train: Train):
    weights = load_weights(TEACHER)
    tensors = {name: tensor * (2 if name == "head.bias" else 1) for name, tensor in weights.tensors.items()}
    save_model(tmp_path / "other.safetensors", tensors, card=weights.card)
    teachers = f"{TEACHER},{tmp_path / 'other.safetensors'}"
    with pytest.raises(UsageError, match="two of these have the same name"):
        train(unlabelled, teacher=teachers)


def test_music_without_labels_needs_a_teacher(unlabelled: Path, train: Train):
    with pytest.raises(DatasetError, match="no data set recognised"):
        train(unlabelled)
    with pytest.raises(DatasetError, match=r"no tags: .* samptag train --teacher"):
        train(unlabelled, format="music")


def test_albums_stay_on_one_side(tmp_path: Path, media: Path):
    clip = media / "set" / "calm-01-honor-bound.opus"
    for album in range(24):
        (tmp_path / f"album {album}").mkdir()
        for song in range(2):
            (tmp_path / f"album {album}" / f"{song}.opus").symlink_to(clip)
    dataset = open_dataset(tmp_path, labelled=False)
    sides = {clip.group: set() for clip in dataset.clips}
    for each in dataset.clips:
        sides[each.group].add(each.part)
    assert len(sides) == 24
    assert all(len(side) == 1 for side in sides.values())
    assert 0 < dataset.counts()["valid"] < dataset.counts()["train"]


def test_shifted_segments_stay_in_their_clip_and_near_what_was_heard(music: tuple[Dataset, AudioCache]):
    _, audio = music
    clips, model = everything(audio), config_from_name(STUDENT)
    still = consecutive_segments(audio, clips, model=model)
    order = {(int(c), int(s)) for c, s in zip(still.clips, still.starts, strict=True)}
    moved = epoch_segments(audio, clips, model=model, recipe=DISTIL, seed=0, epoch=3)
    assert len(moved) == len(still)
    shifts = []
    for clip, start in zip(moved.clips.tolist(), moved.starts.tolist(), strict=True):
        first, length = int(audio.starts[clips][clip]), int(audio.lengths[clips][clip])
        assert first <= start <= first + length - model.input_length
        nearest = min((place for c, place in order if c == clip), key=lambda place: abs(place - start))
        shifts.append(abs(start - nearest))
    assert 0 < max(shifts) <= LARGEST_SHIFT * model.input_length


def test_frozen_modules_stay_as_they_are_and_the_others_learn(small_set: Path, train: Train):
    result = train(small_set, init_from=TEACHER, freeze_modules=8, max_steps=1, batch_size=4)
    before = load_weights(TEACHER).to_module().state_dict()
    after = load_checkpoint(result.out / "last.pt")["stepper"]["model"]
    kept = ("front.", *(f"body.{i}." for i in range(8)))
    for name, tensor in after.items():
        if name.startswith(kept):
            assert torch.equal(tensor, before[name]), name
    assert not torch.equal(after["body.8.conv.weight"], before["body.8.conv.weight"])
    assert not torch.equal(after["body.8.bn.running_mean"], before["body.8.bn.running_mean"])
