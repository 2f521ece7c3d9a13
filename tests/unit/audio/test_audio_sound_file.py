"""Audio files: every format is read to the same samples, every kind of damage is named."""

import os
import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from lhotse.audio import AudioSource
from lhotse.utils import fastcopy

from asr.audio.blocks import checked_waveform, load_audio
from asr.audio.channels import mix_down
from asr.audio.resample import resample
from asr.audio.sound_file import AUDIO_SUFFIXES, audio_info, read_audio
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import make_cut
from asr.errors import AudioError

RATE_HZ = 16000
# Suffix, libsndfile's format and subtype, and the largest error of a sample that the encoding may make.
LOSSLESS = [
    (".wav", "WAV", "PCM_U8", 2**-7),
    (".wav", "WAV", "PCM_16", 2**-15),
    (".wav", "WAV", "PCM_24", 2**-23),
    (".wav", "WAV", "FLOAT", 1e-7),
    (".flac", "FLAC", "PCM_16", 2**-15),
    (".sph", "NIST", "PCM_16", 2**-15),
    (".aiff", "AIFF", "PCM_16", 2**-15),
    (".aif", "AIFF", "PCM_24", 2**-23),
    (".wave", "WAV", "PCM_16", 2**-15),
    (".w64", "W64", "PCM_16", 2**-15),
    (".rf64", "RF64", "PCM_16", 2**-15),
    (".nist", "NIST", "PCM_16", 2**-15),
    (".aifc", "AIFF", "PCM_16", 2**-15),
    (".au", "AU", "PCM_16", 2**-15),
    (".snd", "AU", "PCM_16", 2**-15),
    (".caf", "CAF", "PCM_16", 2**-15),
]
LOSSY = [
    (".mp3", "MP3", "MPEG_LAYER_III"),
    (".ogg", "OGG", "VORBIS"),
    (".opus", "OGG", "OPUS"),
    (".oga", "OGG", "VORBIS"),
    (".mpga", "MP3", "MPEG_LAYER_III"),
]
FORMATS = [*((suffix, kind, subtype) for suffix, kind, subtype, _ in LOSSLESS), *LOSSY]


def tone(hz, seconds=1.0, rate=RATE_HZ):
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def write(path, samples, kind="WAV", subtype="PCM_16", rate=RATE_HZ):
    soundfile.write(path, samples, rate, format=kind, subtype=subtype)
    return path


def cut_off(path, share=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def loudest_hz(waveform, rate):
    return np.argmax(np.abs(np.fft.rfft(waveform))) * rate / len(waveform)


@pytest.mark.parametrize(("suffix", "kind", "subtype", "error"), LOSSLESS)
def test_lossless_formats_give_the_written_samples(tmp_path, rng, suffix, kind, subtype, error):
    stereo = rng.uniform(-0.9, 0.9, (4000, 2))
    waveform, rate = read_audio(write(tmp_path / f"a{suffix}", stereo, kind, subtype))
    assert (waveform.dtype, waveform.shape, rate) == (np.float32, (2, 4000), RATE_HZ)
    np.testing.assert_allclose(waveform, stereo.T, atol=error)


@pytest.mark.parametrize(("suffix", "kind", "subtype"), LOSSY)
def test_lossy_formats_give_the_tone_that_was_written(tmp_path, suffix, kind, subtype):
    waveform, rate = read_audio(write(tmp_path / f"a{suffix}", tone(440), kind, subtype))
    assert rate == RATE_HZ
    assert waveform.shape[1] == pytest.approx(RATE_HZ, abs=2 * 1152)
    assert loudest_hz(waveform[0], rate) == pytest.approx(440, abs=2)


def test_every_promised_suffix_is_tested():
    assert {suffix for suffix, _, _ in FORMATS} | {".mp2"} == AUDIO_SUFFIXES  # libsndfile does not write mp2


@pytest.mark.parametrize(("suffix", "kind", "subtype"), FORMATS)
def test_the_header_agrees_with_the_samples(tmp_path, suffix, kind, subtype):
    path = write(tmp_path / f"a{suffix}", np.stack([tone(440), tone(300)], axis=1), kind, subtype)
    info = audio_info(path)
    assert (info.channels, info.samples) == read_audio(path)[0].shape
    assert info.duration_s == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize(("suffix", "kind", "subtype", "error"), LOSSLESS)
def test_a_part_of_a_file_is_the_same_part_of_its_samples(tmp_path, rng, suffix, kind, subtype, error):
    path = write(tmp_path / f"a{suffix}", rng.uniform(-0.5, 0.5, RATE_HZ), kind, subtype)
    whole, _ = read_audio(path)
    part, _ = read_audio(path, start_s=0.25, duration_s=0.5)
    np.testing.assert_array_equal(part, whole[:, 4000:12000])
    rest, _ = read_audio(path, start_s=0.75)
    np.testing.assert_array_equal(rest, whole[:, 12000:])


@pytest.mark.parametrize(("suffix", "kind", "subtype"), LOSSY)
def test_a_part_of_a_compressed_file_holds_what_sounds_there(tmp_path, suffix, kind, subtype):
    path = write(tmp_path / f"a{suffix}", np.concatenate([tone(440, 2), tone(880, 2)]), kind, subtype)
    part, rate = read_audio(path, start_s=2.5, duration_s=1.0)
    assert part.shape == (1, RATE_HZ)
    assert loudest_hz(part[0], rate) == pytest.approx(880, abs=2)


def test_a_request_may_overrun_the_end_by_rounding_only(tmp_path):
    path = write(tmp_path / "a.wav", tone(440))
    assert read_audio(path, start_s=0.5, duration_s=0.51)[0].shape == (1, 8000)
    with pytest.raises(AudioError, match=r"a\.wav: the part asked for ends at 1\.5 s, but the file lasts 1 s"):
        read_audio(path, start_s=0.5, duration_s=1.0)
    with pytest.raises(AudioError, match=r"a\.wav: the part asked for starts at 2 s, but the file lasts 1 s"):
        read_audio(path, start_s=2.0)
    with pytest.raises(AudioError, match="longer than 0 s"):
        read_audio(path, duration_s=0.0)


@pytest.mark.parametrize(("suffix", "kind", "subtype"), FORMATS)
def test_a_truncated_file_is_refused_by_name(tmp_path, rng, suffix, kind, subtype):
    path = cut_off(write(tmp_path / f"a{suffix}", rng.uniform(-0.5, 0.5, 5 * RATE_HZ), kind, subtype))
    with pytest.raises(AudioError, match=rf"a\{suffix}: .*truncated"):
        read_audio(path)


@pytest.mark.parametrize("declared", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_wav_written_to_a_pipe_is_whole_although_its_length_is_unknown(tmp_path, declared):
    path = write(tmp_path / "a.wav", tone(440))
    data = path.read_bytes()
    place = data.index(b"data") + 4
    path.write_bytes(data[:place] + struct.pack("<I", declared) + data[place + 4 :])
    assert read_audio(path)[0].shape == (1, RATE_HZ)


def test_bad_files_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # no ffmpeg
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("this is not audio " * 50)
    (tmp_path / "video.MP4").write_bytes(b"\0\0\0\x18ftypmp42" * 10)
    (tmp_path / "folder.wav").mkdir()
    write(tmp_path / "silent.wav", np.zeros(0))
    header = bytearray(write(tmp_path / "rate.wav", tone(440)).read_bytes())
    header[24:28] = struct.pack("<I", 0)
    (tmp_path / "rate.wav").write_bytes(header)
    reasons = {
        "missing.wav": "no such file",
        "empty.wav": "the file is empty",
        "text.wav": "not audio in a known format .* convert it first",
        "video.MP4": r"cannot be decoded; convert it first, e\.g\. ffmpeg -i video\.MP4 video\.wav",
        "folder.wav": "is a folder",
        "silent.wav": "holds no samples",
        "rate.wav": "0 Hz",
    }
    for name, reason in reasons.items():
        with pytest.raises(AudioError, match=f"{name}: .*{reason}"):
            read_audio(tmp_path / name)
        with pytest.raises(AudioError, match=f"{name}: .*{reason}"):
            audio_info(tmp_path / name)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30])
def test_samples_with_which_one_cannot_compute_are_counted(tmp_path, value):
    samples = tone(440)
    samples[[5, 7]] = value
    path = write(tmp_path / "a.wav", samples, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav: 2 of 16000 samples are NaN or infinite"):
        read_audio(path)


def test_floats_in_the_range_of_32_bit_integers_are_read(tmp_path):
    path = write(tmp_path / "a.wav", tone(440) * 2**31, subtype="FLOAT")
    assert np.abs(read_audio(path)[0]).max() == 2**30


def test_mixing_down_averages_channels():
    stereo = np.array([[1.0, 0.0, -1.0], [0.0, 0.0, -1.0]], dtype=np.float32)
    np.testing.assert_array_equal(mix_down(stereo), np.array([0.5, 0.0, -1.0], dtype=np.float32))
    np.testing.assert_array_equal(mix_down(stereo[:1]), stereo[0])


@pytest.mark.parametrize(("from_hz", "to_hz"), [(8000, 16000), (44100, 16000), (48000, 8000)])
def test_resampling_keeps_a_tone_and_its_length(from_hz, to_hz):
    before = tone(440, rate=from_hz).astype(np.float32)
    after = resample(before, from_hz, to_hz)
    assert (after.dtype, after.shape) == (np.float32, (to_hz,))
    middle = slice(to_hz // 10, -to_hz // 10)  # the filter rings at the ends
    np.testing.assert_allclose(after[middle], tone(440, rate=to_hz)[middle], atol=1e-3)


def test_resampling_removes_what_the_new_rate_cannot_hold():
    after = resample(tone(5000).astype(np.float32), RATE_HZ, 8000)
    assert np.abs(after[800:-800]).max() < 1e-3  # the filter rings at the ends


def test_resampling_keeps_the_other_axes():
    assert resample(np.zeros((2, 800), dtype=np.float32), 8000, 16000).shape == (2, 1600)


def test_a_file_is_loaded_mono_at_the_rate_asked_for(tmp_path):
    path = write(tmp_path / "a.flac", np.stack([tone(440, rate=44100)] * 2, axis=1), "FLAC", rate=44100)
    waveform = load_audio(path, RATE_HZ)
    assert waveform.shape == (RATE_HZ,)
    assert loudest_hz(waveform, RATE_HZ) == pytest.approx(440, abs=1)


def test_a_cut_gives_its_part_of_the_file(tmp_path, rng):
    path = write(tmp_path / "a.wav", rng.uniform(-0.5, 0.5, RATE_HZ))
    cut = make_cut("u1", path, "hello", "s1", start_s=0.25, duration_s=0.5)
    np.testing.assert_array_equal(load_cut(cut, RATE_HZ), read_audio(path)[0][0, 4000:12000])
    assert load_cut(cut, 8000).shape == (4000,)


def test_a_cut_agrees_with_lhotse(tmp_path, rng):
    path = write(tmp_path / "a.flac", rng.uniform(-0.5, 0.5, RATE_HZ), "FLAC")
    cut = make_cut("u1", path, "hello", "s1", start_s=0.1, duration_s=0.7)
    np.testing.assert_allclose(load_cut(cut, RATE_HZ), cut.load_audio()[0], atol=1e-6)


def test_a_cut_of_a_stereo_file_averages_what_it_asks_for(tmp_path, rng):
    stereo = rng.uniform(-0.5, 0.5, (4000, 2))
    path = write(tmp_path / "a.wav", stereo, subtype="FLOAT")
    both = make_cut("u1", path, "hello", "s1")
    np.testing.assert_allclose(load_cut(both, RATE_HZ), stereo.mean(axis=1), atol=1e-6)
    _, right = both.to_mono()
    assert right.channel == 1
    np.testing.assert_allclose(load_cut(right, RATE_HZ), stereo[:, 1], atol=1e-6)


def test_cuts_that_lhotse_assembles_are_loaded_by_lhotse(tmp_path):
    path = write(tmp_path / "a.wav", tone(440))
    cut = make_cut("u1", path, "hello", "s1")
    assert load_cut(cut.pad(duration=1.5), RATE_HZ).shape == (24000,)
    slowed = cut.perturb_speed(0.5)
    assert loudest_hz(load_cut(slowed, RATE_HZ), RATE_HZ) == pytest.approx(220, abs=1)


def test_an_error_in_a_cut_names_utterance_and_file(tmp_path):
    path = write(tmp_path / "a.wav", tone(440))
    cut = make_cut("u1", path, "hello", "s1")
    padded = cut.pad(duration=1.5)
    path.unlink()
    with pytest.raises(AudioError, match=r"utterance u1: .*a\.wav: no such file"):
        load_cut(cut, RATE_HZ)
    with pytest.raises(
        AudioError, match=rf"utterance {padded.id}: lhotse cannot load its audio \(.*a\.wav' failed\.\)$"
    ):
        load_cut(padded, RATE_HZ)


@pytest.mark.parametrize("kind", ["command", "url"])
@pytest.mark.parametrize("form", ["plain", "padded", "in a room"])
def test_a_manifest_runs_no_command_and_fetches_nothing(tmp_path, kind, form):
    cut = make_cut("u1", write(tmp_path / "a.wav", tone(440)), "hello", "s1")
    foreign = fastcopy(cut.recording)
    foreign.sources = [AudioSource(kind, [0], f"touch {tmp_path}/done; cat {tmp_path}/a.wav")]
    if form == "in a room":
        cut = cut.reverb_rir(foreign)
    else:
        cut.recording = foreign
        cut = cut.pad(duration=1.5) if form == "padded" else cut
    with pytest.raises(AudioError, match=f"u.*source is of type '{kind}' .*write the audio to a file first"):
        load_cut(cut, RATE_HZ)
    assert not (tmp_path / "done").exists()


def test_a_name_need_not_be_text(tmp_path):
    name = os.fsdecode(b"gr\xf6\xdfe.wav")
    path = write(tmp_path / "plain.wav", tone(440)).rename(tmp_path / name)
    assert read_audio(path)[0].shape == (1, RATE_HZ)
    with pytest.raises(AudioError, match="no such file"):
        read_audio(path.with_suffix(".flac"))


@pytest.mark.parametrize("address", ["https://a.org/b.wav", "s3://b/a.wav", "file:///a.wav"])
def test_an_address_is_no_file(address):
    with pytest.raises(AudioError, match=r"no such file; download it first$"):
        read_audio(address)


def test_samples_before_channels_are_refused():
    with pytest.raises(AudioError, match=r"\(8000, 2\) would have more channels than samples; .*waveform\.T"):
        checked_waveform(np.zeros((8000, 2)))


def test_reading_audio_loads_neither_torch_nor_librosa():
    check = "import sys, asr.audio.blocks; print({'torch', 'lhotse', 'librosa'} & sys.modules.keys() or 'none')"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "none"
