"""`samptag tag` at work: inputs, weights and outputs brought together; imported once the options are checked."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

from samptag.cli.archives import Archive, CsvTaggram, NpzEmbeddings, NpzTaggram
from samptag.cli.console import download_bar, note
from samptag.cli.interrupts import Interrupts
from samptag.cli.journal import Journal
from samptag.cli.output import (
    binary_file,
    explain_write_errors,
    may_be_replaced,
    quiet_codecs,
    standard_output,
    text_file,
)
from samptag.cli.progress import Meter, tagging_progress
from samptag.cli.startup import without_collection
from samptag.cli.tag import DEFAULT_TOP, Format, TagRequest
from samptag.cli.writers import CsvWriter, JsonlWriter, JsonWriter, Selection, TsvWriter, Writer
from samptag.errors import UsageError
from samptag.ranks import Ranks
from samptag.tagging.files import STDIN, Input, expand_inputs, read_list

if TYPE_CHECKING:
    from samptag.core.weights import Weights
    from samptag.tagging import Tagger, TrackResult

__all__ = ["run"]

SOME_FAILED = 1

BYTES_A_SECOND = 16_000


def run(request: TagRequest) -> int:
    """The exit code, after everything asked for has been tagged and written.

    Parameters
    ----------
    request : TagRequest

    Returns
    -------
    int
        0, or 1 when inputs failed.

    Raises
    ------
    SamptagError
        When the run as a whole cannot go on.
    """
    ranks = Ranks.from_environment()
    inputs = _inputs(request, ranks) if ranks.leads else []
    with without_collection():
        tagger, selection = _tagger(request, inputs, ranks)
    quiet_codecs()
    with ranks.joined():
        return _Run(request, inputs, tagger, selection, ranks).run()


def _inputs(request: TagRequest, ranks: Ranks) -> list[Input]:
    if ranks.world_size > 1 and STDIN in (*request.paths, request.files_from):
        raise UsageError("standard input cannot be shared by the processes of torchrun; name files or folders")
    names = list(request.paths)
    if request.files_from is not None:
        try:
            data = sys.stdin.buffer.read() if request.files_from == STDIN else Path(request.files_from).read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read the list {request.files_from}: {error.strerror or error}") from error
        listed = read_list(data, null=request.null)
        if request.files_from == STDIN and STDIN in listed:
            raise UsageError("standard input cannot be both the list of files and the audio")
        names += listed
    return expand_inputs(names)


def _tagger(request: TagRequest, inputs: list[Input], ranks: Ranks) -> tuple[Tagger, Selection]:
    """What tags, and what is shown of it; importing NumPy and reading the weights."""
    loaded = _load(request)
    selection = _selection(request, loaded.card.tags)
    from samptag.tagging import Tagger

    tagger = Tagger(
        loaded,
        device=ranks.device(request.device),
        hop_seconds=request.hop_seconds,
        tail=request.tail.value,
        batch_size=request.batch_size,
        jobs=request.jobs,
        expected_seconds=_expected_seconds(inputs) if ranks.world_size == 1 else None,
    )
    return tagger, selection


def _expected_seconds(inputs: Sequence[Input]) -> float | None:
    """About how much music there is, taking all of it for MP3s of 128 kbit/s; None where a stream is among it."""
    total = 0
    for item in inputs:
        if item.path == STDIN:
            return None
        with suppress(OSError):
            total += os.stat(item.path).st_size
    return total / BYTES_A_SECOND


def _load(request: TagRequest) -> Weights:
    """The weights, with a progress bar if they are fetched."""
    from samptag.pretrained import DEFAULT, load_weights

    with download_bar("fetching weights", asked=request.progress) as report:
        return load_weights(request.model or DEFAULT, progress=report)


def _selection(request: TagRequest, known: Sequence[str]) -> Selection:
    """What is shown of each result.

    Raises
    ------
    UsageError
        When a tag is asked for that the weights do not have.
    """
    wanted: list[str] = []
    for text in request.tags:
        # A tag may hold a comma itself; nobody can then mean two tags by it.
        wanted += [text] if text in known else [part.strip() for part in text.split(",") if part.strip()]
    spelled = {tag.casefold(): tag for tag in reversed(known)}
    chosen = []
    for name in wanted:
        tag = name if name in known else spelled.get(name.casefold())
        if tag is None:
            close = difflib.get_close_matches(name.casefold(), list(spelled), n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(repr(spelled[match]) for match in close)}?" if close else "there is "
            raise UsageError(f"unknown tag {name!r}: {hint if close else hint + ', '.join(known)}")
        chosen.append(tag)
    tags = tuple(dict.fromkeys(chosen)) or None
    top: int | None = DEFAULT_TOP if tags is None and request.threshold is None else None
    if request.top is not None:
        top = request.top or None
    return Selection(top=top, threshold=request.threshold, tags=tags)


class _Run:
    """One run of the process that writes the results."""

    def __init__(
        self, request: TagRequest, inputs: list[Input], tagger: Tagger, selection: Selection, ranks: Ranks
    ) -> None:
        self._request = request
        self._inputs = inputs
        self._tagger = tagger
        self._selection = selection
        self._ranks = ranks
        self._n_failed = 0
        self._output_name = request.output or "standard output"
        # Then results and progress share one screen, and take turns on it.
        self._on_terminal = request.output is None and sys.stdout is not None and sys.stdout.isatty()

    def run(self) -> int:
        if not self._ranks.leads:
            for _ in self._results(self._inputs):
                pass
            return 0
        with Interrupts() as interrupts, ExitStack() as stack:
            writer = stack.enter_context(self._writer())
            archives = [stack.enter_context(archive) for archive in self._archives()]
            todo = [item for item in self._inputs if not (isinstance(writer, Journal) and item.path in writer)]
            meter = stack.enter_context(tagging_progress(len(todo), asked=self._request.progress))
            results = stack.enter_context(closing(self._results(todo, meter)))
            for result in results:
                self._report(result)
                with interrupts.held():
                    self._write(result, writer, archives, meter)
                meter.file_done()
                if result.error is not None and self._request.fail_fast:
                    break
        if self._n_failed and len(self._inputs) > 1:
            note(f"{self._n_failed} of {len(self._inputs)} inputs failed")
        return SOME_FAILED if self._n_failed else 0

    def _results(self, todo: list[Input], meter: Meter | None = None) -> Generator[TrackResult, None, None]:
        def tagged(items: Iterable[Input]) -> Generator[TrackResult, None, None]:
            on_seconds = None if meter is None or together else meter.seconds
            return self._tagger.tag_many(items, taggram=self._request.taggram is not None, on_seconds=on_seconds)

        together = self._ranks.world_size > 1
        for result in self._ranks.spread(todo, tagged, size=lambda item: item.size):
            if meter is not None and together:
                meter.seconds(result.duration)
            yield result

    def _report(self, result: TrackResult) -> None:
        for warning in result.warnings:
            note(f"warning: {result.path}: {warning}")
        if result.error is not None:
            self._n_failed += 1
            note(f"error: {result.error.message}")

    def _write(self, result: TrackResult, writer: Writer, archives: list[Archive], meter: Meter) -> None:
        with explain_write_errors(self._output_name), meter.aside() if self._on_terminal else nullcontext():
            writer.write(result)
        for archive in archives:
            archive.write(result)

    @contextmanager
    def _writer(self) -> Iterator[Writer]:
        output = self._request.output
        if output is not None and self._request.format is Format.jsonl and may_be_replaced(output):
            with self._journal(output) as writer:
                yield writer
            return
        if self._request.resume:
            raise UsageError(f"--resume cannot read {output}: it is no regular file")
        with standard_output() if output is None else text_file(output) as stream:
            writer = self._writer_for(stream)
            with explain_write_errors(self._output_name):
                writer.begin()
            try:
                yield writer
            finally:
                with explain_write_errors(self._output_name):
                    writer.finish()

    def _writer_for(self, stream: TextIO) -> Writer:
        selection = self._selection
        if self._request.format is Format.json:
            return JsonWriter(stream, selection, single=self._is_single())
        if self._request.format is Format.jsonl:
            return JsonlWriter(stream, selection)
        if self._request.format is Format.csv:
            return CsvWriter(stream, selection.tags or self._tagger.tags)
        if self._request.format is Format.table and stream.isatty():
            from samptag.cli.table import TableWriter

            return TableWriter(stream, selection)
        return TsvWriter(stream, selection)

    def _is_single(self) -> bool:
        """Whether one file was named: a folder makes an array even if one file is in it."""
        names = self._request.paths
        return self._request.files_from is None and len(names) == 1 and not os.path.isdir(names[0])

    @contextmanager
    def _journal(self, output: str) -> Iterator[Writer]:
        selection = self._selection
        settings = {
            "model": self._tagger.card.name,
            "hop": self._tagger.hop,
            "tail": self._tagger.tail,
            "top": selection.top,
            "threshold": selection.threshold,
            "tags": list(selection.tags) if selection.tags else None,
        }
        with Journal(output, settings=settings, selection=selection, resume=self._request.resume) as journal:
            if self._request.resume:
                n_kept = sum(item.path in journal for item in self._inputs)
                note(f"{n_kept} of {len(self._inputs)} inputs have been tagged before")
            try:
                yield journal
            except BaseException:
                note(journal.left_behind())
                raise
            journal.assemble(item.path for item in self._inputs)

    def _archives(self) -> Iterator[AbstractContextManager[Archive]]:
        card = self._tagger.card
        taggram, embeddings = self._request.taggram, self._request.embeddings
        if taggram is not None and taggram.lower().endswith(".csv"):
            yield _archive(taggram, lambda out: CsvTaggram(out, tags=card.tags))
        elif taggram is not None:
            yield _archive(taggram, lambda out: NpzTaggram(out, tags=card.tags, model=card.name))
        if embeddings is not None:
            size, rate = card.config.embedding_size, card.config.sample_rate
            yield _archive(embeddings, lambda out: NpzEmbeddings(out, model=card.name, sample_rate=rate, size=size))


class _NamedArchive:
    """An archive whose write errors name its file."""

    def __init__(self, path: str, archive: Archive) -> None:
        self._path, self._archive = path, archive

    def write(self, result: TrackResult) -> None:
        with explain_write_errors(self._path):
            self._archive.write(result)

    def finish(self) -> None:
        with explain_write_errors(self._path):
            self._archive.finish()


@contextmanager
def _archive(path: str, make: Callable[[BinaryIO], Archive]) -> Iterator[Archive]:
    with binary_file(path) as out:
        archive = _NamedArchive(path, make(out))
        try:
            yield archive
        finally:
            archive.finish()
