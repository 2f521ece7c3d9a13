"""Files that only ffmpeg decodes, with a small program in its place; and with ffmpeg itself, where it is installed."""

import shutil
import stat
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from asr.audio.blocks import load_audio, open_audio
from asr.errors import AudioError

RATE_HZ = 16000

# Writes what follows "audio:" in the file as an AU stream would be; says on stderr, and ends, as the file tells it to.
FAKE = """#!{python}
import json, struct, sys
path = sys.argv[sys.argv.index("-i") + 1]
assert path.startswith("file:"), path
told = json.load(open(path[5:]))
sys.stderr.write(told.get("says", ""))
sys.stderr.flush()
if "samples" in told:
    frames = told["samples"]
    note = b"a title "
    sys.stdout.buffer.write(struct.pack(">4s5I", b".snd", 24 + len(note), 0xFFFFFFFF, 6, told["rate"], len(frames[0])))
    sys.stdout.buffer.write(note)
    values = [value for frame in frames for value in frame]
    sys.stdout.buffer.write(struct.pack(">%df" % len(values), *values))
sys.exit(told.get("status", 0))
"""


@pytest.fixture
def film(tmp_path, monkeypatch):
    """Put the fake ffmpeg on the PATH; return what writes a file that tells it what to do."""
    import json

    if sys.platform == "win32":
        pytest.skip("a script is no program there")
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(FAKE.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(program.parent))

    def film(name="film.mp4", **told):
        (tmp_path / name).write_text(json.dumps(told))
        return tmp_path / name

    return film


def test_the_samples_are_those_that_ffmpeg_writes(film):
    frames = [[0.5, -0.25], [1.0, 0.125], [-1.0, 0.0]]
    path = film(samples=frames, rate=RATE_HZ, says="[info]   Duration: 01:02:03.50, start: 0.000000\n")
    np.testing.assert_array_equal(load_audio(path, RATE_HZ), [0.125, 0.5625, -0.5])
    np.testing.assert_array_equal(load_audio(path, RATE_HZ, channel=1), [-0.25, 0.125, 0.0])
    with open_audio(path) as stream:
        assert (stream.sample_rate_hz, stream.channels, stream.duration_s) == (RATE_HZ, 2, 3723.5)


def test_a_file_whose_suffix_says_nothing_is_given_to_ffmpeg_as_well(film):
    path = film("talk", samples=[[0.5]], rate=RATE_HZ)
    np.testing.assert_array_equal(load_audio(path, RATE_HZ), [0.5])
    with open_audio(path) as stream:
        assert stream.duration_s is None


def test_the_first_error_of_ffmpeg_is_the_reason(film):
    says = "[info] hello\n[mov @ 0x1] [error] moov atom not found\n[fatal] Error opening input files\n"
    with pytest.raises(AudioError, match=r"film\.mp4: ffmpeg cannot decode it \(moov atom not found\)$"):
        load_audio(film(says=says, status=183), RATE_HZ)


def test_without_a_line_called_error_the_last_one_is_the_reason(film):
    with pytest.raises(AudioError, match=r"film\.mp4: ffmpeg cannot decode it \(no such codec\)$"):
        load_audio(film(says="hello\nno such codec\n", status=1), RATE_HZ)
    with pytest.raises(AudioError, match=r"\(exit status 1\)$"):
        load_audio(film(status=1), RATE_HZ)


@pytest.mark.parametrize("told", [{"status": 1}, {"says": "[matroska @ 0x1] [error] File ended prematurely\n"}])
def test_a_file_that_breaks_off_is_refused_although_samples_came(film, told):
    with pytest.raises(AudioError, match=r"film\.mp4: (ffmpeg cannot decode it|truncated)"):
        load_audio(film(samples=[[0.5]] * 100, rate=RATE_HZ, **told), RATE_HZ)


def test_no_samples_and_samples_that_are_not_finite_are_refused(film):
    with pytest.raises(AudioError, match=r"film\.mp4: ffmpeg found no audio in it"):
        load_audio(film(), RATE_HZ)
    with pytest.raises(AudioError, match=r"film\.mp4: 1 of 2 samples are NaN or infinite"):
        load_audio(film(samples=[[0.5], [float("nan")]], rate=RATE_HZ), RATE_HZ)


@pytest.mark.parametrize("rate_hz", [3, 4_000_000_000])
def test_a_rate_that_no_recording_has_is_refused(film, rate_hz):
    with pytest.raises(AudioError, match=rf"film\.mp4: damaged: it declares a sample rate of {rate_hz} Hz"):
        load_audio(film(samples=[[0.5]], rate=rate_hz), RATE_HZ)


def test_a_reader_that_stops_early_ends_the_program(film, monkeypatch):
    monkeypatch.setattr("asr.audio.blocks.BLOCK_S", 0.5)
    path = film(samples=[[0.5]] * 50_000, rate=RATE_HZ)
    with open_audio(path) as stream:
        assert len(next(stream.blocks)[0]) == 8000  # the rest fills the pipe; leaving would wait for ever otherwise


@pytest.fixture
def ffmpeg():
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("needs ffmpeg on the PATH")
    return program


@pytest.mark.parametrize("suffix", [".m4a", ".mp4", ".webm", ".mkv"])
def test_what_the_real_ffmpeg_encoded_is_decoded(ffmpeg, tmp_path, suffix):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE_HZ) / RATE_HZ)
    soundfile.write(tmp_path / "a.wav", tone, RATE_HZ)
    path = tmp_path / f"a{suffix}"
    subprocess.run([ffmpeg, "-v", "error", "-i", tmp_path / "a.wav", path], check=True)
    waveform = load_audio(path, RATE_HZ)
    assert len(waveform) == pytest.approx(2 * RATE_HZ, abs=0.1 * RATE_HZ)
    assert np.argmax(np.abs(np.fft.rfft(waveform[: 2 * RATE_HZ]))) * RATE_HZ / min(len(waveform), 2 * RATE_HZ) == (
        pytest.approx(440, abs=2)
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AudioError, match=rf"a\{suffix}: (ffmpeg cannot decode it|truncated)"):
        load_audio(path, RATE_HZ)


def test_audio_that_begins_after_the_picture_keeps_the_times_of_the_video(ffmpeg, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(RATE_HZ, 0.5), RATE_HZ)
    command = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "color=size=32x32:duration=2"]
    command += ["-itsoffset", "0.75", "-i", tmp_path / "a.wav", "-c:a", "pcm_s16le", tmp_path / "a.mkv"]
    subprocess.run(command, check=True)
    waveform = load_audio(tmp_path / "a.mkv", RATE_HZ)
    assert np.flatnonzero(waveform)[0] == pytest.approx(0.75 * RATE_HZ, abs=0.01 * RATE_HZ)
