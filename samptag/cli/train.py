"""`samptag train`: a model from a data set, and what people see of a training."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from samptag.cli.console import Bar, note, print_json
from samptag.cli.options import Data, Device, Format, Jobs, Json, Progress, Split, Subset, complete_weights, under
from samptag.cli.output import silence_codecs
from samptag.core.config import Block
from samptag.errors import UsageError
from samptag.ranks import Ranks
from samptag.text import counted

if TYPE_CHECKING:
    from samptag.core.model import ModelConfig
    from samptag.training import Event, Prepared, TrainResult

# Options by the panel of the help page that lists them.
_data = partial(typer.Option, rich_help_panel="Data")
_model = partial(typer.Option, rich_help_panel="Model")
_budget = partial(typer.Option, rich_help_panel="Budget")
_run = partial(typer.Option, rich_help_panel="Run")


def train(
    out: Path = typer.Option(..., metavar="DIR", help="Folder for checkpoints, metrics.jsonl and model.safetensors."),
    data: Annotated[str | None, under("Data", Data)] = None,
    format: Annotated[str | None, under("Data", Format)] = None,
    split: Annotated[str | None, under("Data", Split)] = None,
    subset: Annotated[str | None, under("Data", Subset)] = None,
    teacher: str | None = _data(
        None,
        metavar="NAME|FILE[,...]",
        help="Weights to learn from instead of labels; any music will do.",
        autocompletion=complete_weights,
    ),
    vocabulary: Path | None = _data(
        None, metavar="FILE.csv", help="The words to learn, made from the teachers' tags; by default all tags."
    ),
    cache: Path | None = _data(None, metavar="DIR", help="Where decoded audio is kept."),
    jobs: Annotated[int | None, under("Data", Jobs)] = None,
    model: str | None = _model(
        None,
        metavar="NAME",
        help="samplecnn-3-9 (the default), samplecnn-2-13, frame-raw-243-243, frame-mel-729-243, ...",
    ),
    m: int | None = _model(None, metavar="M", help="Filter and pool length."),
    n: int | None = _model(None, metavar="N", help="Number of body modules."),
    first_filter: int | None = _model(None, metavar="SAMPLES", help="Length of the first filter."),
    first_stride: int | None = _model(None, metavar="SAMPLES", help="Stride of the first filter."),
    block: Block | None = _model(None, metavar="NAME", help=f"Kind of modules: {', '.join(get_args(Block))}."),
    multi_level: bool | None = _model(None, "--multi-level", help="Classify maxima of the last three modules."),
    sample_rate: int | None = _model(None, min=1000, max=192_000, metavar="HZ", help="Sample rate; by default 22050."),
    live_teachers: bool | None = _data(
        None,
        "--live-teachers/--no-live-teachers",
        help="Teachers hear every augmented segment instead of the music once; by default on a GPU.",
    ),
    init_from: str | None = _model(
        None, metavar="NAME|PATH", help="Weights to start from, whatever their tags.", autocompletion=complete_weights
    ),
    freeze_encoder: bool | None = _model(None, "--freeze-encoder", help="Train only the classifier."),
    freeze_modules: int | None = _model(
        None, min=0, metavar="N", help="Freeze the front end and the N lowest modules of --init-from."
    ),
    recipe: str | None = typer.Option(
        None,
        metavar="NAME",
        help="modern (the default), tune (with --init-from), distil (with --teacher), paper or kim.",
    ),
    epochs: int | None = _budget(None, min=1, metavar="N", help="Stop after N epochs."),
    max_steps: int | None = _budget(None, min=1, metavar="N", help="Stop after N steps."),
    max_minutes: float | None = _budget(None, min=0.001, metavar="MINUTES", help="Stop after so much wall-clock time."),
    batch_size: int | None = typer.Option(None, min=2, metavar="N", help="Segments per step, over all processes."),
    segments_per_clip: int | None = typer.Option(None, min=1, metavar="N", help="At most N of each clip per epoch."),
    segments_per_example: int | None = typer.Option(
        None,
        min=1,
        metavar="N",
        help="Take N of a clip together; the mean of their logits learns the clip's labels.",
    ),
    learning_rate: float | None = typer.Option(
        None, min=1e-9, metavar="RATE", help="The recipe's first or highest rate."
    ),
    pos_weight: str | None = typer.Option(None, metavar="W|balanced", help="Weight of positives in the loss."),
    seed: int | None = typer.Option(None, min=0, metavar="N", help="Seed of everything random; by default 0."),
    device: Annotated[str, under("Run", Device)] = "auto",
    resume: bool = typer.Option(
        False, "--resume", help="Continue from the checkpoint in --out; other options may be left out."
    ),
    save_every_minutes: float = typer.Option(10.0, min=0.0, metavar="MINUTES", help="Time between checkpoints."),
    resident: bool | None = _run(
        None, "--resident/--no-resident", help="Keep audio in the device's memory; by default on CUDA if there is room."
    ),
    compiled: bool = _run(False, "--compile", help="Run the model through torch.compile."),
    name: str | None = typer.Option(None, metavar="NAME", help="The weights' name; by default the folder's."),
    licence: str | None = typer.Option(None, metavar="NAME", help="The weights' licence; else unspecified."),
    as_json: Json = False,
    progress: Annotated[bool | None, under("Run", Progress)] = None,
) -> None:
    """Train a model on tagged music.

    $ samptag train --data mtat/ --out run/
    $ samptag train --resume --out run/
    $ samptag train --data my-music/ --out mine/ --init-from samplecnn-3-9-mtat50
    $ samptag train --data any-music/ --out small/ --teacher musicnn-mtat50,vgg-mtat50 --model frame-mel-729-243

    Ctrl-C saves and stops; the same command with --resume continues. For several GPUs or machines: torchrun
    --nproc-per-node N -m samptag train ...
    """
    given = dict(locals())
    from samptag.training import train as run

    silence_codecs()
    geometry = {name: given.pop(name) for name in ("m", "n", "first_filter", "first_stride", "block", "multi_level")}
    given["model"] = _config(given["model"], sample_rate=given.pop("sample_rate"), **geometry)
    as_json, progress = given.pop("as_json"), given.pop("progress")
    with display(progress) as (callback, preparing):
        result = run(**given, callback=callback, preparing=preparing)
    if Ranks.from_environment().leads:
        _report(result, as_json=as_json)
    if result.stopped_by:
        sys.exit(128 + result.stopped_by)  # not typer.Exit: it would take 130 for a Ctrl-C that nobody has reported


def _config(model: str | None, **options: Any) -> ModelConfig | None:
    """The model that the options describe; None when they say nothing."""
    given = {key: value for key, value in options.items() if value is not None}
    if model is None and not given:
        return None
    from samptag.core.model import ModelConfig, config_from_name

    geometry = given.keys() & {"m", "n", "first_filter", "first_stride"}
    if model is not None and geometry:
        raise UsageError("give either --model or --m, --n, --first-filter and --first-stride")
    if model is not None or not geometry:
        return config_from_name(model or "samplecnn-3-9", **given)
    # As in the paper, the stride is the filter's length and the filter the body's m, unless said otherwise.
    given.setdefault("first_filter", given.get("first_stride", given.get("m", 3)))
    given.setdefault("first_stride", given["first_filter"])
    try:
        return ModelConfig(**given)
    except ValueError as error:
        raise UsageError(f"these options do not make a model: {error}") from None


def _report(result: TrainResult, *, as_json: bool) -> None:
    record = result.best
    if as_json:
        from samptag.core.card import read_header
        from samptag.training.log import json_record

        weights = None
        if record is not None:
            card, digest = read_header(result.model_path)
            weights = {"name": card.name, "sha256": digest}
        outcome = {
            "schema": "samptag.train/1",
            "out": str(result.out),
            "model": str(result.model_path) if record else None,
            "weights": weights,
            "epochs": result.epochs,
            "steps": result.steps,
            "finished": result.stopped_by == 0,
            "best": None if record is None else json_record(record),
        }
        print_json(outcome)
    if result.stopped_by:
        note(f"stopped after {counted(result.steps, 'step')}; 'samptag train --resume --out {result.out}' goes on")
    elif record is not None:
        note(f"{result.model_path}: epoch {record['epoch']}, validation {_scores(record)}")


def _scores(record: Mapping[str, Any]) -> str:
    """The validation figures of an epoch's record."""
    names = {"loss": "valid_loss", "ROC-AUC": "valid_roc_auc", "PR-AUC": "valid_pr_auc", "agreement": "valid_agreement"}
    return ", ".join(f"{word} {record[key]:.4f}" for word, key in names.items() if math.isfinite(record[key]))


@contextmanager
def display(asked: bool | None) -> Iterator[tuple[Callable[[Event], None], Bar | None]]:
    """The two callbacks of a training: what is shown of it, and of what is prepared before it."""
    if not Ranks.from_environment().leads:
        logger = logging.getLogger("samptag")
        if not logger.isEnabledFor(logging.DEBUG):
            logger.setLevel(logging.ERROR)  # the first process gives the warnings
        yield lambda event: None, None
        return
    with Bar(asked) as bar:
        yield partial(_show, bar), bar


def _show(bar: Bar, event: Event) -> None:
    """Draw a step where bars are wanted; write a line per epoch in any case."""
    from samptag.training import Prepared, StepDone

    if isinstance(event, Prepared):
        _introduce(event)
    elif isinstance(event, StepDone):
        text = f"loss {event.loss:.4f}  {event.segments_per_second:.1f} segments/s"
        if event.remaining_seconds is not None:
            minutes = math.ceil(event.remaining_seconds / 60)
            text += f"  {minutes // 60} h {minutes % 60:02d} min in all"
        bar(f"epoch {event.epoch}", event.step, event.steps, text)
    else:
        r, speed = event.record, event.record["segments_per_second"]
        # An epoch that a resumed run only had to validate has no speed.
        pace = (f", {speed:.1f} segments/s" if math.isfinite(speed) else "") + (" *" if r["best"] else "")
        note(f"epoch {r['epoch']}: training loss {r['train_loss']:.4f}, validation {_scores(r)}{pace}")


def _introduce(event: Prepared) -> None:
    """Say what will be trained on what, with the number of clips of every tag."""
    config, parts = event.config, event.parts
    dataset, model = parts.dataset, parts.model
    note(f"{model.name} ({event.parameters:,} parameters), recipe {config.recipe.name}, on {event.device}")
    split = f"{dataset.split_name} ({parts.cache.split_hash})"
    note(
        f"{dataset.root}: {dataset.format}, split {split}: {counted(len(parts.train), 'training clip')} "
        f"({counted(event.segments_per_epoch, 'segment')}, {counted(event.steps_per_epoch, 'step')} per epoch), "
        f"{counted(len(parts.valid), 'validation clip')}"
    )
    if parts.teachers:
        live = "" if parts.live is None else ", who hear every segment as it is augmented"
        note(f"{len(dataset.tags)} tags, taught by {', '.join(parts.teachers)}{live}")
    else:
        counts = zip(dataset.tags, parts.train_labels.sum(axis=0), parts.valid_labels.sum(axis=0), strict=True)
        per_tag = ", ".join(f"{tag} {train:g}/{valid:g}" for tag, train, valid in counts)
        note(f"training/validation clips per tag: {per_tag}")
    if parts.left_out:
        note(f"{counted(parts.left_out, 'listed clip')} cannot be used; {parts.cache.report_path} says why")
    for caution in parts.cautions:
        note(caution)
    if parts.short_clips:
        filled = f"{counted(parts.short_clips, 'training clip')} had to be filled up with zeros to a segment's length"
        note(f"{filled}; {parts.cache.report_path} says which")
    if event.epoch or event.step:
        note(f"going on after epoch {event.epoch}, step {event.step}")
