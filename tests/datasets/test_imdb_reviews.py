"""imdb_reviews: the same reviews from a folder, an archive or a download, and its faults told."""

import collections
import gzip
import io
import os
import subprocess
import sys
import tarfile
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

import keras_rnnkit as rk
from keras_rnnkit import progress
from keras_rnnkit.datasets.imdb_reviews import ADDRESS, LONGEST

imdb_module = sys.modules[rk.datasets.imdb_reviews.__module__]

ARCHIVE = Path(__file__).parents[2].parent / "shared" / "data" / "imdb_train20k_val5k.tar.gz"


def write(root, part, label, number, text):
    folder = root / part / label
    folder.mkdir(parents=True, exist_ok=True)
    data = text if isinstance(text, bytes) else text.encode()
    (folder / f"{number}_7.txt").write_bytes(data)


@pytest.fixture
def folder(tmp_path):
    """aclImdb in small, with what else lies in it and what a Mac adds."""
    root = tmp_path / "aclImdb"
    for part, number in {"train": 10, "test": 4}.items():
        for label in ("pos", "neg"):
            for i in range(number):
                write(root, part, label, i, f"{part} {label} {i} naïve — œuvre")
    write(root, "train", "unsup", 0, "no label")
    (root / "train" / "urls_pos.txt").write_text("http://www.imdb.com/title/tt0453418/usercomments")
    (root / "train" / "pos" / "._0_7.txt").write_bytes(b"\x00\x05\x16\x07")
    (root / "README").write_text("Large Movie Review Dataset v1.0")
    return root


def pack_tar(folder, path):
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, folder.name)
    return path


def pack_zip(folder, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*"), reverse=True):
            archive.write(file, file.relative_to(folder.parent))
        archive.writestr(f"__MACOSX/{folder.name}/train/pos/0_7.txt", b"\x00\x05\x16\x07")
    return path


def pairs(part):
    return list(zip(part.texts, part.labels.tolist(), strict=True))


def same(one, other):
    for name in ("train", "val", "test"):
        assert pairs(getattr(one, name)) == pairs(getattr(other, name)), name


@pytest.mark.backends
def test_reads_every_review_of_a_folder_with_its_label(folder):
    reviews = rk.datasets.imdb_reviews(folder, val=0)
    for name, number in {"train": 10, "test": 4}.items():
        part = getattr(reviews, name)
        expected = {
            (f"{name} {label} {i} naïve — œuvre", value)
            for label, value in {"pos": 1, "neg": 0}.items()
            for i in range(number)
        }
        assert len(part) == 2 * number
        assert set(pairs(part)) == expected
        assert part.labels.dtype == np.int32
    assert len(reviews.val) == 0
    assert reviews.val.labels.shape == (0,)
    assert not reviews.held_out
    assert (reviews.damaged, reviews.empty, reviews.duplicates) == ((), (), {})


def test_archives_and_the_folder_above_give_the_same_reviews(folder, tmp_path):
    expected = rk.datasets.imdb_reviews(folder)
    same(rk.datasets.imdb_reviews(str(folder.parent)), expected)
    same(rk.datasets.imdb_reviews(pack_tar(folder, tmp_path / "a.tar.gz")), expected)
    same(rk.datasets.imdb_reviews(pack_zip(folder, tmp_path / "a.zip")), expected)


def test_an_archive_is_read_without_unpacking_and_without_its_top_folder(folder, tmp_path):
    expected = rk.datasets.imdb_reviews(folder)
    path = tmp_path / "bare.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for part in ("test", "train"):
            archive.add(folder / part, part)
    before = sorted(tmp_path.iterdir())
    same(rk.datasets.imdb_reviews(path), expected)
    assert sorted(tmp_path.iterdir()) == before


def test_the_download_is_read(folder, tmp_path, monkeypatch):
    path = pack_tar(folder, tmp_path / "aclImdb_v1.tar.gz")
    asked = []

    def download(*arguments, **options):
        asked.append(arguments[:3])
        return path

    monkeypatch.setattr(imdb_module, "download", download)
    same(rk.datasets.imdb_reviews(), rk.datasets.imdb_reviews(folder))
    assert asked == [(ADDRESS, 84_125_825, imdb_module.SHA256)]


def test_texts_are_utf8_whatever_the_locale_says(folder):
    code = (
        "import sys, keras_rnnkit as rk;"
        "r = rk.datasets.imdb_reviews(sys.argv[1]);"
        "print(ascii(sorted(r.test.texts)[0]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == ascii("test neg 0 naïve — œuvre")


def test_a_byte_order_mark_is_no_text(folder):
    write(folder, "test", "pos", 0, b"\xef\xbb\xbfmarked")
    assert "marked" in rk.datasets.imdb_reviews(folder).test.texts


def test_the_held_out_part_is_stratified_and_follows_the_seed(folder):
    for i in range(10, 30):
        write(folder, "train", "pos", i, f"more {i}")
    everything = rk.datasets.imdb_reviews(folder, val=0).train
    one = rk.datasets.imdb_reviews(folder, val=0.2, seed=3)
    assert one.held_out
    assert one.val.labels.sum() == 6
    assert len(one.val) == 8
    assert sorted(pairs(one.train) + pairs(one.val)) == sorted(pairs(everything))
    same(one, rk.datasets.imdb_reviews(folder, val=0.2, seed=3))
    other = rk.datasets.imdb_reviews(folder, val=0.2, seed=4)
    assert set(other.val.texts) != set(one.val.texts)
    assert set(other.test.texts) == set(one.test.texts)


def test_each_part_comes_shuffled(folder):
    labels = rk.datasets.imdb_reviews(folder, val=0).train.labels
    assert 1 < np.count_nonzero(np.diff(labels)) < len(labels) - 1


def test_a_folder_of_validation_reviews_is_taken_as_it_is(folder):
    for label in ("pos", "neg"):
        write(folder, "val", label, 0, f"val {label}")
    reviews = rk.datasets.imdb_reviews(folder, val=0.5)
    assert sorted(pairs(reviews.val)) == [("val neg", 0), ("val pos", 1)]
    assert len(reviews.train) == 20
    assert not reviews.held_out


def test_duplicates_are_counted_across_and_inside_parts(folder):
    write(folder, "train", "pos", 50, "train pos 0 naïve — œuvre")
    write(folder, "test", "neg", 50, "train neg 1 naïve — œuvre")
    write(folder, "test", "neg", 51, "train neg 1 naïve — œuvre")
    for label in ("pos", "neg"):
        write(folder, "val", label, 0, f"test {label} 0 naïve — œuvre")
    reviews = rk.datasets.imdb_reviews(folder)
    assert reviews.duplicates == {
        ("train", "train"): 1,
        ("train", "test"): 2,
        ("val", "test"): 2,
        ("test", "test"): 1,
    }
    assert "1 inside train, 2 of test in train, 2 of test in val, 1 inside test" in repr(reviews)


def test_damaged_bytes_and_empty_files_are_counted_by_name(folder):
    write(folder, "train", "pos", 3, b"caf\xe9 good")
    write(folder, "test", "neg", 2, b"")
    write(folder, "test", "pos", 2, b" \n\t")
    reviews = rk.datasets.imdb_reviews(folder, val=0)
    assert reviews.damaged == ("train/pos/3_7.txt",)
    assert reviews.empty == ("test/neg/2_7.txt", "test/pos/2_7.txt")
    assert "caf\ufffd good" in reviews.train.texts
    assert len(reviews.test) == 6
    shown = repr(reviews)
    assert "damaged    1 file: train/pos/3_7.txt" in shown
    assert "empty      2 files: test/neg/2_7.txt, test/pos/2_7.txt" in shown


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"caf\xe9 good", r"train/pos/3_7.txt in .*found the byte 0xe9 at 3, which is not UTF-8"),
        (b"", r"train/pos/3_7.txt in .*found no text"),
    ],
)
def test_strict_refuses_a_faulty_file(folder, data, message):
    write(folder, "train", "pos", 3, data)
    with pytest.raises(ValueError, match=message):
        rk.datasets.imdb_reviews(folder, strict=True)


def test_missing_folders_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        rk.datasets.imdb_reviews(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no folder train/neg.*found in .*: neg, pos, uns"):
        rk.datasets.imdb_reviews(folder / "train")
    write(folder, "val", "pos", 0, "alone")
    with pytest.raises(FileNotFoundError, match="no folder val/neg"):
        rk.datasets.imdb_reviews(folder)


def test_an_empty_folder_and_an_archive_of_something_else_are_told(folder, tmp_path):
    for file in (folder / "test" / "pos").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match="holds no review in test/pos"):
        rk.datasets.imdb_reviews(folder)
    path = tmp_path / "other.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("README"), io.BytesIO())
    with pytest.raises(ValueError, match="holds no review in train/neg and train/pos"):
        rk.datasets.imdb_reviews(path)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("text.tar.gz", b"<html>Not found</html>" * 100),
        ("text.tar", b"\0" * 10240),
        ("no.zip", b"PK\x03\x04" + bytes(100)),
        ("empty.tar.gz", b""),
    ],
)
def test_what_is_no_archive_is_told(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=f"{name} is not a complete archive"):
        rk.datasets.imdb_reviews(tmp_path / name)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_an_archive_cut_short_is_told_wherever_it_was_cut(folder, tmp_path, share):
    whole = pack_tar(folder, tmp_path / "a.tar.gz").read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"cut\.tar\.gz is not a complete archive"):
        rk.datasets.imdb_reviews(tmp_path / "cut.tar.gz")


def test_an_archive_cut_between_two_members_is_told(folder, tmp_path):
    packed = pack_tar(folder, tmp_path / "a.tar.gz")
    plain = gzip.decompress(packed.read_bytes())
    with tarfile.open(packed) as archive:
        boundary = archive.getmembers()[-1].offset
    squeeze = zlib.compressobj(wbits=31)
    cut = squeeze.compress(plain[:boundary]) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    packed.write_bytes(cut)
    with pytest.raises(ValueError, match=r"a\.tar\.gz is not a complete archive"):
        rk.datasets.imdb_reviews(packed)


def tar_of(path, members, extra=b"", **options):
    """A .tar.gz of `(name, data or TarInfo, data)`; `extra` stands between them and the end."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", **options) as archive:
        for name, data in members:
            member = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.name = name
            if isinstance(data, bytes):
                member.size = len(data)
            archive.addfile(member, io.BytesIO(data) if isinstance(data, bytes) else None)
        end = archive.offset
    whole = plain.getvalue()
    path.write_bytes(gzip.compress(whole[:end] + extra + whole[end:]))
    return path


def reviews_of(root="aclImdb/", number=5):
    return [
        (f"{root}train/{label}/{i}_7.txt", f"{label} {i}".encode())
        for label in ("pos", "neg")
        for i in range(number)
    ]


def of_type(kind, **fields):
    member = tarfile.TarInfo()
    member.type = kind
    for name, value in fields.items():
        setattr(member, name, value)
    return member


@pytest.mark.parametrize("bad", range(3, 20))
def test_a_damaged_header_is_not_the_end_of_a_tar(folder, tmp_path, bad):
    plain = bytearray(gzip.decompress(pack_tar(folder, tmp_path / "a.tar.gz").read_bytes()))
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        offset = archive.getmembers()[bad].offset
    for name, damaged in {
        "flipped": plain[offset : offset + 1] + b"?" + plain[offset + 2 : offset + 512],
        "wiped": bytes(512),
    }.items():
        path = tmp_path / f"{name}.tar.gz"
        path.write_bytes(gzip.compress(plain[:offset] + damaged + plain[offset + 512 :]))
        with pytest.raises(ValueError, match=f"{name}.tar.gz is not a complete archive"):
            rk.datasets.imdb_reviews(path)


def test_a_tar_cut_before_it_was_packed_is_told(folder, tmp_path):
    plain = gzip.decompress(pack_tar(folder, tmp_path / "a.tar.gz").read_bytes())
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        last = archive.getmembers()[-1]
    for end in (last.offset, last.offset + 100, last.offset + 512, last.offset_data + 5):
        path = tmp_path / "cut.tar.gz"
        path.write_bytes(gzip.compress(plain[:end]))
        with pytest.raises(ValueError, match=r"is not a complete archive \(it has no end\)"):
            rk.datasets.imdb_reviews(path)


@pytest.mark.parametrize("pack", ["tar", "zip"])
def test_of_members_of_one_name_the_last_counts_as_when_unpacked(tmp_path, pack):
    members = [
        ("aclImdb/train/pos/0_7.txt", b"caf\xe9 first"),
        ("aclImdb/train/pos/1_7.txt", b""),
        *reviews_of(),
    ]
    if pack == "tar":
        path = tar_of(tmp_path / "twice.tar.gz", members)
        with tarfile.open(path) as archive:
            archive.extractall(tmp_path / "out", filter="data")
    else:
        path = tmp_path / "twice.zip"
        with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Duplicate name")
            for name, data in members:
                archive.writestr(name, data)
        with zipfile.ZipFile(path) as archive:
            archive.extractall(tmp_path / "out")
    reviews = rk.datasets.imdb_reviews(path)
    same(reviews, rk.datasets.imdb_reviews(tmp_path / "out"))
    assert len(reviews.train) + len(reviews.val) == 10
    assert (reviews.damaged, reviews.empty, reviews.duplicates) == ((), (), {})


def test_reviews_in_two_folders_of_an_archive_are_refused(tmp_path):
    for root in ("aclImdb/train/pos/", "backup/", ""):
        path = tar_of(tmp_path / "deep.tar.gz", [*reviews_of(), *reviews_of(root)])
        with pytest.raises(ValueError, match=r"holds reviews in two folders, aclImdb and "):
            rk.datasets.imdb_reviews(path)
    path = tar_of(tmp_path / "other.tar.gz", reviews_of("data/reviews/"))
    assert len(rk.datasets.imdb_reviews(path, val=0).train) == 10


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_pipes_in_an_archive_are_told(tmp_path, kind):
    link = of_type(kind, linkname="aclImdb/train/pos/0_7.txt")
    path = tar_of(tmp_path / "l.tar.gz", [*reviews_of(), ("aclImdb/train/pos/9_7.txt", link)])
    with pytest.raises(ValueError, match=r"train/pos/9_7\.txt in .*l\.tar\.gz is no file but"):
        rk.datasets.imdb_reviews(path)
    elsewhere = tar_of(tmp_path / "m.tar.gz", [*reviews_of(), ("aclImdb/link", link)])
    assert len(rk.datasets.imdb_reviews(elsewhere, val=0).train) == 10


def test_links_in_a_zip_are_told(tmp_path):
    path = tmp_path / "l.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in reviews_of():
            archive.writestr(name, data)
        link = zipfile.ZipInfo("aclImdb/train/pos/9_7.txt")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "../../secret")
    with pytest.raises(ValueError, match=r"train/pos/9_7\.txt in .*l\.zip is no file but"):
        rk.datasets.imdb_reviews(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_told_and_never_waited_for(folder, tmp_path):
    os.mkfifo(tmp_path / "pipe.tar.gz")
    with pytest.raises(ValueError, match=r"pipe\.tar\.gz is a pipe or a device"):
        rk.datasets.imdb_reviews(tmp_path / "pipe.tar.gz")
    os.mkfifo(folder / "train" / "pos" / "99_7.txt")
    with pytest.raises(ValueError, match=r"train/pos/99_7\.txt in .*aclImdb is no file but"):
        rk.datasets.imdb_reviews(folder)


def test_a_review_of_no_size_that_a_review_has_is_refused_before_it_is_read(folder, tmp_path):
    # GNU's old format: a header that tells the size of a file without storing its zeros.
    sparse = of_type(tarfile.GNUTYPE_SPARSE, name="aclImdb/train/pos/9_7.txt").tobuf()
    sparse = bytearray(sparse)
    sparse[483:495] = b"%011o\0" % 2_000_000_000
    sparse[148:156] = b" " * 8
    sparse[148:156] = b"%06o\0 " % sum(sparse)
    plain = tar_of(tmp_path / "sparse.tar.gz", reviews_of(), bytes(sparse))
    assert plain.stat().st_size < 2000
    with pytest.raises(ValueError, match="is sparse, or of no size"):
        rk.datasets.imdb_reviews(plain)
    for headers in (
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "2000000000"},
        {"GNU.sparse.name": "aclImdb/train/pos/9_7.txt"},
    ):
        member = of_type(tarfile.REGTYPE, pax_headers=headers)
        path = tar_of(
            tmp_path / "pax.tar.gz", [*reviews_of(), ("aclImdb/train/pos/9_7.txt", member)]
        )
        with pytest.raises(ValueError, match=r"9_7\.txt in .*pax\.tar\.gz is no file but"):
            rk.datasets.imdb_reviews(path)
    huge = of_type(tarfile.REGTYPE, name="aclImdb/train/pos/9_7.txt", size=2_000_000_000).tobuf()
    path = tar_of(tmp_path / "huge.tar.gz", reviews_of(), huge)
    with pytest.raises(ValueError, match=r"has 2,000,000,000 bytes; a review has no more than"):
        rk.datasets.imdb_reviews(path)
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        long = of_type(kind, name="././@LongLink", size=2_000_000_000).tobuf()
        path = tar_of(tmp_path / "long.tar.gz", reviews_of(), long)
        with pytest.raises(ValueError, match=r"complete archive \(a name of 2,000,000,000 bytes"):
            rk.datasets.imdb_reviews(path)
    with (folder / "train" / "pos" / "9_7.txt").open("wb") as file:
        file.truncate(LONGEST + 1)
    with pytest.raises(ValueError, match=r"train/pos/9_7\.txt in .*has 16,777,217 bytes"):
        rk.datasets.imdb_reviews(folder)


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_of_any_length_in_a_tar(tmp_path, kind):
    root = "/".join(["a folder of the name"] * 20) + "/naïve/"
    path = tar_of(tmp_path / "long.tar.gz", reviews_of(root), format=kind)
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    same(rk.datasets.imdb_reviews(path), rk.datasets.imdb_reviews(tmp_path / root))


@pytest.mark.parametrize("method", ["encrypted", "deflate64"])
def test_a_zip_that_cannot_be_unpacked_here_is_told(folder, tmp_path, method):
    whole = bytearray(pack_zip(folder, tmp_path / "a.zip").read_bytes())
    for magic, flags, kind in ((b"PK\x03\x04", 6, 8), (b"PK\x01\x02", 8, 10)):
        at = -1
        while (at := whole.find(magic, at + 1)) >= 0:
            if method == "encrypted":
                whole[at + flags] |= 1
            else:
                whole[at + kind] = 9
    (tmp_path / "b.zip").write_bytes(whole)
    with pytest.raises(ValueError, match=r"b\.zip is packed in a way that cannot be read here"):
        rk.datasets.imdb_reviews(tmp_path / "b.zip")


@pytest.mark.parametrize("val", [-0.1, 1, 1.5, "some", True, float("nan")])
def test_refuses_a_share_that_is_none(folder, val):
    with pytest.raises(ValueError, match="`val` must be the share"):
        rk.datasets.imdb_reviews(folder, val=val)


@pytest.mark.parametrize("val", [0.01, 0.99])
def test_refuses_a_share_that_leaves_one_side_empty(folder, val):
    with pytest.raises(ValueError, match="of 10 reviews of one label leaves none"):
        rk.datasets.imdb_reviews(folder, val=val)


def test_long_reads_show_progress(folder, tmp_path, monkeypatch, capsys):
    archive = pack_tar(folder, tmp_path / "a.tar.gz")
    for source in (folder, archive):
        clock = iter(range(10_000))
        monkeypatch.setattr(progress.time, "monotonic", lambda clock=clock: next(clock))
        rk.datasets.imdb_reviews(source, progress=False)
        assert capsys.readouterr().err == ""
        rk.datasets.imdb_reviews(source)
        shown = capsys.readouterr().err
        assert shown.startswith(f"\r{source}: ")
        assert shown.endswith("100%\n")


@pytest.mark.skipif(not ARCHIVE.exists(), reason="the shared archive of reviews is absent")
def test_real_reviews_against_a_plain_count():
    expected = collections.defaultdict(list)
    with tarfile.open(ARCHIVE, "r|gz") as archive:
        for member in archive:
            if member.isfile():
                part, label = member.name.split("/")[-3:-1]
                text = archive.extractfile(member).read().decode()
                expected[part].append((text, int(label == "pos")))
    reviews = rk.datasets.imdb_reviews(ARCHIVE)
    assert sorted(pairs(reviews.train)) == sorted(expected["train"])
    assert sorted(pairs(reviews.val)) == sorted(expected["val"])
    assert (len(reviews.train), len(reviews.val), len(reviews.test)) == (20_000, 5_000, 0)
    train = collections.Counter(text for text, _ in expected["train"])
    crossed = sum(train[text] > 0 for text, _ in expected["val"])
    assert reviews.duplicates.get(("train", "val"), 0) == crossed
    assert reviews.duplicates[("train", "train")] == 20_000 - len(train)
