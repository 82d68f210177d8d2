"""`samptag write`: decided words into music files, after the plan has been seen, and back again."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

import typer

import samptag
from samptag.cli.console import SOME_FAILED, error, note, print_json, print_records, write_lines
from samptag.cli.options import Db, Heard, Json
from samptag.errors import UsageError
from samptag.text import counted, valid_text

if TYPE_CHECKING:
    from samptag.library.plan import Change, WritePlan
    from samptag.library.writing import Outcome, Run

# Options by the panel of the help page that lists them.
_what = partial(typer.Option, rich_help_panel="What is written")
_how = partial(typer.Option, rich_help_panel="Doing it")
_back = partial(typer.Option, rich_help_panel="Going back")


def _complete_fields(incomplete: str) -> Iterator[str]:
    start, comma, last = incomplete.rpartition(",")
    names = ("genre", "mood", "grouping", "comment", "samptag")
    return (start + comma + name for name in names if name.startswith(last))


def write(
    paths: list[str] | None = typer.Argument(
        None, metavar="PATH...", help="Files and folders; with --undo the number of a run."
    ),
    records: str | None = _what(
        None,
        "--from",
        metavar="FILE",
        help="Take scores from what 'samptag tag --top 0 -o FILE.jsonl' wrote.",
        show_default="the index",
    ),
    fields: str | None = _what(
        None,
        metavar="FIELD,...",
        help="Any of genre, mood, grouping, comment and samptag (all scores).",
        show_default="genre,mood",
        autocompletion=_complete_fields,
    ),
    profile: Literal["navidrome", "kodi", "rekordbox"] | None = _what(
        None, metavar="PLAYER", help="The fields that a player shows: navidrome, kodi or rekordbox."
    ),
    add: bool = _what(False, "--add", help="Add to fields that already have values."),
    replace: bool = _what(False, "--replace", help="Replace the values that fields have."),
    unverified: bool = _what(False, "--unverified", help="Also write words that people's tags do not confirm."),
    yes: bool = _how(False, "--yes", "-y", help="Write; without this, changes are only shown."),
    touch: bool = _how(False, "--touch", help="Set the files' time to now, for players that look at it."),
    split_links: bool = _how(
        False,
        "--split-links",
        help="Also write to files with several names (hard links); the other names keep the old file.",
    ),
    undo: bool = _back(False, "--undo", help="Undo the last run, or the one whose number is given as PATH."),
    runs: bool = _back(False, "--runs", help="List earlier runs."),
    db: Db = None,
    model: Heard = None,
    as_json: Json = False,
) -> None:
    """Write decided genres and moods into your music files.

    Without --yes it only shows what would change. Only words past their cut-offs are written, by default only those
    that people's tags confirm, and only into fields that are empty. Each file is changed on a copy, which is read back
    and compared before it takes the file's place; the sound never changes, and --undo puts the old values back.

    $ samptag write ~/Music
    $ samptag write ~/Music --yes
    $ samptag write --undo
    """
    if undo or runs:
        if any((records, fields, profile, add, replace, unverified, yes, undo and runs, runs and paths)):
            raise UsageError(
                "--undo and --runs take only --db and --json; --undo also takes a run's number and --split-links"
            )
    elif not paths:
        raise UsageError("nothing to write to: name files or folders (see 'samptag write --help')")
    elif add and replace:
        raise UsageError("--add and --replace cannot be combined")
    elif fields and profile:
        raise UsageError("--fields and --profile cannot be combined: a profile is a choice of fields")
    with samptag.Library(db) as library:
        if runs:
            _list_runs(library.runs(), as_json)
            return
        if undo:
            outcomes = list(library.undo(_run_number(paths), split_links=split_links))
            _report_undone(outcomes, as_json)
        else:
            plan = library.plan(
                paths or [],
                fields=_chosen_fields(fields, profile),
                mode="add" if add else "replace" if replace else "empty",
                records=records,
                split_links=split_links,
                unverified=unverified,
                model=model,
            )
            outcomes = _written(library.write(plan, touch=touch)) if yes else []
            _report_plan(plan, outcomes, yes, as_json)
        refused = any(outcome.error for _, outcome in outcomes)
        if not undo:
            refused = refused or any(file.refused for file in plan.files)
    raise typer.Exit(SOME_FAILED if refused else 0)


def _written(outcomes: Iterator[tuple[int, Outcome]]) -> list[tuple[int, Outcome]]:
    done = []
    try:
        for outcome in outcomes:
            done.append(outcome)
    except KeyboardInterrupt:
        if done:
            note(f"run {done[0][0]} ended after {counted(len(done), 'file')}: 'samptag write --undo' takes it back")
        raise
    return done


def _chosen_fields(fields: str | None, profile: str | None) -> tuple[str, ...]:
    from samptag.library.plan import PROFILES

    if profile is not None:
        return PROFILES[profile]
    return tuple(part.strip() for part in fields.split(",") if part.strip()) if fields else ("genre", "mood")


def _run_number(paths: Sequence[str] | None) -> int | None:
    if not paths:
        return None
    if len(paths) > 1 or not paths[0].isdigit():
        raise UsageError(f"--undo takes the number of a run, not {' '.join(paths)!r}: see 'samptag write --runs'")
    return int(paths[0])


def _report_plan(plan: WritePlan, outcomes: list[tuple[int, Outcome]], yes: bool, as_json: bool) -> None:
    from samptag.library.plan import words_of

    failed = {outcome.path: outcome.error for _, outcome in outcomes if outcome.error}
    if as_json:
        document = {
            "schema": "samptag.write/1",
            "weights": {"name": plan.model, "sha256": plan.digest},
            "fields": list(plan.fields),
            "mode": plan.mode,
            "unverified": plan.unverified,
            "left_out": dict(plan.left_out.most_common()),
            "run": outcomes[0][0] if outcomes else None,
        }
        records = (
            {
                "path": valid_text(file.path),
                "changes": [
                    {"field": c.field, "old": list(map(valid_text, c.old)), "new": list(c.new)} for c in file.changes
                ],
                "left_out": list(file.left_out),
                "written": yes and bool(file.changes) and file.path not in failed,
                "error": valid_text(file.refused or failed.get(file.path) or "") or None,
            }
            for file in plan.files
        )
        print_records(document, "files", records)
    else:
        for file in plan.changed if not yes else ():
            sys.stdout.write("\n".join([valid_text(file.path), *map(_line, file.changes)]) + "\n")
    for message in [file.refused for file in plan.files if file.refused] + list(failed.values()):
        error(message)
    n_refused = sum(file.refused is not None for file in plan.files) + len(failed)
    did = f"{counted(len(plan.changed) - len(failed), 'file')} {'written' if yes else 'would change'}"
    kept = f"{len(plan.files) - len(plan.changed) - n_refused + len(failed)} unchanged"
    if not yes and plan.changed:
        common = ", ".join(f"{value} {number}" for (_, value), number in words_of(plan.changed).most_common())
        note(common or "neither genres nor moods among them")
    note(f"{did}, {kept}" + (f", {n_refused} refused" if n_refused else ""))
    if plan.left_out:
        n_files = sum(bool(file.left_out) for file in plan.files)
        words = f"{counted(len(plan.left_out), 'word')} that people's tags do not confirm"
        note(f"left out of {counted(n_files, 'file')}: {words}; --unverified writes them too")
    if outcomes:
        note(f"this was run {outcomes[0][0]}: 'samptag write --undo' takes it back")
    elif plan.changed:
        note("nothing has been written yet: --yes does it")


def _line(change: Change) -> str:
    def shown(values: Sequence[str]) -> str:
        few = [" ".join(value.split()) for value in values[:8]] + ["..."] * (len(values) > 8)
        text = valid_text("; ".join(few))
        return (text if len(text) <= 60 else text[:57] + "...") or "(empty)"

    return f"  {change.field:<8}  {shown(change.old)} -> {shown(change.new)}"


def _report_undone(outcomes: list[tuple[int, Outcome]], as_json: bool) -> None:
    failed = [outcome.error for _, outcome in outcomes if outcome.error]
    if as_json:
        records = (
            {
                "path": valid_text(outcome.path),
                "undone": outcome.error is None,
                "error": outcome.error and valid_text(outcome.error),
            }
            for _, outcome in outcomes
        )
        print_records({"schema": "samptag.undo/1", "run": outcomes[0][0]}, "files", records)
    for message in failed:
        error(message)
    note(f"run {outcomes[0][0]}: {counted(len(outcomes) - len(failed), 'file')} restored, {len(failed)} left alone")


def _list_runs(runs: list[Run], as_json: bool) -> None:
    if as_json:
        print_json({"schema": "samptag.runs/1", "runs": [vars(run) for run in runs]})
        return
    for run in runs:
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.began))
        what = counted(run.files, "file") + (f", {run.undone} undone" if run.undone else "")
        write_lines([(str(run.id), began, what, f"{run.fields} ({run.mode})", run.weights)])
