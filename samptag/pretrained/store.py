"""Weights by name: where they are, and how they get there.

Every installed file is ``NAME.safetensors`` in the cache. A bundled one is copied there on first use; a remote one is
fetched as ``NAME.safetensors``, or as ``NAME.pth`` (a TensorFlow checkpoint as ``NAME.data-00000-of-00001`` and
``NAME.index``) and converted. A file of that name that a person puts there is used as if it had been fetched. Files
under other names are the user's own imports.
"""

from __future__ import annotations

import logging
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from samptag.core.card import ModelCard, read_card
from samptag.errors import DownloadError, WeightsError
from samptag.fetch import fetch, offline_asked
from samptag.files import locked, os_errors_as, os_reason, weights_folder
from samptag.pretrained.foreign import install_published
from samptag.pretrained.registry import NAME_PATTERN, Registry, WeightsEntry, load_registry
from samptag.text import Progress, did_you_mean

if TYPE_CHECKING:
    from samptag.core.weights import Weights

logger = logging.getLogger(__name__)

SUFFIX = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class Store:
    """The installed weights, and the means to install those of the registry."""

    registry: Registry  # names that are known
    cache: Path  # folder of installed files; made when something is installed
    offline: bool = False  # the network is forbidden
    progress: Progress | None = None  # counts the bytes of a download under the name of the weights

    def installed_path(self, name: str) -> Path:
        """Where the weights `name` are once they are installed."""
        return self.cache / (name + SUFFIX)

    def imported_names(self) -> tuple[str, ...]:
        """The names of the user's own imports, sorted."""
        try:
            stems = sorted(path.stem for path in self.cache.iterdir() if path.suffix == SUFFIX and path.is_file())
        except OSError:
            return ()
        return tuple(stem for stem in stems if NAME_PATTERN.fullmatch(stem) and stem not in self.registry.entries)

    @property
    def names(self) -> tuple[str, ...]:
        """All names: those of the registry, and the user's own imports."""
        return (*self.registry.entries, *self.imported_names())

    def problem(self, entry: WeightsEntry, path: Path | None = None) -> str | None:
        """Why the installed file of `entry` (or that at `path`) cannot be used, or None; a quick check, without torch.

        A file kept as published is compared with its digest. A converted one must have its full length and come from
        the published file; its content is compared with the digest inside it when it is loaded.
        """
        path = path or self.installed_path(entry.name)
        try:
            if entry.format == "samptag":
                return entry.checksums.problem(path)
            if read_card(path).source != entry.provenance:
                return "it does not come from the published file"
        except FileNotFoundError:
            return "it is not installed"
        except (OSError, WeightsError) as error:
            return str(error)
        return None

    def present(self, name: str) -> Path | None:
        """The file of `name` in the cache, else the one that samptag came with, else None; neither is checked."""
        entry = self.registry.find(name)
        installed = self.installed_path(name if entry is None else entry.name)
        if installed.is_file() and NAME_PATTERN.fullmatch(name):
            return installed
        return None if entry is None else self.registry.bundled_path(entry)

    def check(self, name: str) -> Path:
        """The file of `name` that exists, after comparing its digest and loading it; nothing is repaired."""
        from samptag.core.weights import read_weights

        path, entry = self.present(name), self.registry.find(name)
        if path is None:
            raise WeightsError(f"{name} is not installed" if entry else self._unknown(name))
        problem = None if entry is None else self.problem(entry, path)
        if problem is not None:
            raise WeightsError(f"{path}: {problem}; 'samptag weights pull --force {name}' installs it again")
        _check_tags(read_weights(path).card, entry, path)
        return path

    def resolve(self, name_or_path: str | os.PathLike[str]) -> Path:
        """The weights file that `name_or_path` means, put into the cache if need be.

        A registry name comes first, so that no file that happens to lie in the working directory can pose as
        published weights; then an existing file, or anything that looks like a path; then the user's imports.
        """
        entry = self.registry.find(name_or_path)
        if entry is not None:
            return self.install(entry.name)
        path = Path(name_or_path)
        if path.is_file():
            return path
        if path.is_dir():
            raise WeightsError(f"{path} is a folder; name the weights file in it")
        text = os.fspath(name_or_path)
        if name_or_path in self.imported_names():
            return self.installed_path(text)
        looks_like_path = not isinstance(name_or_path, str) or path.suffix or path.name != text
        raise WeightsError(f"there is no weights file {text}" if looks_like_path else self._unknown(text))

    def _unknown(self, name: str) -> str:
        hint = did_you_mean(name, self.names)
        hint = f"{hint} " if hint else ""
        return f"there are no weights called {name!r}: {hint}'samptag weights list' shows all names"

    def install(self, name: str, *, force: bool = False) -> Path:
        """The file of the registry's `name`, put into the cache where it is missing or damaged, or with `force`."""
        entry = self.registry.find(name)
        if entry is None:
            raise WeightsError(self._unknown(name))
        if not force and self.problem(entry) is None:
            return self.installed_path(entry.name)
        bundled = self.registry.bundled_path(entry)
        return self._install_remote(entry, force) if bundled is None else self._install_bundled(entry, bundled, force)

    def _install_bundled(self, entry: WeightsEntry, bundled: Path, force: bool) -> Path:
        try:
            problem = entry.checksums.problem(bundled)
        except OSError as error:
            problem = f"it cannot be read ({os_reason(error)})"
        if problem is not None:
            raise WeightsError(f"{bundled}, a part of samptag, is damaged: {problem}; reinstall samptag")
        installed = self.installed_path(entry.name)
        try:
            with self._lock(entry.name):
                problem = self.problem(entry)
                if force or problem is not None:
                    if installed.exists() and problem is not None:
                        logger.warning("replacing %s with the bundled file: %s", installed, problem)
                    install_published(bundled, entry=entry, target=installed)
        except OSError as error:
            reason = f"cannot write the weights cache {self.cache} ({os_reason(error)})"
            logger.warning("%s; using %s in place", reason, bundled)
            return bundled
        return installed

    def _install_remote(self, entry: WeightsEntry, force: bool) -> Path:
        failed = f"cannot write the weights cache {self.cache}"
        advice = "set SAMPTAG_CACHE to a folder that can be written"
        with os_errors_as(WeightsError, failed, advice=advice), self._lock(entry.name):
            if force or self.problem(entry) is not None:
                self._obtain(entry)
        return self.installed_path(entry.name)

    def _lock(self, name: str) -> AbstractContextManager[None]:
        return locked(self.cache / f".{name}.lock", waiting_for=f"another process that is installing {name}")

    def _obtain(self, entry: WeightsEntry) -> None:
        """Fetch what has to be fetched, and convert what has to be converted; the lock is held."""
        download = partial(fetch, offline=self.offline, what=entry.name, progress=self.progress)
        if entry.format == "samptag":
            assert entry.url is not None  # a bundled file is not fetched
            download(entry.url, self.installed_path(entry.name), checksums=entry.checksums)
            return
        originals = {self.cache / (entry.name + original.suffix): original for original in entry.originals}
        for path, original in originals.items():
            if path.is_file():
                problem = original.checksums.problem(path)
                if problem is None:
                    continue
                logger.warning("%s is not the published file: %s; fetching it", path, problem)
            download(original.url, path, checksums=original.checksums)
        install_published(next(iter(originals)), entry=entry, target=self.installed_path(entry.name))
        for path in originals:
            path.unlink()

    def load(self, name_or_path: str | os.PathLike[str]) -> Weights:
        """The weights that `name_or_path` means, as for `resolve`; an altered installed file is installed again."""
        from samptag.core.weights import read_weights

        path = self.resolve(name_or_path)
        entry = self.registry.find(name_or_path)
        try:
            loaded = read_weights(path)
        except WeightsError as damage:
            # The digest of a file kept as published was right a moment ago: fetching it again would change nothing.
            if entry is None or entry.format == "samptag":
                raise
            logger.warning("%s; installing it again", damage)
            try:
                loaded = read_weights(self.install(entry.name, force=True))
            except DownloadError as error:
                raise DownloadError(f"{damage}; {error}") from error
        _check_tags(loaded.card, entry, path)
        return loaded


def _check_tags(card: ModelCard, entry: WeightsEntry | None, path: Path) -> None:
    if entry is not None and card.tags != entry.tags.tags:
        raise WeightsError(f"{path} lists other tags than the registry has for {entry.name}; reinstall samptag")


def open_store(*, offline: bool | None = None, progress: Progress | None = None) -> Store:
    """The store of this user: the installed registry and the cache folder; parameters as for `load_model`."""
    offline = offline_asked() if offline is None else offline
    return Store(registry=load_registry(), cache=weights_folder(), offline=offline, progress=progress)
