"""The m^n family as configs and names."""

import subprocess
import sys
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paper_grid import grid_configs

from samptag.core.config import ModelConfig, config_from_name
from samptag.errors import UsageError


def test_the_default_is_the_papers_best_model():
    config = ModelConfig()
    assert (config.name, config.frames, config.input_length) == ("samplecnn-3-9", 19_683, 59_049)
    assert config.channels == (128, 128, 256, 256, 256, 256, 256, 256, 512)
    assert config.front_pads == (0, 0)
    assert config.embedding_size == 512


def test_three_modules_have_the_widths_of_the_ends():
    assert ModelConfig(n=3, first_filter=729, first_stride=729).channels == (128, 128, 512)


def test_the_grid_is_the_papers():
    lengths = {(c.m, c.n, c.input_length) for c in grid_configs()}
    expected = {(2, n, 16_384) for n in range(6, 14)} | {(2, n, 32_768) for n in range(7, 15)}
    expected |= {(3, n, 19_683) for n in range(3, 9)} | {(3, n, 59_049) for n in range(4, 10)}
    expected |= {(4, n, 16_384) for n in range(3, 7)} | {(4, n, 65_536) for n in range(4, 8)}
    expected |= {(5, n, 15_625) for n in range(3, 6)} | {(5, n, 78_125) for n in range(4, 7)}
    assert lengths == expected
    assert len(grid_configs()) == len(expected)


@pytest.mark.parametrize("config", grid_configs(), ids=lambda c: c.name)
def test_names_of_the_grid_stand_for_their_configs(config: ModelConfig):
    assert config_from_name(config.name) == config


@pytest.mark.parametrize(
    ("name", "length", "first"),
    [
        ("samplecnn-2-13", 16_384, (2, 2)),
        ("samplecnn-2-13-4", 32_768, (4, 4)),
        ("samplecnn-2-14", 32_768, (2, 2)),
        ("samplecnn-3-8", 19_683, (3, 3)),
        ("samplecnn-3-8-9", 59_049, (9, 9)),
        ("samplecnn-4-7", 65_536, (4, 4)),
        ("samplecnn-5-6", 78_125, (5, 5)),
        ("frame-raw-729-243", 59_049, (729, 243)),
        ("frame-raw-729-729", 59_049, (729, 729)),
        ("frame-mel-729-243", 59_049, (729, 243)),
        ("frame-mel-2-6-512-256", 16_384, (512, 256)),
    ],
)
def test_names_say_what_the_paper_says(name: str, length: int, first: tuple[int, int]):
    config = config_from_name(name)
    assert config.input_length == length
    assert (config.first_filter, config.first_stride) == first


def test_overrides_replace_what_the_name_says():
    config = config_from_name("samplecnn-3-9-won-rese-pad1", n_tags=5, sample_rate=16_000)
    assert (config.n_tags, config.sample_rate, config.block, config.front_pads) == (5, 16_000, "won-rese", (1, 1))


strides = st.integers(1, 40)
configs = st.builds(
    lambda m, n, stride, extra, block, multi: ModelConfig(
        m=m, n=n, first_filter=stride + extra, first_stride=stride, block=block, multi_level=multi
    ),
    st.integers(2, 6),
    st.integers(3, 5),
    strides,
    st.sampled_from([0, 0, 1, 2, 7]),
    st.sampled_from(["plain", "se", "res", "rese", "won-rese"]),
    st.booleans(),
)


@given(configs, st.sampled_from(["raw", "mel"]), st.booleans())
def test_any_config_comes_back_from_its_name_and_from_json(config: ModelConfig, front: str, padded: bool):
    if front == "mel" and config.block != "won-rese":
        config = replace(config, front_end="mel")
    if padded and 0 <= 2 - (config.first_filter - config.first_stride) < config.first_stride:  # no frame more or less
        config = replace(config, front_padding=1)
    assert config_from_name(config.name) == config
    assert ModelConfig.from_dict(config.to_dict()) == config


def test_different_nets_have_different_names():
    base = ModelConfig()
    others = [
        base,
        replace(base, m=2, n=13, first_filter=2, first_stride=2),
        replace(base, n=8, first_filter=9, first_stride=9),
        replace(base, block="res"),
        replace(base, multi_level=True),
        replace(base, front_padding=1),
        replace(base, front_end="mel"),
        replace(base, n=5, first_filter=729, first_stride=243),
    ]
    assert len({c.name for c in others}) == len(others)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"m": 1}, "m must be at least 2"),
        ({"n": 2}, "n must be at least 3"),
        ({"first_filter": 2}, "first_filter 2 is shorter than first_stride 3"),
        ({"first_filter": 0, "first_stride": 0}, "first_stride must be at least 1"),
        ({"n_tags": 0}, "n_tags must be at least 1"),
        ({"sample_rate": -1}, "sample_rate must be at least 1"),
        ({"dropout": 1.0}, "dropout"),
        ({"bn_momentum": 0.0}, "bn_momentum"),
        ({"bn_epsilon": float("nan")}, "bn_epsilon"),
        ({"front_padding": -1}, "front_padding must be at least 0"),
        ({"front_padding": 2}, "front_padding 2 makes 19684 frames"),
        ({"n": 10**9}, "more than the 16777216 samples"),
        ({"m": 10**9}, "more than the 16777216 samples"),
        ({"block": "won-rese", "front_end": "mel"}, "takes no mel front end"),
        ({"m": 3.0}, "m must be a whole number, not 3.0"),
        ({"m": True}, "m must be a whole number, not True"),
        ({"multi_level": 1}, "multi_level must be true or false"),
        ({"front_end": "cqt"}, "front_end must be 'raw' or 'mel', not 'cqt'"),
        ({"front_padding": "1"}, "front_padding must be a whole number or null"),
        ({"dropout": "0.5"}, "dropout must be a number"),
    ],
)
def test_numbers_that_make_no_network_are_refused(change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**change)


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="unknown model setting 'depth'"):
        ModelConfig.from_dict({**ModelConfig().to_dict(), "depth": 9})


def test_settings_left_out_have_their_defaults():
    assert ModelConfig.from_dict({"m": 3, "n": 9}) == ModelConfig()


def test_every_field_is_checked_for_its_type():
    for field in fields(ModelConfig):
        with pytest.raises(ValueError, match=f"^{field.name} must be"):
            ModelConfig(**{field.name: [1]})


@pytest.mark.parametrize(
    "name",
    [
        "",
        "samplecnn",
        "samplecnn-3",
        "samplecnn-3-9-",
        "samplecnn-3-9-foo",
        "samplecnn-3-9-multi-se",
        "samplecnn-7-9",
        "samplecnn-3-2",
        "samplecnn-2-99999999999-2",
        "samplecnn-3-9-0",
        "frame-raw-3-0-729-81",
        "frame-raw-729-240",
        "frame-raw-243-729",
        "frame-mel-729",
        "SAMPLECNN-3-9",
        "samplecnn-3-9\n",
    ],
)
def test_names_that_stand_for_nothing_are_refused(name: str):
    with pytest.raises(UsageError, match=r"model"):
        config_from_name(name)


def test_a_name_off_the_grid_needs_its_first_filter():
    with pytest.raises(UsageError, match=r"6\^4 is not in the paper's grid; name its first filter too"):
        config_from_name("samplecnn-6-4")
    assert config_from_name("samplecnn-6-4-6").input_length == 6**5


def test_an_unknown_override_is_refused():
    with pytest.raises(UsageError, match="cannot be built"):
        config_from_name("samplecnn-3-9", depth=3)


@pytest.mark.parametrize("module", ["config", "card", "segmenter"])
def test_what_needs_no_torch_loads_none(module: str):
    code = f"import sys, samptag.core.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
