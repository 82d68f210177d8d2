import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import weights_server as ws
from foreign_checkpoints import sample_state, tf_vgg
from tensor_bundles import write_bundle

from samptag import pretrained
from samptag.errors import DownloadError, WeightsError
from samptag.files import weights_folder
from samptag.pretrained import Store, load_registry

pytestmark = pytest.mark.usefixtures("impatient")

ROOT = Path(__file__).resolve().parents[2]
JAMENDO = ["genre---rock", "instrument---piano", "mood/theme---happy"]


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real weights file, once for all tests; never written to."""
    return ws.small_weights(tmp_path_factory.mktemp("made") / "mine.safetensors")


@pytest.fixture
def store(tmp_path: Path, weights: Path) -> Store:
    """One bundled file called "mine", an empty cache."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    shutil.copy(weights, bundle)
    registry = load_registry(ws.write_registry(bundle, ws.registry_entry("mine", weights.read_bytes())))
    return Store(registry=registry, cache=tmp_path / "cache")


def remote_store(tmp_path: Path, server: ws.FileServer, *, offline: bool = False, **changes: object) -> Store:
    """One foreign file called "theirs", published on `server`."""
    values = {
        "file": None,
        "url": server.url,
        "size": None,
        "sha256": None,
        "git_blob_sha1": ws.git_blob(server.content),
        "format": "sota-sample",
        "sample_rate": 16_000,
        "tags": JAMENDO,
        "scores": [{"split": "a split", "protocol": "won", "roc_auc": 0.9058, "pr_auc": 0.4422, "source": "a paper"}],
    }
    registry = load_registry(
        ws.write_registry(tmp_path, ws.registry_entry("theirs", server.content, **(values | changes)))
    )
    return Store(registry=registry, cache=tmp_path / "cache", offline=offline)


def test_bundled_file_is_installed_on_first_use(store: Store, weights: Path, caplog: pytest.LogCaptureFixture):
    path = store.resolve("mine")
    assert path == store.cache / "mine.safetensors"
    assert path.read_bytes() == weights.read_bytes()
    stamp = path.stat().st_mtime_ns
    assert store.resolve("mine") == path
    assert path.stat().st_mtime_ns == stamp
    assert store.load("mine").card.name == "mine"
    assert caplog.records == []


@pytest.mark.parametrize("damage", ["altered", "truncated", "emptied"])
def test_damaged_installed_file_is_replaced_by_the_bundled_one(
    store: Store, weights: Path, damage: str, caplog: pytest.LogCaptureFixture
):
    path = store.resolve("mine")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"altered": bytes(content), "truncated": bytes(content[:-9]), "emptied": b""}[damage])
    assert store.load("mine").card.name == "mine"
    assert path.read_bytes() == weights.read_bytes()
    assert "replacing" in caplog.text


def test_cache_that_cannot_be_written(store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "file").touch()
    blocked = Store(registry=store.registry, cache=tmp_path / "file" / "cache")
    with caplog.at_level(logging.WARNING):
        assert blocked.load("mine").card.name == "mine"
    assert "using" in caplog.text
    assert str(tmp_path / "bundle" / "mine.safetensors") in caplog.text


def test_damaged_bundle_is_not_installed(store: Store, tmp_path: Path):
    bundled = tmp_path / "bundle" / "mine.safetensors"
    bundled.write_bytes(bundled.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="reinstall samptag"):
        store.resolve("mine")
    bundled.unlink()
    with pytest.raises(WeightsError, match="reinstall samptag"):
        store.resolve("mine")
    assert not (store.cache / "mine.safetensors").exists()


def test_unknown_names_get_names_like_them(store: Store):
    with pytest.raises(WeightsError, match="no weights called 'mien': did you mean 'mine'"):
        store.load("mien")
    with pytest.raises(WeightsError, match=r"no weights called 'quite-different': 'samptag weights list'"):
        store.load("quite-different")


def test_paths(store: Store, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    other = ws.small_weights(tmp_path / "other.safetensors", seed=1)
    shutil.copy(other, tmp_path / "bare")
    for path in (other, str(other), "other.safetensors", "./bare", "bare"):
        assert store.load(path).card.name == "other"
    for missing in ("nothing.safetensors", "./nothing", "folder/nothing", Path("nothing")):
        with pytest.raises(WeightsError, match="there is no weights file"):
            store.load(missing)
    with pytest.raises(WeightsError, match="is a folder"):
        store.load(tmp_path)


def test_no_file_in_the_working_directory_poses_as_published_weights(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    ws.small_weights(tmp_path / "other.safetensors", seed=1).rename(tmp_path / "mine")
    assert store.resolve("mine") == store.cache / "mine.safetensors"
    assert store.load(Path("mine")).card.name == "other"


def test_remote_checkpoint_is_fetched_checked_and_converted(tmp_path: Path, checkpoint: Path):
    with ws.FileServer(checkpoint.read_bytes(), ws.dropped, ws.whole) as server:
        store = remote_store(tmp_path, server)
        loaded = store.load("theirs")
        assert store.load("theirs").card == loaded.card
    assert len(server.requests) == 2
    card = loaded.card
    assert (card.tags, card.tag_categories) == (("rock", "piano", "happy"), ("genre", "instrument", "mood/theme"))
    assert (card.config.sample_rate, card.config.n_tags) == (16_000, 3)
    assert card.metrics == {"roc_auc": 0.9058, "pr_auc": 0.4422, "measured_by": "a paper"}
    assert server.url in card.source
    assert ws.git_blob(server.content) in card.source
    assert torch.equal(torch.from_numpy(loaded.tensors["head.weight"]), sample_state(3)["dense.weight"])
    assert sorted(path.suffix for path in store.cache.iterdir() if not path.name.startswith(".")) == [".safetensors"]


def test_remote_samptag_file_is_kept_as_it_is(tmp_path: Path, weights: Path):
    with ws.FileServer(weights.read_bytes()) as server:
        changes = {"format": "samptag", "tags": ["guitar", "sitar", "harp"], "size": len(server.content)}
        store = remote_store(tmp_path, server, **changes)
        assert store.resolve("theirs").read_bytes() == weights.read_bytes()
        path = store.resolve("theirs")
        path.write_bytes(b"altered")
        assert store.resolve("theirs").read_bytes() == weights.read_bytes()
    assert len(server.requests) == 2


def test_checkpoint_of_another_shape_is_not_installed(tmp_path: Path, checkpoint: Path):
    with ws.FileServer(checkpoint.read_bytes()) as server:
        store = remote_store(tmp_path, server, tags=["rock", "piano"])
        with pytest.raises(WeightsError, match=r"'dense.weight' has the shape \(3, 512\) instead of \(2, 512\)"):
            store.load("theirs")
        store = remote_store(tmp_path, server, format="sota-se")
        with pytest.raises(WeightsError, match="not of the layout sota-se"):
            store.load("theirs")
    assert not (store.cache / "theirs.safetensors").exists()


@pytest.mark.parametrize("damage", ["altered", "truncated", "another", "foreign"])
def test_damaged_converted_file_is_fetched_again(
    tmp_path: Path, checkpoint: Path, weights: Path, damage: str, caplog: pytest.LogCaptureFixture
):
    with ws.FileServer(checkpoint.read_bytes()) as server:
        store = remote_store(tmp_path, server)
        path = store.resolve("theirs")
        good = path.read_bytes()
        content = bytearray(good)
        content[-100] ^= 1
        contents = {"altered": bytes(content), "truncated": good[:-8], "another": weights.read_bytes(), "foreign": b""}
        path.write_bytes(contents[damage])
        assert store.load("theirs").card.tags == ("rock", "piano", "happy")
    assert path.read_bytes() == good
    assert len(server.requests) == 2


def test_offline(tmp_path: Path, checkpoint: Path):
    with ws.FileServer(checkpoint.read_bytes()) as server:
        store = remote_store(tmp_path, server, offline=True)
        with pytest.raises(DownloadError, match="network is switched off") as caught:
            store.load("theirs")
        assert f"fetch {server.url} and save it as {store.cache / 'theirs.pth'}" in str(caught.value)
        remote_store(tmp_path, server).load("theirs")
        assert store.load("theirs").card.name == "theirs"
    assert len(server.requests) == 1


def test_damage_offline_is_told_with_the_way_out(tmp_path: Path, checkpoint: Path):
    with ws.FileServer(checkpoint.read_bytes()) as server:
        path = remote_store(tmp_path, server).resolve("theirs")
        content = bytearray(path.read_bytes())
        content[-100] ^= 1
        path.write_bytes(content)
        with pytest.raises(DownloadError, match=r"altered.*network is switched off"):
            remote_store(tmp_path, server, offline=True).load("theirs")


def test_file_put_there_by_hand_is_taken(tmp_path: Path, checkpoint: Path):
    with ws.FileServer(checkpoint.read_bytes()) as server:
        store = remote_store(tmp_path, server, offline=True)
        store.cache.mkdir()
        shutil.copy(checkpoint, store.cache / "theirs.pth")
        assert store.load("theirs").card.name == "theirs"
    assert server.requests == []


def test_wrong_file_put_there_by_hand_is_not_taken(tmp_path: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture):
    with ws.FileServer(checkpoint.read_bytes()) as server:
        store = remote_store(tmp_path, server)
        store.cache.mkdir()
        torch.save(sample_state(4), store.cache / "theirs.pth")
        assert store.load("theirs").card.config.n_tags == 3
    assert "is not the published file" in caplog.text


def test_remote_weights_need_a_cache(tmp_path: Path, checkpoint: Path):
    (tmp_path / "file").touch()
    with ws.FileServer(checkpoint.read_bytes()) as server:
        registry = remote_store(tmp_path, server).registry
        with pytest.raises(WeightsError, match="set SAMPTAG_CACHE"):
            Store(registry=registry, cache=tmp_path / "file" / "cache").load("theirs")
    assert server.requests == []


def test_tags_of_the_file_must_be_those_of_the_registry(tmp_path: Path, weights: Path):
    shutil.copy(weights, tmp_path)
    entry = ws.registry_entry("mine", weights.read_bytes(), tags=["guitar", "harp", "sitar"])
    store = Store(registry=load_registry(ws.write_registry(tmp_path, entry)), cache=tmp_path / "cache")
    with pytest.raises(WeightsError, match="other tags"):
        store.load("mine")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder with both files of a TensorFlow checkpoint, and its address on this machine."""
    folder = tmp_path / "site"
    write_bundle(folder, tf_vgg(3))
    with ws.FileServer(folder) as server:
        yield folder, server.url


def bundle_store(tmp_path: Path, folder: Path, address: str, *, offline: bool = False) -> Store:
    """The checkpoint in `folder` is called "theirs" and published at `address`."""
    entry = ws.bundle_entry("theirs", folder, url=f"{address}.data-00000-of-00001", format="tf-vgg")
    return Store(
        registry=load_registry(ws.write_registry(tmp_path, entry)),
        cache=tmp_path / "cache",
        offline=offline,
    )


def test_tensorflow_checkpoint_is_fetched_as_two_files_and_converted(tmp_path: Path, site: tuple[Path, str]):
    store = bundle_store(tmp_path, *site)
    path = store.install("theirs")
    assert [file.name for file in store.cache.iterdir() if not file.name.startswith(".")] == ["theirs.safetensors"]
    loaded = store.load("theirs")
    assert (loaded.card.config.name, loaded.card.tags) == ("vgg", ("guitar", "sitar", "harp"))
    entry = store.registry.entries["theirs"]
    assert str(entry.checksums.sha256) in loaded.card.source
    assert str(entry.index.sha256) in loaded.card.source
    assert store.problem(entry) is None
    assert store.check("theirs") == path


@pytest.mark.parametrize("suffix", [".data-00000-of-00001", ".index"])
def test_either_file_of_a_checkpoint_is_checked(tmp_path: Path, site: tuple[Path, str], suffix: str):
    folder, address = site
    store = bundle_store(tmp_path, folder, address)
    content = bytearray((folder / suffix).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / suffix).write_bytes(content)
    by_hand = f"fetch {address}{suffix} and save it as {store.cache / ('theirs' + suffix)}"
    with pytest.raises(DownloadError, match=r"its sha256 is .* instead of") as caught:
        store.install("theirs")
    assert by_hand in str(caught.value)
    assert not store.installed_path("theirs").exists()


def test_checkpoint_put_there_by_hand_is_taken(tmp_path: Path, site: tuple[Path, str]):
    folder, address = site
    store = bundle_store(tmp_path, folder, address, offline=True)
    store.cache.mkdir()
    shutil.copy(folder / ".data-00000-of-00001", store.cache / "theirs.data-00000-of-00001")
    with pytest.raises(DownloadError, match=r"switched off .* save it as .*theirs\.index"):
        store.install("theirs")
    shutil.copy(folder / ".index", store.cache / "theirs.index")
    assert store.load("theirs").card.name == "theirs"


def resolved_by_three(name: str, store: Store, **variables: str) -> list[tuple[bytes, bytes]]:
    """What three processes that resolve `name` at the same time write to stdout and stderr."""
    kept = {key: value for key, value in os.environ.items() if key not in ("SAMPTAG_OFFLINE", "http_proxy")}
    places = {"SAMPTAG_REGISTRY": str(store.registry.path), "SAMPTAG_CACHE": str(store.cache)}
    command = [
        sys.executable,
        "-c",
        f"from samptag.pretrained import open_store; print(open_store().resolve({name!r}))",
    ]
    processes = [
        subprocess.Popen(
            command, cwd=ROOT, env=kept | places | variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    return outputs


def test_processes_filling_an_empty_cache_fetch_once(tmp_path: Path, weights: Path):
    with ws.FileServer(weights.read_bytes(), ws.dribbled) as server:
        store = remote_store(tmp_path, server, format="samptag", tags=["guitar", "sitar", "harp"])
        outputs = resolved_by_three("theirs", store)
    assert {output.strip().decode() for output, _ in outputs} == {str(store.installed_path("theirs"))}
    assert store.installed_path("theirs").read_bytes() == weights.read_bytes()
    assert server.requests == [None]


def test_processes_installing_the_bundled_file(store: Store, weights: Path):
    outputs = resolved_by_three("mine", store, SAMPTAG_OFFLINE="1")
    assert [errors for _, errors in outputs] == [b"", b"", b""]
    visible = [path.name for path in store.cache.iterdir() if not path.name.startswith(".")]
    assert visible == ["mine.safetensors"]
    assert (store.cache / "mine.safetensors").read_bytes() == weights.read_bytes()


def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store):
    monkeypatch.setenv("SAMPTAG_CACHE", str(tmp_path / "moved"))
    monkeypatch.setenv("SAMPTAG_REGISTRY", str(store.registry.path))
    assert weights_folder() == tmp_path / "moved"
    assert pretrained.load_model("mine").card.name == "mine"
    assert pretrained.resolve("mine") == tmp_path / "moved" / "mine.safetensors"
    for value, offline in {"": False, "0": False, "1": True, "yes": True}.items():
        monkeypatch.setenv("SAMPTAG_OFFLINE", value)
        assert pretrained.open_store().offline is offline
    monkeypatch.delenv("SAMPTAG_CACHE")
    assert weights_folder().parts[-2:] == ("samptag", "weights")
