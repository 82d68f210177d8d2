"""The public class `Library`: everything the commands do with one index."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samptag.errors import LibraryError, UsageError
from samptag.library.database import Database, default_path
from samptag.library.query import Condition, parse
from samptag.library.songs import Song, Weights, choose_weights, limit_artists, order_sql, select, song_of
from samptag.text import valid_text

if TYPE_CHECKING:
    from samptag.library.indexing import IndexReport, Observer
    from samptag.library.learning import LearnResult
    from samptag.library.plan import Mode, WritePlan
    from samptag.library.writing import Outcome, Run
    from samptag.tagging.tagger import Tagger


class Library:
    """An index of music: what a model heard in every song, and what can be done with it.

    A `model` is the name or file of weights; None means those of the last `index`.

    Parameters
    ----------
    path : str or path, optional
        The SQLite file; None for ``library.db`` in samptag's folder of user data. The first `index` creates it.

    Raises
    ------
    LibraryError
        By every method, if the index cannot be used or no song was heard with these weights; by `index`, `prune`,
        `learn`, `write` and `undo` also if another process is writing to it.

    Examples
    --------
    >>> with samptag.Library("music.db") as library:  # doctest: +SKIP
    ...     library.index(["~/Music"])
    ...     quiet = library.find('piano > .2 and not "female vocals"', sort="piano", limit=50)
    ...     radio = library.similar([quiet[0].path], n=25, per_artist=2)
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = default_path() if path is None else Path(path)
        self._database: Database | None = None

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        if self._database is not None:
            self._database.close()
            self._database = None

    @contextmanager
    def _reading(self) -> Iterator[Database]:
        if self._database is None:
            self._database = Database(self.path, create=False)
        database = self._database
        with database.explained():
            yield database

    @contextmanager
    def _writing(self, command: str) -> Iterator[Database]:
        if self._database is None or self._database.read_only:
            self.close()
            self._database = Database(self.path, create=True)
        database = self._database
        with database.explained(), database.writing(command):
            yield database

    def index(
        self,
        paths: Sequence[str | os.PathLike[str]] = (),
        *,
        model: str | os.PathLike[str] | None = None,
        device: str = "auto",
        jobs: int | None = None,
        observer: Observer | None = None,
    ) -> IndexReport:
        """Hear the files that are new or have changed, and find those that have moved.

        Parameters
        ----------
        paths : sequence of str or path
            Folders and files; none for all that were indexed before.
        model : str or path, optional
            The weights to hear them with; None for samptag's default.
        device, jobs
            As for `samptag.Tagger`.
        observer : Observer, optional
            Callbacks that report progress.

        Raises
        ------
        WeightsError, DeviceError
            As for `samptag.Tagger`.

        Examples
        --------
        >>> library.index(["/home/me/Music"]).heard  # doctest: +SKIP
        1203
        """
        from samptag.fetch import file_sha256
        from samptag.library.indexing import IndexRun, Observer
        from samptag.pretrained import DEFAULT, resolve

        wanted = DEFAULT if model is None else model
        digest = file_sha256(resolve(wanted))

        def make_tagger(seconds: float) -> Tagger:
            from samptag.tagging.tagger import Tagger

            return Tagger.from_pretrained(wanted, device=device, jobs=jobs, expected_seconds=seconds)

        with self._writing("index") as database:
            roots = [os.path.abspath(path) for path in paths]
            return IndexRun(database, roots, digest, make_tagger, observer or Observer()).run()

    def prune(self, paths: Sequence[str | os.PathLike[str]] = ()) -> int:
        """Forget the missing songs below these folders, or all missing songs; return how many there were."""
        from samptag.library.indexing import prune

        with self._writing("index --prune") as database:
            return prune(database, paths)

    def status(self) -> dict[str, Any]:
        """What the index holds, as in the JSON schema samptag.index/1.

        Keys: path, size (bytes), songs, duration (seconds), missing, broken (list of {path, error}), folders, weights
        (list of {name, sha256, songs, words, cutoffs, decidable}; the default ones come first).
        """
        with self._reading() as database:
            count, missing, seconds = database.rows(
                "SELECT count(*), total(s.missing), total(a.duration) FROM songs s JOIN audio a ON a.id = s.audio"
            )[0]
            weights = database.rows(
                "SELECT w.name, w.digest, (SELECT count(*) FROM heard h JOIN songs s ON s.audio = h.audio "
                "WHERE h.weights = w.id), json_array_length(w.tags), "
                "(SELECT count(*) FROM json_each(w.tags) WHERE json_extract(value, '$.cutoff') NOT NULL) "
                "FROM weights w ORDER BY w.used DESC, w.id DESC"
            )
            broken = database.rows("SELECT path, error FROM songs WHERE error IS NOT NULL ORDER BY path")
        return {
            "schema": "samptag.index/1",
            "path": valid_text(str(self.path)),
            "size": self.path.stat().st_size,
            "songs": count,
            "duration": round(seconds, 3),
            "missing": int(missing),
            "broken": [{"path": valid_text(os.fsdecode(path)), "error": valid_text(error)} for path, error in broken],
            "folders": list(map(valid_text, self.folders())),
            "weights": [
                {
                    "name": name,
                    "sha256": digest,
                    "songs": songs,
                    "words": words,
                    "cutoffs": decidable == words,
                    "decidable": decidable,
                }
                for name, digest, songs, words, decidable in weights
            ],
        }

    def find(
        self,
        expression: str = "",
        *,
        model: str | os.PathLike[str] | None = None,
        sort: str | None = None,
        limit: int | None = None,
        per_artist: int | None = None,
        seed: int | None = None,
    ) -> list[Song]:
        """The songs that match an expression.

        Parameters
        ----------
        expression : str
            Such as ``'piano > .2 and not "female vocals" and duration < 300'``; an empty one matches every song.
        model : str or path, optional
            The weights whose words the expression uses.
        sort : str, optional
            A word (highest score first) or a field, with a minus in front to reverse the order, or "random".
        limit, per_artist : int, optional
            The most songs to return, in all and by one artist; songs without an artist are not limited by the latter.
        seed : int, optional
            Seed of the random order.

        Raises
        ------
        UsageError
            The expression cannot be read; the message marks where.

        Examples
        --------
        >>> [song.path for song in library.find("techno and not vocals", limit=2)]  # doctest: +SKIP
        ['/home/me/Music/Zeropage/Void Sensor.ogg', '/home/me/Music/Askyel/Combat 1.ogg']
        """
        import random

        with self._reading() as database:
            weights = self.weights(model)
            condition = parse(expression, weights.vocabulary)
            order = "s.path" if sort is None or sort == "random" else order_sql(sort, weights.vocabulary)
            at_once = per_artist is None and sort != "random"
            rows = select(database, weights, condition, order=order, limit=limit if at_once else None)
        if sort == "random":
            random.Random(seed).shuffle(rows)
        songs = (song_of(row, weights) for row in rows)
        most = None if limit is None else max(limit, 0)
        return list(islice(songs if per_artist is None else limit_artists(songs, per_artist), most))

    def similar(
        self,
        songs: Sequence[str | os.PathLike[str]],
        *,
        unlike: Sequence[str | os.PathLike[str]] = (),
        path_to: str | os.PathLike[str] | None = None,
        n: int = 25,
        where: str = "",
        per_artist: int | None = None,
        model: str | os.PathLike[str] | None = None,
        device: str = "auto",
    ) -> list[Song]:
        """The songs of the index that sound most like the given ones, or that lead from one song to another.

        Parameters
        ----------
        songs : sequence of str or path
            At least one file; a file that is not in the index is heard on the spot.
        unlike : sequence of str or path
            Files whose sound to avoid.
        path_to : str or path, optional
            A song to lead to in even steps, from the only one of `songs`.
        n : int
            The most songs to return; the given ones, their copies and near-identical recordings are not among them.
        where : str
            An expression that the songs must match, as for `find`.
        per_artist : int, optional
            The most songs by one artist.
        model : str or path, optional
            The weights whose embeddings are compared.
        device : str
            As for `samptag.Tagger`, for files that are heard on the spot.

        Returns
        -------
        list of Song
            Most similar first, or in the order of the path; `similarity` is the cosine.

        Raises
        ------
        UsageError
            The expression cannot be read, or the arguments contradict each other.
        AudioError
            A song cannot be decoded.

        Examples
        --------
        >>> [song.label for song in library.similar(["song.mp3"], n=2)]  # doctest: +SKIP
        ['Zeropage - Ambiphonic', 'Askyel - Combat 1']
        """
        from samptag.library.similar import embedding_of, path_between, similar_songs

        if not songs:
            raise UsageError("name a song to compare with")
        if path_to is not None and (len(songs) != 1 or unlike or per_artist):
            raise UsageError("a path leads from one song to one other; name no further songs and no limit per artist")
        with self._reading() as database:
            weights = self.weights(model)
            condition = parse(where, weights.vocabulary)

            @cache
            def make_tagger() -> Tagger:
                from samptag.tagging.tagger import Tagger

                return Tagger.from_pretrained(_checked(weights, model), device=device)

            seeds = [embedding_of(database, weights, song, make_tagger) for song in songs]
            if path_to is not None:
                end = embedding_of(database, weights, path_to, make_tagger)
                return path_between(database, weights, seeds[0], end, n=n, condition=condition)
            away = [embedding_of(database, weights, song, make_tagger) for song in unlike]
            return similar_songs(database, weights, seeds, unlike=away, n=n, condition=condition, per_artist=per_artist)

    def learn(
        self,
        source: str | os.PathLike[str],
        *,
        name: str | None = None,
        force: bool = False,
        suggest: int = 0,
        model: str | os.PathLike[str] | None = None,
        seed: int = 0,
    ) -> tuple[LearnResult, Mapping[str, list[tuple[str, float]]]]:
        """Learn words from songs labelled with them, using the songs' embeddings in the index.

        Parameters
        ----------
        source : str or path
            A folder of playlists, or of folders whose names are the words; a playlist; a table with the columns path
            and tag; or "genre", "mood" or "grouping" for the files' own fields.
        name : str, optional
            Install the result as weights of this name, and score every song of the index with them.
        force : bool
            Replace existing weights of that name.
        suggest : int
            For each word, suggest this many songs whose label would help most.
        model : str or path, optional
            The weights whose embeddings are used.
        seed : int
            Seed of the folds in which each word is examined.

        Returns
        -------
        LearnResult
            How well each word was learned; `path` is where the weights are.
        mapping from str to list of (path, score)
            The suggestions by word.

        Raises
        ------
        UsageError
            The labels cannot be read, or the name is taken.
        LibraryError
            No labelled song is in the index, or no word was learned.

        Examples
        --------
        >>> result, _ = library.learn("playlists/", name="mine")  # doctest: +SKIP
        >>> [(word.word, round(word.roc_auc, 2)) for word in result.learned]  # doctest: +SKIP
        [('running', 0.91), ('sunday', 0.84)]
        """
        import tempfile

        from samptag.fetch import file_sha256
        from samptag.library.labels import read_labels
        from samptag.library.learning import learn_words, remember_learned, save_learned, songs_to_label
        from samptag.pretrained import open_store
        from samptag.pretrained.importing import check_new_name, import_file

        if name is not None:
            check_new_name(name, open_store(), force=force)
        with self._reading() as database:
            weights = self.weights(model)
            rows = database.connection.execute("SELECT path FROM songs WHERE audio NOT NULL")
            labels = read_labels(os.fspath(source), [os.fsdecode(path) for (path,) in rows])
            result = learn_words(database, weights, labels, seed=seed)
            suggestions = songs_to_label(database, weights, result, labels, n=suggest) if suggest else {}
        if name is None:
            return result, suggestions
        if not result.learned:
            why = "; ".join(f"{word.word}: {word.refused}" for word in result.words[:5])
            raise LibraryError(f"no word was learned: {why}")
        base = _checked(weights, model)
        with tempfile.TemporaryDirectory(prefix="samptag-") as folder:
            made = Path(folder) / "learned.safetensors"
            card = save_learned(result, base=base, name=name, source=os.fspath(source), path=made)
            installed = import_file(made, name=name, store=open_store(), force=force)
        with self._writing("learn") as database:
            remember_learned(database, weights, result, card, file_sha256(installed))
        return dataclasses.replace(result, path=installed), suggestions

    def plan(
        self,
        paths: Sequence[str | os.PathLike[str]],
        *,
        fields: Sequence[str] = ("genre", "mood"),
        mode: Mode = "empty",
        records: str | os.PathLike[str] | None = None,
        split_links: bool = False,
        unverified: bool = False,
        model: str | os.PathLike[str] | None = None,
    ) -> WritePlan:
        """What `write` would put into files; nothing is touched.

        Parameters
        ----------
        paths : sequence of str or path
            Files and folders.
        fields : sequence of str
            Any of genre, mood, grouping, comment and samptag.
        mode : {"empty", "add", "replace"}
            Fill empty fields, add to what is there, or replace it.
        records : str or path, optional
            Output of ``samptag tag --format jsonl --top 0`` to take scores from; None for those of the index.
        split_links : bool
            Write to files with several names (hard links) as well: this name gets a new file, and the others keep the
            old one. Otherwise they are refused.
        unverified : bool
            Also write decided words that people's tags do not confirm: only the models that taught them vouch for them,
            or people's tags are too few or agree too badly. Otherwise the plan says which words it left out.
        model : str or path, optional
            The weights whose words are written.

        Raises
        ------
        UsageError
            A field is unknown, the records cannot be read, or mutagen is missing.

        Examples
        --------
        >>> for file in library.plan(["/home/me/Music"]).changed:  # doctest: +SKIP
        ...     print(file.path, [(change.field, change.new) for change in file.changes])
        """
        from samptag.library.plan import plan_writes, records_of

        with self._reading() as database:
            weights = self.weights(model)
            known = None if records is None else records_of(records, weights.vocabulary)
            return plan_writes(
                database,
                weights,
                paths,
                records=known,
                fields=fields,
                mode=mode,
                split_links=split_links,
                unverified=unverified,
            )

    def write(self, plan: WritePlan, *, touch: bool = False) -> Iterator[tuple[int, Outcome]]:
        """Write what a plan says into the files, each on a copy that is read back before it takes the file's place.

        Parameters
        ----------
        plan : WritePlan
            From `plan`; a file that has changed since then is left alone.
        touch : bool
            Set the files' modification time to now instead of keeping it.

        Yields
        ------
        (int, Outcome)
            The run's number, for `undo`, and what became of each file.

        Examples
        --------
        >>> for run, outcome in library.write(library.plan(["/home/me/Music"])):  # doctest: +SKIP
        ...     print(outcome.path, outcome.error or "written")
        """
        from samptag.library.writing import write_plan

        with self._writing("write") as database:
            yield from write_plan(database, plan, touch=touch)

    def undo(self, run: int | None = None, *, split_links: bool = False) -> Iterator[tuple[int, Outcome]]:
        """Put back the fields that `write` changed in run number `run`, or in the last run that is not undone.

        It yields what `write` does; a file that has changed since then gets an error and is left alone. `split_links`
        is as for `plan`, for files that have been given further names. With nothing to undo it raises a LibraryError.
        """
        from samptag.library.writing import undo_run

        with self._writing("write --undo") as database:
            yield from undo_run(database, run, split_links=split_links)

    def runs(self) -> list[Run]:
        """The runs of `write`, oldest first."""
        from samptag.library.writing import runs

        with self._reading() as database:
            return runs(database)

    def weights(self, model: str | os.PathLike[str] | None = None) -> Weights:
        """The weights that songs were heard with: by name or file, else those of the last `index`."""
        with self._reading() as database:
            return choose_weights(database, model)

    def heard(self, model: str | os.PathLike[str] | None = None) -> tuple[int, int]:
        """How many songs were heard with these weights, and how many the index holds; missing ones are not counted."""
        number = self.weights(model).id
        with self._reading() as database:
            # Usually all songs were, and comparing counts shows that in a third of the time of the join.
            counts = database.rows(
                "SELECT (SELECT count(*) FROM heard WHERE weights = ?) = (SELECT count(*) FROM audio), count(*) "
                "FROM songs WHERE audio NOT NULL AND NOT missing",
                number,
            )[0]
            if counts[0]:
                return counts[1], counts[1]
            songs, heard = database.rows(
                "SELECT count(*), count(h.audio) FROM songs s LEFT JOIN heard h ON h.audio = s.audio AND h.weights = ? "
                "WHERE s.audio NOT NULL AND NOT s.missing",
                number,
            )[0]
        return heard, songs

    def condition(self, expression: str, *, model: str | os.PathLike[str] | None = None) -> Condition:
        """An expression as `find` understands it: its words, and those that are compared with their cut-offs."""
        return parse(expression, self.weights(model).vocabulary)

    def folders(self) -> list[str]:
        """The folders that were indexed."""
        with self._reading() as database:
            return [os.fsdecode(path) for (path,) in database.rows("SELECT path FROM folders ORDER BY path")]


def _checked(weights: Weights, model: str | os.PathLike[str] | None) -> str | os.PathLike[str]:
    """The name or file of weights of the index, after checking that it is the file the songs were heard with."""
    from samptag.fetch import file_sha256
    from samptag.pretrained import resolve

    named = weights.name if model is None else model
    if file_sha256(resolve(named)) != weights.digest:
        raise LibraryError(
            f"the weights {named} are not the ones that the songs of the index were heard with, and "
            "embeddings of two models cannot be compared: index again, or name the old file with --model"
        )
    return named
