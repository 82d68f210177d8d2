"""Weights that go out: pictures of their filters, and ONNX that says the same as samptag."""

import json
import re

import numpy as np
import pytest
import torch

from samptag.core.card import ModelCard, read_card
from samptag.core.config import ModelConfig
from samptag.core.model import SampleCNN
from samptag.core.weights import save_model
from samptag.pretrained import load_weights
from samptag.tagging.tagger import Tagger


@pytest.fixture
def few_layers(tmp_path):
    """Weights whose first three layers reach 729 samples: a few seconds' work."""
    config = ModelConfig(m=3, n=3, first_filter=81, first_stride=81, n_tags=2)
    card = ModelCard(name="few", config=config, tags=("a", "b"), licence="CC0-1.0", training_data="none")
    save_model(tmp_path / "few.safetensors", SampleCNN(config), card=card)
    return tmp_path / "few.safetensors"


def test_filters_are_drawn_for_a_file(samptag, on_a_terminal, few_layers, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from matplotlib.image import imread

    target = tmp_path / "filters.png"
    done = samptag("weights", "show", few_layers, "--filters", target)
    assert done.stdout.decode() == f"{target}\n"
    assert done.stderr == b""
    image = imread(target)
    assert image.shape[1] > image.shape[0] > 200
    assert len(np.unique(image.reshape(-1, image.shape[2]), axis=0)) > 100
    text, code = on_a_terminal(80, "weights", "show", few_layers, "--filters", target)
    assert code == 0
    assert re.search(r"layers .*/3", text, re.DOTALL)
    drawn = samptag("weights", "show", few_layers, "--filters", tmp_path / "filters.jpg", check=2)
    assert b"must end in .png or .svg" in drawn.stderr


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The bundled weights with a word that is not ASCII."""
    bundled = load_weights()
    path = tmp_path_factory.mktemp("onnx") / "file.safetensors"
    card = ModelCard(
        name="named",
        config=bundled.card.config,
        tags=("flöte", *bundled.card.tags[1:]),
        licence=bundled.card.licence,
        training_data="music",
    )
    save_model(path, bundled.tensors, card=card)
    return path


@pytest.fixture(scope="module")
def exported(weights, warm_processes, warm_environment):
    """Those weights in ONNX, by the command, and what it said: exporting takes seconds."""
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    if torch.__version__ < "2.6":
        pytest.skip("this PyTorch does not export to ONNX")
    command = ["-m", "samptag", "weights", "export", str(weights), "--to", "onnx"]
    process = warm_processes.start(command, env=warm_environment, cwd=weights.parent)
    said = process.communicate()
    assert (process.returncode, said) == (0, (b"named.onnx\n", b""))
    return runtime.InferenceSession(weights.with_name("named.onnx"), providers=["CPUExecutionProvider"])


def test_onnx_scores_real_music_as_samptag_does(exported, weights, demo_clip):
    from samptag.audio.decode import open_audio
    from samptag.core.segmenter import Segmenter

    about = exported.get_modelmeta().custom_metadata_map
    length, rate = int(about["input_length"]), int(about["sample_rate"])
    segmenter = Segmenter(length, hop=length, tail="overlap")
    with open_audio(demo_clip, sample_rate=rate) as sound:
        segments = np.concatenate([*(segmenter.push(block) for block in sound), segmenter.finish()])
    result = Tagger.from_pretrained(weights).tag(demo_clip)
    assert list(json.loads(about["tags"])) == [item.tag for item in result.scores]
    for size in (1, 5, len(segments)):
        parts = [exported.run(None, {"waveforms": segments[i : i + size]}) for i in range(0, len(segments), size)]
        scores, embedding = (np.concatenate(rows) for rows in zip(*parts, strict=True))
        np.testing.assert_allclose(scores, result.taggram, atol=1e-4)
        np.testing.assert_allclose(scores.mean(axis=0), [item.score for item in result.scores], atol=1e-4)
        np.testing.assert_allclose(embedding.mean(axis=0), result.embedding, atol=1e-4)


def test_onnx_says_what_it_takes_and_gives(exported, weights):
    (waveforms,), (scores, embedding) = exported.get_inputs(), exported.get_outputs()
    card = read_card(weights)
    assert (waveforms.name, waveforms.shape[1], waveforms.type) == ("waveforms", 59_049, "tensor(float)")
    assert (scores.name, scores.shape[1]) == ("scores", len(card.tags))
    assert (embedding.name, embedding.shape[1]) == ("embedding", 512)
    assert isinstance(waveforms.shape[0], str)  # any number of segments
    about = exported.get_modelmeta().custom_metadata_map
    assert about["licence"] == card.licence
    assert json.loads(about["card"]) == json.loads(json.dumps(card.to_dict()))
    assert b"onnx.py" not in weights.with_name("named.onnx").read_bytes()  # nor any path of this machine


def test_other_formats_are_refused(samptag, tiny_weights):
    refused = samptag("weights", "export", tiny_weights, "--to", "tflite", check=2)
    assert b"onnx" in refused.stderr
