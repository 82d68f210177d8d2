import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "numba", "resampy", "sklearn", "matplotlib", "soundfile", "numpy", "scipy")


def modules_after(code: str, environment: dict[str, str]) -> set[str]:
    script = f"import sys\ntry:\n {code}\nexcept SystemExit: pass\nsys.stderr.write(' '.join(sys.modules))"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, check=True)
    return {name.partition(".")[0] for name in process.stderr.decode().split()}


def test_the_help_of_a_command_loads_nothing_heavy(cli_environment):
    code = "sys.argv = ['samptag', 'tag', '--help']; from samptag.cli.app import main; main()"
    assert modules_after(code, cli_environment).isdisjoint(HEAVY)


def test_completion_knows_options_and_weights_without_loading_anything_heavy(samptag, cli_environment):
    environment = {
        **cli_environment,
        "_SAMPTAG_COMPLETE": "complete_bash",
        "COMP_WORDS": "samptag tag --model sota-mtat",
        "COMP_CWORD": "3",
    }
    names = subprocess.run([sys.executable, "-m", "samptag"], capture_output=True, env=environment, check=False)
    assert b"sota-mtat-sample" in names.stdout.split()
    assert modules_after("from samptag.cli.app import main; main()", environment).isdisjoint(HEAVY)
    environment |= {"COMP_WORDS": "samptag tag --thr", "COMP_CWORD": "2"}
    options = subprocess.run([sys.executable, "-m", "samptag"], capture_output=True, env=environment, check=False)
    assert options.stdout.split() == [b"--threshold"]


def test_version_and_help(samptag):
    from samptag import __version__

    assert samptag("--version").stdout.decode() == f"samptag {__version__}\n"
    text = samptag("-h").stdout.decode()
    for command in ("tag", "info"):
        assert f" {command} " in text
    bare = samptag(check=2)
    assert b"Usage" in bare.stdout


@pytest.mark.parametrize("group", ["data", "weights"])
def test_a_group_named_alone_shows_its_help_and_no_empty_error(samptag, group):
    result = samptag(group, check=2)
    assert f"Usage: samptag {group}".encode() in result.stdout
    assert not result.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["tga"], "No such command 'tga'"),
        (["tag", "--tpo", "3"], "No such option: --tpo"),
        (["tag", "--top", "many", "x"], "--top"),
        (["tag", "--threshold", "2", "x"], "--threshold"),
        (["tag", "--threshold", "nan", "x"], "--threshold"),
        (["tag", "--format", "yaml", "x"], "--format"),
        (["tag"], "nothing to tag"),
        (["tag", "--json", "--format", "csv", "x"], "cannot be combined"),
        (["tag", "--format", "csv", "--top", "3", "x"], "csv has a column for every tag"),
        (["tag", "-0", "x"], "--files-from"),
        (["tag", "--files-from", "-", "-"], "both"),
        (["tag", "--resume", "x"], "--resume needs --output"),
        (["tag", "--resume", "-o", "x.jsonl", "--taggram", "y.npz", "x"], "--taggram"),
        (["tag", "--taggram", "y.txt", "x"], ".npz, .csv, .png or .svg"),
        (["tag", "--embeddings", "y.csv", "x"], ".npz"),
        (["tag", "--files-from", "/nowhere/list", "--model", "x"], "cannot read the list /nowhere/list"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_code_2(samptag, arguments, expected):
    process = samptag(*arguments, check=2)
    lines = process.stderr.decode().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("samptag: error: ")
    assert expected in lines[0]
    assert process.stdout == b""


def test_debug_shows_the_traceback_wherever_it_stands(samptag):
    plain = samptag("tag", "--format", "csv", "--top", "3", "x", check=2).stderr
    assert b"Traceback" not in plain
    for arguments in (["--debug", "tag", "-0", "x"], ["tag", "-0", "x", "--debug"]):
        assert b"Traceback" in samptag(*arguments, check=2).stderr
    assert b"Traceback" not in samptag("tag", "-0", "--", "--debug", check=2).stderr


def test_a_full_disk_behind_standard_output_is_an_error(samptag, cli_environment):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "samptag", "info", "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=cli_environment,
            check=False,
        )
    assert process.returncode == 2
    assert process.stderr.decode().startswith("samptag: error: cannot write standard output")
    assert b"Traceback" not in process.stderr


def test_a_process_ends_with_its_command_whatever_its_threads_do(cli_environment):
    """The interpreter is not taken down under them."""
    code = "import atexit, sys; atexit.register(print, 'down'); from samptag.cli.app import run; run()"
    command = [sys.executable, "-c", code, "tag", "--no-such-option"]
    done = subprocess.run(command, capture_output=True, text=True, env=cli_environment, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("samptag: error: No such option: --no-such-option")
