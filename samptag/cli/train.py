"""`samptag train`: a model from a data set."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samptag.cli.console import note, print_json
from samptag.cli.options import complete_weights, device_option
from samptag.cli.output import quiet_codecs
from samptag.cli.train_display import display, scores
from samptag.data.formats import FORMATS
from samptag.errors import UsageError
from samptag.ranks import Ranks

if TYPE_CHECKING:
    from samptag.core.model import ModelConfig
    from samptag.training import TrainResult

__all__ = ["train"]

_MODEL, _BUDGET, _DATA, _RUN = "Model", "Budget", "Data", "Run"


def train(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for checkpoints, metrics.jsonl and model.safetensors.")
    ],
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="DIR", help="Data set: a folder or a manifest.", rich_help_panel=_DATA),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help=f"{', '.join(FORMATS)}; detected by default.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="Named split of the data set.", rich_help_panel=_DATA)
    ] = None,
    subset: Annotated[
        str | None, typer.Option("--subset", metavar="NAME", help="MTG-Jamendo's subset.", rich_help_panel=_DATA)
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            "--teacher",
            metavar="NAME|FILE[,...]",
            help="Weights to learn from, in place of labels: any music will do.",
            autocompletion=complete_weights,
            rich_help_panel=_DATA,
        ),
    ] = None,
    vocabulary: Annotated[
        Path | None,
        typer.Option(
            "--vocabulary",
            metavar="FILE.csv",
            help="The words to learn, made of the teachers' tags; else all of those.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", metavar="DIR", help="Where decoded audio is kept.", rich_help_panel=_DATA),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, metavar="N", help="Threads that decode audio.", rich_help_panel=_DATA),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="samplecnn-3-9 (the default), samplecnn-2-13, frame-raw-243-243, frame-mel-729-243, ...",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    m: Annotated[
        int | None, typer.Option("--m", metavar="M", help="Filter and pool length.", rich_help_panel=_MODEL)
    ] = None,
    n: Annotated[
        int | None, typer.Option("--n", metavar="N", help="Number of body modules.", rich_help_panel=_MODEL)
    ] = None,
    first_filter: Annotated[
        int | None,
        typer.Option("--first-filter", metavar="SAMPLES", help="Length of the first filter.", rich_help_panel=_MODEL),
    ] = None,
    first_stride: Annotated[
        int | None,
        typer.Option("--first-stride", metavar="SAMPLES", help="Stride of the first filter.", rich_help_panel=_MODEL),
    ] = None,
    block: Annotated[
        str | None,
        typer.Option("--block", metavar="NAME", help="plain, se, res or rese (Kim 2018).", rich_help_panel=_MODEL),
    ] = None,
    multi_level: Annotated[
        bool | None,
        typer.Option("--multi-level", help="Classify maxima of the last three modules.", rich_help_panel=_MODEL),
    ] = None,
    sample_rate: Annotated[
        int | None,
        typer.Option(
            "--sample-rate",
            min=1000,
            max=192_000,
            metavar="HZ",
            help="22050 unless said otherwise.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    live_teachers: Annotated[
        bool | None,
        typer.Option(
            "--live-teachers/--no-live-teachers",
            help="Teachers hear every segment as it is augmented, not the music once; by default on a GPU.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            "--init-from",
            metavar="NAME|PATH",
            help="Weights to start from, whatever their tags.",
            autocompletion=complete_weights,
            rich_help_panel=_MODEL,
        ),
    ] = None,
    freeze_encoder: Annotated[
        bool | None, typer.Option("--freeze-encoder", help="Train the classifier alone.", rich_help_panel=_MODEL)
    ] = None,
    freeze_modules: Annotated[
        int | None,
        typer.Option(
            "--freeze-modules",
            min=0,
            metavar="N",
            help="Keep the front end and the N lowest modules of --init-from.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="NAME",
            help="modern (the default), tune (with --init-from), distil (with --teacher), paper or kim.",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, metavar="N", help="At most so many.", rich_help_panel=_BUDGET)
    ] = None,
    max_steps: Annotated[
        int | None,
        typer.Option("--max-steps", min=1, metavar="N", help="At most so many.", rich_help_panel=_BUDGET),
    ] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(
            "--max-minutes", min=0.001, metavar="MINUTES", help="Of wall-clock time.", rich_help_panel=_BUDGET
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=2, metavar="N", help="Segments a step, over all processes."),
    ] = None,
    segments_per_clip: Annotated[
        int | None,
        typer.Option("--segments-per-clip", min=1, metavar="N", help="At most so many of each clip in an epoch."),
    ] = None,
    segments_per_example: Annotated[
        int | None,
        typer.Option(
            "--segments-per-example",
            min=1,
            metavar="N",
            help="So many of a clip are heard together, and the mean of their logits learns the clip's labels.",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option("--learning-rate", min=1e-9, metavar="RATE", help="The recipe's first or highest rate."),
    ] = None,
    pos_weight: Annotated[
        str | None,
        typer.Option("--pos-weight", metavar="W|balanced", help="Weight of positives in the loss."),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, metavar="N", help="0 unless said otherwise.")] = None,
    device: Annotated[str, device_option(_RUN)] = "auto",
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on from the checkpoint in --out; other options may be left out."),
    ] = False,
    save_every_minutes: Annotated[
        float,
        typer.Option(
            "--save-every-minutes", min=0.0, metavar="MINUTES", help="Checkpoints inside epochs.", rich_help_panel=_RUN
        ),
    ] = 10.0,
    resident: Annotated[
        bool | None,
        typer.Option(
            "--resident/--no-resident",
            help="Audio in the device's memory; by default on CUDA with room.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Run the model through torch.compile.", rich_help_panel=_RUN)
    ] = False,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Of the exported weights; else the folder's.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="NAME", help="Of the exported weights; else unspecified.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as one JSON object.")] = False,
    progress: Annotated[
        bool | None,
        typer.Option("--progress/--no-progress", help="Progress bars; by default on a terminal only."),
    ] = None,
) -> None:
    """Train a model on tagged music.

    $ samptag train --data mtat/ --out run/
    $ samptag train --resume --out run/
    $ samptag train --data my-music/ --out mine/ --init-from samplecnn-3-9-mtat50
    $ samptag train --data any-music/ --out small/ --teacher musicnn-mtat50,vgg-mtat50 --model frame-mel-729-243

    Ctrl-C saves and stops; the same command with --resume goes on. Several GPUs or machines: torchrun
    --nproc-per-node N -m samptag train ...
    """
    given = dict(locals())
    from samptag.training import train as run

    quiet_codecs()
    geometry = {name: given.pop(name) for name in ("m", "n", "first_filter", "first_stride", "block", "multi_level")}
    given["model"] = _model(given["model"], sample_rate=given.pop("sample_rate"), **geometry)
    as_json, progress = given.pop("as_json"), given.pop("progress")
    with display(progress) as (listener, preparing):
        result = run(**given, listener=listener, preparing=preparing)
    _conclude(result, as_json=as_json)


def _model(model: str | None, **options: Any) -> ModelConfig | None:
    """The model that the options describe; None when they say nothing."""
    given = {key: value for key, value in options.items() if value is not None}
    if model is None and not given:
        return None
    from samptag.core.model import ModelConfig, config_from_name

    geometry = given.keys() & {"m", "n", "first_filter", "first_stride"}
    if model is not None and geometry:
        raise UsageError("say either --model or --m, --n, --first-filter and --first-stride")
    if model is not None or not geometry:
        return config_from_name(model or "samplecnn-3-9", **given)
    # As in the paper, the stride is the filter's length and the filter the body's m, unless said otherwise.
    given.setdefault("first_filter", given.get("first_stride", given.get("m", 3)))
    given.setdefault("first_stride", given["first_filter"])
    try:
        return ModelConfig(**given)
    except ValueError as error:
        raise UsageError(f"these options make no model: {error}") from None


def _conclude(result: TrainResult, *, as_json: bool) -> None:
    """Say how it ended, and leave with 130 or 143 when a signal ended it."""
    if Ranks.from_environment().leads:
        _report(result, as_json=as_json)
    if result.stopped_by:
        sys.exit(128 + result.stopped_by)  # not typer.Exit: it would take 130 for a Ctrl-C that nobody has reported


def _report(result: TrainResult, *, as_json: bool) -> None:
    record = None if result.best is None else dict(result.best)
    if as_json:
        outcome = {
            "schema": "samptag.train/1",
            "out": str(result.out),
            "model": str(result.model_path) if record else None,
            "weights": _weights(result.model_path) if record else None,
            "epochs": result.epochs,
            "steps": result.steps,
            "finished": result.stopped_by == 0,
            "best": None if record is None else _finite(record),
        }
        print_json(outcome)
    if result.stopped_by:
        note(f"stopped after {result.steps} steps; 'samptag train --resume --out {result.out}' goes on")
    elif record is not None:
        note(f"{result.model_path}: epoch {record['epoch']}, validation {scores(record)}")


def _weights(path: Path) -> dict[str, str]:
    """Name and digest of the exported weights."""
    from samptag.core.card import read_header

    card, digest = read_header(path)
    return {"name": card.name, "sha256": digest}


def _finite(record: Mapping[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
