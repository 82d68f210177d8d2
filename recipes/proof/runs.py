"""Every training that is compared: what it is called, and the two commands it consists of."""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from samptag.errors import SamptagError
from samptag.files import atomic_write

__all__ = ["COMPARISONS", "Outcome", "Run", "Setting", "carry_out", "outcomes", "planned"]

logger = logging.getLogger(__name__)

# The paper's, for every run: as many steps are then as many segments.
BATCH_SIZE = 23


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One row of a table: everything about a training but its seed."""

    model: str
    recipe: str = "modern"
    labels: str = "human"
    steps: int

    @property
    def name(self) -> str:
        """Of the folder with its runs."""
        return f"{self.model}-{self.recipe}-{self.labels}-{self.steps}"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training and its evaluation."""

    setting: Setting
    seed: int
    work: Path

    @property
    def folder(self) -> Path:
        """Where the training writes."""
        return self.work / "runs" / self.setting.name / str(self.seed)

    @property
    def report(self) -> Path:
        """What the evaluation says, once there is one."""
        return self.folder / "eval.json"

    def train_command(self) -> list[str]:
        """The arguments of samptag that train; they go on where an earlier call was stopped."""
        setting, resume = self.setting, ["--resume"] if (self.folder / "last.pt").is_file() else []
        data = ["--data", str(self.work / f"{setting.labels}.jsonl"), "--cache", str(self.work / "cache")]
        what = ["--model", setting.model, "--recipe", setting.recipe, "--batch-size", str(BATCH_SIZE)]
        how = ["--max-steps", str(setting.steps), "--seed", str(self.seed), "--out", str(self.folder), "--json"]
        return ["train", *data, *what, *how, *resume]

    def eval_command(self) -> list[str]:
        """The arguments of samptag that evaluate."""
        data = ["--data", str(self.work / f"{self.setting.labels}.jsonl"), "--split", "test"]
        model = ["--model", str(self.folder / "model.safetensors")]
        return ["eval", *data, *model, "--min-positives", "4", "--json"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a finished run came to: macro figures on the test tracks, and minutes of training where it ran."""

    run: Run
    roc_auc: float
    pr_auc: float
    minutes: float


# The rows of each table. The steps are what two CPU cores do in about an hour for three seeds of all of them.
COMPARISONS = {
    "recipes": (
        Setting(model="samplecnn-3-7", recipe="paper", steps=300),
        Setting(model="samplecnn-3-7", recipe="modern", steps=300),
    ),
    "labels": (
        Setting(model="samplecnn-3-7", labels="human", steps=300),
        Setting(model="samplecnn-3-7", labels="teacher", steps=300),
    ),
    "systems": (
        Setting(model="samplecnn-3-9", labels="teacher", steps=150),
        Setting(model="frame-raw-243-243", labels="teacher", steps=150),
        Setting(model="frame-mel-729-243", labels="teacher", steps=150),
    ),
}


def planned(names: Sequence[str], *, seeds: int, work: Path) -> Iterator[Run]:
    """All runs of the comparisons `names`, each once, the first seed of all before the second of any."""
    settings = dict.fromkeys(setting for name in names for setting in COMPARISONS[name])
    for seed in range(seeds):
        for setting in settings:
            yield Run(setting=setting, seed=seed, work=work)


def carry_out(run: Run) -> None:
    """Train and evaluate, unless that is done; a call that is stopped is taken up by the next one.

    Raises
    ------
    SamptagError
        A command failed; it said why.
    """
    if run.report.is_file():
        return
    run.folder.mkdir(parents=True, exist_ok=True)
    if not (run.folder / "model.safetensors").is_file() or not (run.folder / "trained.json").is_file():
        begun = time.monotonic()
        _samptag(run.train_command())
        _keep(run.folder / "trained.json", json.dumps({"minutes": (time.monotonic() - begun) / 60}))
    _keep(run.report, _samptag(run.eval_command()))
    logger.info("%s", outcome(run))


def _samptag(arguments: Sequence[str]) -> str:
    logger.info("samptag %s", " ".join(arguments))
    done = subprocess.run([sys.executable, "-m", "samptag", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SamptagError(f"samptag {arguments[0]} ended with exit code {done.returncode}")
    return done.stdout


def _keep(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text.encode())


def outcome(run: Run) -> Outcome:
    """What a finished run came to."""
    macro = json.loads(run.report.read_text(encoding="utf-8"))["macro"]
    minutes = json.loads((run.folder / "trained.json").read_text(encoding="utf-8"))["minutes"]
    return Outcome(run=run, roc_auc=macro["roc_auc"], pr_auc=macro["pr_auc"], minutes=minutes)


def outcomes(setting: Setting, work: Path) -> tuple[Outcome, ...]:
    """Those of all seeds that are finished, in the order of the seeds."""
    folder = work / "runs" / setting.name
    seeds = sorted(int(path.name) for path in folder.iterdir()) if folder.is_dir() else []
    runs = [Run(setting=setting, seed=seed, work=work) for seed in seeds]
    return tuple(outcome(run) for run in runs if run.report.is_file())
