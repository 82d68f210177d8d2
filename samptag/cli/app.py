"""The `samptag` command: its sub-commands, a person's own defaults, and how errors, interrupts and closed pipes end."""

from __future__ import annotations

import errno
import inspect
import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import typer

import samptag
from samptag.cli.console import error, note, say, speak_from
from samptag.engine.blas import one_thread_for_the_process
from samptag.errors import SamptagError, UsageError
from samptag.files import config_folder, os_reason
from samptag.lazy import without_collection
from samptag.text import did_you_mean

INTERRUPTED = 130
USAGE = 2
_FULL = (errno.ENOSPC, errno.EFBIG, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC))

# Typer has brought its own click since 0.24 and needed a separate one before. This is the base class of what a wrong
# command line raises in both: BadParameter < UsageError < ClickException.
_CommandLineError: Any = typer.BadParameter.__mro__[2]

# Where each command is: imported when it is asked for, since making the options of all takes a tenth of a second.
COMMANDS = {
    "tag": "samptag.cli.tag:tag",
    "report": "samptag.cli.report:report",
    "index": "samptag.cli.index:index",
    "find": "samptag.cli.find:find",
    "similar": "samptag.cli.find:similar",
    "learn": "samptag.cli.learn:learn",
    "write": "samptag.cli.write:write",
    "info": "samptag.cli.info:info",
    "train": "samptag.cli.train:train",
    "eval": "samptag.cli.evaluate:evaluate_command",
    "schema": "samptag.cli.info:schema",
    "weights": "samptag.cli.weights:app",
    "data": "samptag.cli.data:app",
}

# What the configuration file may set, by command: what a person may want every time. Inputs and outputs are left out,
# since a forgotten line could cost a file; so is whatever decides how good a model gets, or seems.
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "tag": (
        *("batch-size", "decide", "device", "format", "hop", "jobs", "model", "progress", "tags", "tail", "threshold"),
        "top",
    ),
    "train": ("device", "progress"),
    "eval": ("device", "progress"),
}


def application(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The command line with the commands of these names."""
    settings = {"help_option_names": ["-h", "--help"]}
    app = typer.Typer(name="samptag", invoke_without_command=True, context_settings=settings)
    app.callback()(_root)
    for name in names:
        module, _, attribute = COMMANDS[name].partition(":")
        command = getattr(import_module(module), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"samptag {samptag.__version__}")
        raise typer.Exit


def _root(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", "-V", help="Print the version and exit.", callback=_show_version, is_eager=True
    ),
    # These are taken out of the line before it is read, so that they may appear anywhere in it.
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Print nothing but errors."),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Print more: a line for every file."),
    debug: bool = typer.Option(False, "--debug", help="Log in detail and show tracebacks."),
) -> None:
    """Tag music from raw waveforms with the sample-level deep CNN.

    $ samptag tag song.mp3
    $ samptag tag ~/Music -o tags.jsonl
    $ samptag help tag

    --quiet, --verbose and --debug may appear anywhere in the line. 'samptag help COMMAND' explains a command; README.md
    and docs/ in samptag's source explain the rest.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(USAGE)


def main() -> NoReturn:
    """Run the command line and leave the process with its exit code: 0, 130, or one of `samptag.errors`.

    An expected error is one line on standard error; a traceback is shown for a bug, or with `--debug`.
    """
    one_thread_for_the_process()
    _plug_closed_streams()
    arguments, switches = _without_switches(sys.argv[1:])
    _set_up_logging(switches)
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:], "--help"]
    sys.exit(_flush(_run(arguments, debug="--debug" in switches)))


def run() -> NoReturn:
    """Run the command line and end the process at once, without Python's own shutdown.

    The shutdown takes time, and aborts if a thread is in the middle of compiled code (a decoder, a connection).
    """
    try:
        main()
    except SystemExit as leaving:
        if not isinstance(leaving.code, int):
            raise
        if sys.stderr is not None:
            sys.stderr.flush()
        os._exit(leaving.code)


def _plug_closed_streams() -> None:
    """Keep the descriptors of streams that the caller closed from going to files opened later."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _run(arguments: list[str], *, debug: bool) -> int:
    try:
        name = arguments[0] if arguments else ""
        defaults = configured_defaults() if name in OPTIONS else {}
        with without_collection():
            command = polished(typer.main.get_command(application([name] if name in COMMANDS else COMMANDS)))
        code = command.main(args=arguments, prog_name="samptag", standalone_mode=False, default_map=defaults)
        if code == INTERRUPTED:  # what Typer makes of Ctrl-C
            note("interrupted")
        return code if isinstance(code, int) else 0
    except SamptagError as refusal:
        if debug:
            logging.getLogger("samptag").exception("traceback of the error below")
        error(str(refusal))
        return refusal.exit_code
    except _CommandLineError as refusal:
        if refusal.format_message():  # empty where Typer has shown the help page of a group named alone
            error(_usage_line(refusal))
        return int(refusal.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        note("interrupted")
        return INTERRUPTED
    except SystemExit as leaving:
        # Typer itself turns a closed pipe into exit code 1.
        if isinstance(leaving.__context__, BrokenPipeError):
            _silence_stdout()
            return 0
        if not isinstance(leaving.code, int):
            raise
        return leaving.code
    except OSError as failure:
        # Without a file name it is a write to an open descriptor: the commands' own files name themselves.
        if debug or failure.filename is not None or failure.errno not in _FULL:
            raise
        return _unwritable(failure)


def config_path() -> Path:
    """The configuration file: what SAMPTAG_CONFIG names, else config.toml in the user's configuration folder."""
    named = os.environ.get("SAMPTAG_CONFIG")
    if named:
        return Path(named).expanduser()
    return config_folder() / "config.toml"


def configured_defaults() -> dict[str, dict[str, Any]]:
    """The file's values, by command and parameter; empty if there is no such file."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    path = config_path()
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except FileNotFoundError:
        if "SAMPTAG_CONFIG" in os.environ:
            raise UsageError(f"there is no configuration file {path} (SAMPTAG_CONFIG)") from None
        return {}
    except OSError as error:
        raise UsageError(f"cannot read {path}: {os_reason(error)}") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise UsageError(f"{path} is not a TOML file: {error}") from error
    defaults = {}
    for command, values in content.items():
        if command not in OPTIONS or not isinstance(values, dict):
            *others, last = (f"[{name}]" for name in OPTIONS)
            raise UsageError(f"{path}: only the tables {', '.join(others)} and {last} are read, not {command!r}")
        known = OPTIONS[command]
        for key in values:
            if key.replace("_", "-") not in known:
                hint = did_you_mean(key, known) or f"choose {', '.join(known)}"
                raise UsageError(f"{path}: {key!r} cannot be set in [{command}]: {hint}")
        defaults[command] = {key.replace("-", "_"): value for key, value in values.items()}
    return defaults


# Typer prints all but the first paragraph dimmed.
_COMMAND = "[not dim][bold cyan]$[/bold cyan] {}[/not dim]"


def polished(command: Any) -> Any:
    """The command and all below it, with the help of each laid out; "$ " begins a command to copy."""
    if command.help:
        command.help = "\n\n".join(map(_paragraph, inspect.cleandoc(command.help).split("\n\n")))
    for parameter in command.params:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
        elif parameter.param_type_name == "argument" and parameter.metavar:
            parameter.display_type_rich = lambda ctx: None  # the name says it
    get_help_option = command.get_help_option

    def without_type(context: Any) -> Any:
        option = get_help_option(context)
        option.metavar = ""
        return option

    command.get_help_option = without_type
    for inner in getattr(command, "commands", {}).values():
        polished(inner)
    return command


def _paragraph(text: str) -> str:
    escaped = text.replace("[", "\\[")
    if not text.startswith("$ "):
        return escaped.replace("\n", " ")
    return "\n".join(_COMMAND.format(line.removeprefix("$ ")) for line in escaped.splitlines())


# What Typer says about a wrong value since 0.29, in words for people.
_PLAIN_WORDS = (
    (r"Input should be less than or equal to (\S+)", r"it must be at most \1"),
    (r"Input should be greater than or equal to (\S+)", r"it must be at least \1"),
    (r"Input should be a valid integer.*", "it must be a whole number"),
    (r"Input should be a (?:valid|finite) number.*", "it must be a number"),
    (r"Value error, ", ""),
)


def _usage_line(refusal: Any) -> str:
    """What was wrong with the command line, or with what the configuration file says in its place."""
    message = refusal.format_message().rstrip(".")
    for theirs, ours in _PLAIN_WORDS:
        message = re.sub(theirs, ours, message)
    context, option = getattr(refusal, "ctx", None), getattr(refusal, "param", None)
    if context is None:
        return f"{message} (see 'samptag --help')"
    source = context.get_parameter_source(option.name) if option is not None else None
    if source is not None and source.name == "DEFAULT_MAP":
        return f"{config_path()}: {message}"
    return f"{message} (see '{context.command_path} --help')"


def _flush(code: int) -> int:
    """The exit code, after what is still buffered has been written: a reader that left is no error, a full disk is."""
    if sys.stdout is None:
        return code
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
    except OSError as failure:
        return code or _unwritable(failure)
    return code


def _unwritable(failure: OSError) -> int:
    error(f"cannot write standard output: {os_reason(failure)}")
    _silence_stdout()
    return USAGE


def _silence_stdout() -> None:
    """Point standard output at the null device, so that the flush at exit does not fail a second time."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


_SWITCHES = {"-q": "--quiet", "-v": "--verbose"}


def _without_switches(arguments: list[str]) -> tuple[list[str], set[str]]:
    """The arguments without the switches of every command, wherever they are before a `--`, and those switches."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    known = {*_SWITCHES.values(), "--debug"}
    long = [_SWITCHES.get(argument, argument) for argument in arguments[:end]]
    kept = [argument for argument, name in zip(arguments, long, strict=False) if name not in known]
    return kept + arguments[end:], known.intersection(long)


class _ForPeople(logging.Handler):
    """Log lines as lines on standard error, where they do not tear a progress bar; tracebacks as they are."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            sys.stderr.write(self.format(record) + "\n")
        else:
            say(f"{record.levelname.lower()}: {record.getMessage()}", record.levelno)


def _set_up_logging(switches: set[str]) -> None:
    debug = "--debug" in switches
    quiet = "--quiet" in switches and not debug
    speak_from(logging.ERROR if quiet else logging.DEBUG if debug or "--verbose" in switches else logging.INFO)
    logger = logging.getLogger("samptag")
    logger.addHandler(_ForPeople())
    logger.setLevel(logging.DEBUG if debug else logging.ERROR if quiet else logging.WARNING)
    logger.propagate = False
