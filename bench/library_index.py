"""The goals of the library, measured: sizes with made-up rows, everything else with real music.

::

    python -m bench.library_index [--songs 100000] [--repeat 5] [--skip-tag] [--music DIR]

Wall and processor time of whole processes, the best of `--repeat` (a machine that does other things only adds to it),
and their peak memory, not less than this program's own.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from operator import truediv
from pathlib import Path
from statistics import median

import numpy as np
import soundfile

from bench.process import interleaved, timed
from samptag import Library
from samptag.fetch import file_sha256
from samptag.library.audio_bytes import audio_digest
from samptag.library.database import Database
from samptag.library.fields import read_fields
from samptag.library.similar import all_embeddings
from samptag.pretrained import resolve

MEDIA = Path(__file__).parents[1] / "tests" / "media"
WORDS = 50


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument(
        "--skip-tag", action="store_true", help="leave out index against tag, the one that takes minutes"
    )
    parser.add_argument("--music", type=Path, metavar="DIR", help="index against tag alone, of the music in DIR")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        if options.music is not None:
            _against_tag(options.music, folder, options.repeat)
            return
        _unchanged(folder, options.repeat)
        _big(folder, options.songs, options.repeat)
        _plan(folder, options.songs)
        _undo(folder, options.songs)
        _learn(folder, options.repeat)
        if not options.skip_tag:
            _against_tag(_clips(folder / "music"), folder, max(options.repeat, 5))


def _time(repeat: int, *arguments: object, codes: Sequence[int] = (0,)) -> dict[str, float]:
    """Wall and processor seconds, the least, and peak bytes, the most, of `repeat` runs of ``samptag *arguments``."""
    runs = [timed([sys.executable, "-m", "samptag", *map(str, arguments)], codes=codes) for _ in range(repeat)]
    least = {name: min(run[name] for run in runs) for name in ("wall_seconds", "cpu_seconds")}
    return {**least, "peak_bytes": max(run["peak_bytes"] for run in runs)}


def _row(what: str, goal: str, found: dict[str, float]) -> None:
    seconds = f"{found['wall_seconds']:.2f} s | {found['cpu_seconds']:.2f} s"
    print(f"| {what} | {goal} | {seconds} | {found['peak_bytes'] / 1e6:.0f} MB |", flush=True)


def _unchanged(folder: Path, repeat: int) -> None:
    """A second index over 10 000 files: real clips, each with its own last byte so that their digests differ."""
    music = folder / "many"
    clip = (MEDIA / "bay.wav").read_bytes()[:20_000]
    for number in range(10_000):
        path = music / f"{number // 100:03}" / f"{number:05}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clip[:-4] + number.to_bytes(4, "little"))
    db = folder / "many.db"
    with Library(db) as library:
        library.index([MEDIA / "bay.wav"])
        _pretend_heard(library, music)
    _row("second `index` over 10 000 unchanged files", "2 s", _time(repeat, "index", "--db", db, music))


def _pretend_heard(library: Library, music: Path) -> None:
    """Rows of every file in `music` as if it had been heard: hearing them is not what is measured."""
    weights = library.weights()
    scores, vector = np.zeros(WORDS, ">f2").tobytes(), np.zeros(512, "<f2").tobytes()
    with library._writing("index") as database, database.transaction() as connection:
        connection.execute("INSERT INTO folders VALUES (?, 0)", (os.fsencode(music),))
        for number, path in enumerate(sorted(music.rglob("*.wav")), start=100):
            status = path.stat()
            connection.execute("INSERT INTO audio VALUES (?, ?, 1.0)", (number, number.to_bytes(32, "big")))
            connection.execute(
                "INSERT INTO songs (path, size, mtime_ns, audio, reader) VALUES (?, ?, ?, ?, 2)",
                (os.fsencode(path), status.st_size, status.st_mtime_ns, number),
            )
            connection.execute("INSERT INTO heard VALUES (?, ?, ?)", (weights.id, number, scores))
            connection.execute(
                "INSERT INTO embeddings (space, audio, vector) VALUES (?, ?, ?)", (weights.space, number, vector)
            )


def _big(folder: Path, songs: int, repeat: int) -> None:
    """Find and similar on made-up rows."""
    db = folder / "big.db"
    seed = folder / "seed.wav"
    shutil.copyfile(MEDIA / "bay.wav", seed)
    make_rows(db, songs, seed)
    print(f"| ({songs} made-up songs: {db.stat().st_size / 1e6:.0f} MB on the disk) | | | |")
    expression = "piano > .7 and not (word3 > .5) and duration < 300"
    for what, arguments in (
        ("`find` on 100 000 songs, 50 given", ("find", expression, "--sort", "piano", "-n", "50")),
        ("`find`, all that are found given", ("find", expression)),
        ("`find artist ~ ...`", ("find", 'artist ~ "artist 77"')),
    ):
        _row(what, "0.4 s", _time(repeat, *arguments, "--db", db))
    _row("`similar` on 100 000 songs", "0.6 s", _time(repeat, "similar", seed, "--db", db))
    _row("`similar --path-to`", "", _time(repeat, "similar", seed, "--path-to", seed, "--db", db))
    with Library(db) as library:
        labelled = [song.path for song in library.find()[:60_000:1000]]
    (folder / "mine.m3u8").write_text("\n".join(labelled) + "\n")
    _row("`learn` of one playlist among 100 000", "", _time(1, "learn", "--from", folder / "mine.m3u8", "--db", db))
    _label_all(db, folder / "all.csv")
    _row("`learn` of ten words, all 100 000 labelled", "", _time(1, "learn", "--from", folder / "all.csv", "--db", db))
    _index_one(db)


def _index_one(db: Path) -> None:
    """One song more, as if all others had been heard with the default weights before."""
    database = Database(db, create=True)
    database.connection.execute("UPDATE weights SET digest = ?", (file_sha256(resolve()),))
    database.close()
    _row("`index` of one new song among 100 000", "", _time(1, "index", MEDIA / "void-sensor.ogg", "--db", db))


def _label_all(db: Path, table: Path) -> None:
    """One of ten words for every song, by the largest of its embedding's first ten numbers: words that are learned."""
    with Library(db) as library, library._reading() as database, table.open("w") as file:
        names = dict(database.rows("SELECT audio, path FROM songs"))
        file.write("path,tag\n")
        for numbers, vectors in all_embeddings(database, library.weights().space):
            for number, word in zip(numbers.tolist(), vectors[:, :10].argmax(axis=1), strict=True):
                file.write(f'"{os.fsdecode(names[number])}",{"abcdefghij"[word]}\n')


def _plan(folder: Path, songs: int) -> None:
    """The plan of a write into files that are there, a tenth of a second of real sound each."""
    music = folder / "planned"
    samples, rate = soundfile.read(MEDIA / "bay.wav", frames=1000)
    soundfile.write(folder / "short.flac", samples, rate)
    content = (folder / "short.flac").read_bytes()
    for number in range(songs):
        path = music / f"Artist {number // 12}" / f"{number % 12:02} A title {number}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    db = folder / "planned.db"
    make_rows(db, songs, MEDIA / "bay.wav", files=sorted(music.rglob("*.flac")))
    with Library(db) as library, (folder / "tags.jsonl").open("w") as file:
        for song in library.find():
            tags = [{"tag": tag, "score": round(score, 4)} for tag, score in song.scores.items()]
            file.write(json.dumps({"path": song.path, "tags": tags}) + "\n")
    for what, arguments in (
        ("`write` of 100 000 files, the plan", ()),
        ("the same, `--json`", ("--json",)),
        ("the same, `--from tags.jsonl`", ("--from", folder / "tags.jsonl")),
    ):
        _row(what, "", _time(1, "write", music, *arguments, "--db", db))


def _undo(folder: Path, songs: int, files: int = 60) -> None:
    """What a run wrote taken back: `files` that are there, and as many more as make it `songs`, which have vanished."""
    music, db = folder / "undone", folder / "undone.db"
    music.mkdir()
    for number in range(files):
        shutil.copyfile(folder / "short.flac", music / f"{number:05}.flac")
    make_rows(db, files, MEDIA / "bay.wav", files=sorted(music.iterdir()))
    command = ("write", music, "--fields", "genre,mood,samptag", "--yes", "--db", db)
    _row(f"`write --yes` into {files} files", "", _time(1, *command))
    database = Database(db, create=True)
    with database.transaction() as connection:
        connection.execute("UPDATE writes SET id = id + ?", (songs,))  # undone first
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "INSERT INTO writes (id, run, path, state, old, new, size, mtime_ns) "
            "SELECT i, run, CAST('/music/Artist/' || i || ' A title.flac' AS BLOB), state, old, new, size, mtime_ns "
            "FROM n, (SELECT * FROM writes LIMIT 1)",
            (songs - files,),
        )
    database.close()
    _row(f"`write --undo`, {songs} files in the journal", "", _time(1, "write", "--undo", "--db", db, codes=(1,)))


def make_rows(path: Path, songs: int, seed: Path, *, files: Sequence[Path] = ()) -> None:
    """An index of made-up songs, 12 an artist, the first of which is the file `seed`, or all of which are `files`."""
    database, generator = Database(path, create=True), np.random.default_rng(0)
    kinds = ["genre", "mood"] * 5 + ["instrument"] * (WORDS - 11)
    words = [{"tag": f"word{i}", "category": kind, "cutoff": 0.3, "verified": True} for i, kind in enumerate(kinds)]
    words.append({"tag": "piano", "category": "instrument", "cutoff": 0.3, "verified": True})
    with database.transaction() as connection:
        connection.execute("INSERT INTO weights VALUES (1, ?, 'made-up', ?, 1, 1, NULL)", ("0" * 64, json.dumps(words)))
        for start in range(1, songs + 1, 1000):
            numbers = range(start, min(start + 1000, songs + 1))
            scores = (generator.random((len(numbers), WORDS)) ** 3).astype(">f2")
            vectors = np.maximum(generator.normal(size=(len(numbers), 512)), 0).astype("<f2")
            for number, score, vector in zip(numbers, scores, vectors, strict=True):
                name = (
                    f"/music/Artist {number // 12}/Album {number // 6}/{number % 12:02} A title {number}.mp3".encode()
                )
                real = files[number - 1] if files else seed if number == 1 else None
                file = (name, 5_000_000, 10**18) if real is None else _row_of(real)
                labels = (f"Artist {number // 12}", f"A title {number}", f"Album {number // 6}")
                connection.execute(
                    "INSERT INTO audio VALUES (?, ?, ?)", (number, generator.bytes(32), 100 + number % 300)
                )
                connection.execute(
                    "INSERT INTO songs (path, size, mtime_ns, audio, artist, title, album, reader) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, 2)",
                    (*file, number, *labels),
                )
                connection.execute("INSERT INTO heard VALUES (1, ?, ?)", (number, score.tobytes()))
                connection.execute(
                    "INSERT INTO embeddings (space, audio, vector) VALUES (1, ?, ?)", (number, vector.tobytes())
                )
    database.close()


def _row_of(path: Path) -> tuple[bytes, int, int]:
    status = path.stat()
    return os.fsencode(path), status.st_size, status.st_mtime_ns


def _learn(folder: Path, repeat: int) -> None:
    """Ten words on 1 000 songs by 100 artists; the rows of real clips' embeddings would be learned as fast."""
    db = folder / "learn.db"
    make_rows(db, 1000, folder / "seed.wav")
    with Library(db) as library:
        songs = library.find()
    generator = np.random.default_rng(0)
    table = folder / "labels.csv"
    lines = [
        f'"{song.path}",{word}' for song in songs for word in generator.choice(list("abcdefghij"), 2, replace=False)
    ]
    table.write_text("path,tag\n" + "\n".join(lines) + "\n")
    _row("`learn` on 1 000 songs, 10 words", "10 s", _time(repeat, "learn", "--from", table, "--db", db))


def _clips(music: Path) -> Path:
    """97 real clips, 10 minutes."""
    for copy in range(4):
        for clip in sorted((MEDIA / "set").iterdir()):
            target = music / str(copy) / f"{clip.stem}.flac"
            target.parent.mkdir(parents=True, exist_ok=True)
            samples, rate = soundfile.read(clip)
            soundfile.write(target, samples[copy * 1000 :], rate)  # another digest for each copy
    shutil.copyfile(MEDIA / "eastern-dreams.mp3", music / "dreams.mp3")
    return music


def _against_tag(music: Path, folder: Path, repeat: int) -> None:
    """Index and tag of the same real files, in turn: the median of the rounds' ratios."""
    db = folder / "again.db"

    def forget() -> None:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{db}{suffix}").unlink(missing_ok=True)

    def index(*model: str) -> dict[str, float]:
        forget()
        return _time(1, "index", music, "--db", db, *model)

    began = time.process_time()
    for path in filter(Path.is_file, music.rglob("*")):
        audio_digest(path)
        read_fields(str(path))
    own = time.process_time() - began
    for what, model in (("the default weights", ()), ("`mel`", ("--model", "mel"))):
        contenders = {
            "tag": lambda model=model: _time(1, "tag", music, "-o", folder / "tags.jsonl", *model),
            "index": lambda model=model: index(*model),
        }
        *_, rounds = interleaved(contenders, rounds=repeat)
        found = rounds.figures
        ratios = [
            median(map(truediv, found["index"][name], found["tag"][name])) for name in ("wall_seconds", "cpu_seconds")
        ]
        peak = max(found["index"]["peak_bytes"])
        print(
            f"| `index` against `tag`, {what} | 1.03 | {ratios[0]:.3f} | {ratios[1]:.3f} | {peak / 1e6:.0f} MB |",
            flush=True,
        )
        share = own / median(found["tag"]["cpu_seconds"])
        print(f"| digests and tags of the files, of `tag`'s processor time | | | {share:.3f} | |", flush=True)


if __name__ == "__main__":
    main()
