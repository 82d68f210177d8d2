"""Where results go when things go wrong around them: full disks, closed pipes, Ctrl-C, noise; and terminals."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from rich.cells import cell_len

from samptag.cli.console import shorten
from samptag.cli.output import interrupts_held


@pytest.fixture
def endless(tmp_path):
    """An input that never comes: a run that has it is not over before it is interrupted, however late that is."""
    path = tmp_path / "endless.wav"
    os.mkfifo(path)
    return path


@pytest.fixture
def start(cli_environment, tiny_weights):
    """``start(*arguments)``: a running `samptag tag`, on two cores if there are as many, with its streams as pipes."""
    started = []
    environment = {**cli_environment, "OMP_NUM_THREADS": "2"}

    def run(*arguments, **options):
        command = [sys.executable, "-m", "samptag", "tag", "--model", tiny_weights, *arguments]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        process = subprocess.Popen(command, env=environment, bufsize=0, **streams)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_ctrl_c_closes_the_array(start, library):
    process = start(library, "--json")
    head = [process.stdout.readline() for _ in range(3)]
    process.send_signal(signal.SIGINT)
    rest, stderr = process.communicate(timeout=300)
    array = json.loads(b"".join(head) + rest)
    assert 2 <= len(array) < 600
    assert all(record["error"] is None for record in array)
    assert process.returncode == 130, stderr
    note, interrupted = stderr.decode().splitlines()
    assert re.fullmatch(r"samptag: \d+ of 600 inputs done; -o FILE.jsonl keeps what is done, and --resume .*", note)
    assert interrupted == "samptag: interrupted"


def test_ctrl_c_waits_for_the_end_of_a_record():
    handler, written = signal.getsignal(signal.SIGINT), []

    def write():
        with interrupts_held():
            signal.raise_signal(signal.SIGINT)
            written.append("record")

    with pytest.raises(KeyboardInterrupt):
        write()
    assert written == ["record"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_reader_that_leaves_ends_it_quietly(start, library):
    process = start(library, "--format", "jsonl")
    record = json.loads(process.stdout.readline())
    process.stdout.close()
    assert record["error"] is None
    assert process.stderr.read() == b""
    assert process.wait(timeout=300) == 0


def test_a_full_disk_leaves_the_old_file(tag, media, tmp_path):
    target = tmp_path / "tags.json"
    target.write_text("old")

    def small_disk():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    process = tag(media / "set", "--output", target, check=2, preexec_fn=small_disk)
    assert process.stderr.decode() == f"samptag: error: cannot write {target}: File too large\n"
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["tags.json"]
    tag(media / "bay.wav", "--output", target)
    assert json.loads(target.read_text())["error"] is None


def test_outputs_that_cannot_be_written(tag, media, tmp_path):
    clip = media / "bay.wav"
    for target, reason in (
        (tmp_path, "it is a folder"),
        (tmp_path / "no" / "x.csv", "No such file or directory"),
        ("/dev/full", "No space left on device"),
    ):
        process = tag(clip, "--output", target, check=2)
        assert process.stderr.decode() == f"samptag: error: cannot write {target}: {reason}\n"
    closed = tag(clip, check=2, preexec_fn=lambda: os.close(1))
    assert b"standard output is closed" in closed.stderr


def test_output_through_a_link_changes_what_it_leads_to(tag, media, tmp_path):
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")
    tag(media / "bay.wav", "-o", tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text().startswith("path,guitar,")


def test_a_run_that_was_killed_goes_on_and_gives_the_same_file(tag, start, short_set, endless, broken_file, tmp_path):
    first, second, third = folders = [tmp_path / name for name in ("00", "01", "02")]
    for folder in folders:
        shutil.copytree(short_set, folder)
    broken_file("text.mp3").rename(first / "at the head.mp3")
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    tag(first, second, "-o", whole, check=1)
    part = tmp_path / "killed.jsonl.part"
    # twice, since a cut record that the first --resume left in the file would show at the second only
    for inputs, lines in (([first, endless], 12), ([first, second, endless, "--resume"], 30)):
        process = start(*inputs, "-o", killed)
        while not part.exists() or part.read_bytes().count(b"\n") < lines:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.wait()
        kept = part.read_bytes()
        assert not killed.exists()
        part.write_bytes(kept + b'{"schema": "samptag.tag/1", "pa')  # a record cut off in the middle

    other = tag(first, second, "-o", killed, "--resume", "--hop", "1", check=2)
    assert b"made with hop" in other.stderr

    again = tag(first, second, "-o", killed, "--resume", check=1)
    records = map(json.loads, kept[: kept.rindex(b"\n")].splitlines()[1:])  # without the settings
    n_kept = sum(record["error"] is None for record in records)
    assert f"samptag: {n_kept} of 49 inputs were tagged before" in again.stderr.decode()
    assert killed.read_bytes() == whole.read_bytes()
    assert not part.exists()

    (first / "at the head.mp3").unlink()
    more = tag(first, third, "-o", killed, "--resume")
    assert b"24 of 48 inputs were tagged before" in more.stderr
    assert [json.loads(line)["error"] for line in killed.read_text().splitlines()] == [None] * 48


def test_ctrl_c_keeps_the_records_and_says_how_to_go_on(start, library, endless, tmp_path):
    target = tmp_path / "tags.jsonl"
    target.write_text("old\n")
    process = start(library, endless, "-o", target)
    part = tmp_path / "tags.jsonl.part"
    while not part.exists() or part.read_bytes().count(b"\n") < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130, stderr
    assert "--resume goes on from them" in stderr.decode()
    assert target.read_text() == "old\n"
    assert part.exists()


def test_resume_refuses_files_of_another_kind(tag, media, tmp_path):
    target = tmp_path / "x.jsonl"
    target.write_text("path,guitar\na.mp3,0.5\n")
    process = tag(media / "bay.wav", "-o", target, "--resume", check=2)
    assert b"holds something other than tags" in process.stderr
    target.write_text(json.dumps({"schema": "samptag.tag/1", "model": "other", "path": "a.mp3", "error": None}) + "\n")
    process = tag(media / "bay.wav", "-o", target, "--resume", check=2)
    assert b"made with the weights other" in process.stderr


def test_noise_on_standard_output_stays_out_of_the_document(cli_environment):
    code = """
        import ctypes, os, sys
        from samptag.cli.output import standard_output
        libc = ctypes.CDLL(None)
        with standard_output() as out:
            out.write("data\\n")
            libc.puts(b"noise of a C library")
            libc.fflush(None)
            os.system("echo noise of a process")
            print("noise of a print")
        print("after")
    """
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, env=cli_environment, check=True
    )
    assert process.stdout == b"data\nafter\n"
    assert process.stderr.count(b"noise") == 3


@pytest.mark.parametrize(
    "text", ["👍🏽👍🏽bb🎵👍🏽👍🏽👍🏽👨‍👩‍👧❤️❤️", "日本語の音楽です 日本語", "a plain name of a song"]
)
@pytest.mark.parametrize("cells", [1, 2, 9, 18])
def test_shortened_names_fit_whatever_their_characters(text, cells):
    shown = shorten(text, cells)
    assert "…" in shown
    assert cell_len(shown) <= cells


def test_tables_on_a_terminal(media, tiny_weights, on_a_terminal, broken_file):
    files = [media / "bay.wav", broken_file("text.mp3"), media / "set" / "driving-12-david-03.opus"]
    arguments = ["tag", "--model", tiny_weights, *files]
    text, code = on_a_terminal(40, *arguments)
    assert code == 1
    assert "█" in text
    assert "\x1b[" in text
    assert "× real time" in text  # the bar, on the same terminal
    assert text.count("  \x1b[2m6.0 s") == 1
    assert "samptag: 2 files tagged, 1 failed; " in text
    assert "text.mp3: not a sound file" in text
    assert "…" in text  # paths are longer than the terminal is wide

    plain, _ = on_a_terminal(40, *arguments, "--no-progress", env={"NO_COLOR": "1"})
    assert "\x1b[3" not in plain
    assert "█" in plain
    lines = [line for line in re.sub("\x1b\\[[0-9;]*m", "", plain).splitlines() if "samptag:" not in line]
    assert max(map(len, lines)) <= 40

    good = ["tag", "--model", tiny_weights, files[0], files[2], "--json", "--no-progress"]
    data, code = on_a_terminal(20, *good)
    assert code == 0
    assert len(json.loads(data)) == 2
