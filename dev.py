"""The set-up commands, for a machine with Python 3.10 or newer and nothing else.

::

    python3 dev.py try      install samptag into .venv and tag a piece of real music with the weights it ships
    python3 dev.py test     install samptag with its tools into .venv and run all tests in several processes; with
                            arguments, run pytest with them
    python3 dev.py check    the same installation; formatting, lint and types

Both installations live in `.venv` beside this file and are made again when pyproject.toml or constraints.txt change.
Only the standard library is used here, and no syntax that keeps an older Python from printing why it is too old.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
# A process more than cores, because tests wait for processes of their own. Work stealing: the slow tests lie in a few
# files, and a fixture made twice costs less than an idle core.
ALL_TESTS = ("-n", str(min((os.cpu_count() or 1) + 1, 8)), "--dist", "worksteal")
CLIP = ROOT / "tests" / "media" / "eastern-dreams.mp3"


def run(*command):
    """Run `command` in the checkout; a failure ends this script with the command's own exit code."""
    code = subprocess.call([str(part) for part in command], cwd=str(ROOT))
    if code:
        sys.exit(code)


def runs(python):
    """True when `python` is an interpreter that starts: a copied or half-made .venv does not."""
    try:
        return subprocess.call([str(python), "-c", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def pip_at_hand():
    """True when this Python has a pip that installs into others, which it can since 22.3."""
    try:
        return tuple(map(int, importlib.metadata.version("pip").split(".")[:2])) >= (22, 3)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return False


def make_venv():
    """Make .venv, without a pip where the one at hand does: to unpack another takes five seconds."""
    if runs(PYTHON):
        return
    options = ["--clear"]
    if pip_at_hand():
        options.append("--without-pip")
    elif importlib.util.find_spec("ensurepip") is None:
        sys.exit("dev.py: this Python has neither ensurepip nor pip; on Debian or Ubuntu: apt install python3-venv")
    run(sys.executable, "-m", "venv", *options, VENV)


def install(extra):
    """Install samptag, editable, with the optional dependencies `extra` unless that is already done."""
    wanted = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        wanted.update((ROOT / name).read_bytes())
    stamps = {name: VENV / ("installed-" + (name or "plain")) for name in ("", "dev")}
    make_venv()
    for stamp in {stamps[extra], stamps["dev"]}:
        if stamp.is_file() and stamp.read_text() == wanted.hexdigest():
            return
    own_pip = subprocess.call([str(PYTHON), "-c", "import pip"], stderr=subprocess.DEVNULL) == 0
    pip = [PYTHON, "-m", "pip"] if own_pip else [sys.executable, "-m", "pip", "--python", PYTHON]
    target = ".[" + extra + "]" if extra else "."
    # Compiling all of PyTorch and SciPy in advance took half of the time; what is imported is compiled then.
    options = ("--quiet", "--disable-pip-version-check", "--no-compile")
    run(*pip, "install", *options, "-c", "constraints.txt", "-e", target)
    stamps[extra].write_text(wanted.hexdigest())


def main():
    """Carry out the command named on the command line."""
    # Nothing is compiled in advance, so every process would compile PyTorch and keep none of it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if sys.version_info < (3, 10):  # noqa: UP036 (an older Python is what this line is for)
        sys.exit("dev.py: samptag needs Python 3.10 or newer; this is Python " + sys.version.split()[0])
    command, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("", [])
    if command == "try":
        install("")
        run(PYTHON, "-m", "samptag", "tag", *(arguments or [CLIP.relative_to(ROOT)]))
    elif command == "test":
        install("dev")
        run(PYTHON, "-m", "pytest", *(arguments or ALL_TESTS))
    elif command == "check":
        install("dev")
        run(PYTHON, "-m", "ruff", "format", "--check")
        run(PYTHON, "-m", "ruff", "check")
        run(PYTHON, "-m", "mypy", "--strict")
    else:
        sys.exit(__doc__)


main()
