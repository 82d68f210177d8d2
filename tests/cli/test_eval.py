import csv
import json
import re
import subprocess

import pytest
from media_manifest import make_manifest
from terminals import on_a_terminal, plain_lines
from tiny_weights import TINY_TAGS

from samptag.data.formats import open_dataset

TRUTH = "path,rock,calm,group\n1.mp3,1,0,a\n2.mp3,0,1,a\n3.mp3,1,1,b\n4.mp3,0,0,c\n"
SCORES = "path,calm,other,rock\n3.mp3,.6,0,.7\n1.mp3,.1,0,.8\n2.mp3,.9,0,.2\n4.mp3,.2,0,.75\n"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "gt.csv").write_text(TRUTH)
    (tmp_path / "est.csv").write_text(SCORES)
    return tmp_path


def rows(text):
    return list(csv.DictReader(text.decode().splitlines(), delimiter="\t"))


def test_any_systems_scores_as_json(samptag, valid, files):
    done = samptag("eval", "--scores", files / "est.csv", "--truth", files / "gt.csv", "--json")
    report = json.loads(done.stdout)
    valid("eval", report)
    assert report["schema"] == "samptag.eval/1"
    assert report["split"]["name"] == "gt.csv"
    assert (report["clips"], report["groups"], report["model"]) == (4, 3, "est.csv")
    assert report["macro"]["roc_auc"] == 0.875
    assert report["tags"][0] == {"tag": "rock", "positives": 2, "roc_auc": 0.75, "pr_auc": 0.833333}
    assert b"Accuracy" not in done.stdout
    assert done.stderr == b""


def test_piped_it_is_tab_separated_at_any_width(samptag, files):
    done = samptag("eval", "--scores", files / "est.csv", "--truth", files / "gt.csv", env={"COLUMNS": "20"})
    table = rows(done.stdout)
    assert [row["tag"] for row in table] == ["(macro)", "rock", "calm"]
    for row in table:
        assert (row["model"], row["split"], row["clips"], row["condition"]) == ("est.csv", "gt.csv", "4", "clean")
        assert re.fullmatch("[0-9a-f]{16}", row["hash"])
    assert float(table[0]["roc_auc_low"]) <= float(table[0]["roc_auc"]) <= float(table[0]["roc_auc_high"])


def test_against_another_system(samptag, valid, files):
    done = samptag(
        "eval", "--scores", files / "est.csv", "--truth", files / "gt.csv", "--against", files / "gt.csv", "--json"
    )
    valid("eval", json.loads(done.stdout))
    against = json.loads(done.stdout)["against"]
    assert against["model"] == "gt.csv"
    assert against["roc_auc_difference"] == -0.125
    assert against["meaningful"] == {"roc_auc": False, "pr_auc": False}
    assert against["agreement"]["top"] == 2
    assert b"the difference means nothing on these 3 groups" in done.stderr
    assert b"agreement with gt.csv: mean per-tag correlation 0." in done.stderr


def test_on_a_terminal_it_is_a_table(cli_environment, files):
    """The figures are beside the split's name and the number of clips."""
    arguments = ["eval", "--scores", files / "est.csv", "--truth", files / "gt.csv", "--against", files / "gt.csv"]
    text, code = on_a_terminal(arguments, {**cli_environment, "TERM": "xterm"}, 80, stderr=subprocess.DEVNULL)
    assert code == 0
    shown = "\n".join(plain_lines(text))
    assert "est.csv on gt.csv" in shown
    assert "4 clips, 3 groups" in shown
    assert "protocol not known" in " ".join(shown.split())
    assert "over test sets of this size" in " ".join(shown.split())
    assert "macro over 2 tags" in shown
    assert "difference" in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to score against: give --data DIR, or --scores FILE with --truth FILE"),
        (["--scores", "est.csv"], "nothing to score against"),
        (["--truth", "gt.csv"], "--truth holds no audio for a model to score"),
        (["--scores", "est.csv", "--truth", "gt.csv", "--data", "."], "--data and --truth cannot be combined"),
        (["--scores", "est.csv", "--truth", "gt.csv", "--model", "x"], "--model and --scores cannot be combined"),
        (["--scores", "est.csv", "--truth", "gt.csv", "--perturb", "gain:6"], "--perturb needs a model and audio"),
        (["--scores", "est.csv", "--truth", "gt.csv", "--resamples", "0"], "--resamples"),
        (["--scores", "est.csv", "--truth", "gt.csv", "--protocol", "won"], "--protocol needs a model and audio"),
        (["--data", ".", "--perturb", "reverb:3"], "--perturb reverb:3: write noise:SNRdB"),
        (["--data", ".", "--protocol", "kim"], "'kim' is not one of 'paper', 'won', 'all'"),
        (["--data", ".", "--tail", "cut"], "'cut' is not one of 'overlap', 'pad', 'drop'"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(samptag, files, arguments, message):
    (files / "manifest.csv").write_text("path,split,tags\nx.wav,test,quiet\n")
    (files / "x.wav").write_bytes(b"RIFF" + bytes(100))
    done = samptag("eval", *(files / each if (files / each).exists() else each for each in arguments), check=2)
    assert done.stdout == b""
    assert message in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


def test_an_empty_split_is_not_the_usual_one(samptag, files):
    (files / "manifest.csv").write_text("path,split,tags\nx.wav,test,quiet\n")
    (files / "x.wav").write_bytes(b"RIFF" + bytes(100))
    done = samptag("eval", "--scores", files / "est.csv", "--data", files, "--split", "", check=5)
    assert done.stderr.decode() == "samptag: error: manifest has no split '': choose manifest\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("est.csv", SCORES.replace(".9,0", "nan,0"), "est.csv, line 4 (2.mp3), column 'calm': 'nan'"),
        (
            "gt.csv",
            TRUTH.replace("3.mp3,1,1", "3.mp3,1,2"),
            "gt.csv, line 4 (3.mp3), column 'calm': '2' is not in [0, 1]",
        ),
        ("est.csv", SCORES.replace("4.mp3", "9.mp3"), "est.csv lacks 1 row of the truth: '4.mp3'"),
        ("est.csv", SCORES.replace("rock", "metal"), "est.csv lacks 1 tag of the truth: 'rock'"),
    ],
)
def test_bad_tables_are_one_line_and_exit_5(samptag, files, name, text, message):
    (files / name).write_text(text)
    (files / "out.json").write_text("the report of yesterday")
    command = ["eval", "--scores", files / "est.csv", "--truth", files / "gt.csv", "--output", files / "out.json"]
    done = samptag(*command, check=5)
    assert message in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
    assert (files / "out.json").read_text() == "the report of yesterday"


def test_output_goes_to_a_file_or_fails_before_the_work(samptag, files):
    command = ["eval", "--scores", files / "est.csv", "--truth", files / "gt.csv", "--output"]
    assert samptag(*command, files / "out.json").stdout == b""
    assert json.loads((files / "out.json").read_text())["clips"] == 4
    samptag(*command, files / "out.tsv")
    assert rows((files / "out.tsv").read_bytes())[0]["tag"] == "(macro)"
    assert b"nowhere" in samptag(*command, files / "nowhere" / "out.json", check=2).stderr
    assert sorted(path.name for path in files.iterdir()) == ["est.csv", "gt.csv", "out.json", "out.tsv"]


def test_a_model_on_a_data_set_from_end_to_end(samptag, valid, tiny_weights, tmp_path):
    """Figures, degraded ones too, predictions that score the same again, and exit code 1 for what is no sound."""
    data = tmp_path / "music"
    data.mkdir()
    (data / "noise.mp3").write_bytes(b"no sound at all " * 500)
    make_manifest(data, clips=6, also=["noise.mp3"])
    command = ["eval", "--data", data, "--model", tiny_weights, "--perturb", "gain:-12", "--resamples", "50"]
    done = samptag(*command, "--predictions", tmp_path / "est.csv", "--json", "--split", "manifest:test", check=1)
    report = json.loads(done.stdout)
    valid("eval", report)
    assert report["split"]["part"] == "test"
    assert (report["clips"], report["groups"], report["model"]) == (6, 2, "tiny-test")
    assert report["missing_tags"] == ["didgeridoo"]
    assert [clip["path"] for clip in report["failed"]] == ["noise.mp3"]
    listed = open_dataset(data).split_hash
    assert report["split"]["hash"] != listed
    assert f"{data}: manifest, split manifest ({listed}): 7 test clips".encode() in b" ".join(done.stderr.split())
    assert [each["perturbation"] for each in report["perturbations"]] == ["gain:-12dB"]
    assert b"1 clip left out of every figure" in done.stderr

    header, *lines = (tmp_path / "est.csv").read_text().splitlines()
    assert next(csv.reader([header])) == ["path", *TINY_TAGS, "protocol"]
    assert len(lines) == 6
    with (tmp_path / "gt.csv").open("w") as truth:
        truth.write("path,quiet,techno\n")
        truth.writelines(f"{line.split(',')[0]},{int('calm' in line)},{int('driving' in line)}\n" for line in lines)
    again = json.loads(
        samptag("eval", "--scores", tmp_path / "est.csv", "--truth", tmp_path / "gt.csv", "--json").stdout
    )
    figures = {tag["tag"]: tag for tag in report["tags"]}
    assert again["tags"] == [figures["quiet"], figures["techno"]]
    assert again["protocol"] == report["protocol"] == "all (hop 0.2976 s, tail overlap)"

    published = samptag(*command, "--protocol", "won", check=1)
    assert {row["protocol"] for row in rows(published.stdout)} == {"won"}
    dense = samptag(*command, "--hop", "0.5", "--tail", "drop", check=1)
    assert {row["protocol"] for row in rows(dense.stdout)} == {"all (hop 0.5 s, tail drop)"}
    assert b"leave out --hop and --tail" in samptag(*command, "--protocol", "paper", "--hop", "1", check=2).stderr


def test_two_processes_give_the_report_of_one(run_ranks, samptag, cli_environment, tiny_weights, tmp_path):
    data = make_manifest(tmp_path, clips=6)
    arguments = ["eval", "--data", str(data), "--model", str(tiny_weights), "--perturb", "noise:10", "--json"]
    one = samptag(*arguments, "--resamples", "20")
    first, second = run_ranks(["-m", "samptag", *arguments, "--resamples", "20"], env=cli_environment)
    assert (first.returncode, second.returncode, second.stdout) == (0, 0, ""), first.stderr + second.stderr
    assert json.loads(first.stdout) == json.loads(one.stdout)
