"""A person's own files, installed as weights."""

import dataclasses
import hashlib
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast, get_args

from samptag.errors import UsageError, WeightsError
from samptag.files import os_errors_as, os_reason
from samptag.pretrained.foreign import install_published, is_tensorflow, save_converted
from samptag.pretrained.registry import NAME_PATTERN, Layout, Original, Registry, TagList, WeightsEntry, parse_tags
from samptag.pretrained.store import Store
from samptag.pretrained.tensor_bundle import bundle_files

NOT_STATED = "not stated"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForeignCheckpoint:
    """What a foreign checkpoint does not say about itself."""

    layout: Layout  # whose key names it has
    tags: TagList  # in output order
    sample_rate: int  # Hz of the waveforms it was trained on

    def __post_init__(self) -> None:
        if self.sample_rate < 1:
            raise UsageError(f"the sample rate is {self.sample_rate} Hz, but must be at least 1")


def check_layout(text: str) -> Layout:
    """The layout called `text`; a UsageError if there is none."""
    if text not in get_args(Layout):
        raise UsageError(f"there is no layout {text!r}: choose {' or '.join(get_args(Layout))}")
    return cast("Layout", text)


def named_tags(text: str, *, registry: Registry) -> TagList:
    """The tag list that `text` means: a list of the registry, or a UTF-8 file with one tag per line.

    ``mtat50`` means ``mtat50-won``, the order of the layouts' repositories: ``metal`` before ``female voice``.
    """
    for name in (f"{text}-won", text):
        if name in registry.tag_lists:
            return registry.tag_lists[name]
    named = f"named lists are {', '.join(registry.tag_lists)}"
    try:
        with os_errors_as(UsageError, f"cannot read the tag list {text}", advice=named):
            lines = Path(text).read_text(encoding="utf-8-sig").rstrip().splitlines()
        return parse_tags([line.strip() for line in lines])
    except ValueError as error:
        raise UsageError(f"{text} is not a list of tags, one per line in UTF-8: {error}") from error


def import_file(
    path: Path,
    *,
    name: str,
    store: Store,
    foreign: ForeignCheckpoint | None = None,
    licence: str | None = None,
    training_data: str | None = None,
    force: bool = False,
) -> Path:
    """Check the file `path` and put a copy into the cache under `name`; returns the installed file.

    Under a registry name only what was published is accepted, byte for byte; under any other name, a samptag weights
    file or a checkpoint that `foreign` describes. For a TensorFlow checkpoint `path` is as for `bundle_files`; for a
    published one it may be a zip file that holds its files, such as the package's wheel. Licence and training data are
    for the card of an import; `force` replaces an import of that name.
    """
    entry = store.registry.entries.get(name)
    layout = foreign.layout if foreign else entry.format if entry else "samptag"
    if not path.is_file() and not (path.is_dir() and is_tensorflow(layout)):
        raise WeightsError(f"{path} is a folder; name the file in it" if path.is_dir() else f"there is no file {path}")
    target = store.installed_path(name)
    with os_errors_as(WeightsError, f"cannot write {target}"):
        store.cache.mkdir(parents=True, exist_ok=True)
        if entry is not None:
            _import_published(path, entry, target, described=foreign is not None)
            return target
        check_new_name(name, store, force=force)
        if foreign is None:
            _import_ours(path, name, target, licence=licence, training_data=training_data)
        else:
            save_converted(
                path,
                target,
                **vars(foreign),
                name=name,
                licence=licence or NOT_STATED,
                training_data=training_data or NOT_STATED,
                source=f"imported from {path.name}, layout {foreign.layout}",
            )
    return target


def _import_published(path: Path, entry: WeightsEntry, target: Path, *, described: bool) -> None:
    if described:
        advice = "leave those options out, or choose another name for a checkpoint of your own"
        raise UsageError(f"the registry knows layout, tags and sample rate of {entry.name}: {advice}")
    with _published_files(path, entry) as files:
        for file, checksums in zip(files, (entry.checksums, entry.index), strict=False):
            with os_errors_as(WeightsError, f"cannot read {file}"):
                problem = None if checksums is None else checksums.problem(file)
            if problem is not None:
                raise WeightsError(f"{file} is not the published {entry.name}: {problem}; choose another name for it")
        install_published(files[0], entry=entry, target=target)


@contextmanager
def _published_files(path: Path, entry: WeightsEntry) -> Iterator[tuple[Path, ...]]:
    """The file `path`; of a TensorFlow checkpoint its data and index, unpacked for the time being if in a zip file."""
    if entry.index is None:
        yield (path,)
    elif path.is_file() and zipfile.is_zipfile(path):
        with tempfile.TemporaryDirectory() as folder:
            for original in entry.originals:
                (Path(folder) / original.suffix).write_bytes(_member(path, entry, original))
            yield bundle_files(Path(folder))
    else:
        yield bundle_files(path)


def _member(path: Path, entry: WeightsEntry, original: Original) -> bytes:
    """The published file among the members of the zip file `path`."""
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.endswith(original.suffix) and info.file_size == original.checksums.size:
                    content = archive.read(info)
                    if hashlib.sha256(content).hexdigest() == original.checksums.sha256:
                        return content
    except (OSError, EOFError, RuntimeError, NotImplementedError, zlib.error, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} cannot be unpacked: {os_reason(error)}") from error
    raise WeightsError(f"{path} holds no {original.suffix} of the published {entry.name}")


def check_new_name(name: str, store: Store, *, force: bool = False) -> None:
    """Refuse a name that a person's own weights cannot have; `force` allows the name of another import."""
    if not NAME_PATTERN.fullmatch(name):
        raise UsageError(f"{name!r} cannot be a name: use letters, digits, '-' and '_'")
    # The cache may be on a file system that does not distinguish upper from lower case.
    for entry in store.registry.entries.values():
        if name.lower() in (known.lower() for known in entry.names):
            raise UsageError(f"{name!r} would hide {entry.name} of the registry: choose another name")
    for taken in store.imported_names():
        if taken.lower() == name.lower() and not force:
            raise UsageError(
                f"there are already weights called {taken}: choose another name, or --force to replace them"
            )


def _import_ours(path: Path, name: str, target: Path, *, licence: str | None, training_data: str | None) -> None:
    from samptag.core.weights import read_weights, save_model

    try:
        weights = read_weights(path)
    except WeightsError as error:
        if path.suffix == ".safetensors":
            raise
        options = f"--layout {'|'.join(get_args(Layout))}, --tags and --sample-rate"
        raise WeightsError(f"{error}; for a PyTorch state_dict give {options}") from error
    licence, data = licence or weights.card.licence, training_data or weights.card.training_data
    card = dataclasses.replace(weights.card, name=name, licence=licence, training_data=data)
    save_model(target, weights.tensors, card=card)
