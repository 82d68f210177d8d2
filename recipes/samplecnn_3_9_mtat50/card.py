"""The model card: a template filled with measured figures."""

from collections.abc import Iterable, Sequence
from importlib.resources import files
from string import Template
from typing import Any

from recipes.samplecnn_3_9_mtat50.collection import public_sources

__all__ = ["figures_text", "model_card"]

_ASIDE = 3  # listeners' tags of a clip that the table shows


def figures_text(figures: dict[str, Any]) -> str:
    """All figures in Markdown, as the model card holds them.

    Parameters
    ----------
    figures : dict
        What `evaluate.measure` gives.
    """
    return "\n\n".join(
        f"### {title}\n\n{text}"
        for title, text in (
            ("Ranking tags of music that listeners tagged", _ranking(figures["valid"])),
            ("Agreement with the teacher", _agreement(figures)),
            ("Degraded sound", _degraded(figures["valid"])),
            ("Every tag", _tags(figures["valid"])),
            ("Twenty tracks and the five tags they were given", _clips(figures["clips"])),
        )
    )


def model_card(figures: dict[str, Any]) -> str:
    """The whole card.

    Parameters
    ----------
    figures : dict
        What `evaluate.measure` gives.
    """
    here = files(__package__)
    template = Template(here.joinpath("card.template.md").read_text(encoding="utf-8"))
    return template.substitute(
        figures=figures_text(figures),
        runs=here.joinpath("runs.md").read_text(encoding="utf-8").strip(),
        sources=_table(("source", "what", "licence"), ([s.source, s.what, s.licence] for s in public_sources())),
        sha256=figures["weights"]["sha256"],
        version=figures["samptag"],
    )


def _ranking(valid: dict[str, Any]) -> str:
    teacher = valid["against"]
    rows = [
        [name, *_macro(macro)]
        for name, macro in (("these weights", valid["macro"]), ("teacher, trained on these tracks", teacher["macro"]))
    ]
    rows.append(["difference", *_difference(teacher)])
    head = (
        f"{valid['clips']} tracks by {valid['groups']} artists, {len(valid['tags'])} tags with at least "
        f"{valid['min_positives']} positive tracks; a tag is present when any listener gave it; a track's score is the "
        f"mean over its segments, which touch. In brackets: 95 % bootstrap intervals, drawn by artist "
        f"({valid['bootstrap']['resamples']} draws)."
    )
    return f"{head}\n\n{_table(('', 'macro ROC-AUC', 'macro PR-AUC'), rows)}\n\n{teacher['verdict']}"


def _agreement(figures: dict[str, Any]) -> str:
    valid, held_out = figures["valid"], figures["held_out"]
    rows = [["the tagged tracks", str(valid["clips"]), *_alike(valid["against"]["agreement"])]]
    for name, unit in (
        (("held-out music", "tracks"), ("held-out music, 2.7 s segments", "segments")) if held_out else ()
    ):
        rows.append([name, str(held_out[unit]["n"]), *_alike(held_out[unit])])
    return _table(("on", "n", "mean per-tag correlation", "top-5 overlap"), rows)


def _degraded(valid: dict[str, Any]) -> str:
    rows = [["none", *_macro(valid["macro"]), "", ""]]
    for each in valid["perturbations"]:
        losses = [f"{each['roc_auc_loss']:+.4f}", f"{each['pr_auc_loss']:+.4f}"]
        rows.append([each["perturbation"], *_macro(each["macro"]), *losses])
    return _table(("degradation", "macro ROC-AUC", "macro PR-AUC", "ROC-AUC lost", "PR-AUC lost"), rows)


def _tags(valid: dict[str, Any]) -> str:
    rows = [
        [tag["tag"], str(tag["positives"]), f"{tag['roc_auc']:.3f}", f"{tag['pr_auc']:.3f}"]
        for tag in sorted(valid["tags"], key=lambda tag: -tag["roc_auc"])
    ]
    left_out = ", ".join(valid["excluded_tags"]) or "none"
    return f"{_table(('tag', 'tracks', 'ROC-AUC', 'PR-AUC'), rows)}\n\nToo rare here to be measured: {left_out}."


def _clips(clips: Sequence[dict[str, Any]]) -> str:
    head = (
        "Every so-many-th of the tracks above, in the order of the collection's table: nothing was chosen for being "
        "right. The last column shows up to three tags that listeners gave, where there are any."
    )
    rows = [
        [
            clip["artist"],
            clip["title"],
            clip["licence"],
            ", ".join(clip["tags"]),
            ", ".join(clip["listeners"][:_ASIDE]),
        ]
        for clip in clips
    ]
    return f"{head}\n\n{_table(('artist or source', 'title', 'licence', 'tags given', 'listeners'), rows)}"


def _macro(macro: dict[str, Any]) -> list[str]:
    return [_interval(macro[name], macro[f"{name}_ci95"]) for name in ("roc_auc", "pr_auc")]


def _difference(against: dict[str, Any]) -> list[str]:
    return [
        _interval(against[f"{name}_difference"], against[f"{name}_difference_ci95"], sign="+")
        for name in ("roc_auc", "pr_auc")
    ]


def _interval(value: float, ends: Sequence[float] | None, *, sign: str = "") -> str:
    around = "" if ends is None else f" ({ends[0]:{sign}.3f} to {ends[1]:{sign}.3f})"
    return f"{value:{sign}.4f}{around}"


def _alike(agreement: dict[str, Any]) -> list[str]:
    return [f"{agreement['correlation']:.4f}", f"{agreement['top_overlap']:.3f}"]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
