"""Shar: what is written has the audio and the words of the manifest, for our reader and for lhotse's own."""

import io
import tarfile

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from lhotse import CutSet

import asr
from asr.corpus import pack
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import entries, find_splits, make_cut, read_manifest, shuffle_shards, write_manifest
from asr.corpus.pack import flac, write_shar
from asr.errors import AudioError, ManifestError

RATE_HZ = 8000


@pytest.fixture
def cuts(tmp_path, rng):
    """Five utterances: 16-bit wav and flac, a part of a file, two channels, float samples."""

    def write(name, samples, subtype):
        soundfile.write(tmp_path / name, samples, RATE_HZ, subtype=subtype)
        return tmp_path / name

    def noise(*shape):
        return rng.uniform(-1, 1, shape)

    wav = write("a.wav", noise(9000), "PCM_16")
    return [
        make_cut("a", wav, "one", "s1"),
        make_cut("b", write("b.flac", noise(5001), "PCM_16"), "größe", "s2"),
        make_cut("sub/c.1", wav, "two three", "s1", start_s=0.25, duration_s=0.5, language="en"),
        make_cut("d", write("d.wav", noise(4000, 2), "PCM_16"), "four", "s3"),
        make_cut("e", write("e.wav", noise(3000), "FLOAT"), "five", "s3"),
    ]


def assert_same(shar, cuts, tolerance=0.0):
    assert list(entries(shar)) == list(entries(cuts))
    for ours, original in zip(shar, cuts, strict=True):
        assert [s.speaker for s in ours.supervisions] == [s.speaker for s in original.supervisions]
        a, b = load_cut(ours, RATE_HZ), load_cut(original, RATE_HZ)
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= tolerance
        assert ours.sampling_rate == original.sampling_rate


def has_16_bits(cut):
    return cut.id != "e"


@pytest.mark.parametrize("shard_utterances", [1, 2, 5, 1000])
def test_what_is_written_is_read_again(cuts, tmp_path, shard_utterances):
    report = write_shar(cuts, tmp_path / "data/train", shard_utterances=shard_utterances)
    assert (report.utterances, report.skipped) == (5, {})
    tars = sorted((tmp_path / "data/train").glob("*.tar"))
    assert len(tars) == -(-5 // shard_utterances)
    shar = read_manifest(tmp_path / "data/train")
    assert shar.is_lazy
    assert_same(shar.filter(has_16_bits), cuts[:4])  # two averaged channels fit 24 bits, hence exactly
    assert_same(shar, cuts, tolerance=2**-24 + 1e-9)
    assert_same(shar, cuts, tolerance=2**-24 + 1e-9)  # a second pass
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["train"]


def test_lhotse_reads_what_we_write(cuts, tmp_path):
    write_shar(cuts, tmp_path / "train", shard_utterances=2)
    for theirs, original in zip(CutSet.from_shar(in_dir=tmp_path / "train"), cuts, strict=True):
        assert (theirs.id, theirs.duration) == (original.id, original.duration)
        assert theirs.supervisions[0].text == original.supervisions[0].text
        (samples,) = theirs.load_audio()
        assert np.abs(samples - load_cut(original, RATE_HZ)).max() < 1e-6


@pytest.mark.parametrize(("coding", "tolerance"), [("flac", 1e-4), ("wav", 1e-4), ("mp3", 0.5), ("opus", 0.5)])
def test_we_read_what_lhotse_writes(tmp_path, coding, tolerance):
    rate_hz = 16000
    tones = [make_tone(tmp_path / f"{pitch_hz}.wav", pitch_hz, rate_hz) for pitch_hz in (300, 700, 1100)]
    (tmp_path / "train").mkdir()
    CutSet.from_cuts(tones).to_shar(tmp_path / "train", fields={"recording": coding}, shard_size=2)
    shar = read_manifest(tmp_path / "train")
    assert list(entries(shar)) == list(entries(tones))
    for ours, original in zip(shar, tones, strict=True):
        a, b = load_cut(ours, rate_hz), load_cut(original, rate_hz)
        assert len(a) == len(b)
        middle = slice(len(b) // 4, -len(b) // 4)
        assert np.abs(a - b)[middle].max() < tolerance * np.abs(b).max()


def make_tone(path, pitch_hz, rate_hz):
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * pitch_hz * np.arange(rate_hz) / rate_hz), rate_hz)
    return make_cut(path.stem, path, "tone", "s1")


def test_a_mixed_cut_becomes_one_recording(cuts, tmp_path):
    mixed = cuts[0].append(cuts[2])
    mixed.id = "mixed"
    write_shar([mixed], tmp_path / "train")
    (ours,) = read_manifest(tmp_path / "train")
    assert [(s.text, s.start) for s in ours.supervisions] == [("one", 0.0), ("two three", 1.125)]
    assert np.abs(load_cut(ours, RATE_HZ) - load_cut(mixed, RATE_HZ)).max() < 1e-6


@given(arrays(np.int16, st.integers(1, 300)))
def test_sixteen_bits_stay_as_they_are(pcm):
    decoded, rate = soundfile.read(io.BytesIO(flac(pcm.astype(np.float32) / 32768, 16000)), dtype="int16")
    assert rate == 16000
    assert np.array_equal(decoded, pcm)


@given(arrays(np.float32, st.integers(1, 300), elements=st.floats(-2, 2, width=32)))
def test_other_samples_are_rounded_to_24_bits_and_clipped(samples):
    decoded, _ = soundfile.read(io.BytesIO(flac(samples, 16000)), dtype="float64")
    assert np.abs(decoded - np.clip(samples, -1, 1 - 2**-23)).max() <= 2**-24


def test_audio_stays_on_disk_until_it_is_asked_for(cuts, tmp_path):
    write_shar(cuts, tmp_path / "train")
    listed = list(read_manifest(tmp_path / "train"))
    (tmp_path / "train/recording.000000.tar").rename(tmp_path / "train/gone")
    assert [cut.id for cut in listed] == [cut.id for cut in cuts]
    with pytest.raises(AudioError, match=r"utterance b: .*recording\.000000\.tar"):
        load_cut(listed[1], RATE_HZ)


def test_a_tar_that_is_damaged_or_of_other_data_is_named(cuts, tmp_path):
    write_shar(cuts[:3], tmp_path / "train")
    tar = tmp_path / "train/recording.000000.tar"
    with tarfile.open(tar) as members:
        last = members.getmembers()[-2]
    whole = tar.read_bytes()

    def message(data):
        tar.write_bytes(data)
        shar_reader_forgets()
        with pytest.raises(AudioError) as caught:
            load_cut(list(read_manifest(tmp_path / "train"))[2], RATE_HZ)
        assert f"utterance sub/c.1: lhotse cannot load its audio ({tar} " in str(caught.value)
        return str(caught.value)

    assert "damaged or cut off" in message(whole[: last.offset_data + 100])
    assert "damaged or cut off" in message(b"no tar" * 1000)
    assert "does not hold it" in message(whole[: last.offset + 100])
    assert "holds damaged audio" in message(whole.replace(b"fLaC", b"nope"))
    assert "does not hold it" in message(whole[: last.offset] + bytes(1024))


def shar_reader_forgets():
    from asr.corpus import shar

    shar._index.cache_clear()


def test_a_folder_that_is_no_shar_or_lacks_a_tar_is_named(cuts, tmp_path):
    with pytest.raises(ManifestError, match=r"holds no cuts\.000000\.jsonl\.gz"):
        read_manifest(tmp_path)
    write_shar(cuts, tmp_path / "train", shard_utterances=2)
    (tmp_path / "train/recording.000001.tar").unlink()
    with pytest.raises(ManifestError, match=r"recording\.000001\.tar: missing; it holds the audio of cuts\.000001"):
        read_manifest(tmp_path / "train")


def test_what_cannot_be_read_is_left_out_and_named(cuts, tmp_path):
    (tmp_path / "b.flac").write_bytes(b"broken")
    calls = []
    report = write_shar(cuts, tmp_path / "train", shard_utterances=1, advance=calls.append)
    assert report.utterances == 4
    assert list(report.skipped) == ["b"]
    assert str(tmp_path / "b.flac") in report.skipped["b"]
    assert [cut.id for cut in read_manifest(tmp_path / "train")] == ["a", "sub/c.1", "d", "e"]
    assert calls == [1] * 5


def test_nothing_is_left_of_a_folder_that_was_not_completed(cuts, tmp_path, monkeypatch):
    with pytest.raises(ManifestError, match="two utterances have the id 'a'"):
        write_shar([*cuts, cuts[0]], tmp_path / "out/train")
    for path in tmp_path.glob("*.*"):
        path.unlink()
    with pytest.raises(ManifestError, match="would hold no utterances"):
        write_shar(cuts, tmp_path / "out/train")
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "out/train").mkdir()
    monkeypatch.setattr(pack, "load_cut", lambda *_: pytest.fail("began to write"))
    with pytest.raises(ManifestError, match="exists already"):
        write_shar(cuts, tmp_path / "out/train")


def test_shards_are_shuffled_whole_by_the_generator_alone(cuts, tmp_path):
    write_shar(cuts, tmp_path / "train", shard_utterances=2)
    shar = read_manifest(tmp_path / "train")
    shards = [["a", "b"], ["sub/c.1", "d"], ["e"]]
    orders = {tuple(cut.id for cut in shuffle_shards(shar, np.random.default_rng(seed))) for seed in range(50)}
    possible = {(*x, *y, *z) for x in shards for y in shards for z in shards if len({x[0], y[0], z[0]}) == 3}
    assert orders == possible
    again = [[cut.id for cut in shuffle_shards(shar, np.random.default_rng(3))] for _ in range(2)]
    assert again[0] == again[1]
    assert [cut.id for cut in shar] == [name for shard in shards for name in shard]
    assert sorted(cut.id for cut in shuffle_shards(shar, np.random.default_rng(3))) == sorted(c.id for c in cuts)


def test_a_plain_manifest_has_no_shards_to_shuffle(cuts, tmp_path):
    write_manifest(cuts, tmp_path / "train.jsonl.gz")
    shuffled = shuffle_shards(read_manifest(tmp_path / "train.jsonl.gz"), np.random.default_rng(0))
    assert [cut.id for cut in shuffled] == [cut.id for cut in cuts]


def test_a_data_folder_may_hold_manifests_and_shar_and_a_shar_folder_is_one_manifest(cuts, tmp_path):
    write_shar(cuts, tmp_path / "data/train")
    write_manifest(cuts[:2], tmp_path / "data/dev.jsonl.gz")
    found = find_splits(tmp_path / "data")
    assert {split: len(list(read_manifest(path))) for split, path in found.items()} == {"train": 5, "dev": 2}
    assert list(find_splits(tmp_path / "data/train")) == ["train"]


def test_a_data_folder_is_packed_and_what_was_left_out_is_named(cuts, tmp_path):
    write_manifest(cuts, tmp_path / "data/train.jsonl.gz")
    write_manifest(cuts[1:3], tmp_path / "data/dev.jsonl.gz")
    (tmp_path / "b.flac").unlink()
    report = asr.pack(tmp_path / "data", tmp_path / "packed", shard_utterances=2)
    assert {split: (packed.folder, packed.utterances) for split, packed in report.splits.items()} == {
        "train": (tmp_path / "packed/train", 4),
        "dev": (tmp_path / "packed/dev", 1),
    }
    assert report.splits["dev"].skipped == {"b": f"{tmp_path}/b.flac: no such file"}
    assert_same(read_manifest(tmp_path / "packed/dev"), cuts[2:3])


def test_nothing_is_packed_where_one_of_the_folders_exists(cuts, tmp_path):
    for split in ("train", "dev"):
        write_manifest(cuts, tmp_path / f"data/{split}.jsonl.gz")
    (tmp_path / "packed/dev").mkdir(parents=True)
    with pytest.raises(ManifestError, match=r"packed/dev: exists already; remove it"):
        asr.pack(tmp_path / "data", tmp_path / "packed")
    assert [path.name for path in (tmp_path / "packed").iterdir()] == ["dev"]
    with pytest.raises(ManifestError, match="is the data folder itself"):
        asr.pack(tmp_path / "data", tmp_path / "data")
