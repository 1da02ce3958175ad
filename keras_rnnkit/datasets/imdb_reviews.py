"""imdb_reviews: the Large Movie Review Dataset, from its folder, its archive or a download."""

import codecs
import gzip
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from operator import itemgetter
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from keras_rnnkit.progress import Progress

__all__ = ["imdb_reviews"]

ADDRESS = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
PARTS = ("train", "val", "test")
LABELS = {"neg": 0, "pos": 1}
SHAPE = "train/pos, train/neg, test/pos, test/neg and perhaps val/pos, val/neg"


@dataclass(frozen=True, eq=False)
class ReviewPart:
    """Reviews of one part, and what each thinks of its film.

    Attributes:
        texts: The reviews as they stand in their files, `<br />` for a line break included.
        labels: `(reviews,)` int32, 1 for a positive review and 0 for a negative one.
    """

    texts: list[str]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        positive = int(self.labels.sum())
        return f"{len(self):,} reviews, {positive:,} positive, {len(self) - positive:,} negative"


@dataclass(frozen=True, eq=False)
class Reviews:
    """Reviews in parts, with what was found amiss.

    Attributes:
        train: The training reviews.
        val: The validation reviews; empty with `val=0` where the source has none.
        test: The test reviews; empty where the source has none.
        held_out: Whether `val` was held out of the training reviews.
        duplicates: `(part, later part) -> reviews` of the later part whose text stands in the
            earlier one too; `(part, part)` counts those that repeat one of their own part. Pairs
            without any are left out.
        damaged: Names of the files with bytes that are not UTF-8; each run of such bytes is one
            U+FFFD in the text.
        empty: Names of the files without any text; they are left out.
        source: What was read.
    """

    train: ReviewPart
    val: ReviewPart
    test: ReviewPart
    held_out: bool
    duplicates: Mapping[tuple[str, str], int]
    damaged: tuple[str, ...]
    empty: tuple[str, ...]
    source: str

    def __repr__(self) -> str:
        lines = [f"Reviews: {self.source}"]
        for name in PARTS:
            note = ", held out of train" if name == "val" and self.held_out else ""
            part = getattr(self, name)
            lines.append(f"  {name:<11}{repr(part) + note if len(part) else 'none'}")
        repeats = [
            f"{number:,} inside {one}" if one == other else f"{number:,} of {other} in {one}"
            for (one, other), number in self.duplicates.items()
        ]
        lines.append(f"  duplicates {', '.join(repeats) or 'none'}")
        for what, names in (("damaged", self.damaged), ("empty", self.empty)):
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            files = "file" if len(names) == 1 else "files"
            lines.append(f"  {what:<11}{f'{len(names):,} {files}: {shown}' if names else 'none'}")
        return "\n".join(lines)


def imdb_reviews(
    directory: str | PathLike[str] | None = None,
    *,
    val: float = 0.2,
    seed: int = 0,
    strict: bool = False,
    progress: bool = True,
) -> Reviews:
    r"""The Large Movie Review Dataset: film reviews, each positive or negative.

    The texts are read as UTF-8, whatever the machine's own encoding. Each part comes shuffled by
    `seed`, the same from a folder as from an archive. `train/unsup`, which has no labels, is passed
    over.

    Args:
        directory: The folder `aclImdb` as it is unpacked, or the one it lies in; or its archive
            (`.tar.gz` or `.zip`), which is read as a stream and not unpacked. Default: the
            public archive (84 MB), downloaded once by `keras.utils.get_file` and kept where that
            keeps it.
        val: Share of the training reviews to hold out for validation, equally of both labels;
            0 for none. Where there is a folder `val`, that is the validation part, and this share
            does not matter.
        seed: Seeds the order, and which reviews are held out.
        strict: Whether a file with damaged bytes, or without text, is an error. Otherwise such
            files are named in the result.
        progress: Whether to show a line on stderr when reading takes more than two seconds.

    Returns:
        `Reviews` with `train`, `val` and `test`, each of which has `texts` (a list of str) and
        `labels` (int32, 1 is positive). Printed, it tells the counts, duplicates and damage.

    Raises:
        FileNotFoundError: No such folder or file; or one of its folders is missing.
        OSError: The download failed, or a file cannot be opened.
        ValueError: A folder holds no review; the archive is damaged; `val` is no share; a file has
            damaged bytes or no text, if `strict`.

    Source:
        Maas, Daly, Pham, Huang, Ng and Potts, Learning Word Vectors for Sentiment Analysis, ACL
        (2011); https://ai.stanford.edu/~amaas/data/sentiment/.

    Example:
        >>> import pathlib, tempfile
        >>> import keras_rnnkit as rk
        >>> folder = pathlib.Path(tempfile.mkdtemp(), "aclImdb")
        >>> for label, text in {"pos": "A fine film.", "neg": "Dull."}.items():
        ...     (folder / "train" / label).mkdir(parents=True)
        ...     for number in range(5):
        ...         path = folder / "train" / label / f"{number}_7.txt"
        ...         _ = path.write_text(f"{text} {number}")
        >>> reviews = rk.imdb_reviews(folder)
        >>> reviews
        Reviews: ...aclImdb
          train      8 reviews, 4 positive, 4 negative
          val        2 reviews, 1 positive, 1 negative, held out of train
          test       none
          duplicates none
          damaged    none
          empty      none
        >>> len(reviews.train.texts), reviews.train.labels.shape
        (8, (8,))
    """
    if isinstance(val, bool) or not isinstance(val, int | float) or not 0 <= val < 1:
        raise ValueError(
            f"`val` must be the share of training reviews to hold out, from 0 to below 1, such as "
            f"0.2. Received: {val!r}."
        )
    source = _download() if directory is None else Path(directory)
    if not source.exists():
        raise FileNotFoundError(
            f"`directory` {source} does not exist. Give the folder aclImdb, or its archive; "
            "imdb_reviews() downloads it."
        )
    found = _Found(str(source), strict)
    files = _walk(source, progress) if source.is_dir() else _unpack(source, progress)
    for part, label, name, data in files:
        found.add(part, label, name, data)
    found.check()
    parts = {part: found.shuffled(part, seed) for part in PARTS}
    held_out = bool(val) and not len(parts["val"])
    if held_out:
        parts["train"], parts["val"] = _hold_out(parts["train"], val)
    return Reviews(
        **parts,
        held_out=held_out,
        duplicates=_count_duplicates(parts),
        damaged=tuple(sorted(found.damaged)),
        empty=tuple(sorted(found.empty)),
        source=str(source),
    )


File = tuple[str, str, str, bytes]


@dataclass
class _Found:
    """The reviews read so far, by folder."""

    source: str
    strict: bool
    folders: dict[tuple[str, str], list[tuple[str, str]]] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    def add(self, part: str, label: str, name: str, data: bytes) -> None:
        """Decode one file, and note what is wrong with it."""
        data = data.removeprefix(codecs.BOM_UTF8)
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            text = data.decode(errors="replace")
            self._note(
                self.damaged,
                f"{part}/{label}/{name}",
                f"the byte 0x{data[error.start]:02x} at {error.start}, which is not UTF-8",
            )
        if not text or text.isspace():
            self._note(self.empty, f"{part}/{label}/{name}", "no text")
        else:
            self.folders.setdefault((part, label), []).append((name, text))

    def _note(self, names: list[str], name: str, found: str) -> None:
        if self.strict:
            raise ValueError(
                f"{name} in {self.source}: expected text in UTF-8, found {found}. Mend the file, "
                "or pass strict=False to have it counted."
            )
        names.append(name)

    def check(self) -> None:
        """Raise where a label of a part, or the training part, is missing."""
        for part in PARTS:
            missing = [label for label in LABELS if not self.folders.get((part, label))]
            if missing and (part == "train" or len(missing) < len(LABELS)):
                folders = " and ".join(f"{part}/{label}" for label in missing)
                raise ValueError(
                    f"`directory` {self.source} holds no review in {folders}. Expected .txt files "
                    f"in {SHAPE}, as in aclImdb. Unpack it again, or give its archive."
                )

    def shuffled(self, part: str, seed: int) -> ReviewPart:
        """One part in the order that the seed gives, wherever the files were read from."""
        texts: list[str] = []
        labels: list[int] = []
        for label, value in LABELS.items():
            files = sorted(self.folders.get((part, label), ()), key=itemgetter(0))
            texts += [text for _, text in files]
            labels += [value] * len(files)
        order = np.random.default_rng([seed, PARTS.index(part)]).permutation(len(texts))
        return ReviewPart(
            [texts[place] for place in order], np.array(labels, dtype=np.int32)[order]
        )


def _walk(source: Path, progress: bool) -> Iterator[File]:
    """The files of a folder."""
    root = source
    if not (root / "train").is_dir() and (root / "aclImdb" / "train").is_dir():
        root = root / "aclImdb"
    folders = {}
    for part in PARTS:
        if part != "train" and not (root / part).is_dir():
            continue
        for label in LABELS:
            folder = root / part / label
            if not folder.is_dir():
                held = ", ".join(sorted(path.name for path in root.iterdir())[:10]) or "nothing"
                raise FileNotFoundError(
                    f"`directory` {source} has no folder {part}/{label}. Expected {SHAPE}, as in "
                    f"aclImdb; found in {root}: {held}. Give the folder that holds `train`."
                )
            with os.scandir(folder) as entries:
                folders[part, label] = [e.name for e in entries if _is_review(e.name)]
    total = sum(map(len, folders.values()))
    done = 0
    with Progress(str(source), lambda: done / total, shown=progress) as line:
        for (part, label), names in folders.items():
            folder_name = os.fspath(root / part / label) + os.sep
            for name in names:
                # Unbuffered: a review is one read.
                with open(folder_name + name, "rb", buffering=0) as file:  # noqa: PTH123  half the time
                    data = file.readall()
                done += 1
                line.update()
                yield part, label, name, data


def _unpack(source: Path, progress: bool) -> Iterator[File]:
    """The files of an archive, in its order; nothing is written to disk."""
    size = source.stat().st_size
    with (
        source.open("rb") as raw,
        Progress(str(source), lambda: min(1.0, raw.tell() / size), shown=progress) as line,
    ):
        packed = _unzip if raw.read(2) == b"PK" else _untar
        raw.seek(0)
        try:
            for path, data in packed(raw):
                line.update()
                *_, part, label, name = path.parts
                yield part, label, name, data
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise ValueError(
                f"`directory` {source} is no archive, or a damaged one ({error}). Expected a "
                ".tar.gz or .zip of aclImdb, or its folder. Fetch it again."
            ) from error


def _untar(raw: BinaryIO) -> Iterator[tuple[PurePosixPath, bytes]]:
    with gzip.open(raw) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            if member.isfile() and _is_labelled(path):
                yield path, archive.extractfile(member).read()  # type: ignore[union-attr]
        # To tarfile an archive cut between two members is whole; gzip knows better at its end.
        while stream.read(1 << 16):
            pass


def _unzip(raw: BinaryIO) -> Iterator[tuple[PurePosixPath, bytes]]:
    with zipfile.ZipFile(raw) as archive:
        for member in archive.infolist():
            path = PurePosixPath(member.filename)
            if _is_labelled(path):
                yield path, archive.read(member)


def _is_review(name: str) -> bool:
    """Whether a file of this name is a review; a Mac leaves hidden files beside those it packs."""
    return name.endswith(".txt") and name[0] != "."


def _is_labelled(path: PurePosixPath) -> bool:
    folders = path.parts[-3:-1]
    return (
        len(folders) == 2
        and folders[0] in PARTS
        and folders[1] in LABELS
        and _is_review(path.name)
        and path.parts[0] != "__MACOSX"
    )


def _hold_out(part: ReviewPart, share: float) -> tuple[ReviewPart, ReviewPart]:
    """Part a shuffled part in two, the first reviews of each label to the second."""
    held = np.zeros(len(part), dtype=bool)
    for value in LABELS.values():
        places = np.flatnonzero(part.labels == value)
        number = round(share * len(places))
        if not 0 < number < len(places):
            raise ValueError(
                f"`val` {share} of {len(places)} reviews of one label leaves none on one side. "
                "Give another share, or val=0 for no validation reviews."
            )
        held[places[:number]] = True
    return _take(part, ~held), _take(part, held)


def _take(part: ReviewPart, chosen: np.ndarray) -> ReviewPart:
    return ReviewPart([part.texts[i] for i in np.flatnonzero(chosen)], part.labels[chosen])


def _count_duplicates(parts: Mapping[str, ReviewPart]) -> dict[tuple[str, str], int]:
    distinct = {name: set(part.texts) for name, part in parts.items()}
    counts = {}
    for one, other in combinations_with_replacement(PARTS, 2):
        if one == other:
            number = len(parts[one]) - len(distinct[one])
        else:
            number = sum(text in distinct[one] for text in parts[other].texts)
        if number:
            counts[one, other] = number
    return counts


def _download() -> Path:
    import keras

    try:
        return Path(keras.utils.get_file(origin=ADDRESS))
    except Exception as error:  # get_file raises bare Exceptions
        raise OSError(
            f"the reviews could not be downloaded: {error}. Fetch {ADDRESS} by other means and "
            "pass its path, imdb_reviews('aclImdb_v1.tar.gz')."
        ) from error
