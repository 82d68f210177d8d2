import json
import shutil
from pathlib import Path

import pytest

SET = sorted((Path(__file__).parents[1] / "media" / "set").glob("*.opus"))


@pytest.fixture
def data(samptag):
    """``data("check", folder, ..., check=0)``: exit code checked, standard output and error as text."""

    def run(*arguments, **options):
        process = samptag("data", *arguments, **options)
        return process.stdout.decode(), process.stderr.decode()

    return run


@pytest.fixture
def songs(tmp_path):
    folder = tmp_path / "songs"
    folder.mkdir()
    rows = ["path,split,tags"]
    for number, split in enumerate(("train", "train", "valid", "test")):
        name = f"söng {number}, with a name much longer than a narrow terminal.opus"
        shutil.copy(SET[number], folder / name)
        rows.append(f'"{name}",{split},calm;harp' if number % 2 else f'"{name}",{split},calm')
    (folder / "manifest.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder


def test_check_prints_one_json_document(data, valid, songs):
    out, err = data("check", songs, "--json")
    record = json.loads(out)
    valid("data", record)
    assert err == ""
    assert (record["schema"], record["format"], record["clips"]) == ("samptag.data/1", "manifest", 4)
    assert record["ok"] is True


def test_check_in_a_pipe_is_tab_separated_and_never_cut(data, songs):
    stray = "stray song, also with a name longer than a terminal.opus"
    (songs / stray).write_bytes(SET[5].read_bytes())
    lines = [line.split("\t") for line in data("check", songs, env={"COLUMNS": "20"})[0].splitlines()]
    assert ["format", "manifest"] in lines
    assert ["tag", "harp", "", "1", "0", "1"] in lines
    assert [line[1:3] for line in lines if line[0] == "part"] == [["train", "2"], ["valid", "1"], ["test", "1"]]
    assert [line[2] for line in lines if line[1] == "unlisted"] == [stray]


def test_check_on_a_terminal_draws_tables(songs, on_a_terminal):
    shown, code = on_a_terminal(80, "data", "check", songs)
    assert code == 0
    for word in ("┃", "calm", "train", "manifest"):
        assert word in shown


def test_check_ends_with_one_when_clips_are_missing(data, valid, songs):
    first = next(path for path in songs.iterdir() if "söng 0" in path.name)
    first.unlink()
    record = json.loads(data("check", songs, "--json", check=1)[0])
    valid("data", record)
    assert record["ok"] is False
    assert [problem["kind"] for problem in record["problems"] if problem["path"] == first.name] == ["missing"]


def test_decoding_finds_what_a_header_hides(data, songs):
    victim = next(path for path in songs.iterdir() if "söng 1" in path.name)
    victim.write_bytes(victim.read_bytes()[:7000])
    data("check", songs, check=0)
    assert f"problem\tdamaged\t{victim.name}\t" in data("check", songs, "--decode", check=1)[0]


def test_codecs_own_lines_about_damaged_clips_are_not_seen(data, songs, broken_file):
    shutil.copy(broken_file("hole.mp3"), songs / "hole.mp3")
    with (songs / "manifest.csv").open("a") as table:
        table.write("\nhole.mp3,train,calm\n")
    _, loud = data("check", songs, "--decode", "--debug", check=None)
    assert "libmpg123" in loud, "the clip no longer makes the codec speak: the test needs another one"
    _, err = data("check", songs, "--decode", check=None)
    assert all(line.startswith("samptag: ") for line in err.splitlines())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "{}/absent"], "absent: no such folder or manifest"),
        (["check", "{}"], "no data set recognised"),
        (["check", "{}", "--format", "gtzan"], "there is no format 'gtzan'"),
        (["prepare", "{}"], "no data set recognised"),
        (["unpack", "{}"], "no mp3.zip.001 to unpack"),
        (["download", "mtat", "{}/new"], "mirg.city.ac.uk/datasets/magnatagatune/annotations_final.csv and save it as"),
    ],
)
def test_errors_are_one_line_and_exit_code_five(data, tmp_path, arguments, words):
    out, err = data(*(argument.format(tmp_path) for argument in arguments), check=5)
    assert out == ""
    assert err.startswith("samptag: error: ")
    assert err.count("\n") == 1
    assert words in err


def test_prepare_prints_where_the_cache_is_and_what_it_left_out(data, valid, songs, tmp_path):
    with (songs / "manifest.csv").open("a", encoding="utf-8") as file:
        file.write("\nbroken.mp3,train,calm\n")
    (songs / "broken.mp3").write_text("no music")
    command = ("prepare", songs, "--sample-rate", 16_000, "--cache", tmp_path / "caches")
    out, err = data(*command)
    folder = Path(out.strip())
    assert folder.parent == tmp_path / "caches"
    assert sum(file.stat().st_size for file in folder.glob("*.i16")) > 4 * 5 * 16_000 * 2
    assert "1 of 5 clips left out" in err
    record = json.loads(data(*command, "--json")[0])
    valid("prepare", record)
    assert (record["cache"], record["clips"], record["left_out"]) == (str(folder), 4, 1)
    report = json.loads(Path(record["report"]).read_text(encoding="utf-8"))
    assert [item["path"] for item in report["left_out"]] == ["broken.mp3"]


def test_only_mtat_can_be_fetched(data, tmp_path):
    assert "only mtat" in data("download", "msd", tmp_path, check=2)[1]
