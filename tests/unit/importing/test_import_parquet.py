"""Parquet files as Hugging Face has them, written by pyarrow: audio inside, splits, damaged and hostile files."""

import io
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

import asr
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import cut_speaker, cut_text, load_manifest
from asr.errors import ManifestError
from asr.importing.parquet import read_parquet
from asr.importing.table import Columns

AUDIO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def sound(value=0.25, format="WAV", seconds=0.5):
    data = io.BytesIO()
    soundfile.write(data, np.full(round(8000 * seconds), value), 8000, format=format)
    return data.getvalue()


def write(path, rows, types=None, **options):
    """Write rows of `audio` and other columns as `datasets` does."""
    types = {"audio": AUDIO, **(types or {})}
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {name: pa.array([row[name] for row in rows], types.get(name)) for name in rows[0]}
    pq.write_table(pa.table(columns), path, **options)
    return path


def row(text="one two", name="a.wav", data=None, **columns):
    return {"audio": {"bytes": sound() if data is None else data, "path": name}, "text": text, **columns}


def read(path, out, **columns):
    return read_parquet(path, out / "audio", Columns(**columns))


def test_rows_become_audio_files_and_utterances(tmp_path):
    rows = [
        row("one", "x/1.wav", speaker_id=7),
        row("zwei", "2.FLAC", sound(format="FLAC"), speaker_id=8),
        row("", None, speaker_id=8),
    ]
    path = write(tmp_path / "train-00000-of-00002.parquet", rows, row_group_size=2)
    material = read(path, tmp_path / "out")
    assert [(u.id, u.text, u.speaker, u.split) for u in material.utterances] == [
        ("train-00000-of-00002-0000001", "one", "7", "train"),
        ("train-00000-of-00002-0000002", "zwei", "8", "train"),
        ("train-00000-of-00002-0000003", "", "8", "train"),
    ]
    folder = tmp_path / "out/audio/train-00000-of-00002"
    assert [u.audio_path for u in material.utterances] == [
        folder / name for name in ("0000001.wav", "0000002.flac", "0000003.audio")
    ]
    for given, utterance in zip(rows, material.utterances, strict=True):
        assert utterance.audio_path.read_bytes() == given["audio"]["bytes"]
    assert material.utterances[1].where == f"{path}: row 2"


def test_splits_are_in_names_of_files_or_folders_or_in_a_column(tmp_path):
    for name in ("train-00000-of-00001", "validation-00000-of-00001", "default/test/0000", "more"):
        write(tmp_path / "d" / f"{name}.parquet", [row(name)])
    assert {u.text: u.split for u in read(tmp_path / "d", tmp_path).utterances} == {
        "train-00000-of-00001": "train",
        "validation-00000-of-00001": "dev",
        "default/test/0000": "test",
        "more": None,
    }
    path = write(tmp_path / "x.parquet", [row(split="validation"), row(split="test"), row(split="?")])
    material = read(path, tmp_path)
    assert [u.split for u in material.utterances] == ["dev", "test"]
    assert material.left_out[0].where == f"{path}: row 3"


def test_files_whose_names_hardly_differ_have_audio_and_ids_of_their_own(tmp_path):
    for number, name in enumerate(["a/b.parquet", "a-b.parquet", "A-B.parquet", "a-b.PARQUET", "a-b-2.parquet"], 1):
        write(tmp_path / "d" / name, [row(name, data=sound(number / 10))])
    utterances = read(tmp_path / "d", tmp_path / "out").utterances
    assert len({u.id.lower() for u in utterances}) == len({str(u.audio_path).lower() for u in utterances}) == 5
    samples = {u.text: round(float(soundfile.read(u.audio_path)[0][0]), 1) for u in utterances}
    assert samples == {
        "a/b.parquet": 0.1,
        "a-b.parquet": 0.2,
        "A-B.parquet": 0.3,
        "a-b.PARQUET": 0.4,
        "a-b-2.parquet": 0.5,
    }


def test_columns_are_found_by_usual_names_or_named(tmp_path):
    path = write(tmp_path / "a.parquet", [row(sentence="no", raw="yes", utt="u 1", who=3)], {"utt": pa.large_string()})
    (utterance,) = read(path, tmp_path, text="raw", id="utt", speaker="who").utterances
    assert (utterance.text, utterance.id, utterance.speaker) == ("yes", "u 1", "3")
    with pytest.raises(ManifestError, match=r"a\.parquet: no column 'nothing'; there are: audio, text, sentence"):
        read(path, tmp_path, text="nothing")


def test_plain_bytes_are_audio_too(tmp_path):
    path = write(tmp_path / "a.parquet", [{"audio": sound(), "text": "x"}], {"audio": pa.binary()})
    assert read(path, tmp_path).utterances[0].audio_path.read_bytes() == sound()


def test_a_path_in_the_data_decides_nothing_but_a_known_suffix(tmp_path):
    names = ["../../escaped.wav", "/etc/passwd", "a/b\0c.wav", "x.sh", ".wav", "CON", "y" * 5000 + ".mp3", "ü/é.ogg"]
    path = write(tmp_path / "in/a.parquet", [row(name=name) for name in names])
    material = read(path, tmp_path / "out")
    written = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file())
    suffixes = ["wav", "audio", "wav", "audio", "audio", "audio", "mp3", "ogg"]
    assert written == [
        "in/a.parquet",
        *(f"out/audio/a/{number:07d}.{suffix}" for number, suffix in enumerate(suffixes, 1)),
    ]
    assert len(material.utterances) == len(names)


@pytest.mark.parametrize(
    ("audio", "reason"),
    [
        (None, r"'audio' is null, but it holds no bytes of a sound file"),
        ({"bytes": None, "path": "/etc/passwd"}, r"'audio' is .*, but it holds no bytes of a sound file"),
        ({"bytes": b"", "path": "a.wav"}, r"'audio' is .*, but it holds no bytes of a sound file"),
    ],
)
def test_a_row_without_audio_is_left_out(tmp_path, audio, reason):
    path = write(tmp_path / "a.parquet", [row(), {"audio": audio, "text": "x"}])
    material = read(path, tmp_path)
    assert len(material.utterances) == 1
    with pytest.raises(ManifestError, match=reason):
        raise ManifestError(material.left_out[0].reason)


@pytest.mark.parametrize(
    ("column", "type", "reason"),
    [
        ([["a"], ["b"]], pa.list_(pa.string()), r"'text' is \['a'\], but a text is needed"),
        ([1.5, 2.5], pa.float64(), r"'text' is 1\.5, but a text is needed"),
        ([True, False], pa.bool_(), r"'text' is true, but a text is needed"),
    ],
)
def test_a_text_that_is_none_is_named(tmp_path, column, type, reason):
    write(tmp_path / "a.parquet", [row(text) for text in column], {"text": type})
    with pytest.raises(ManifestError, match=rf"a\.parquet: row 1: {reason}"):
        read(tmp_path / "a.parquet", tmp_path)


def test_a_text_that_is_not_utf8_is_left_out(tmp_path):
    data = pa.array([b"good", b"\xff\xfe"], pa.binary()).view(pa.string())
    audio = pa.array([row()["audio"]] * 2, AUDIO)
    pq.write_table(pa.table({"audio": audio, "text": data}), tmp_path / "a.parquet")
    material = read(tmp_path / "a.parquet", tmp_path)
    assert [u.text for u in material.utterances] == ["good"]
    assert material.left_out[0].where.endswith("a.parquet: row 2")
    assert "'text' cannot be read" in material.left_out[0].reason


def test_damaged_files_are_named(tmp_path):
    whole = write(tmp_path / "in/a.parquet", [row(str(number)) for number in range(50)], row_group_size=10).read_bytes()
    for content in (b"", b"PAR1", whole[:-1], whole[:500], b"x" * 5000, whole[:-3000] + b"\0" * 2990 + whole[-10:]):
        (tmp_path / "b.parquet").write_bytes(content)
        with pytest.raises(ManifestError, match=r"b\.parquet: cannot be read as Parquet \("):
            read(tmp_path / "b.parquet", tmp_path / "out")
    with pytest.raises(ManifestError, match=r"nowhere: no such file or folder"):
        read(tmp_path / "nowhere", tmp_path)


def test_one_damaged_file_does_not_stop_the_others(tmp_path):
    write(tmp_path / "d/a.parquet", [row()])
    (tmp_path / "d/b.parquet").write_bytes(b"PAR1")
    material = read(tmp_path / "d", tmp_path)
    assert len(material.utterances) == 1
    assert [fault.where for fault in material.left_out] == [str(tmp_path / "d/b.parquet")]


def test_a_file_that_becomes_disproportionately_large_is_refused(tmp_path):
    write(tmp_path / "a.parquet", [row(data=b"\0" * (70 << 20))], compression="zstd")
    with pytest.raises(
        ManifestError, match=r"column 'audio\.bytes' of row group 0 becomes 7[0-9,]+ bytes from [0-9,]+; write"
    ):
        read(tmp_path / "a.parquet", tmp_path)


READ = """
import sys
from pathlib import Path
import pyarrow
from asr.importing.parquet import read_parquet
from asr.importing.table import Columns
assert len(read_parquet(Path(sys.argv[1]), Path(sys.argv[2]), Columns()).utterances) == 96
print(pyarrow.default_memory_pool().max_memory())
"""


def test_memory_does_not_grow_with_the_number_of_row_groups(tmp_path, rng):
    """A process of its own, because pyarrow remembers the most that it ever had."""
    rows = [row(str(number), data=rng.bytes(1 << 20)) for number in range(96)]
    path = write(tmp_path / "a.parquet", rows, row_group_size=4)
    command = [sys.executable, "-c", READ, path, tmp_path / "audio"]
    most_bytes = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert 0 < most_bytes < 32 << 20


def test_parquet_files_become_manifests(call, tmp_path):
    for split, values in (("train", (0.1, 0.2, 0.3)), ("test", (0.4,))):
        rows = [row(f"{split} {value}", data=sound(value), speaker=f"{split}{value}") for value in values]
        write(tmp_path / f"in/{split}-00000-of-00001.parquet", rows)
    write(tmp_path / "in/validation-00000-of-00001.parquet", [row(data=b"no sound", speaker="x"), row(speaker="y")])
    status, out, err = call("import", "parquet", tmp_path / "in", "--out", tmp_path / "data")
    assert status == 2
    assert "validation-00000-of-00001.parquet: row 1: " in err
    assert "left out 1 of 6 utterances" in err
    assert "speakers" in out
    for split, count in (("train", 3), ("dev", 1), ("test", 1)):
        cuts = load_manifest(tmp_path / f"data/{split}.jsonl.gz")
        assert len(list(cuts)) == count
        for cut in cuts:
            if split != "dev":
                name, value = cut_text(cut).split()
                assert cut_speaker(cut) == name + value
                assert np.allclose(load_cut(cut), float(value), atol=1e-3)
    again = asr.import_parquet(tmp_path / "in", tmp_path / "data")
    assert again.utterances == {"train": 3, "dev": 1, "test": 1}
