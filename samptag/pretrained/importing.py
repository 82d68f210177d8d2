"""Files that a person has, made into installed weights."""

import dataclasses
from pathlib import Path
from typing import cast, get_args

from samptag.errors import UsageError, WeightsError
from samptag.files import os_errors_as
from samptag.pretrained.entries import NAME_PATTERN, Layout, Registry, TagList, WeightsEntry, parse_tags
from samptag.pretrained.foreign import install_published, save_converted
from samptag.pretrained.store import Store

__all__ = ["ForeignCheckpoint", "check_layout", "import_file", "named_tags"]

NOT_STATED = "not stated"
# A named list whose order differs in a layout's repository has that order under its name and this suffix.
_REPOSITORY_ORDER: dict[Layout, str] = {"sota-sample": "won", "sota-se": "won"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForeignCheckpoint:
    """What a bare state_dict does not say about itself.

    Parameters
    ----------
    layout : {"sota-sample", "sota-se"}
        Whose key names it has.
    tags : TagList
        In output order.
    sample_rate : int
        Hz of the waveforms it was trained on.

    Raises
    ------
    UsageError
        The sample rate is not above 0.
    """

    layout: Layout
    tags: TagList
    sample_rate: int

    def __post_init__(self) -> None:
        """Refuse a rate that is none."""
        if self.sample_rate < 1:
            raise UsageError(f"the sample rate is {self.sample_rate} Hz, but must be at least 1")


def check_layout(text: str) -> Layout:
    """The layout called `text`.

    Raises
    ------
    UsageError
        There is none.
    """
    for layout in get_args(Layout):
        if layout == text:
            return cast("Layout", layout)
    raise UsageError(f"there is no layout {text!r}: choose {' or '.join(get_args(Layout))}")


def named_tags(text: str, *, registry: Registry, layout: Layout) -> TagList:
    """The tag list that `text` means: a list of the registry, or a UTF-8 file with one tag a line.

    ``mtat50`` is the order of `layout`'s repository, in which ``metal`` and ``female voice`` change places.

    Raises
    ------
    UsageError
        There is no such list or file, or a tag in it is empty or there twice.
    """
    for name in (f"{text}-{_REPOSITORY_ORDER[layout]}", text):
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
    """The installed file, after checking `path` and putting it into the cache under `name`.

    Under a registry name only the published file is taken, byte for byte. Under any other name, a samptag weights file
    or a checkpoint that `foreign` describes.

    Parameters
    ----------
    path : Path
        The file; it stays as it is.
    name : str
        Name to install it under.
    store : Store
        Where.
    foreign : ForeignCheckpoint or None
        What a bare state_dict does not say.
    licence, training_data : str or None
        For the card, where the file does not say it.
    force : bool
        Replace an import of that name.

    Raises
    ------
    UsageError
        The name cannot be used.
    WeightsError
        The file cannot be used under that name.
    """
    if not path.is_file():
        raise WeightsError(f"there is no file {path}")
    entry = store.registry.entries.get(name)
    target = store.installed_path(name)
    with os_errors_as(WeightsError, f"cannot write {target}"):
        store.cache.mkdir(parents=True, exist_ok=True)
        if entry is not None:
            _import_published(path, entry, target, described=foreign is not None)
            return target
        _check_new_name(name, store, force)
        if foreign is None:
            _import_ours(path, name, target, licence=licence, training_data=training_data)
        else:
            save_converted(
                path,
                target,
                layout=foreign.layout,
                tags=foreign.tags,
                sample_rate=foreign.sample_rate,
                name=name,
                licence=licence or NOT_STATED,
                training_data=training_data or NOT_STATED,
                source=f"imported from {path.name}, layout {foreign.layout}",
            )
    return target


def _import_published(path: Path, entry: WeightsEntry, target: Path, *, described: bool) -> None:
    if described:
        raise UsageError(
            f"the registry knows layout, tags and sample rate of {entry.name}: leave those options out, "
            "or choose another name for a checkpoint of your own"
        )
    if (problem := entry.checksums.problem(path)) is not None:
        raise WeightsError(f"{path} is not the published {entry.name}: {problem}; choose another name for it")
    install_published(path, entry=entry, target=target)


def _check_new_name(name: str, store: Store, force: bool) -> None:
    if not NAME_PATTERN.fullmatch(name):
        raise UsageError(f"{name!r} cannot be a name: use letters, digits, '-' and '_'")
    # The cache may lie on a file system that does not tell upper from lower case.
    for taken in store.registry.entries:
        if taken.lower() == name.lower():
            raise UsageError(f"{name!r} would hide {taken} of the registry: choose another name")
    for taken in store.imported_names():
        if taken.lower() == name.lower() and not force:
            raise UsageError(f"there are weights called {taken} already: choose another name, or --force to replace")


def _import_ours(path: Path, name: str, target: Path, *, licence: str | None, training_data: str | None) -> None:
    from samptag.core.weights import load_model_file, save_model

    try:
        loaded = load_model_file(path)
    except WeightsError as error:
        if path.suffix == ".safetensors":
            raise
        layouts = "|".join(get_args(Layout))
        raise WeightsError(
            f"{error}; for a PyTorch state_dict give --layout {layouts}, --tags and --sample-rate"
        ) from error
    card = dataclasses.replace(
        loaded.card,
        name=name,
        licence=licence or loaded.card.licence,
        training_data=training_data or loaded.card.training_data,
    )
    save_model(target, loaded.model, card=card)
