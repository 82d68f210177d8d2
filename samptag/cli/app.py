"""The `samptag` command: its sub-commands, and what errors, interrupts and closed pipes end in."""

from __future__ import annotations

import errno
import logging
import os
import sys
from typing import Annotated, Any, NoReturn

import typer

import samptag
from samptag.cli import data, evaluate, info, tag, train, weights
from samptag.cli.console import note
from samptag.engine.blas import one_thread_for_the_process
from samptag.errors import SamptagError

__all__ = ["app", "main"]

INTERRUPTED = 130
USAGE = 2
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC))

# Typer brings its own click since 0.24 and needs a separate one before; this is the base class of what a wrong command
# line raises in both: BadParameter < UsageError < ClickException.
_CommandLineError: Any = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="samptag",
    help="Tags music from raw waveforms with the sample-level deep CNN.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("tag")(tag.tag)
app.command("info")(info.info)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate_command)
app.add_typer(weights.app, name="weights")
app.add_typer(data.app, name="data")


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"samptag {samptag.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_show_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Log in detail and show tracebacks; may stand anywhere in the line.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(USAGE)


def main() -> NoReturn:
    """Run the command line and leave the process with its exit code.

    0 all good, 1 some inputs failed, 2 usage, 3 weights, 4 device, 5 data set, 130 interrupted. An expected error is
    one line on standard error; a traceback is shown for a bug, or with `--debug`.
    """
    one_thread_for_the_process()
    _plug_closed_streams()
    arguments, debug = _without_debug(sys.argv[1:])
    _set_up_logging(debug)
    code = _run(arguments, debug=debug)
    sys.exit(_flush(code))


def _plug_closed_streams() -> None:
    """Keep the numbers of streams that were closed by the caller from going to files opened later."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _run(arguments: list[str], *, debug: bool) -> int:
    command = typer.main.get_command(app)
    try:
        code = command.main(args=arguments, prog_name="samptag", standalone_mode=False)
        if code == INTERRUPTED:  # what Typer makes of Ctrl-C
            note("interrupted")
        return code if isinstance(code, int) else 0
    except SamptagError as error:
        if debug:
            logging.getLogger("samptag").exception("traceback of the error below")
        note(f"error: {error}")
        return error.exit_code
    except _CommandLineError as error:
        if error.format_message():  # empty where Typer has shown the help page of a group named alone
            note(f"error: {_usage_line(error)}")
        return int(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        note("interrupted")
        return INTERRUPTED
    except SystemExit as leaving:
        # Typer itself turns a closed pipe into exit code 1.
        if not isinstance(leaving.__context__, BrokenPipeError):
            raise
        _silence_stdout()
        return 0
    except OSError as error:
        # Without a file name it is a write to an open descriptor: the commands' own files name themselves.
        if debug or error.filename is not None or error.errno not in _FULL:
            raise
        return _unwritable(error)


def _usage_line(error: Any) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "samptag"
    return f"{error.format_message().rstrip('.')} (see '{command} --help')"


def _flush(code: int) -> int:
    """The exit code, after what is still buffered has gone out: a reader that left is no error, a full disk is."""
    if sys.stdout is None:
        return code
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
    except OSError as error:
        return code or _unwritable(error)
    return code


def _unwritable(error: OSError) -> int:
    note(f"error: cannot write standard output: {error.strerror}")
    _silence_stdout()
    return USAGE


def _silence_stdout() -> None:
    """Point standard output at the null device, so that the flush at exit does not fail a second time."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def _without_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """The arguments without `--debug`, and whether it stood before a `--`: people add it at the end of a line."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [argument for argument in arguments[:end] if argument != "--debug"]
    return kept + arguments[end:], len(kept) < end


class _ForPeople(logging.Handler):
    """Log lines as notes on standard error, where they do not tear a progress bar; tracebacks as they are."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            sys.stderr.write(self.format(record) + "\n")
        else:
            note(f"{record.levelname.lower()}: {record.getMessage()}")


def _set_up_logging(debug: bool) -> None:
    logger = logging.getLogger("samptag")
    logger.addHandler(_ForPeople())
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)
    logger.propagate = False
