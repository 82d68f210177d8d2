"""`samptag.train` in this process: what it tells, what it refuses, what a larger budget does."""

import copy
import json
import logging
import math
import resource
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import samptag
from samptag.cli.train import display
from samptag.core.model import ModelConfig, SampleCNN, config_from_name
from samptag.core.weights import read_weights, save_model
from samptag.data.cache import AudioCache
from samptag.data.dataset import Dataset
from samptag.errors import DatasetError, OutputError, SamptagError, UsageError, WeightsError
from samptag.training import EpochDone, Event, Prepared, Processes, StepDone, TrainResult, batches, log, trainer
from samptag.training.checkpoints import load_checkpoint
from samptag.training.config import TrainConfig
from samptag.training.log import TrainingLog
from samptag.training.optimise import balanced_weights
from samptag.training.recipe import PAPER, TUNE
from samptag.training.run import initialise
from samptag.training.trainer import Validation

SMALL = "samplecnn-3-4-27"
Train = Callable[..., TrainResult]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, small_set: Path, cache_dir: Path) -> tuple[Path, list[Event]]:
    """The folder of a training of two steps, and what it told; nobody writes to it."""
    events: list[Event] = []
    out = tmp_path_factory.mktemp("trained") / "out"
    before = torch.get_rng_state()
    samptag.train(small_set, out=out, cache=cache_dir, device="cpu", model=SMALL, max_steps=2, callback=events.append)
    assert torch.equal(torch.get_rng_state(), before)
    return out, events


@pytest.fixture
def train(train: Train) -> Train:
    """As `train` of all trainings, of one step of a small network unless the options say otherwise."""
    return partial(train, model=SMALL, max_steps=1)


def test_it_says_what_it_trains_on_before_the_first_step(trained: tuple[Path, list[Event]]):
    _, events = trained
    prepared = events[0]
    assert isinstance(prepared, Prepared)
    parts = prepared.parts
    assert parts.dataset.tags == ("calm", "driving")
    assert parts.train_labels.sum(axis=0).tolist() == [7, 7]
    assert parts.valid_labels.sum(axis=0).tolist() == [3, 3]
    assert (len(parts.train), len(parts.valid), prepared.segments_per_epoch) == (14, 6, 140)
    assert prepared.config.model == parts.model
    assert parts.left_out == 0
    assert parts.cautions == ("only 6 validation clips: which epoch is best, and its figures, mean little",)
    assert prepared.fast_path
    assert isinstance(events[-1], EpochDone)
    assert all(isinstance(event, StepDone | EpochDone) for event in events[1:])


def test_what_it_leaves_behind(trained: tuple[Path, list[Event]]):
    out, events = trained
    record = json.loads((out / "metrics.jsonl").read_text())
    assert record["epoch"] == 1
    assert record["steps"] == 2
    assert isinstance(events[-1], EpochDone)
    assert record["valid_loss"] == events[-1].record["valid_loss"]
    card = read_weights(out / "model.safetensors").card
    assert card.tags == ("calm", "driving")
    assert card.split == "manifest"
    assert card.split_hash == load_checkpoint(out / "last.pt")["facts"]["split_hash"]
    assert card.metrics["valid_roc_auc"] == record["valid_roc_auc"]
    exported = read_weights(out / "model.safetensors").loaded().model.state_dict()
    average = load_checkpoint(out / "best.pt")["stepper"]["average"]
    assert all(torch.equal(exported[name], average[name]) for name in exported)


def test_the_losses_are_means_over_segments_and_tags(
    trained: tuple[Path, list[Event]], tmp_path: Path, small_set: Path, cache_dir: Path
):
    """A head of zeros says 0.5 of everything, which costs log 2 whatever the label is."""
    weights = read_weights(trained[0] / "model.safetensors")
    model = weights.loaded().model
    for parameter in model.head.parameters():
        torch.nn.init.zeros_(parameter)
    save_model(tmp_path / "zeros.safetensors", model, card=weights.card)
    options = {"cache": cache_dir, "device": "cpu", "max_steps": 1, "learning_rate": 1e-9}
    result = samptag.train(small_set, out=tmp_path / "out", init_from=str(tmp_path / "zeros.safetensors"), **options)
    assert result.best is not None
    assert result.best["train_loss"] == pytest.approx(math.log(2))
    assert result.best["valid_loss"] == pytest.approx(math.log(2))


def test_tensorboard_gets_its_events_where_it_is_installed(trained: tuple[Path, list[Event]]):
    pytest.importorskip("tensorboard")
    (events,) = (trained[0] / "tensorboard").iterdir()
    content = events.read_bytes()
    assert all(name in content for name in (b"train_loss", b"valid_roc_auc", b"learning_rate"))


def test_curves_are_drawn_of_what_there_is_where_matplotlib_is_installed(
    trained: tuple[Path, list[Event]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _, events = trained
    assert isinstance(events[-1], EpochDone)
    record = events[-1].record
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    monkeypatch.setattr(log, "find_spec", find_spec)
    unranked = {**record, "valid_roc_auc": math.nan, "valid_pr_auc": math.nan}
    for name, last in (("ranked", record), ("unranked", unranked)):
        (tmp_path / name).mkdir()
        training_log = TrainingLog(tmp_path / name, records=[record])
        training_log.add({**last, "epoch": 2})
        training_log.close()
        assert (tmp_path / name / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_it_says_what_is_wrong_with_the_data(tmp_path: Path, small_set: Path, train: Train):
    lines = small_set.read_text().replace(",test,", ",unused,").splitlines()
    (tmp_path / "broken.mp3").write_bytes(b"no music")
    (tmp_path / "empty.mp3").write_bytes(b"")
    rows = [f"{tmp_path / name},train,calm" for name in ("broken.mp3", "empty.mp3", "gone.mp3")]
    (tmp_path / "set.csv").write_text("\n".join([*lines, *rows]))
    events: list[Event] = []
    train(tmp_path / "set.csv", callback=events.append)
    prepared = events[0]
    assert isinstance(prepared, Prepared)
    assert prepared.parts.left_out == 3
    assert prepared.parts.cautions[:2] == ("4 rows with split 'unused' are set aside", "test has no clips")
    report = json.loads(prepared.parts.cache.report_path.read_text())
    told = [item["path"] for item in (*report["left_out"], *report["problems"])]
    assert {str(tmp_path / name) for name in ("empty.mp3", "gone.mp3")} <= set(told)
    assert any(path.endswith("broken.mp3") for path in told)


def test_clips_that_zeros_fill_up_are_counted_and_named(
    tmp_path: Path, small_set: Path, train: Train, media: Path, capsys: pytest.CaptureFixture[str]
):
    """Of 0.05 s, half a segment of this network: one to train with, one to validate with."""
    samples, rate = soundfile.read(media / "eastern-dreams.mp3")
    lines = small_set.read_text().splitlines()
    for number, split in enumerate(("train", "valid")):
        soundfile.write(tmp_path / f"{split}.wav", samples[number * rate :][: rate // 20], rate)
        lines.append(f"{tmp_path / split}.wav,{split},calm")
    (tmp_path / "set.csv").write_text("\n".join(lines))
    events: list[Event] = []
    train(tmp_path / "set.csv", callback=events.append)
    prepared = events[0]
    assert isinstance(prepared, Prepared)
    parts = prepared.parts
    assert (parts.short_clips, parts.left_out, len(parts.train), len(parts.valid)) == (1, 0, 15, 7)
    padded = json.loads(prepared.parts.cache.report_path.read_text())["padded"]
    assert {item["split"]: item["seconds"] for item in padded} == {"train": 0.05, "valid": 0.05}
    assert [Path(item["path"]).name for item in padded] == ["train.wav", "valid.wav"]
    assert padded[0]["message"] == "0.050 s, padded with zeros to a segment of 0.099 s"
    with display(False) as (show, _):
        show(prepared)
    told = " ".join(capsys.readouterr().err.split())
    path = parts.cache.report_path
    assert f"1 training clip had to be filled up with zeros to a segment's length; {path} says which" in told


def test_what_was_asked_for_outlives_an_interruption_and_a_change_of_folder(
    tmp_path: Path, small_set: Path, monkeypatch: pytest.MonkeyPatch
):
    lines = small_set.read_text().splitlines()
    (tmp_path / "set.csv").write_text("\n".join([lines[0], *lines[6:9], *lines[18:21]]))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("SAMPTAG_CACHE", str(tmp_path / "usual"))
    monkeypatch.chdir(tmp_path)
    samptag.train(
        "set.csv", out="out", cache="cache", device="cpu", model=SMALL, max_steps=1, name="moods", licence="CC0-1.0"
    )
    card = read_weights(Path("out/model.safetensors")).card
    assert (card.name, card.licence) == ("moods", "CC0-1.0")
    monkeypatch.chdir(tmp_path / "elsewhere")
    samptag.train(out="../out", resume=True, device="cpu", max_steps=2)
    config = load_checkpoint(tmp_path / "out" / "last.pt")["config"]
    assert (config["name"], config["licence"]) == ("moods", "CC0-1.0")
    assert (config["data"], config["cache"]) == (str(tmp_path / "set.csv"), str(tmp_path / "cache"))
    assert not list((tmp_path / "usual").rglob("*.i16"))


def test_a_full_disk_ends_it_with_one_line_and_nothing_is_lost(tmp_path: Path, small_set: Path, train: Train):
    """The kernel refuses to let a file grow beyond 100 kB, as a full disk refuses any."""
    train(small_set, max_steps=2)
    before = (tmp_path / "out" / "last.pt").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*out.*: File too large"):
            train(resume=True, max_steps=4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "out" / "last.pt").read_bytes() == before
    assert not list((tmp_path / "out").glob(".*.tmp"))
    assert train(resume=True, max_steps=4).steps == 4


def test_a_folder_in_use_is_not_overwritten(trained: tuple[Path, list[Event]], small_set: Path, cache_dir: Path):
    with pytest.raises(UsageError, match="already holds a training: continue it with --resume"):
        samptag.train(small_set, out=trained[0], cache=cache_dir)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "samplecnn-3-5-9"}, "its model is samplecnn-3-4-27 at 22050 Hz with 2 tags, not samplecnn-3-5-9"),
        ({"seed": 3}, "its --seed is 0, not 3"),
        ({"recipe": "paper"}, r"its recipe is modern \(batch size 32, .*, not paper \(batch size 23"),
        ({"batch_size": 8}, "batch size 32.* not modern .batch size 8"),
        ({"pos_weight": 2.0}, "its --pos-weight is None, not 2.0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_checkpoint_of_another_training_is_refused(
    options: dict[str, object], words: str, trained: tuple[Path, list[Event]], cache_dir: Path
):
    with pytest.raises(WeightsError, match=words):
        samptag.train(out=trained[0], resume=True, cache=cache_dir, device="cpu", **options)


def test_a_checkpoint_of_other_clips_or_tags_is_refused(
    trained: tuple[Path, list[Event]], small_set: Path, tmp_path: Path, cache_dir: Path
):
    text = small_set.read_text()
    (tmp_path / "tags.csv").write_text(text.replace(",driving", ",lively"))
    with pytest.raises(WeightsError, match="its list of tags is calm, driving, not calm, lively"):
        samptag.train(tmp_path / "tags.csv", out=trained[0], resume=True, cache=cache_dir, device="cpu")
    (tmp_path / "clips.csv").write_text(text.replace("train,calm", "valid,calm", 1))
    with pytest.raises(WeightsError, match="its list of clips is"):
        samptag.train(tmp_path / "clips.csv", out=trained[0], resume=True, cache=cache_dir, device="cpu")


def test_a_larger_budget_reopens_a_finished_training(small_set: Path, train: Train):
    first = train(small_set, max_steps=2)
    assert (first.epochs, first.steps) == (1, 2)
    same = train(resume=True, max_steps=None)
    assert (same.epochs, same.steps) == (1, 2)
    more = train(resume=True, max_steps=5)
    assert (more.epochs, more.steps, more.stopped_by) == (2, 5, 0)


def test_minutes_are_those_of_all_its_runs(tmp_path: Path, small_set: Path, cache_dir: Path):
    options = {"out": tmp_path / "out", "cache": cache_dir, "device": "cpu", "max_minutes": 0.001}
    first = samptag.train(small_set, model=SMALL, **options)
    same = samptag.train(resume=True, **options)
    assert (same.epochs, same.steps) == (first.epochs, first.steps)


def test_killed_in_its_last_validation_it_validates_when_resumed(
    small_set: Path, train: Train, monkeypatch: pytest.MonkeyPatch
):
    def end(*given: object, **more: object) -> Validation:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "SAVE_BEFORE_VALIDATION_SECONDS", -1.0)
        patch.setattr(trainer.Trainer, "_validate", end)
        with pytest.raises(MemoryError):
            train(small_set, max_steps=2)
    result = train(resume=True, max_steps=None)
    assert (result.epochs, result.steps) == (1, 2)
    assert result.model_path.exists()


def test_paper_stages_start_from_the_best_weights_with_a_fresh_optimiser(
    tmp_path: Path, small_set: Path, train: Train, monkeypatch: pytest.MonkeyPatch
):
    """The validation losses are given, so that a stage ends on any machine: four epochs after its best."""
    losses = iter([1.0, 2.0, 2.0, 2.0, 2.0, 2.0])
    monkeypatch.setattr(trainer.Trainer, "_validate", lambda _: Validation(next(losses), 0.5, 0.5, math.nan))
    out = tmp_path / "out"
    stages: list[int] = []
    reloaded = []

    def look(event: Event) -> None:
        if not isinstance(event, EpochDone):
            return
        state = load_checkpoint(out / "last.pt")
        stages.append(state["stepper"]["schedule"]["stage"])
        if len(stages) > 1 and stages[-1] > stages[-2]:
            best, now = state["best"]["weights"], state["stepper"]["model"]
            reloaded.append(all(torch.equal(best[name], now[name]) for name in now))
            assert state["stepper"]["optimiser"]["state"] == {}
            assert state["stepper"]["schedule"]["iteration"] == 0
            assert (state["best"]["record"]["epoch"], state["position"]["epoch"]) == (1, 5)

    lines = small_set.read_text().splitlines()
    (tmp_path / "set.csv").write_text("\n".join([lines[0], *lines[6:9], *lines[18:21]]))
    model = ModelConfig(m=3, n=3, first_filter=81, first_stride=81)
    train(tmp_path / "set.csv", recipe="paper", model=model, max_steps=None, epochs=6, callback=look)
    assert stages == [0, 0, 0, 0, 1, 1]
    assert reloaded == [True]


def test_a_recipe_decides_what_a_new_model_is(tmp_path: Path, small_set: Path, train: Train):
    for recipe, epsilon, name in (("paper", 1e-5, "samplecnn-2-6-128-oddfront"), ("kim", 1e-3, "samplecnn-2-6-128")):
        options = {"out": tmp_path / recipe, "model": "samplecnn-2-6-128"}
        config = read_weights(train(small_set, recipe=recipe, **options).model_path).card.config
        assert (config.name, config.bn_epsilon, config.dropout) == (name, epsilon, 0.5)
        assert train(resume=True, max_steps=2, **options).steps == 2
    # weights to start from stay what they are, whatever the recipe
    start = tmp_path / "kim" / "model.safetensors"
    tuned = train(small_set, out=tmp_path / "tuned", recipe="paper", model=None, init_from=str(start))
    assert read_weights(tuned.model_path).card.config == read_weights(start).card.config


def test_the_segments_of_an_example_learn_its_labels_together(small_config: ModelConfig):
    """What one batch of three examples does to the weights, from PyTorch's modules and the definition of the loss."""
    recipe = replace(PAPER, segments_per_example=4, batch_size=12, learning_rates=(0.1,))
    options = TrainConfig(data="-", model=small_config, recipe=recipe)
    waveforms = torch.randn(12, small_config.input_length, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    torch.manual_seed(0)
    model = SampleCNN(small_config)
    plain = copy.deepcopy(model).train()
    loss = torch.nn.BCEWithLogitsLoss(reduction="sum")
    stepper = trainer.Stepper(model, options, device=torch.device("cpu"), processes=Processes(), objective=loss)
    stepper.prepare()
    summed = stepper.step(waveforms, labels, batch_size=3, spent=0.0, number=1, rng=np.random.default_rng(0))
    pooled = plain(waveforms).view(3, 4, 2).mean(dim=1)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(pooled, labels)
    loss.backward()
    assert summed.item() / 6 == pytest.approx(loss.item(), rel=1e-5)
    for name, before in plain.named_parameters():
        if not name.endswith("conv.bias"):  # the fused layers know that batch norm takes it out again
            after = dict(model.named_parameters())[name]
            # the first step of Nesterov's momentum of 0.9 goes 1.9 times as far
            apart = (before - after - 0.19 * before.grad).norm() / before.grad.norm()
            assert apart.item() < 5e-3, name  # where two frames of a pool are all but equal, either may be taken


def test_convolutions_are_drawn_as_the_recipes_sources_draw_them():
    def drawn(name: str, how: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = SampleCNN(config_from_name(name))
        initialise(model, how)
        return {key: tensor for key, tensor in model.state_dict().items() if tensor.ndim == 3}

    lee = drawn("samplecnn-3-9", "keras-1.1.0")
    for key, largest in {"body.1.conv": 0.01914, "top.conv": 0.00478, "front.conv": 0.2165}.items():
        assert float(lee[f"{key}.weight"].abs().max()) == pytest.approx(largest, rel=0.01), key
    plain, kim = (drawn("samplecnn-3-9-rese", how) for how in ("he_uniform", "resemul"))
    changed = {key for key in plain if not torch.equal(plain[key], kim[key])}
    assert {"body.2.shortcut.conv.weight", "body.8.shortcut.conv.weight", "top.conv.weight"} <= changed
    shortcut = kim["body.2.shortcut.conv.weight"]
    assert float(shortcut.abs().max()) == pytest.approx(math.sqrt(6 / (128 + 256)), rel=0.01)
    main = kim["body.2.conv1.weight"]
    assert float(main.abs().max()) == pytest.approx(math.sqrt(6 / (128 * 3)), rel=0.01)


def test_soft_labels_count_in_validation_as_they_do_in_eval(tmp_path: Path, small_set: Path, train: Train):
    """Both tags at 0.4: nothing is above a half, and still there is a ranking."""
    path = tmp_path / "set.csv"
    rows = [line.rsplit(",", 1) for line in small_set.read_text().splitlines()[1:]]
    path.write_text(
        "\n".join(["path,split,calm,driving", *(f"{row},{'.4,0' if tag == 'calm' else '0,.4'}" for row, tag in rows)])
    )
    result = train(path)
    assert result.best is not None
    assert 0 <= result.best["valid_roc_auc"] <= 1


def test_tuning_keeps_what_the_weights_know(
    tmp_path: Path, small_set: Path, train: Train, trained: tuple[Path, list[Event]]
):
    start = trained[0] / "model.safetensors"
    options = {"model": None, "init_from": str(start), "max_steps": 3, "batch_size": 16}
    learned = {}
    for recipe in ("tune", "modern"):
        out = tmp_path / recipe
        train(small_set, out=out, recipe=None if recipe == "tune" else recipe, **options)
        learned[recipe] = load_checkpoint(out / "last.pt")["stepper"]
    before = read_weights(start).loaded().model.state_dict()

    def moved(recipe: str, name: str) -> float:
        return float((learned[recipe]["model"][name] - before[name]).norm() / before[name].norm())

    for name in ("front.bn.running_var", "body.3.bn.running_var", "body.1.conv.weight"):
        assert 0 < moved("tune", name) < 0.3 * moved("modern", name), name
    rates = {group["rate_share"]: group["lr"] for group in learned["tune"]["optimiser"]["param_groups"]}
    assert rates[TUNE.encoder_rate] == pytest.approx(TUNE.encoder_rate * rates[1.0])


def test_a_classifier_is_trained_on_embeddings_that_are_computed_once(
    tmp_path: Path, small_set: Path, train: Train, trained: tuple[Path, list[Event]], monkeypatch: pytest.MonkeyPatch
):
    start = trained[0] / "model.safetensors"
    scored = []

    class Counting(batches.Predictor):
        def __call__(self, segments):
            scored.append(len(segments))
            return super().__call__(segments)

    monkeypatch.setattr(batches, "Predictor", Counting)
    options = {"model": None, "init_from": str(start), "freeze_encoder": True}
    result = train(small_set, max_steps=None, epochs=4, **options)
    assert sum(scored) == 140 + 60
    assert (result.epochs, result.steps) == (4, 16)
    before, after = (read_weights(path).loaded().model.state_dict() for path in (start, result.model_path))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}
    train(small_set, out=tmp_path / "again", max_steps=8, **options)
    assert train(out=tmp_path / "again", resume=True, model=None, max_steps=16).steps == 16


def test_embeddings_are_the_models_whatever_the_order(audio: AudioCache, dataset: Dataset, small_config: ModelConfig):
    clips = np.array([i for i, clip in enumerate(dataset.clips) if clip.part == "train"])
    segments = batches.consecutive_segments(audio, clips, model=small_config)
    segments = segments.take(np.random.default_rng(0).permutation(len(segments))[:50])
    torch.manual_seed(0)
    model = SampleCNN(small_config).eval()
    load = batches.mapped_source(audio, device=torch.device("cpu"))
    embedded = batches.embedded_source(segments, load, model=model, device=torch.device("cpu"), processes=Processes())
    asked = segments.take(np.array([7, 3, 41]))
    with torch.no_grad():
        torch.testing.assert_close(embedded(asked), model.embed(load(asked)), rtol=1e-4, atol=1e-5)


def test_what_was_said_of_a_short_clip_is_not_given_to_the_next_one():
    starts = np.array([0, 10_000, 69_049, 128_098, 210_000, 230_000, 245_000])  # clips of 10 000 and 15 000 among them
    heard = batches.Taught(scores=np.arange(7, dtype=np.float32)[:, None], starts=starts)
    shifted = starts + np.array([0, 3690, -3690, 3690, 0, 0, 3690])
    for asked in (starts, shifted):
        segments = batches.Segments(np.zeros(7, int), asked, np.full(7, 59_049), 59_049)
        assert heard(segments)[:, 0].tolist() == list(range(7))


def test_tags_nobody_carries(tmp_path: Path, small_set: Path, train: Train, caplog: pytest.LogCaptureFixture):
    text = small_set.read_text()
    lines = text.splitlines()
    path = tmp_path / "set.csv"
    path.write_text("\n".join([lines[0], *[line + ";rare" if ",test," in line else line for line in lines[1:]]]))
    with caplog.at_level(logging.WARNING, "samptag"):
        result = train(path)
    assert "no training clip has rare" in caplog.text
    assert result.best is not None
    assert 0 <= result.best["valid_roc_auc"] <= 1


def test_no_validation_clips(tmp_path: Path, small_set: Path, train: Train):
    path = tmp_path / "set.csv"
    path.write_text(small_set.read_text().replace(",valid,", ",train,"))
    with pytest.raises(DatasetError, match="has no valid clips"):
        train(path)


def test_a_training_that_diverges_says_so(small_set: Path, train: Train):
    with pytest.raises(SamptagError, match=r"the loss is nan in epoch 1: the training has diverged; .*--learning-rate"):
        train(small_set, recipe="paper", learning_rate=1e30, max_steps=None, epochs=1)


def test_a_folder_that_cannot_be_made(tmp_path: Path, small_set: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to the folder"):
        samptag.train(small_set, out=tmp_path / "file" / "out")


def test_resident_audio_trains_to_the_same_weights(tmp_path: Path, small_set: Path, train: Train):
    weights = []
    for resident in (False, True):
        result = train(small_set, out=tmp_path / str(resident), max_steps=2, resident=resident)
        weights.append(read_weights(result.model_path).loaded().model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_balanced_weights():
    labels = np.zeros((1000, 5), dtype=np.float32)
    labels[:500, 0] = 1
    labels[:100, 1] = 1
    labels[:1, 2] = 1
    labels[:, 3] = 1
    assert balanced_weights(labels).tolist() == [1, 9, 100, 1, 1]
    soft = np.full((10, 1), 0.25, dtype=np.float32)
    assert math.isclose(float(balanced_weights(soft)[0]), 3.0)
