"""Audio is decoded to its end, or refused with the reason: containers that libsndfile decodes, and what goes wrong."""

import io
import shutil
import struct

import numpy as np
import pytest
import soundfile
from lying_audio import ENCODINGS, LIES, RATE_HZ, assert_whole, encoded, tones, with_length

from asr.audio.sound_file import audio_info, read_audio
from asr.errors import AudioError


def outcome(tmp_path, data, times=1, name="a.wav"):
    """Read a file in both ways; return None if all of it came, else why it was refused."""
    path = tmp_path / name
    path.write_bytes(data)
    try:
        samples, rate = read_audio(path)
    except AudioError as error:
        with pytest.raises(AudioError):
            samples, rate = read_audio(path, duration_s=audio_info(path).duration_s)
        return str(error).partition(f"{path}: ")[2]
    assert rate == RATE_HZ
    assert_whole(samples, times)
    assert audio_info(path).samples == pytest.approx(samples.shape[1], abs=2 * 1152 if name.endswith("mp3") else 0)
    return None


@pytest.fixture(params=["with ffmpeg", "without ffmpeg"], autouse=True)
def _program(request, monkeypatch, tmp_path):
    """Everything here holds with ffmpeg and without it."""
    if request.param == "without ffmpeg":
        monkeypatch.setenv("PATH", str(tmp_path))
    elif shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg on the PATH")


@pytest.mark.parametrize(("container", "codec"), ENCODINGS)
def test_every_encoding_is_read_whole(tmp_path, container, codec):
    assert outcome(tmp_path, encoded(container, codec, tmp_path)) is None


@pytest.mark.parametrize(("container", "codec"), ENCODINGS)
def test_half_a_file_is_refused_as_truncated(tmp_path, container, codec):
    data = encoded(container, codec, tmp_path)
    assert "truncated" in outcome(tmp_path, data[: len(data) // 2])


@pytest.mark.parametrize(("container", "codec"), ENCODINGS)
def test_two_files_in_one_are_both_read_or_refused(tmp_path, container, codec):
    data = encoded(container, codec, tmp_path)
    reason = outcome(tmp_path, data + data, times=2)
    if container in ("MP3", "OGG"):
        assert reason is None
    else:
        assert "another recording follows at byte" in reason


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize(("container", "codec"), [(each, codec) for each, codec in ENCODINGS if each != "OGG"])
def test_a_wrong_length_loses_no_samples(tmp_path, container, codec, lie):
    reason = outcome(tmp_path, with_length(encoded(container, codec, tmp_path), container, lie))
    if (container, lie) == ("NIST", "the most"):
        assert "truncated" in reason
    else:
        assert reason is None


def wav(samples=None, codec="PCM_16"):
    file = io.BytesIO()
    soundfile.write(file, tones() if samples is None else samples, RATE_HZ, format="WAV", subtype=codec)
    return file.getvalue()


def chunk(name, data):
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


@pytest.mark.parametrize(
    "after",
    [
        chunk(b"LIST", b"INFOISFT\x05\0\0\0Lavf\0\0"),
        chunk(b"id3 ", b"odd") + chunk(b"LIST", b"INFO" * 300),
        chunk(b"id3 ", b"odd")[:-1],  # without what fills it up
        b"TAG" + bytes(125),
        b"ID3\x04\0\0\0\0\0\x05hello",
        b"\0\0\0",
        bytes(5000),
    ],
)
def test_what_follows_the_audio_of_a_wav_is_not_heard(tmp_path, after):
    path = tmp_path / "a.wav"
    path.write_bytes(wav() + after)
    assert audio_info(path).samples == read_audio(path)[0].shape[1] == RATE_HZ


def test_a_length_of_nothing_with_nothing_behind_is_no_recording(tmp_path):
    path = tmp_path / "a.wav"
    empty = with_length(wav()[:44], "WAV", "nothing")
    for data in (empty, empty + chunk(b"LIST", b"INFOISFT\x05\0\0\0Lavf\0\0")):
        path.write_bytes(data)
        with pytest.raises(AudioError, match=r"a\.wav: holds no samples"):
            read_audio(path)


def test_silence_whose_length_is_unknown_is_read(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(with_length(wav(np.zeros(4000)), "WAV", "nothing"))
    assert read_audio(path)[0].shape == (1, 4000)


def test_two_chunks_of_audio_are_refused(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wav() + chunk(b"data", bytes(3200)))
    with pytest.raises(AudioError, match=r"a\.wav: another recording follows at byte 32044"):
        read_audio(path)


def test_a_part_of_a_file_with_a_wrong_length_is_that_part(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wav())
    whole, _ = read_audio(path)
    for lie in LIES:
        path.write_bytes(with_length(wav(), "WAV", lie))
        part, _ = read_audio(path, start_s=0.25, duration_s=0.5)
        np.testing.assert_array_equal(part, whole[:, 4000:12000])


def test_a_flac_of_unknown_length_is_imported_with_the_length_it_has(tmp_path):
    path = tmp_path / "a.flac"
    path.write_bytes(with_length(encoded("FLAC", "PCM_16", tmp_path), "FLAC", "nothing"))
    assert audio_info(path).duration_s == 1.0
    part, _ = read_audio(path, start_s=0.5, duration_s=0.51)
    assert part.shape == (1, 8000)
    for start_s, duration_s, reason in ((0.5, 1.0, "ends at 1.5 s"), (2.0, None, "starts at 2 s")):
        with pytest.raises(AudioError, match=f"{reason}, but the file lasts 1 s"):
            read_audio(path, start_s=start_s, duration_s=duration_s)


def test_the_second_of_two_flac_files_of_equal_length_is_noticed_by_whoever_reads_to_the_end(tmp_path):
    path, data = tmp_path / "a.flac", encoded("FLAC", "PCM_16", tmp_path)
    path.write_bytes(data + data)
    assert read_audio(path, duration_s=0.5)[0].shape == (1, 8000)
    with pytest.raises(AudioError, match=rf"a\.flac: another recording follows at byte {len(data)}"):
        read_audio(path, start_s=0.5, duration_s=0.5)


def test_a_tag_before_a_flac_file_is_no_recording_of_its_own(tmp_path):
    path, data = tmp_path / "a.flac", encoded("FLAC", "PCM_16", tmp_path)
    path.write_bytes(data)
    samples, _ = read_audio(path)
    tag = b"ID3\4\0\0\0\0\1\0" + bytes(128)
    path.write_bytes(tag + data)
    np.testing.assert_array_equal(read_audio(path)[0], samples)
    path.write_bytes(tag + data + data)
    with pytest.raises(AudioError, match=rf"another recording follows at byte {len(tag + data)}"):
        read_audio(path)


@pytest.mark.parametrize("name", ["a.mp3", "a.flac"])
def test_a_tag_without_audio_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"ID3\4\0\0\0\0\1\0" + bytes(128))
    with pytest.raises(AudioError, match=rf"{name}: holds a tag and no audio"):
        audio_info(tmp_path / name)


def test_chained_ogg_streams_of_different_rates_are_refused(tmp_path):
    path, data = tmp_path / "a.ogg", b""
    for rate in (16000, 48000):
        soundfile.write(path, tones(rate=rate), rate, subtype="VORBIS")
        data += path.read_bytes()
    path.write_bytes(data)
    with pytest.raises(AudioError, match=r"a\.ogg: recordings of different rates .*16000 Hz × 1, 48000 Hz × 1"):
        read_audio(path)


def crc(page):
    """Return the checksum of an Ogg page; RFC 3533."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x104C11DB7 if value & 0x80000000 else 0)
    return value


def with_last_position(data, change):
    place = data.rindex(b"OggS")
    page = bytearray(data[place:])
    (right,) = struct.unpack_from("<q", page, 6)
    struct.pack_into("<qII", page, 6, change(right), *struct.unpack_from("<II", page, 14))
    page[22:26] = bytes(4)
    struct.pack_into("<I", page, 22, crc(page))
    return data[:place] + bytes(page)


@pytest.mark.parametrize("codec", ["VORBIS", "OPUS"])
def test_a_wrong_time_of_the_last_ogg_page_loses_no_samples(tmp_path, codec):
    path = tmp_path / "a.ogg"
    soundfile.write(path, tones(6.0), RATE_HZ, subtype=codec)
    data = path.read_bytes()
    assert with_last_position(data, lambda right: right) == data
    for wrong in (lambda _: 0, lambda _: -1, lambda right: right // 2, lambda right: right + 30_000, lambda _: 1 << 62):
        path.write_bytes(with_last_position(data, wrong))
        try:
            samples = read_audio(path)[0]
        except AudioError as error:
            reason = str(error).partition(f"{path}: ")[2]
            assert reason.startswith(("damaged", "truncated"))
        else:
            assert_whole(samples, seconds=6.0)
            assert audio_info(path).samples == samples.shape[1]


def test_many_ordinary_files_are_looked_at_without_decoding_them(tmp_path, monkeypatch):
    names = []
    for container, codec in (("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("AIFF", "PCM_16"), ("OGG", "OPUS"), ("MP3", None)):
        path = tmp_path / f"b.{container}"
        soundfile.write(path, tones(), RATE_HZ, format=container, subtype=codec)
        names.append(path)

    def read(*_, **__):
        raise AssertionError("decoded")

    monkeypatch.setattr(soundfile.SoundFile, "read", read)
    assert [audio_info(path).samples for path in names] == [RATE_HZ] * 5
