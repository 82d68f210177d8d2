"""The real `samptag weights` command in its own processes, against a server on this machine."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import weights_server as ws
from deciding_weights import save_deciding_weights
from foreign_checkpoints import sample_state
from terminals import on_a_terminal, plain_lines
from warm import WarmProcesses

from samptag.core.card import read_card
from samptag.core.weights import read_weights
from samptag.pretrained import Store, load_registry
from samptag.pretrained.importing import import_file

PROJECT_REGISTRY = Path(__file__).resolve().parents[2] / "weights" / "registry.json"
Done = subprocess.CompletedProcess[str]
JAMENDO = ["genre---rock", "instrument---piano", "mood/theme---happy"]


class House:
    """A registry with one bundled and one remote file, an empty cache, and the command to run on them."""

    def __init__(
        self, folder: Path, samptag: Callable[..., Any], environment: dict[str, str], warm_processes: WarmProcesses
    ) -> None:
        self._samptag, self._warm_processes = samptag, warm_processes
        self.cache = folder / "cache"
        self.checkpoint = folder / "best_model.pth"
        torch.save(sample_state(3), self.checkpoint)
        self.server = ws.FileServer(self.checkpoint.read_bytes())
        bundled = ws.small_weights(folder / "mine.safetensors")
        remote = ws.registry_entry(
            "theirs",
            b"",
            file=None,
            url=self.server.url,
            size=None,
            sha256=None,
            git_blob_sha1=ws.git_blob(self.server.content),
            format="sota-sample",
            sample_rate=16_000,
            tags=JAMENDO,
            licence="MIT",
            scores=[{"split": "a split", "protocol": "won", "roc_auc": 0.9058, "pr_auc": 0.4422, "source": "a paper"}],
        )
        self.registry = ws.write_registry(folder, ws.registry_entry("mine", bundled.read_bytes()), remote)
        # No proxy is between a process and its own machine.
        kept = {key: value for key, value in environment.items() if not key.lower().endswith("_proxy")}
        self.environment = kept | {
            "SAMPTAG_REGISTRY": str(self.registry),
            "SAMPTAG_CACHE": str(self.cache),
            "SAMPTAG_OFFLINE": "0",
            "COLUMNS": "20",
        }

    def store(self) -> Store:
        """The same in this process, to bring about what a command then finds."""
        return Store(registry=load_registry(self.registry), cache=self.cache)

    def run(self, *arguments: str | Path, **environment: str) -> Done:
        done = self._samptag("weights", *arguments, check=None, env=self.environment | environment)
        return Done(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def shown(self, columns: int, *arguments: str) -> str:
        """What the command writes to a terminal of that width, with its movements."""
        environment = self.environment | {"COLUMNS": str(columns), "TERM": "xterm"}
        text, code = on_a_terminal(["weights", *arguments], environment, columns, forked_from=self._warm_processes)
        assert code == 0
        return text


@pytest.fixture
def house(tmp_path: Path, samptag, cli_environment, warm_processes):
    house = House(tmp_path, samptag, cli_environment, warm_processes)
    with house.server:
        yield house


def refused(done: Done, code: int, *parts: str) -> None:
    """The process ended with one line on standard error that has all `parts`, and nothing else."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.startswith("samptag: error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    for part in parts:
        assert part in done.stderr


def test_list_piped_is_tab_separated(house: House):
    done = house.run("list")
    assert (done.returncode, done.stderr) == (0, "")
    header, mine, theirs = (line.split("\t") for line in done.stdout.splitlines())
    assert header == ["name", "words", "Hz", "licence", "evidence", "installed"]
    assert mine == ["mine", "3", "22050", "CC0", "none", "at first use"]
    assert theirs == ["theirs", "3", "16000", "MIT", "a split (protocol won; a paper)", "no"]


def test_list_as_json(house: House, valid):
    store = house.store()
    import_file(house.checkpoint, name="theirs", store=store)
    import_file(store.resolve("mine"), name="own", store=store)
    (house.cache / "broken.safetensors").write_bytes(b"not weights")
    done = house.run("list", "--json")
    valid("weights", json.loads(done.stdout))
    valid("weights", json.loads(house.run("show", "own", "--json").stdout))
    records = {record["name"]: record for record in json.loads(done.stdout)}
    assert list(records) == ["mine", "theirs", "broken", "own"]
    assert {name: record["source"] for name, record in records.items()} == {
        "mine": "bundled",
        "theirs": "remote",
        "broken": "imported",
        "own": "imported",
    }
    assert [record["installed"] for record in records.values()] == [True, True, False, True]
    assert "is not a weights file" in records["broken"]["problem"]
    assert records["theirs"]["tags"] == ["rock", "piano", "happy"]
    assert records["theirs"]["tag_categories"] == ["genre", "instrument", "mood/theme"]
    assert records["theirs"]["path"] == str(house.cache / "theirs.safetensors")
    assert records["theirs"]["scores"][0]["pr_auc"] == 0.4422
    assert records["own"]["sha256"] == read_weights(house.cache / "own.safetensors").sha256
    assert records["broken"]["sha256"] is None
    assert all(record.keys() == records["mine"].keys() for record in records.values())


def test_list_on_a_terminal_is_a_table(house: House):
    text = "\n".join(plain_lines(house.shown(120, "list")))
    assert "a split (protocol won; a paper)" in text
    assert "theirs  3" in text
    assert "\t" not in text
    narrow = "\n".join(plain_lines(house.shown(60, "list")))
    assert max(map(len, narrow.splitlines())) <= 60
    assert "theirs" in narrow.split()
    assert "a split" not in narrow
    assert "0.9058" not in text


def test_show_says_the_rest(house: House):
    lines = dict(line.split("\t") for line in house.run("show", "theirs").stdout.splitlines())
    assert lines["figures"] == "ROC-AUC 0.9058, PR-AUC 0.4422 on a split (protocol won; a paper)"
    assert (lines["words: genre"], lines["words: mood/theme"]) == ("rock", "happy")
    assert lines["installed"] == "no"
    assert max(map(len, plain_lines(house.shown(60, "show", "theirs")))) <= 60
    listed = {record["name"]: record for record in json.loads(house.run("list", "--json").stdout)}
    assert json.loads(house.run("show", "mine", "--json").stdout) == listed["mine"]
    refused(house.run("show", "thiers"), 3, "did you mean 'theirs'")


def test_show_takes_a_file_and_all_take_a_short_name(house: House, valid, tmp_path: Path):
    file = save_deciding_weights(tmp_path / "run.safetensors")
    record = json.loads(house.run("show", file, "--json").stdout)
    valid("weights", record)
    assert (record["name"], record["source"], record["path"]) == ("deciding", "file", str(file))
    lines = [line.split("\t") for line in house.run("show", file).stdout.splitlines()]
    assert ["name", "deciding"] in lines
    assert ["word", "pace", "slow", "unverified", ".10"] in lines
    refused(house.run("show", __file__), 3, "is not a weights file, or is truncated")

    entry = ws.registry_entry("known", file.read_bytes(), tags=list(read_card(file).tags), short="kn")
    shutil.copy(file, house.registry.with_name("known.safetensors"))
    ws.write_registry(house.registry.parent, entry)
    lines = [line.split("\t") for line in house.run("show", "kn").stdout.splitlines()]
    assert ["name", "known, or kn"] in lines
    assert ["word", "pace", "slow", "unverified", ".10"] in lines
    installed = str(house.cache / "known.safetensors")
    for command in ("pull", "path"):
        assert house.run(command, "kn").stdout == f"{installed}\n"
    assert house.run("verify", "kn").stdout.splitlines()[1:] == [f"kn\tok\t{installed}"]


def test_show_has_what_is_known_of_every_word(house: House, valid):
    bundled = save_deciding_weights(house.registry.with_name("known.safetensors"), name="known")
    tags = read_card(bundled).tags
    ws.write_registry(
        house.registry.parent, ws.registry_entry("known", bundled.read_bytes(), tags=list(tags), scores=[])
    )
    house.cache.mkdir()
    shutil.copy(bundled, house.cache / "own.safetensors")
    records = json.loads(house.run("list", "--json").stdout)
    valid("weights", records)
    assert [record["name"] for record in records] == ["known", "own"]
    for record in records:
        assert record["cutoffs"]["guitar"] == 0.5
        assert record["cutoff_evidence"]["guitar"] == {"precision": 0.8, "on": "human"}
        assert record["evidence"]["guitar"]["roc_auc_interval"] == [0.85, 0.96]
        assert record["concepts"]["female against male"]["against"] == ["male"]
        assert record["tag_categories"][0] == "instrument"
    assert [line.split("\t")[4] for line in house.run("list").stdout.splitlines()[1:]] == [
        "1 word by people's tags, 1 word by its teachers"
    ] * 2

    lines = [line.split("\t") for line in house.run("show", "own").stdout.splitlines()]
    facts = {line[0]: line[1] for line in lines if line[0] != "word"}
    assert facts["people's tags"] == "63 tracks; their teacher had heard them"
    assert facts["its teachers"] == "one, two"
    assert "how often a track with the word scores higher" in facts["ROC-AUC"]
    words = {line[2]: line[1:2] + line[3:] for line in lines if line[0] == "word"}
    assert len(words) == 52
    assert words["guitar"] == [
        "instrument",
        "people's tags: ROC-AUC .91 (.85 to .96), PR-AUC .80 (.70 to .88), on 21 of 63 tracks",
        ".50, right in 80% by people",
    ]
    assert words["slow"] == ["pace", "unverified", ".10"]
    assert words["anyone sings"] == ["together", "people's tags: ROC-AUC .97, on 30 of 63 tracks (singing, vocals)", ""]
    for columns in (60, 100, 170):
        text = "\n".join(plain_lines(house.shown(columns, "show", "known")))
        assert max(map(len, text.splitlines())) <= columns
        assert {"instrument", "pace", "together"} <= {line.strip() for line in text.splitlines()}
    assert "guitar               people's tags: ROC-AUC .91 (.85 to .96), PR-AUC .80 (.70 to .88), on" in text


def test_list_and_path_load_no_torch(house: House):
    code = (
        "import sys\nfrom samptag.cli.app import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print([name for name in ('torch', 'numpy', 'safetensors') if name in sys.modules], file=sys.stderr)"
    )
    import_file(house.checkpoint, name="theirs", store=house.store())
    for arguments in (["list", "--json"], ["path", "mine"], ["path", "theirs"]):
        done = subprocess.run(
            [sys.executable, "-c", code, "weights", *arguments], env=house.environment, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "[]\n")


def test_pull_prints_the_paths(house: House):
    paths = [str(house.cache / f"{name}.safetensors") for name in ("theirs", "mine")]
    for force in ((), ("--force",)):
        done = house.run("pull", "theirs", "mine", *force)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == paths
    assert house.server.requests == [None, None]
    house.store().load("theirs")
    assert house.server.requests == [None, None]


def test_pull_shows_progress_on_a_terminal_only(house: House):
    house.server.answers = [ws.dribbled]
    assert re.search(r"theirs .*MB", house.shown(100, "pull", "theirs"))
    quiet = house.shown(100, "pull", "theirs", "--force", "--no-progress")
    assert plain_lines(quiet) == [str(house.cache / "theirs.safetensors")]
    assert len(house.server.requests) == 2


@pytest.mark.parametrize(("answer", "part"), [(ws.not_found, "404"), (ws.altered, "git blob id")])
def test_pull_of_something_else(house: House, answer: Callable[[ws.Answer], None], part: str):
    house.server.answers = [answer]
    by_hand = f"fetch {house.server.url} and save it as {house.cache / 'theirs.pth'}"
    refused(house.run("pull", "theirs"), 3, part, by_hand)
    assert not (house.cache / "theirs.safetensors").exists()


def test_pull_offline_and_by_hand(house: House):
    done = house.run("pull", "theirs", SAMPTAG_OFFLINE="1")
    refused(done, 3, "cannot fetch theirs.pth", "SAMPTAG_OFFLINE", str(house.cache / "theirs.pth"))
    assert done.stderr.count(house.server.url) == 1
    house.cache.mkdir(exist_ok=True)
    house.checkpoint.rename(house.cache / "theirs.pth")
    assert house.run("pull", "theirs", SAMPTAG_OFFLINE="1").returncode == 0
    assert house.server.requests == []


def test_pull_of_an_unknown_name(house: House):
    refused(house.run("pull", "thiers"), 3, "'thiers'", "did you mean 'theirs'")
    assert house.run("pull").returncode == 2


def test_path_installs_the_bundled_and_fetches_nothing(house: House):
    assert house.run("path", "mine").stdout == f"{house.cache / 'mine.safetensors'}\n"
    assert (house.cache / "mine.safetensors").read_bytes() == house.registry.with_name("mine.safetensors").read_bytes()
    refused(house.run("path", "theirs"), 3, "samptag weights pull theirs")
    assert house.server.requests == []


def test_path_where_the_cache_cannot_be_written(house: House):
    house.cache.write_text("a file in the way")
    done = house.run("path", "mine")
    assert (done.returncode, done.stdout) == (0, f"{house.registry.with_name('mine.safetensors')}\n")
    assert "cannot write the weights cache" in done.stderr


def test_verify(house: House, valid):
    house.store().install("theirs")
    done = house.run("verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split("\t")[:2] for line in done.stdout.splitlines()] == [
        ["name", "status"],
        ["mine", "ok"],
        ["theirs", "ok"],
    ]
    path = house.cache / "theirs.safetensors"
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)
    done = house.run("verify", "--json")
    assert (done.returncode, done.stderr) == (3, "")
    mine, theirs = json.loads(done.stdout)
    valid("verify", [mine, theirs])
    assert mine["sha256"] == read_weights(house.registry.with_name("mine.safetensors")).sha256
    assert (mine["status"], theirs["status"]) == ("ok", "failed")
    assert "altered" in theirs["detail"]
    assert path.read_bytes() == content


def test_verify_of_what_is_not_there(house: House):
    done = house.run("verify", "theirs", "thiers")
    assert (done.returncode, done.stderr) == (3, "")
    assert "theirs\tfailed\ttheirs is not installed" in done.stdout
    assert "no weights called 'thiers'" in done.stdout


def test_import_of_the_published_file(house: House):
    done = house.run("import", house.checkpoint, "--as", "theirs")
    assert (done.returncode, done.stdout) == (0, f"{house.cache / 'theirs.safetensors'}\n")
    assert house.store().check("theirs") == house.cache / "theirs.safetensors"
    assert house.server.requests == []


def test_import_of_a_checkpoint_of_ones_own(house: House, tmp_path: Path):
    torch.save(sample_state(50), tmp_path / "own.pth")
    document = json.loads(house.registry.read_text())
    document["tag_lists"] = json.loads(PROJECT_REGISTRY.read_text())["tag_lists"]
    house.registry.write_text(json.dumps(document))
    options = ("--layout", "sota-sample", "--tags", "mtat50", "--sample-rate", "16000", "--licence", "CC BY 4.0")
    done = house.run("import", tmp_path / "own.pth", "--as", "own", *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{house.cache / 'own.safetensors'}\n"
    own = json.loads(house.run("list", "--json").stdout)[-1]
    assert (own["name"], own["licence"], own["sample_rate"]) == ("own", "CC BY 4.0", 16_000)
    assert own["tags"][-4:] == ["country", "metal", "female voice", "choral"]
    refused(house.run("import", tmp_path / "own.pth", "--as", "own", *options), 2, "--force")


def test_import_refusals(house: House, tmp_path: Path):
    tags = tmp_path / "tags.txt"
    tags.write_text("guitar\nsitar\n")
    layout = ("--layout", "sota-sample", "--tags", tags, "--sample-rate", "16000")
    own = ("import", house.checkpoint, "--as", "own")
    refused(house.run(*own, *layout), 3, "dense.weight", "(3, 512)", "(2, 512)")
    refused(house.run(*own, *layout[:4]), 2, "belong together")
    refused(house.run(*own, "--layout", "x", *layout[2:]), 2, "no layout 'x'")
    refused(house.run(*own, *layout[:4], "--sample-rate", "0"), 2, "sample rate is 0")
    refused(house.run("import", house.checkpoint, "--as", "mine"), 3, "is not the published mine")
    assert not any(path.suffix == ".safetensors" for path in house.cache.glob("*"))
