"""imdb_reviews: the Large Movie Review Dataset, from its folder, its archive or a download."""

import codecs
import gzip
import os
import re
import stat
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from keras_rnnkit.archives import open_zip, unpacking
from keras_rnnkit.datasets.download import download
from keras_rnnkit.progress import Progress

__all__ = ["imdb_reviews"]

ADDRESS = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
BYTES = 84_125_825
SHA256 = "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"
PARTS = ("train", "val", "test")
LABELS = {"neg": 0, "pos": 1}
SHAPE = "train/pos, train/neg, test/pos, test/neg and perhaps val/pos, val/neg"
LONGEST = 1 << 24  # bytes; the longest real review has 14,000
# Members of a tar archive that have no data whatever size they tell, and those whose data tell of
# the next one: long names, and the headers of pax.
WITHOUT_DATA = (
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
)
ABOUT_THE_NEXT = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


@dataclass(frozen=True, eq=False)
class ReviewPart:
    """Reviews of one part, and whether each is positive.

    Attributes:
        texts: The reviews as in their files, with `<br />` for a line break.
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
    """Reviews in parts, with duplicates and damage.

    Attributes:
        train: The training reviews.
        val: The validation reviews; empty with `val=0` where the source has none.
        test: The test reviews; empty where the source has none.
        held_out: Whether `val` was held out of the training reviews.
        duplicates: `(part, later part) -> number` of reviews of the later part that are in the
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

    The texts are read as UTF-8 on every machine. Each part is shuffled by `seed`, in the same way
    from a folder and from an archive. `train/unsup`, which has no labels, is skipped.

    Args:
        directory: The folder `aclImdb` as it is unpacked, or the one it lies in; or its archive
            (`.tar.gz` or `.zip`), which is read as a stream and not unpacked. Default: the
            public archive (84 MB), downloaded once, checked, and stored where Keras stores its own
            data: in `datasets` of `KERAS_HOME` or of `~/.keras`.
        val: Share of the training reviews to hold out for validation, equally of both labels;
            0 for none. If there is a folder `val`, that is the validation part, and this share is
            ignored.
        seed: Shuffle seed; it also decides which reviews are held out.
        strict: Whether a file with damaged bytes, or without text, is an error. Otherwise the
            result names such files.
        progress: Whether to show a line on stderr when reading takes more than two seconds.

    Returns:
        `Reviews` with `train`, `val` and `test`, each of which has `texts` (a list of str) and
        `labels` (int32, 1 is positive). Printed, it shows counts, duplicates and damage.

    Raises:
        FileNotFoundError: No such folder or file; or one of its folders is missing.
        OSError: The download failed, or a file cannot be opened.
        ValueError: A folder holds no review, or something that is not a file; the archive is
            damaged, or holds reviews in two folders, or links; a review is longer than 16 MB; `val`
            is not a share; a file has damaged bytes or no text, if `strict`.

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
        >>> reviews = rk.datasets.imdb_reviews(folder)
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
    if directory is None:
        source = download(ADDRESS, BYTES, SHA256, "imdb_reviews('{}')", progress=progress)
    else:
        source = Path(directory)
    if not source.exists():
        raise FileNotFoundError(
            f"`directory` {source} does not exist. Give the folder aclImdb, or its archive; "
            "imdb_reviews() downloads it."
        )
    if not (source.is_dir() or source.is_file()):
        raise ValueError(
            f"`directory` {source} is a pipe or a device. Give the folder aclImdb, or its archive."
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
    """The reviews read so far, by folder; of two files of one name the later one counts."""

    source: str
    strict: bool
    folders: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    empty: set[str] = field(default_factory=set)

    def add(self, part: str, label: str, name: str, data: bytes) -> None:
        """Decode one file, and note what is wrong with it."""
        folder = self.folders.setdefault((part, label), {})
        where = f"{part}/{label}/{name}"
        folder.pop(name, None)
        self.damaged.discard(where)
        self.empty.discard(where)
        data = data.removeprefix(codecs.BOM_UTF8)
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            text = data.decode(errors="replace")
            byte = f"0x{data[error.start]:02x} at {error.start}"
            self._note(self.damaged, where, f"the byte {byte}, which is not UTF-8")
        if not text or text.isspace():
            self._note(self.empty, where, "no text")
        else:
            folder[name] = text

    def _note(self, names: set[str], name: str, found: str) -> None:
        if self.strict:
            raise ValueError(
                f"{name} in {self.source}: expected text in UTF-8, found {found}. Correct the "
                "file, or pass strict=False to have it counted."
            )
        names.add(name)

    def check(self) -> None:
        """Raise if a label of a part, or the training part, is missing."""
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
            files = self.folders.get((part, label), {})
            texts += [files[name] for name in sorted(files)]
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
                found = {e.name: e.is_file() for e in entries if _is_review(e.name)}
            for name, regular in found.items():
                _check(f"{part}/{label}/{name} in {source}", regular, 0)
            folders[part, label] = list(found)
    total = sum(map(len, folders.values()))
    done = 0
    with Progress(str(source), lambda: done / total, shown=progress) as line:
        for (part, label), names in folders.items():
            folder_name = os.fspath(root / part / label) + os.sep
            for name in names:
                # Unbuffered: a review is one read.
                with open(folder_name + name, "rb", buffering=0) as file:  # noqa: PTH123  half the time
                    size = os.fstat(file.fileno()).st_size
                    _check(f"{part}/{label}/{name} in {source}", True, size)
                    data = file.readall()
                done += 1
                line.update()
                yield part, label, name, data


def _unpack(source: Path, progress: bool) -> Iterator[File]:
    """The files of an archive, in its order; nothing is written to disk."""
    size = source.stat().st_size
    root = None
    with (
        source.open("rb") as raw,
        Progress(str(source), lambda: min(1.0, raw.tell() / size), shown=progress) as line,
        unpacking(f"`directory` {source}"),
    ):
        packed = _unzip if raw.read(2) == b"PK" else _untar
        raw.seek(0)
        for path, data in packed(raw, source):
            line.update()
            *top, part, label, name = path.parts
            if root not in (None, top):
                raise ValueError(
                    f"`directory` {source} holds reviews in two folders, {'/'.join(root) or '.'} "
                    f"and {'/'.join(top) or '.'}. Unpack it, and give one of them."
                )
            root = top
            yield part, label, name, data


def _untar(raw: BinaryIO, source: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """The reviews of a .tar.gz.

    `tarfile` takes an unreadable header for the end of the archive, and reads long names and maps
    of sparse files at once, however long they are.
    """
    told: dict[str, str] = {}
    with gzip.open(raw) as stream:
        while any(block := _read(stream, tarfile.BLOCKSIZE)):
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            size = 0 if header.type in WITHOUT_DATA else int(told.get("size", header.size))
            if size < 0 or header.type == tarfile.GNUTYPE_SPARSE:
                raise tarfile.ReadError(f"{header.name} is sparse, or of no size")
            if header.type in ABOUT_THE_NEXT:
                if size > LONGEST:
                    raise tarfile.ReadError(f"a name of {size:,} bytes")
                told |= _told(header.type, _read(stream, _blocks(size))[:size])
                continue
            path = PurePosixPath(told.get("path", header.name))
            regular = header.isreg() and not any(key.startswith("GNU.sparse") for key in told)
            told = {}
            if _is_labelled(path):
                _check(f"{path} in {source}", regular, size)
                yield path, _read(stream, _blocks(size))[:size]
            else:
                stream.seek(_blocks(size), os.SEEK_CUR)
        while rest := stream.read(1 << 16):
            if any(rest):
                raise tarfile.ReadError("it goes on behind its end")


def _read(stream: gzip.GzipFile, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("it has no end")
    return data


def _blocks(size: int) -> int:
    """Bytes that a file of this size takes up in a tar archive."""
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _told(kind: bytes, data: bytes) -> dict[str, str]:
    """The size and kind of the file after a header."""
    if kind == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    if kind != tarfile.XHDTYPE:
        return {}
    told = {}
    while data := data.lstrip(b"\0"):
        record = re.match(rb"(\d{1,9}) ([^=]+)=", data)
        if record is None or int(record[1]) <= record.end():
            raise tarfile.ReadError(f"a header of it: {data[:40]!r}")
        value = data[record.end() : int(record[1]) - 1]
        told[record[2].decode(errors="replace")] = value.decode("utf-8", "surrogateescape")
        data = data[int(record[1]) :]
    if not re.fullmatch(r"\d{1,18}", told.get("size", "0"), re.ASCII):
        raise tarfile.ReadError(f"a size of {told['size'][:40]!r}")
    return told | {"path": told["GNU.sparse.name"]} if "GNU.sparse.name" in told else told


def _unzip(raw: BinaryIO, source: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    with open_zip(raw) as archive:
        for member in archive.infolist():
            path = PurePosixPath(member.filename)
            if _is_labelled(path):
                link = stat.S_ISLNK(member.external_attr >> 16)
                _check(f"{path} in {source}", not (member.is_dir() or link), member.file_size)
                yield path, archive.read(member)
            else:
                archive.open(member).close()  # its name is damaged where the two places differ


def _check(where: str, regular: bool, size: int) -> None:
    if not regular:
        raise ValueError(
            f"{where} is no file but a folder, a link, a pipe or a device. Remove it, or put a "
            "file in its place."
        )
    if size > LONGEST:
        raise ValueError(
            f"{where} has {size:,} bytes; a review has no more than {LONGEST:,}. Remove it."
        )


def _is_review(name: str) -> bool:
    """Whether a file of this name is a review; a Mac adds hidden files to an archive."""
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
    """Divide a shuffled part in two; the first reviews of each label go to the second."""
    held = np.zeros(len(part), dtype=bool)
    for value in LABELS.values():
        places = np.flatnonzero(part.labels == value)
        number = round(share * len(places))
        if not 0 < number < len(places):
            raise ValueError(
                f"`val` {share} of {len(places)} reviews of one label leaves none in one part. "
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
