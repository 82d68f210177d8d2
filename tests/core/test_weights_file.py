"""Model files: what is saved comes back, and whatever is wrong with a file is said in one line."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from settled_nets import mono_segments, settled_net

from samptag.core.card import ModelCard, read_card
from samptag.core.config import ModelConfig, config_from_name
from samptag.core.model import SampleCNN
from samptag.core.weights import LoadedModel, read_weights, save_model
from samptag.errors import OutputError, WeightsError

CONFIG = ModelConfig(n=3, first_filter=27, first_stride=27, n_tags=3)
CARD = ModelCard(
    name="tiny",
    config=CONFIG,
    tags=("guitar", "flöte", "no voice"),
    licence="CC0-1.0",
    training_data="none",
    split="mtat-clean-2017",
    split_hash="0123456789abcdef",
    metrics={"roc_auc": 0.5, "note": "chance"},
    tag_categories=("instrument", "instrument", "vocal"),
)


@pytest.fixture
def model(music) -> SampleCNN:
    return settled_net(CONFIG, mono_segments(music.samples, CONFIG.input_length, 4))


@pytest.fixture
def saved(tmp_path: Path, model: SampleCNN) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_model(path, model, card=CARD)
    return path


def metadata_of(path: Path) -> dict:
    header_length = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + header_length])
    return json.loads(header["__metadata__"]["samptag"])


def rewrite(path: Path, *, tensors: dict | None = None, metadata: dict | str | None = None) -> None:
    """Write the file anew with other tensors or metadata, as someone who edits it would."""
    metadata = metadata_of(path) if metadata is None else metadata
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    save_file(load_file(path) if tensors is None else tensors, path, {"samptag": text})


def assert_refused(path: Path, message: str) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        read_weights(path).loaded()
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_saved_comes_back(saved: Path, model: SampleCNN, music):
    loaded = read_weights(saved).loaded()
    assert isinstance(loaded, LoadedModel)
    assert loaded.card == CARD == read_card(saved)
    assert not loaded.model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name
        assert loaded.model.state_dict()[name].device.type == "cpu"
    waveforms = torch.from_numpy(mono_segments(music.samples, CONFIG.input_length, 2))
    with torch.inference_mode():
        assert torch.equal(loaded.model(waveforms), model(waveforms))


def test_loaded_weights_can_be_trained_further(saved: Path, music):
    model = read_weights(saved).loaded().model.train()
    waveforms = torch.from_numpy(mono_segments(music.samples, CONFIG.input_length, 4))
    model(waveforms).sum().backward()
    assert all(p.requires_grad and p.grad is not None for p in model.parameters())


def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path: Path, saved: Path, model: SampleCNN):
    half = tmp_path / "half.safetensors"
    save_model(half, model, card=CARD, dtype=np.float16)
    assert half.stat().st_size < 0.52 * saved.stat().st_size
    state = read_weights(half).loaded().model.state_dict()
    for name, tensor in model.state_dict().items():
        assert state[name].dtype == tensor.dtype
        stored = tensor.half().float() if tensor.ndim >= 2 else tensor
        assert torch.equal(state[name], stored), name


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_of_another_precision_is_kept_in_float32(saved: Path, dtype: torch.dtype):
    loaded = read_weights(saved).loaded()
    save_model(saved, loaded.model.to(dtype), card=loaded.card)
    assert {tensor.dtype for tensor in read_weights(saved).tensors.values()} == {np.dtype("f4"), np.dtype("i8")}


@pytest.mark.parametrize("name", ["samplecnn-3-3-27-rese-multi", "samplecnn-3-3-27-won-rese", "frame-mel-3-3-243-243"])
def test_every_kind_of_net_can_be_kept(tmp_path: Path, name: str, music):
    config = config_from_name(name, n_tags=3)
    segments = mono_segments(music.samples, config.input_length, 4)
    model = settled_net(config, segments)
    save_model(tmp_path / "a", model, card=replace(CARD, config=config))
    with torch.inference_mode():
        waveforms = torch.from_numpy(segments)
        assert torch.equal(read_weights(tmp_path / "a").loaded().model(waveforms), model(waveforms))


def test_the_same_model_makes_the_same_file(tmp_path: Path, saved: Path, model: SampleCNN):
    save_model(tmp_path / "again", model, card=CARD)
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, 0.5, -1])
def test_truncated(saved: Path, keep: float):
    data = saved.read_bytes()
    saved.write_bytes(data[: int(len(data) * keep) if keep == 0.5 else keep])
    assert_refused(saved, "is not a weights file, or is truncated")


def test_one_bit_flipped_in_the_weights(saved: Path):
    data = bytearray(saved.read_bytes())
    data[-100_000] ^= 1
    saved.write_bytes(data)
    assert_refused(saved, "was altered: its content does not match its checksum")


def test_card_edited(saved: Path):
    metadata = metadata_of(saved)
    metadata["card"]["tags"][0] = "sitar"
    rewrite(saved, metadata=metadata)
    assert_refused(saved, "was altered")


def test_tensors_swapped(saved: Path):
    tensors = load_file(saved)
    tensors["body.0.conv.weight"], tensors["body.1.conv.weight"] = (
        tensors["body.1.conv.weight"],
        tensors["body.0.conv.weight"],
    )
    rewrite(saved, tensors=tensors)
    assert_refused(saved, "was altered")


def test_missing(tmp_path: Path):
    assert_refused(tmp_path / "none.safetensors", "cannot read .*: No such file or directory")


def test_a_folder(tmp_path: Path):
    assert_refused(tmp_path, "cannot read .*: Is a directory")


def test_not_safetensors(saved: Path):
    torch.save({"a": torch.zeros(3)}, saved)
    assert_refused(saved, "is not a weights file")


def test_safetensors_of_somebody_else(saved: Path):
    save_file(load_file(saved), saved, {"format": "pt"})
    assert_refused(saved, "not one of samptag's")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '"x"', '{"schema": "samptag.weights/1"}', pytest.param("[" * 100_000, id="nested")]
    + [
        f'{{"schema": "samptag.weights/1", "sha256": "", "card": {{"metrics": {{"x": {x}}}}}}}'
        for x in ("NaN", "1e999")
    ],
)
def test_metadata_that_is_none(saved: Path, text: str):
    rewrite(saved, metadata=text)
    assert_refused(saved, "has metadata that cannot be read")


def test_a_format_of_the_future(saved: Path):
    rewrite(saved, metadata={**metadata_of(saved), "schema": "samptag.weights/2"})
    assert_refused(saved, r"has the format 'samptag.weights/2'; this samptag reads 'samptag.weights/1'")


def without(name: str):
    return lambda tensors: tensors.pop(name)


def changed(name: str, change):
    return lambda tensors: tensors.update({name: change(tensors.get(name))})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (without("top.bn.bias"), "does not hold a samplecnn-3-3-27: top.bn.bias is missing"),
        (changed("extra", lambda _: np.zeros(3, np.float32)), "extra does not belong in it"),
        (changed("head.weight", lambda w: w[:2]), r"head.weight has shape \(2, 512\), not \(3, 512\)"),
        (changed("head.weight", lambda w: w.astype(np.float64)), "head.weight is of type F64, not F32 or F16"),
        (changed("head.weight", lambda w: w.astype(np.int32)), "head.weight is of type I32"),
        (changed("head.weight", lambda w: w * np.nan), "was altered"),
    ],
)
def test_tensors_that_do_not_fit(saved: Path, edit, message: str):
    tensors = load_file(saved)
    edit(tensors)
    rewrite(saved, tensors=tensors)
    assert_refused(saved, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tags": ["guitar", "piano"]}, "it lists 2 tags for a model with 3 outputs"),
        ({"tags": ["a", "b", "a"], "tag_categories": None}, "it lists the tag 'a' twice"),
        ({"tags": ["a", "b", 3]}, "the tags of its card must be names"),
        ({"tags": "abc"}, "the tags of its card must be a list"),
        ({"tag_categories": ["x"]}, "it lists 1 tag categories for 3 tags"),
        ({"config": {**CONFIG.to_dict(), "depth": 3}}, "unknown model setting 'depth'"),
        ({"config": {**CONFIG.to_dict(), "m": 1}}, "m must be at least 2"),
        ({"config": 3}, "the config of its card must be an object"),
        ({"colour": "blue"}, "its card has the unknown field 'colour'"),
        ({"licence": None}, "the licence of its card must be a string"),
        ({"config": {**CONFIG.to_dict(), "n": 4}}, "does not hold a samplecnn-3-4-27"),
    ],
)
def test_cards_that_say_nonsense(saved: Path, change: dict, message: str):
    metadata = metadata_of(saved)
    rewrite(saved, metadata={**metadata, "card": {**metadata["card"], **change}})
    assert_refused(saved, message)


def test_cards_with_something_missing(saved: Path):
    metadata = metadata_of(saved)
    del metadata["card"]["tags"]
    rewrite(saved, metadata=metadata)
    assert_refused(saved, "its card has no tags")


def test_same_tag_in_two_categories_is_two_tags():
    card = replace(CARD, tags=("rock", "rock", "piano"), tag_categories=("genre", "mood", "instrument"))
    assert ModelCard.from_dict(card.to_dict()) == card


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path, model: SampleCNN):
    with torch.no_grad():
        model.head.weight[0, 0] = 1e6
    with pytest.raises(ValueError, match=r"head\.weight holds values that are not finite in float16"):
        save_model(tmp_path / "a", model, card=CARD, dtype=np.float16)
    with torch.no_grad():
        model.head.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"head\.weight holds values that are not finite"):
        save_model(tmp_path / "a", model, card=CARD)
    assert not list(tmp_path.iterdir())


def test_a_card_of_another_model_is_refused(tmp_path: Path, model: SampleCNN):
    with pytest.raises(ValueError, match="the card describes samplecnn-3-9"):
        save_model(tmp_path / "a", model, card=replace(CARD, config=ModelConfig(n_tags=3)))


def test_a_folder_that_is_not_there_is_an_output_error(tmp_path: Path, model: SampleCNN):
    with pytest.raises(OutputError, match=r"cannot write .*No such file or directory"):
        save_model(tmp_path / "no" / "a", model, card=CARD)


def test_a_type_that_is_not_kept_is_refused(tmp_path: Path, model: SampleCNN):
    with pytest.raises(ValueError, match="stored as float32 or float16"):
        save_model(tmp_path / "a", model, card=CARD, dtype=np.float64)
