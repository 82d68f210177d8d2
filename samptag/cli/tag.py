"""`samptag tag`: its options, and the run from the inputs to the files."""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Callable, Container, Sequence
from contextlib import ExitStack, closing, nullcontext
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from samptag.cli.console import SOME_FAILED, Bar, Meter, detail, error, note, warn
from samptag.cli.options import Device, Hop, Inputs, Model, Progress, complete_tags, completion, under, weights_panel
from samptag.cli.output import interrupts_held, known_suffix, may_be_replaced, silence_codecs
from samptag.cli.writers import BESIDE, FORMATS, About, Selection, TsvWriter, Writer, opened
from samptag.core.protocols import Tail
from samptag.errors import UsageError
from samptag.files import os_errors_as
from samptag.lazy import without_collection
from samptag.ranks import Ranks
from samptag.text import clock, counted, did_you_mean

if TYPE_CHECKING:
    from samptag.core.card import ModelCard
    from samptag.tagging.files import Input
    from samptag.tagging.result import TrackResult
    from samptag.tagging.tagger import Tagger

TABLE = "table"
BOTH_FROM_STDIN = "standard input cannot be both the list of files and the audio"
# More files than this are shown with a line each, as folders and lists are.
MOST_TABLES = 4

_FORMS = "; ".join(f"{name}: {form.help}" for name, form in FORMATS.items())
# Options by the panel of the help page that lists them.
_input = partial(typer.Option, rich_help_panel="Input")
_shown = partial(typer.Option, rich_help_panel="What is shown")
_written = partial(typer.Option, rich_help_panel="Where it goes")
_run = partial(typer.Option, rich_help_panel="The run")


def tag(
    paths: list[str] | None = typer.Argument(
        None, metavar="PATH...", help="Files, folders (with all audio below them), or - for standard input."
    ),
    top: int | None = _shown(
        None,
        metavar="K",
        min=0,
        help="At most K tags per input, best first; 0 for all. By default 5, or all with --decide, --threshold or "
        "--tags; on a terminal the best of each category or, of each of more than four files, the tags past their "
        "cut-offs (3 if the weights have none).",
    ),
    threshold: float | None = _shown(None, metavar="SCORE", min=0.0, max=1.0, help="Show only scores of this or more."),
    tags: list[str] | None = _shown(
        None, metavar="TAG,...", help="Show only these tags, separated by commas.", autocompletion=complete_tags
    ),
    decide: bool = _shown(
        False, "--decide", help="Show only tags past their cut-offs, or 'unsure'; needs weights with cut-offs."
    ),
    over_time: bool = _shown(False, "--over-time", help="Draw each tag's scores over time, on a terminal."),
    format: str | None = _written(
        None,
        "--format",
        "-f",
        metavar="FORMAT",
        help=f"By default the suffix of --output decides, else table (tab-separated lines in a pipe). {_FORMS}.",
        autocompletion=completion(TABLE, *FORMATS),
    ),
    json: bool = _written(False, "--json", help="The same as --format json."),
    output: str | None = _written(
        None,
        "--output",
        "-o",
        metavar="FILE",
        help="Write to this file instead of standard output; an old one stays until the new one is complete.",
    ),
    resume: bool = _written(
        False,
        "--resume",
        help="Continue an earlier run with the same --output FILE (jsonl): tag only what is missing.",
    ),
    taggram: str | None = _written(
        None,
        metavar="FILE",
        help="Also write the scores of every segment to .npz or .csv, or draw them to .png or .svg.",
    ),
    labels: str | None = _written(
        None,
        metavar="FILE",
        help="Also write labels for Audacity to .txt: where each tag scores at least --threshold (else its cut-off, "
        "else 0.5).",
    ),
    embeddings: str | None = _written(None, metavar="FILE", help="Also write each input's mean embedding to .npz."),
    files_from: str | None = _input(
        None, metavar="FILE", help="Tag what this file lists, one path per line; - for standard input."
    ),
    null: bool = _input(False, "--null", "-0", help="Paths in the list end in NUL (find -print0)."),
    model: Model = None,
    device: Device = "auto",
    hop: Hop = None,
    tail: Tail = typer.Option(
        "overlap",
        metavar="|".join(get_args(Tail)),
        help="What becomes of the rest after the last whole segment: one more segment that ends with the sound, one "
        "filled up with zeros, or nothing.",
        rich_help_panel=weights_panel,
    ),
    batch_size: int | None = _run(
        None, metavar="N", min=1, help="Segments per pass on a GPU; by default what suits it."
    ),
    jobs: Annotated[int | None, under("The run", Inputs)] = None,
    progress: Annotated[bool | None, under("The run", Progress)] = None,
    fail_fast: bool = _run(False, "--fail-fast", help="Stop at the first input that fails."),
) -> None:
    """Tag music: files, whole folders, or a stream.

    $ samptag tag song.mp3
    $ samptag tag song.mp3 --decide
    $ samptag tag song.mp3 --over-time --tags guitar,piano
    $ samptag tag ~/Music -o tags.jsonl --resume
    $ find . -name '*.flac' -print0 | samptag tag --files-from - -0 --json

    On a terminal a song gets a line each for genre, mood, instruments, voice and pace; a tag with a question mark is
    not past its cut-off. Results go to standard output in the order of the inputs, everything else to standard error.
    The exit code is 0 if all inputs were tagged and 1 if some failed; the others are complete then.
    """
    form = _form(format, json=json, output=output)
    # Asked now: while results are written, descriptor 1 leads where errors go.
    on_terminal = output is None and sys.stdout is not None and sys.stdout.isatty()
    if not paths and files_from is None:
        raise UsageError("nothing to tag: name files or folders, or - for standard input (see 'samptag tag --help')")
    if null and files_from is None:
        raise UsageError("-0 says how --files-from is written; give --files-from FILE as well")
    if files_from == "-" and "-" in (paths or ()):
        raise UsageError(BOTH_FROM_STDIN)
    if form == "csv" and (top is not None or threshold is not None):
        raise UsageError("csv has a column for every tag: choose columns with --tags, or take --format tsv")
    if threshold is not None and not math.isfinite(threshold):
        raise UsageError(f"--threshold {threshold} is not a number between 0 and 1")
    if resume and (output is None or form != "jsonl"):
        raise UsageError("--resume needs --output FILE with --format jsonl, which keeps records one by one")
    if resume and (taggram or labels or embeddings):
        raise UsageError("--resume tags only what is missing: --taggram, --labels and --embeddings would lack the rest")
    if on_terminal and form != TABLE and FORMATS[form].binary:
        raise UsageError(f"{form} is no text for a terminal: give --output FILE.{form}")
    by_segment = over_time or taggram is not None or labels is not None
    asked = {"--taggram": taggram, "--labels": labels, "--embeddings": embeddings}
    named = [(option, path, BESIDE[option]) for option, path in asked.items() if path is not None]
    beside = [(path, forms[known_suffix(option, path, forms)]) for option, path, forms in named]

    ranks = Ranks.from_environment()
    if ranks.world_size > 1 and "-" in (*(paths or ()), files_from):
        raise UsageError("standard input cannot be shared by the processes of torchrun; name files or folders")
    try:
        inputs, single = _inputs(paths or [], files_from, null=null) if ranks.leads else ([], False)
    except UsageError:
        with ranks.joined():  # the others wait there, and end when this one does
            raise
    tagger = open_tagger(
        model,
        device=ranks.device(device),
        hop_seconds=hop,
        tail=tail,
        batch_size=batch_size,
        jobs=jobs,
        expected_seconds=expected_seconds(inputs) if ranks.world_size == 1 else None,
        progress=progress,
    )
    if over_time and (form != TABLE or not on_terminal):
        raise UsageError("--over-time draws on a terminal; --taggram FILE writes the same scores")
    selection = _selection(tags or [], top, threshold, decide, card=tagger.card)
    writer: type[Writer] = TsvWriter if form == TABLE else FORMATS[form]
    if form == TABLE and on_terminal:
        from samptag.cli.table import CategoryWriter, LineWriter, StripWriter, TableWriter

        by_category = tagger.card.tag_categories is not None and (selection.usual or decide)
        one_each = single or (files_from is None and len(inputs) <= MOST_TABLES)
        tables = CategoryWriter if by_category else TableWriter
        writer = StripWriter if over_time else tables if one_each else LineWriter
    about = About(selection=selection, card=tagger.card, paths=tuple(item.path for item in inputs), single=single)
    silence_codecs()
    work, size = partial(tagger.tag_many, taggram=by_segment), attrgetter("size")
    if not ranks.leads:
        with ranks.joined():
            for _ in ranks.spread([], work, size=size):
                pass
        return

    with ranks.joined(), ExitStack() as stack:
        # A shell that runs this in the background makes it ignore Ctrl-C; here Ctrl-C ends the run even so.
        previous = signal.signal(signal.SIGINT, signal.default_int_handler)
        stack.callback(signal.signal, signal.SIGINT, previous)
        kept: Container[str] = ()
        writes: list[Callable[[TrackResult], None]] = []
        if output is not None and form == "jsonl" and may_be_replaced(output):
            from samptag.cli.journal import Journal

            journal = stack.enter_context(Journal(output, tagger=tagger, about=about, resume=resume))
            kept = journal
            writes.append(journal.write)
        elif resume:
            raise UsageError(f"--resume cannot read {output}: not a regular file")
        else:
            writes.append(stack.enter_context(opened(writer, output, about)))
        writes += [stack.enter_context(opened(archive, path, about)) for path, archive in beside]
        todo = [item for item in inputs if item.path not in kept]
        meter = Meter(todo, asked=progress)
        if ranks.world_size == 1:
            work = partial(work, on_seconds=meter.seconds)
        results = stack.enter_context(closing(ranks.spread(todo, work, size=size)))
        # Results and progress may share one screen, and take turns on it.
        turns = meter.bar.aside if on_terminal else nullcontext
        try:
            with meter.bar:
                for result in results:
                    tell(result)
                    with interrupts_held():
                        with turns():
                            for write in writes:
                                write(result)
                        meter.finished(result)
                    if result.error is not None and fail_fast:
                        break
        except KeyboardInterrupt:
            if len(todo) > 1:
                done = f"{meter.n_done} of {counted(len(todo), 'input')} done"
                if output is not None and form != "jsonl":
                    done += f"; {output} is written only as a whole"
                if output is None or form != "jsonl":  # else the journal says the rest
                    done += "; -o FILE.jsonl keeps what is done, and --resume goes on from it"
                note(done)
            raise
    # Below a document on a terminal, a line for people would be taken for a part of it.
    watched = sys.stderr is not None and sys.stderr.isatty() and (form == TABLE or not on_terminal)
    if watched and (len(inputs) > 1 or output is not None):
        note(meter.overview(output))
    elif meter.n_failed and len(inputs) > 1:
        note(f"{meter.n_failed} of {len(inputs)} inputs failed")
    raise typer.Exit(SOME_FAILED if meter.n_failed else 0)


def _form(asked: str | None, *, json: bool, output: str | None) -> str:
    """The name of the format that is written: as asked, else by the suffix of the output file."""
    if json and asked not in (None, "json"):
        raise UsageError(f"--json and --format {asked} cannot be combined")
    if asked not in (None, TABLE, *FORMATS):
        raise UsageError(f"--format {asked}: choose {', '.join((TABLE, *FORMATS))}")
    if json or asked is not None:
        return asked or "json"
    if output is None or not may_be_replaced(output):  # a device or a pipe has no suffix to go by
        return TABLE
    return known_suffix("--output", output, FORMATS, else_say="--format")


def _inputs(paths: list[str], files_from: str | None, *, null: bool) -> tuple[list[Input], bool]:
    """What is tagged, and whether it is one file that was named: a folder or a list may hold one file by chance."""
    from samptag.tagging.files import STDIN, expand_inputs, read_list

    if files_from is None:
        return expand_inputs(paths), len(paths) == 1 and not os.path.isdir(paths[0])
    with os_errors_as(UsageError, f"cannot read the list {files_from}"):
        data = sys.stdin.buffer.read() if files_from == STDIN else Path(files_from).read_bytes()
    listed = read_list(data, null=null)
    if files_from == STDIN and STDIN in listed:
        raise UsageError(BOTH_FROM_STDIN)
    return expand_inputs([*paths, *listed]), False


def expected_seconds(inputs: Sequence[Input]) -> float | None:
    """About how much music there is, by the sizes of the files; None if an input is a stream."""
    from samptag.tagging.files import STDIN, guessed_seconds

    if any(item.path == STDIN for item in inputs):
        return None
    return sum(guessed_seconds(item.path, item.size) for item in inputs)


@without_collection()
def open_tagger(model: str | None, *, progress: bool | None, **options: Any) -> Tagger:
    """The Tagger, its weights fetched if need be."""
    from samptag.pretrained import DEFAULT, load_weights
    from samptag.tagging.tagger import Tagger

    with Bar(progress, unit="bytes") as bar:
        loaded = load_weights(model or DEFAULT, progress=bar)
    tagger = Tagger(loaded, **options)
    name, jobs = f"{tagger.card.name} (sha256 {(tagger.weights_sha256 or '')[:12]})", counted(tagger.jobs, "input")
    detail(f"{name} on {tagger.device}, {jobs} decoded at a time")
    return tagger


def _selection(
    asked: Sequence[str], top: int | None, threshold: float | None, decide: bool, *, card: ModelCard
) -> Selection:
    """What is shown of each result; refuses tags that the weights do not have, and decisions they cannot take."""
    if decide and not card.cutoffs:
        raise UsageError(f"--decide: the weights {card.name} store no cut-offs{_deciding_weights()}")
    known, chosen = card.tags, list[str]()
    spelled = {tag.casefold(): tag for tag in reversed(known)}
    for text in asked:
        # A tag may hold a comma itself; nobody can then mean two tags by it.
        for name in [text] if text in known else [part.strip() for part in text.split(",") if part.strip()]:
            tag = name if name in known else spelled.get(name.casefold())
            if tag is None:
                hint = did_you_mean(name, known) or f"choose {', '.join(known)}"
                raise UsageError(f"unknown tag {name!r}: {hint}")
            chosen.append(tag)
    tags = tuple(dict.fromkeys(chosen)) or None
    if top is None and tags is None and threshold is None and not decide:
        return Selection(usual=True)
    return Selection(top=top or None, threshold=threshold, tags=tags, decide=decide)


def _deciding_weights() -> str:
    """Which weights on this machine have cut-offs, as the end of a sentence about some that have none."""
    from samptag.core.card import header_if_any
    from samptag.pretrained import open_store

    store = open_store(offline=True)
    cards = {name: header_if_any(store.present(name))[0] for name in store.names}
    names = [name for name, card in cards.items() if card is not None and card.cutoffs]
    return f": use --model {' or '.join(names)}" if names else ", nor do any others that are installed"


def tell(result: TrackResult) -> None:
    """Say what a person should know about one result besides its tags."""
    for warning in result.warnings:
        warn(f"{result.path}: {warning}")
    if result.error is not None:
        error(result.error.message)
    else:
        detail(f"{result.path}: {clock(result.duration)}, {counted(result.segments, 'segment')}")
