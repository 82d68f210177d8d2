"""`train`: from a data set and the weights to start from to a model file."""

import math
import random
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from samptag.core.model import Convolution, ModelConfig, SampleCNN
from samptag.data.formats import open_dataset
from samptag.errors import UsageError
from samptag.pretrained import load_model
from samptag.text import Progress
from samptag.training.batches import decode, embedded_source
from samptag.training.checkpoints import LAST, MODEL, load_checkpoint, random_state, restore_random_state, writing_alone
from samptag.training.config import TrainConfig, check_batches, check_same, settle
from samptag.training.distributed import Processes
from samptag.training.log import Callback
from samptag.training.teachers import Teachers
from samptag.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How the training in the folder `out` ended."""

    out: Path
    model_path: Path  # the exported model of the best epoch; it exists once an epoch is done
    epochs: int  # how many were trained
    steps: int
    best: Mapping[str, Any] | None  # the best epoch's record, as in metrics.jsonl
    stopped_by: int  # the signal that stopped it before its end, 0 for none


def train(
    data: str | Path | None = None,
    *,
    out: str | Path,
    resume: bool = False,
    callback: Callback | None = None,
    preparing: Progress | None = None,
    **options: Any,
) -> TrainResult:
    """Train a model on a data set.

    Parameters
    ----------
    data : str or Path, optional
        Folder or manifest; see `samptag.data.formats.open_dataset`. A resumed training knows its own.
    out : str or Path
        Folder for checkpoints, metrics.jsonl, curves and model.safetensors.
    resume : bool
        Go on from the checkpoint in `out`; options that are left out keep their values.
    callback : callable, optional
        Called with `Prepared`, `StepDone` and `EpochDone` of `samptag.training` as they happen.
    preparing : callable, optional
        Called with ("decoding audio" or "running the teachers", done, total) before the training begins.
    **options
        Fields of `TrainConfig`, with ``recipe`` and ``model`` by name if you like, and ``batch_size`` (segments a step
        over all processes), ``segments_per_clip`` (at most so many in an epoch), ``segments_per_example`` (so many of
        a clip learn its labels together) and ``learning_rate`` (the recipe's first or highest; the others keep their
        ratio to it). None means not given.

    Raises
    ------
    UsageError, DatasetError, WeightsError, DeviceError, OutputError
        One line that names the file or value.

    Examples
    --------
    >>> samptag.train("my-music/", out="run", init_from="samplecnn-3-9-mtat50", epochs=5)  # doctest: +SKIP
    """
    folder = Path(out)
    with ExitStack() as stack:
        stack.enter_context(writing_alone(folder, resume=resume))
        if not resume and (folder / LAST).exists():
            raise UsageError(f"{folder} already holds a training: continue it with --resume, or choose another --out")
        state = load_checkpoint(folder / LAST) if resume else None
        before = None if state is None else TrainConfig.from_dict(state["config"])
        config = settle({**options, "data": data}, stored=before)
        processes = Processes.from_environment()
        device = processes.training_device(config.device)
        stack.callback(restore_random_state, random_state())
        stack.enter_context(processes.training_on(device))
        teachers = Teachers(config.teacher.split(","), vocabulary=config.vocabulary) if config.teacher else None
        dataset = open_dataset(
            config.data, format=config.format, split=config.split, subset=config.subset, labelled=teachers is None
        )
        if teachers is not None:
            dataset = teachers.relabel(dataset)
        config = replace(config, recipe=config.recipe.for_format(dataset.format))
        check_batches(config.recipe, processes=processes.world_size)
        if teachers is not None and before is None and options.get("live_teachers") is None:
            config = replace(config, live_teachers=device.type == "cuda" and not config.freeze_encoder)
        model = starting_model(config, tags=dataset.tags, stored=before).to(device)
        config = replace(config, model=model.config)
        if (config.freeze_modules or 0) > model.config.n:
            name, n = model.config.name, model.config.n
            raise UsageError(f"--freeze-modules {config.freeze_modules}: {name} has {n} modules")
        names = {} if teachers is None else dict(zip(teachers.names, teachers.digests, strict=True))
        parts = decode(dataset, config, model=model.config, teachers=names, progress=preparing)
        if state is not None and before is not None:
            stored, now = before.to_dict() | state["facts"], config.to_dict() | parts.facts
            check_same(folder / LAST, stored, now)
            model.load_state_dict(state["stepper"]["model"])
        if teachers is not None:
            taught = teachers.teach(
                parts.cache,
                parts.valid if config.live_teachers else parts.clips,
                model=model.config,
                per_clip=config.recipe.segments_per_clip,
                device=device,
                processes=processes,
                progress=preparing,
            )
            live = teachers.live(model=model.config, device=device) if config.live_teachers else None
            parts = replace(parts, taught=taught, live=live)
        load = parts.source(device, resident=config.resident)
        if config.freeze_encoder:
            every = parts.consecutive(parts.clips)
            load = embedded_source(every, load, model=model, device=device, processes=processes)
        trainer = Trainer(
            config,
            model=model,
            parts=parts,
            load=load,
            device=device,
            processes=processes,
            out=folder,
            callback=callback,
        )
        seed = config.seed * 1009 + processes.rank  # each process draws its own dropout
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - the global one, which libraries may draw from
        random.seed(seed)
        if state is not None:
            trainer.restore(state)
        stopped_by = trainer.run()
        return TrainResult(
            out=folder,
            model_path=folder / MODEL,
            epochs=trainer.position.epoch,
            steps=trainer.position.total_steps,
            best=None if trainer.best is None else trainer.best["record"],
            stopped_by=stopped_by,
        )


def starting_model(config: TrainConfig, *, tags: tuple[str, ...], stored: TrainConfig | None) -> SampleCNN:
    """The model with the weights the training starts from, drawn with its seed; on the CPU."""
    torch.manual_seed(config.seed)
    wanted = None if config.model is None else replace(config.model, n_tags=len(tags))
    if config.init_from is None:
        model = SampleCNN(config.recipe.adapt(wanted or ModelConfig(n_tags=len(tags))))
        initialise(model, config.recipe.initialisation)
        return model
    if stored is not None and stored.model is not None:
        return SampleCNN(stored.model if wanted is None or _alike(wanted, stored.model) else wanted)
    loaded = load_model(config.init_from)
    if not isinstance(loaded.model, SampleCNN):
        name = loaded.card.config.name
        raise UsageError(f"{config.init_from} is a {name}, which samptag cannot train, only use as a --teacher")
    theirs = replace(loaded.model.config, n_tags=len(tags))
    if wanted is not None and not _alike(wanted, theirs):
        held, asked = (f"{each.name} at {each.sample_rate} Hz" for each in (theirs, wanted))
        raise UsageError(f"{config.init_from} holds a {held}, not the {asked} of --model; leave that out")
    model = SampleCNN(config.recipe.drop(theirs))
    state = loaded.model.state_dict()
    if loaded.card.tags != tags:
        state = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
    model.load_state_dict(state, strict=loaded.card.tags == tags)
    return model


def _alike(one: ModelConfig, other: ModelConfig) -> bool:
    return (one.name, one.sample_rate, one.n_tags) == (other.name, other.sample_rate, other.n_tags)


def initialise(model: SampleCNN, how: str) -> None:
    """Draw the convolutions of a new `model`, which are "he_uniform", again as a recipe has them.

    "keras-1.1.0": Lee 2017's ``he_uniform``, whose fan-in that version of Keras takes to be in x out channels, so that
    filters start 6.5 to 22.6 times smaller. "resemul": as in the code of Kim 2018, where the shortcuts' convolutions
    and the last layer, a ``Dense`` there, are glorot_uniform.
    """
    if how == "he_uniform":
        return
    for name, module in model.named_modules():
        if isinstance(module, Convolution):
            n_out, n_in, _ = module.weight.shape
            if how == "keras-1.1.0":
                bound = math.sqrt(6 / (n_in * n_out))
                nn.init.uniform_(module.weight, -bound, bound)
            elif name.endswith("shortcut.conv") or name == "top.conv":
                nn.init.xavier_uniform_(module.weight)
