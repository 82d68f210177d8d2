import zipfile
from pathlib import Path

import pytest
import torch
import weights_server as ws
from foreign_checkpoints import fcn_state, sample_state, se_state, tf_vgg
from tensor_bundles import write_bundle

from samptag.core.card import read_card
from samptag.core.weights import read_weights
from samptag.errors import UsageError, WeightsError
from samptag.pretrained import Store, load_registry
from samptag.pretrained.importing import ForeignCheckpoint, check_layout, import_file, named_tags
from samptag.pretrained.registry import TagList

THREE = TagList(tags=("guitar", "sitar", "harp"))


@pytest.fixture
def store(tmp_path: Path, checkpoint: Path) -> Store:
    """The published checkpoint is called "theirs", an address nobody answers at; the cache is empty."""
    content = checkpoint.read_bytes()
    entry = ws.registry_entry(
        "theirs",
        content,
        file=None,
        url="http://127.0.0.1:9/best_model.pth",
        sha256=None,
        git_blob_sha1=ws.git_blob(content),
        format="sota-sample",
        sample_rate=16_000,
    )
    return Store(registry=load_registry(ws.write_registry(tmp_path, entry)), cache=tmp_path / "cache", offline=True)


def test_import_of_a_weights_file(store: Store, tmp_path: Path):
    other = ws.small_weights(tmp_path / "other.safetensors", seed=1)
    path = import_file(other, name="my-own", store=store, licence="CC BY 4.0")
    assert path == store.cache / "my-own.safetensors"
    assert store.imported_names() == ("my-own",)
    loaded = store.load("my-own")
    assert (loaded.card.name, loaded.card.licence) == ("my-own", "CC BY 4.0")
    expected = read_weights(other).loaded().model.state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.to_module().state_dict().items())
    assert read_card(other).name == "other"


def test_import_of_the_published_file_under_its_name(store: Store, checkpoint: Path):
    import_file(checkpoint, name="theirs", store=store)
    card = store.load("theirs").card
    assert (card.name, card.tags, card.config.sample_rate) == ("theirs", THREE.tags, 16_000)
    assert checkpoint.exists()


def test_registry_names_take_nothing_but_the_published_file(store: Store, checkpoint: Path, tmp_path: Path):
    other = tmp_path / "other.pth"
    torch.save(se_state(3), other)
    ours = ws.small_weights(tmp_path / "theirs.safetensors")
    for path in (other, ours):
        with pytest.raises(WeightsError, match="is not the published theirs: it has"):
            import_file(path, name="theirs", store=store, force=True)
    foreign = ForeignCheckpoint(layout="sota-se", tags=THREE, sample_rate=16_000)
    with pytest.raises(UsageError, match="choose another name"):
        import_file(other, name="theirs", store=store, foreign=foreign)
    with pytest.raises(UsageError, match="would hide theirs"):
        import_file(ours, name="Theirs", store=store)
    assert not store.installed_path("theirs").exists()


@pytest.mark.parametrize(
    ("layout", "state"), [("sota-sample", sample_state), ("sota-se", se_state), ("sota-fcn", fcn_state)]
)
def test_import_of_a_checkpoint_of_ones_own(store: Store, tmp_path: Path, layout: str, state):
    path = tmp_path / "own.pth"
    torch.save(state(3), path)
    foreign = ForeignCheckpoint(layout=layout, tags=THREE, sample_rate=16_000)
    import_file(path, name="own", store=store, foreign=foreign)
    loaded = store.load("own")
    assert loaded.card.tags == THREE.tags
    assert (loaded.card.licence, loaded.card.training_data) == ("not stated", "not stated")
    assert "own.pth" in loaded.card.source
    assert loaded.to_module()(torch.zeros(1, loaded.card.config.input_length)).shape == (1, 3)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The folder of a published TensorFlow checkpoint."""
    write_bundle(tmp_path / "MTT_vgg", tf_vgg(3))
    return tmp_path / "MTT_vgg"


@pytest.fixture
def bundles(tmp_path: Path, published: Path) -> Store:
    """The checkpoint `published` is called "theirs"; the cache is empty."""
    entry = ws.bundle_entry("theirs", published, format="tf-vgg")
    return Store(registry=load_registry(ws.write_registry(tmp_path, entry)), cache=tmp_path / "cache", offline=True)


def zipped(path: Path, *folders: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in folders:
            for file in folder.iterdir():
                archive.write(file, f"musicnn/{folder.name}/{file.name}")
    return path


@pytest.mark.parametrize("form", ["folder", "data", "index", "wheel"])
def test_import_of_a_published_tensorflow_checkpoint(bundles: Store, published: Path, tmp_path: Path, form: str):
    write_bundle(tmp_path / "MTT_other", {name: values + 1 for name, values in tf_vgg(3).items()})
    path = {
        "folder": published,
        "data": published / ".data-00000-of-00001",
        "index": published / ".index",
        "wheel": zipped(tmp_path / "musicnn.whl", tmp_path / "MTT_other", published),
    }[form]
    import_file(path, name="theirs", store=bundles)
    loaded = bundles.load("theirs")
    assert (loaded.card.config.name, loaded.card.tags) == ("vgg", THREE.tags)
    bias = loaded.to_module().state_dict()["head.bias"].numpy()
    assert bias.tolist() == tf_vgg(3)["dense/bias"].tolist()
    assert sorted(file.name for file in published.iterdir()) == [".data-00000-of-00001", ".index"]


def test_import_takes_no_other_tensorflow_checkpoint(bundles: Store, published: Path, tmp_path: Path):
    other = write_bundle(tmp_path / "other", {name: values + 1 for name, values in tf_vgg(3).items()}).parent
    damaged = zipped(tmp_path / "damaged.whl", published)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    for path, message in {
        other: r"other.\.data-00000-of-00001 is not the published theirs: its sha256",
        zipped(tmp_path / "other.whl", other): r"other\.whl holds no \.data-00000-of-00001 of the published theirs",
        damaged: r"damaged\.whl cannot be unpacked",
        tmp_path: "cannot read",
        tmp_path / "nothing": "there is no file",
    }.items():
        with pytest.raises(WeightsError, match=message):
            import_file(path, name="theirs", store=bundles)
    assert not bundles.installed_path("theirs").exists()


def test_import_of_a_tensorflow_checkpoint_of_ones_own(store: Store, published: Path, checkpoint: Path):
    foreign = ForeignCheckpoint(layout="tf-vgg", tags=THREE, sample_rate=16_000)
    import_file(published, name="own", store=store, foreign=foreign)
    assert store.load("own").card.source == "imported from MTT_vgg, layout tf-vgg"
    with pytest.raises(WeightsError, match="cannot read"):
        import_file(checkpoint, name="other", store=store, foreign=foreign)
    with pytest.raises(WeightsError, match="MTT_vgg is a folder"):
        import_file(published, name="theirs", store=store)


def test_tag_list_of_another_length(store: Store, checkpoint: Path):
    foreign = ForeignCheckpoint(layout="sota-sample", tags=TagList(tags=("guitar", "sitar")), sample_rate=16_000)
    with pytest.raises(WeightsError, match=r"'dense.weight' has the shape \(3, 512\) instead of \(2, 512\)"):
        import_file(checkpoint, name="own", store=store, foreign=foreign)
    assert store.imported_names() == ()


def test_names_and_files_that_cannot_be_imported(store: Store, checkpoint: Path, tmp_path: Path):
    ours = ws.small_weights(tmp_path / "ours.safetensors")
    for name in ("", "a.b", "../a", "a/b", "ä", "-a"):
        with pytest.raises(UsageError, match="cannot be a name"):
            import_file(ours, name=name, store=store)
    with pytest.raises(WeightsError, match="there is no file"):
        import_file(tmp_path / "nothing", name="own", store=store)
    with pytest.raises(WeightsError, match="give --layout sota-sample"):
        import_file(checkpoint, name="own", store=store)
    import_file(ours, name="own", store=store)
    with pytest.raises(UsageError, match="--force"):
        import_file(ours, name="Own", store=store)
    import_file(ws.small_weights(tmp_path / "new.safetensors", tags=("cello",)), name="own", store=store, force=True)
    assert store.load("own").card.tags == ("cello",)


def test_import_needs_a_cache(store: Store, tmp_path: Path, checkpoint: Path):
    (tmp_path / "file").touch()
    blocked = Store(registry=store.registry, cache=tmp_path / "file" / "cache")
    with pytest.raises(WeightsError, match="cannot write"):
        import_file(checkpoint, name="theirs", store=blocked)


def test_named_tag_lists_have_the_order_of_the_repository():
    registry = load_registry()
    tags = named_tags("mtat50", registry=registry).tags
    assert tags.index("metal") < tags.index("female voice")
    assert named_tags("msd50", registry=registry).tags[0] == "rock"
    assert named_tags("jamendo50", registry=registry).categories[0] == "genre"


def test_tag_lists_from_files(tmp_path: Path):
    registry = load_registry()

    def read(content: bytes) -> TagList:
        (tmp_path / "tags.txt").write_bytes(content)
        return named_tags(str(tmp_path / "tags.txt"), registry=registry)

    assert read("\ufeffguitar\r\n sitar \r\nviolín\r\n\r\n".encode()).tags == ("guitar", "sitar", "violín")
    assert read(b"genre---rock\nmood/theme---happy").categories == ("genre", "mood/theme")
    for content, message in {
        b"": "empty",
        b"guitar\n\nsitar\n": "empty tag",
        b"guitar\nguitar\n": "twice",
        b"\xff\xfeg\x00": "not a list of tags",
    }.items():
        with pytest.raises(UsageError, match=message):
            read(content)
    with pytest.raises(UsageError, match="named lists are mtat50"):
        named_tags("mtat51", registry=registry)


def test_layouts():
    assert check_layout("sota-se") == "sota-se"
    with pytest.raises(UsageError, match="sota-sample or sota-se"):
        check_layout("samptag")
