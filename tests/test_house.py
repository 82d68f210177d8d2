"""The rules of the house: the public names, which room may import which, and what stays unloaded at start-up."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import samptag
from samptag import errors

PACKAGE = Path(samptag.__file__).parent
FLOORS = {
    "errors": 0,
    "text": 0,
    "lazy": 0,
    "ranks": 1,
    "files": 1,
    "fetch": 2,
    "core": 3,
    "audio": 3,
    "pretrained": 4,
    "engine": 4,
    "tagging": 5,
    "data": 5,
    "evaluation": 6,
    "report": 6,
    "training": 7,
    "library": 7,
    "cli": 8,
}
HEAVY = ("torch", "numba", "resampy", "sklearn", "scipy", "matplotlib", "soundfile", "av", "numpy", "safetensors")
HEAVY += ("jinja2", "pyarrow", "onnx")
MODULES = sorted(PACKAGE.rglob("*.py"))
ROOT = Path(__file__).resolve().parents[1]
# What stands at the top of the repository; a training's folder was committed there once.
TOP = {
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "README.md",
    "bench",
    "constraints.txt",
    "dev.py",
}
TOP |= {"docs", "pyproject.toml", "recipes", "samptag", "tests", "weights"}
DISTRIBUTIONS = {"sklearn": "scikit-learn"}  # where the import has another name


def imported(path: Path) -> list[str]:
    """Full dotted names of everything that `path` imports, at its top or inside a function."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which room is meant"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def room(path: Path) -> str:
    """The room a module of the package lies in; "" for the package's own __init__ and __main__."""
    first = path.relative_to(PACKAGE).parts[0]
    return "" if first in ("__init__.py", "__main__.py") else first.removesuffix(".py")


def room_of_name(name: str) -> str | None:
    """The room a dotted samptag name leads to, through the lazy public names as well; None outside the package."""
    parts = name.split(".")
    if parts[0] != "samptag":
        return None
    if len(parts) == 1 or parts[1].startswith("__"):
        return "errors"
    if parts[1] in samptag._LAZY:
        parts = samptag._LAZY[parts[1]].split(".")
    return "errors" if hasattr(errors, parts[1]) else parts[1]


def test_public_names():
    assert samptag.__all__ == [
        "AudioError",
        "DatasetError",
        "DeviceError",
        "DownloadError",
        "Library",
        "LibraryError",
        "ModelConfig",
        "OutputError",
        "SampleCNN",
        "SamptagError",
        "TagScore",
        "Tagger",
        "TrackResult",
        "UsageError",
        "WeightsError",
        "__version__",
        "evaluate",
        "load_model",
        "train",
    ]
    for name in samptag.__all__:
        assert getattr(samptag, name) is not None


def test_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="taggr"):
        _ = samptag.taggr


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_import_climbs(path: Path):
    own = room(path)
    if own == "":
        return
    assert own in FLOORS, f"{own} is a room that no floor names"
    for name in imported(path):
        other = room_of_name(name)
        if other is not None:
            assert FLOORS[other] <= FLOORS[own], f"{path}: {own} imports {name} from a floor above"
            assert {own, other} != {"core", "audio"}, f"{path}: core and audio do not know each other"


def test_no_two_files_import_each_other():
    """The `__init__` of packages left out: they only pass names on."""
    names = {".".join(("samptag", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in MODULES}
    imports = {
        module: {other for name in imported(path) for other in (name, name.rpartition(".")[0]) if other in names}
        for module, path in names.items()
    }
    pairs = {tuple(sorted((a, b))) for a in names for b in imports[a] if a != b and a in imports[b]}
    assert not pairs


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_only_the_command_line_knows_terminals(path: Path):
    if room(path) == "cli":
        return
    tops = {name.split(".")[0] for name in imported(path)}
    assert not tops & {"typer", "rich", "click"}
    if path.name != "__main__.py":
        assert not any(room_of_name(name) == "cli" for name in imported(path))


@pytest.mark.parametrize("code", ["import samptag", "from samptag.cli.app import main; main()"], ids=["import", "help"])
def test_start_up_loads_nothing_heavy(code: str):
    report = f"import sys; print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    script = f"try:\n    import sys; sys.argv = ['samptag', '--help']; {code}\nfinally:\n    {report}\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


TAGGING_NEEDS_NONE = ("torch", "numba", "sklearn", "scipy", "resampy", "matplotlib")


@pytest.mark.parametrize(
    "command",
    [["tag", "tests/media/eastern-dreams.mp3"], ["tag", "FOLDER", "--device", "cpu", "--json"], ["info"]],
    ids=["tag", "tag-folder", "info"],
)
def test_tagging_on_a_cpu_loads_numpy_only(command: list[str], tmp_path: Path):
    """A short job: a long one fetches the compiled passes."""
    from samptag.core.device import gpu_possible

    if command == ["info"] and gpu_possible():
        pytest.skip("only torch can say what the GPU is")
    (tmp_path / "music").mkdir()
    for clip in sorted((ROOT / "tests" / "media" / "set").iterdir())[:3]:
        shutil.copy(clip, tmp_path / "music")
    words = [str(tmp_path / "music") if word == "FOLDER" else word for word in command]
    report = f"import sys; print([name for name in {TAGGING_NEEDS_NONE} if name in sys.modules], file=sys.stderr)"
    script = f"import sys; sys.argv = ['samptag', *{words}]\ntry:\n    from samptag.cli.app import main; main()\n"
    script += f"finally:\n    {report}\n"
    environment = {**os.environ, "SAMPTAG_CACHE": str(tmp_path / "cache"), "SAMPTAG_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "[]"


def test_every_import_is_declared():
    declared = set(
        re.findall(r'^    "([a-z0-9-]+)>=', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    )
    declared |= set(re.findall(r'\["([a-z0-9-]+)>=', (ROOT / "pyproject.toml").read_text(encoding="utf-8")))
    tops = {name.split(".")[0] for path in MODULES for name in imported(path)}
    foreign = {DISTRIBUTIONS.get(top, top) for top in tops - sys.stdlib_module_names - {"samptag"}}
    assert foreign <= declared


def test_nothing_else_stands_at_the_top():
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert {line.split("/")[0] for line in listed.splitlines()} == TOP
