"""The steps of the recipe, each skipped when its result is complete."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np

from recipes.samplecnn_3_9_mtat50.collection import TABLE, Track, public_sources, read_music
from recipes.samplecnn_3_9_mtat50.options import Options
from recipes.samplecnn_3_9_mtat50.store import Store
from samptag.errors import DatasetError, WeightsError
from samptag.files import atomic_write

__all__ = ["STEPS"]

_log = logging.getLogger("samptag.recipe")


def sources(options: Options) -> None:
    from recipes.samplecnn_3_9_mtat50.render import midi_files

    others = [*midi_files(options.midi), *filter(None, [options.soundfont])]
    present = {track.source for folder in options.music for track in read_music(folder)}
    present |= {part for file in others for part in file.parts}
    for source in public_sources():
        if source.source not in present:
            place = " ".join(filter(None, (source.origin, source.version, source.folder)))
            _log.info("missing: %s (%s; %s): %s", source.source, source.what, source.licence, place)
    _log.info("sources: %d of %d are there", sum(s.source in present for s in public_sources()), len(public_sources()))


def teacher(options: Options) -> None:
    from recipes.samplecnn_3_9_mtat50.teacher import make_teacher, teacher_files

    if not all(file.is_file() for file in teacher_files(options.teacher_folder)):
        make_teacher(options.teacher_folder, package=options.musicnn)
    _log.info("teacher: in %s", options.teacher_folder)


def decode(options: Options) -> None:
    store = Store(options.work)
    for folder in options.music:
        tracks = read_music(folder)
        for done, (track, problem) in enumerate(
            store.decode(tracks, whole=(folder / TABLE).is_file(), jobs=options.threads), start=1
        ):
            if problem:
                _log.warning("%s: %s", track.path, problem)
            if done % 100 == 0:
                _log.info("decode: %d new tracks of %s", done, folder)
    _log.info("decode: done")


def render(options: Options) -> None:
    from recipes.samplecnn_3_9_mtat50.render import midi_files, render, rendered_tracks

    if not options.midi or options.soundfont is None:
        _log.info("render: left out, for want of --midi and --soundfont")
        return
    store = Store(options.work)
    for done, _ in enumerate(
        render(store, midi_files(options.midi), soundfont=options.soundfont, seed=options.seed), start=1
    ):
        if done % 100 == 0:
            _log.info("render: %d new pieces", done)
    _log.info("render: %d pieces", len(rendered_tracks(options.work)))


def label(options: Options) -> None:
    from recipes.samplecnn_3_9_mtat50.label import label_tracks, write_scores

    store = Store(options.work)
    tracks = _all_tracks(options)
    new = label_tracks(store, tracks, teacher=options.teacher_folder, jobs=options.threads)
    _log.info("label: %d tracks, %d of them new", len(tracks), new)
    target = options.work / "teacher-scores.npz"
    if options.teacher_scores is None and not target.is_file():
        write_scores(target, store, read_music(_collection(options)))


def mix(options: Options) -> None:
    from recipes.samplecnn_3_9_mtat50.mixtures import label_mixtures

    tracks = [track for track in _labelled(options) if track.trainable]
    new = label_mixtures(
        Store(options.work),
        tracks,
        games=_games(),
        teacher=options.teacher_folder,
        n=options.mixtures,
        seed=options.seed,
        jobs=options.threads,
    )
    _log.info("mix: %d new mixtures", new)


def train(options: Options) -> None:
    from recipes.samplecnn_3_9_mtat50.phases import PHASES
    from recipes.samplecnn_3_9_mtat50.train import Material, finished, train_phase
    from recipes.samplecnn_3_9_mtat50.windows import Crops, Windows

    store, folder = Store(options.work), options.work / "train"
    tracks = _labelled(options)
    played = [track for track in tracks if track.source != "rendered"]
    held_out = [track for track in tracks if track.held_out]
    games = _games()
    for phase in PHASES:
        if not finished(folder, phase):
            heard = [track for track in (tracks if phase.rendered else played) if track.trainable]
            mixtures = store.mixtures() if phase.mixtures else ()
            material = Material(
                crops=Crops(store, [track for track in played if track.trainable]),
                windows=Windows(store, heard, games=games, mixtures=mixtures, share=phase.mixtures),
                held_out=Windows(store, held_out) if held_out else None,
            )
            _log.info("phase %s: %d segments of %d tracks", phase.name, len(material.windows), len(heard))
            train_phase(
                phase,
                folder=folder,
                material=material,
                pace=options.paces[phase.name],
                seed=options.seed,
                threads=options.threads,
            )
        _log.info("phase %s: done", phase.name)


def export(options: Options) -> None:
    from recipes.samplecnn_3_9_mtat50.export import export as write_weights
    from recipes.samplecnn_3_9_mtat50.phases import PHASES
    from recipes.samplecnn_3_9_mtat50.train import trained

    if options.weights is None:
        write_weights(options.weights_file, trained(options.work / "train", PHASES[-1]))
    _log.info("export: %s", options.weights_file)


def evaluate(options: Options) -> None:
    from recipes.samplecnn_3_9_mtat50.card import figures_text
    from recipes.samplecnn_3_9_mtat50.evaluate import PERTURBATIONS, measure, reusable

    weights = _existing(options.weights_file)
    perturbations = () if options.clean_only else PERTURBATIONS
    figures = reusable(_figures_file(options), weights, perturbations=perturbations)
    if figures is None:
        figures = measure(
            weights,
            collection=_collection(options),
            teacher_scores=_teacher_scores(options),
            perturbations=perturbations,
            device=options.device,
            progress=_say_tenths,
        )
        options.work.mkdir(parents=True, exist_ok=True)
        with atomic_write(_figures_file(options)) as file:
            file.write(json.dumps(figures, indent=1, ensure_ascii=False).encode("utf-8"))
    _log.info("%s", figures_text(figures))


def publish(options: Options) -> None:
    from recipes.samplecnn_3_9_mtat50.evaluate import PERTURBATIONS, reusable
    from recipes.samplecnn_3_9_mtat50.export import publish as publish_weights

    figures = reusable(_figures_file(options), _existing(options.weights_file), perturbations=PERTURBATIONS)
    if figures is None:
        raise WeightsError(f"{options.weights_file} has no figures in {options.work}; run the step evaluate first")
    target = publish_weights(options.weights_file, figures=figures, folder=options.publish_to)
    _log.info("publish: %s, its registry entry and its card", target)


STEPS: dict[str, Callable[[Options], None]] = {
    "sources": sources,
    "teacher": teacher,
    "decode": decode,
    "render": render,
    "label": label,
    "mix": mix,
    "train": train,
    "export": export,
    "evaluate": evaluate,
    "publish": publish,
}


def _all_tracks(options: Options) -> list[Track]:
    """Everything there is to hear: given and rendered music."""
    from recipes.samplecnn_3_9_mtat50.render import rendered_tracks

    given = [track for folder in options.music for track in read_music(folder)]
    return given + list(rendered_tracks(options.work))


def _labelled(options: Options) -> list[Track]:
    """All of it that is long enough for the teacher to have heard."""
    store = Store(options.work)
    return [track for track in _all_tracks(options) if len(np.load(store.logits_file(track), mmap_mode="r"))]


def _games() -> frozenset[str]:
    """The sources that are games' music."""
    return frozenset(source.source for source in public_sources() if source.kind == "debian")


def _figures_file(options: Options) -> Path:
    return options.work / "figures.json"


def _existing(weights: Path) -> Path:
    if not weights.is_file():
        raise WeightsError(f"{weights} is not there; run the step export, or name weights with --weights")
    return weights


def _collection(options: Options) -> Path:
    """The first folder of music that has a table."""
    for folder in options.music:
        if (folder / TABLE).is_file():
            return folder
    raise DatasetError(f"none of the folders of music has a {TABLE}, whose tags the weights are measured on")


def _teacher_scores(options: Options) -> Path:
    file = options.teacher_scores or options.work / "teacher-scores.npz"
    if not file.is_file():
        raise DatasetError(f"{file} is not there; run the step label, or name the file with --teacher-scores")
    return file


def _say_tenths(what: str, done: int, total: int) -> None:
    if done * 10 // total > (done - 1) * 10 // total:
        _log.info("%s: %d of %d", what, done, total)
