"""`train`: from a data set to a model file."""

import random
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from samptag.core.model import ModelConfig
from samptag.data import open_dataset
from samptag.errors import UsageError
from samptag.training.budget import Budget
from samptag.training.distributed import Processes, joined, training_device
from samptag.training.events import Event, Listener, Prepared
from samptag.training.fit import MODEL, Trainer
from samptag.training.job import Job
from samptag.training.lock import writing_alone
from samptag.training.options import Choices, check_identity, choose
from samptag.training.prepare import Material, card_maker, decode, pos_weights, starting_model
from samptag.training.state import LAST, load_checkpoint, random_state, restore_random_state
from samptag.training.stepper import Stepper

__all__ = ["TrainResult", "train"]

FEW_VALID_CLIPS = 30
_FEW_CLIPS = "{} validation clips are few: which epoch they call the best means little, and their figures less"


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a training ended.

    Attributes
    ----------
    out : Path
        Its folder.
    model_path : Path
        The exported model of the best epoch; there once an epoch is done.
    epochs, steps : int
    best : Mapping or None
        The best epoch's record, as in metrics.jsonl.
    stopped_by : int
        The signal that stopped it before its end, 0 for none.
    """

    out: Path
    model_path: Path
    epochs: int
    steps: int
    best: Mapping[str, Any] | None
    stopped_by: int


def train(
    data: str | Path | None = None,
    *,
    out: str | Path,
    model: str | ModelConfig | None = None,
    recipe: str | None = None,
    format: str | None = None,
    split: str | None = None,
    subset: str | None = None,
    init_from: str | None = None,
    freeze_encoder: bool = False,
    epochs: int | None = None,
    max_steps: int | None = None,
    max_minutes: float | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    pos_weight: float | str | None = None,
    seed: int | None = None,
    device: str = "auto",
    cache: str | Path | None = None,
    jobs: int | None = None,
    resident: bool | None = None,
    compiled: bool = False,
    resume: bool = False,
    save_every_minutes: float = 10.0,
    name: str | None = None,
    licence: str | None = None,
    listener: Listener | None = None,
    cache_progress: Callable[[int, int], None] | None = None,
) -> TrainResult:
    """Train a model on a data set.

    Parameters
    ----------
    data : str or Path, optional
        Folder or manifest; see `samptag.data.open_dataset`. A resumed training knows its own.
    out : str or Path
        Folder for checkpoints, metrics.jsonl, curves and model.safetensors.
    model : str or ModelConfig, optional
        "samplecnn-3-9" when neither this nor `init_from` is given; its number of tags is the data set's.
    recipe : str, optional
        "modern" (the default), "paper" or "kim".
    format, split, subset : str, optional
        As for `open_dataset`.
    init_from : str, optional
        Name or path of weights to start from; a classifier for other tags starts anew.
    freeze_encoder : bool
        Train the classifier alone.
    epochs, max_steps : int, optional
    max_minutes : float, optional
        The budget; what is reached first ends the training. Without any, the recipe's.
    batch_size : int, optional
        Segments a step over all processes, in place of the recipe's.
    learning_rate : float, optional
        The recipe's first or highest learning rate; the others keep their ratio to it.
    pos_weight : float or "balanced", optional
        Weight of positives in the loss; "balanced": negatives / positives of each tag, at most 100.
    seed : int, optional
        0 by default. Same seed, same data, same number of threads: the same weights on the CPU, bit for bit.
    device : str
    cache : str or Path, optional
        Where decoded audio is kept.
    jobs : int, optional
        Threads that decode it.
    resident : bool, optional
        Whether the audio is copied to the device's memory; by default on CUDA where there is room.
    compiled : bool
        Run the model through torch.compile (not on the CPU's fused layers).
    resume : bool
        Go on from the checkpoint in `out`; options left out are those it was started with.
    save_every_minutes : float
        A checkpoint is also written every so many minutes inside an epoch.
    name : str, optional
        Name of the exported weights; by default the folder's.
    licence : str, optional
        Licence of the exported weights; "unspecified" when none is given.
    listener : callable, optional
        Told of progress; see `samptag.training.events`.
    cache_progress : callable, optional
        Called with (clips done, clips in all) while audio is decoded.

    Returns
    -------
    TrainResult

    Raises
    ------
    UsageError, DatasetError, WeightsError, DeviceError, OutputError
        One line that names the file or value.
    """
    folder = Path(out)
    with ExitStack() as stack:
        stack.enter_context(writing_alone(folder, resume=resume))
        stored = _stored(folder, resume=resume)
        choices = choose(
            {
                "data": None if data is None else str(data),
                "format": format,
                "split": split,
                "subset": subset,
                "seed": seed,
                "pos_weight": pos_weight,
                "init_from": init_from,
                "frozen_encoder": freeze_encoder,
                "cache": None if cache is None else str(cache),
                "name": name,
                "licence": licence,
            },
            stored=None if stored is None else stored["identity"],
            recipe=recipe,
            batch_size=batch_size,
            learning_rate=learning_rate,
            budget=Budget(epochs=epochs, steps=max_steps, seconds=None if max_minutes is None else 60 * max_minutes),
        )
        where = training_device(device)
        stack.callback(restore_random_state, random_state())
        processes = stack.enter_context(joined(where))
        dataset = open_dataset(choices.data, format=choices.format, split=choices.split, subset=choices.subset)
        if batch_size is None:
            choices = replace(choices, recipe=choices.recipe.for_format(dataset.format))
        net = starting_model(model, choices, tags=dataset.tags, stored=stored)
        material = decode(
            dataset,
            net.config,
            directory=None if choices.cache is None else Path(choices.cache),
            jobs=jobs,
            progress=cache_progress,
        )
        stepper = Stepper(
            net.to(where),
            recipe=choices.recipe,
            device=where,
            processes=processes,
            frozen_encoder=choices.frozen_encoder,
            pos_weight=pos_weights(choices.pos_weight, material.train_labels),
            compiled=compiled,
        )
        load_train, load_valid = material.sources(where, resident=resident)
        job = Job(
            out=folder,
            identity=_identity(choices, material),
            make_card=card_maker(material, choices, name=choices.name or folder.resolve().name),
            budget=choices.budget,
            seed=choices.seed,
            epoch_segments=lambda number: material.epoch(number, recipe=choices.recipe, seed=choices.seed),
            valid_segments=material.validation(choices.recipe),
            train_labels=material.train_labels,
            valid_labels=material.valid_labels,
            load_train=load_train,
            load_valid=load_valid,
            processes=processes,
            save_every_seconds=60 * save_every_minutes,
            listener=listener if listener is not None and processes.leads else _unheard,
        )
        return _run(Trainer(job, stepper), job, material, choices, stored=stored, resident=load_train.resident)


def _run(
    trainer: Trainer,
    job: Job,
    material: Material,
    choices: Choices,
    *,
    stored: Mapping[str, Any] | None,
    resident: bool,
) -> TrainResult:
    """Start or resume, and train."""
    _seed_everything(choices.seed, job.processes)
    if stored is not None:
        check_identity(job.out / LAST, stored["identity"], job.identity)
        trainer.restore(stored)
    job.listener(_prepared(trainer, material, choices, resident=resident))
    stopped_by = trainer.run()
    return TrainResult(
        out=job.out,
        model_path=job.out / MODEL,
        epochs=trainer.position.epoch,
        steps=trainer.position.total_steps,
        best=None if trainer.best is None else trainer.best["record"],
        stopped_by=stopped_by,
    )


def _stored(folder: Path, *, resume: bool) -> dict[str, Any] | None:
    """The checkpoint to resume from; None for a new training, whose folder must not hold another one."""
    if resume:
        return load_checkpoint(folder / LAST)
    if (folder / LAST).exists():
        raise UsageError(f"{folder} already holds a training: go on with it by --resume, or choose another --out")
    return None


def _identity(choices: Choices, material: Material) -> dict[str, Any]:
    return {
        **choices.to_dict(),
        # A training may be resumed from another working directory.
        "data": str(Path(choices.data).absolute()),
        "cache": None if choices.cache is None else str(Path(choices.cache).absolute()),
        "config": material.config.to_dict(),
        "tags": list(material.dataset.tags),
        "split_name": material.dataset.split_name,
        "split_hash": material.cache.split_hash,
    }


def _seed_everything(seed: int, processes: Processes) -> None:
    """Every library's generator; each process draws its own dropout."""
    own = seed * 1009 + processes.rank
    torch.manual_seed(own)
    np.random.seed(own % 2**32)  # noqa: NPY002 - the global one, which libraries may draw from
    random.seed(own)


def _prepared(trainer: Trainer, material: Material, choices: Choices, *, resident: bool) -> Prepared:
    stepper, cache = trainer.stepper, material.cache
    dataset = material.dataset
    return Prepared(
        data=str(dataset.root),
        format=dataset.format,
        split=f"{dataset.split_name} ({cache.split_hash})",
        cautions=(
            *(problem.message for problem in dataset.problems if problem.kind in ("split", "left-out")),
            *([_FEW_CLIPS.format(len(material.valid))] if len(material.valid) < FEW_VALID_CLIPS else []),
        ),
        tags=dataset.tags,
        train_positives=tuple(float(n) for n in material.train_labels.sum(axis=0, dtype=np.float64)),
        valid_positives=tuple(float(n) for n in material.valid_labels.sum(axis=0, dtype=np.float64)),
        train_clips=len(material.train),
        valid_clips=len(material.valid),
        segments_per_epoch=len(trainer.job.epoch_segments(0)),
        steps_per_epoch=trainer.steps_per_epoch,
        short_clips=int((cache.lengths[material.train] < material.config.input_length).sum()),
        left_out=cache.left_out + len(dataset.unusable),
        report_path=str(cache.report_path),
        parameters=sum(p.numel() for p in stepper.model.parameters()),
        model=material.config.name,
        recipe=choices.recipe.name,
        device=str(stepper.device),
        fast_path=stepper.fast_path,
        resident=resident,
        epoch=trainer.position.epoch,
        step=trainer.position.step,
    )


def _unheard(event: Event) -> None:
    """Nobody listens."""
