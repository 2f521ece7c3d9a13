"""Files that only ffmpeg decodes, with a small program in its place; and with ffmpeg itself, where it is installed."""

import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lying_audio import assert_whole, tones, with_length

from asr.audio.blocks import load_audio, open_audio
from asr.audio.sound_file import audio_info, read_audio
from asr.errors import AudioError

RATE_HZ = 16000

# Writes what follows "audio:" in the file as an AU stream would be; says on stderr, and ends, as the file tells it to.
FAKE = """#!{python}
import json, struct, subprocess, sys
path = sys.argv[sys.argv.index("-i") + 1]
assert path.startswith("file:"), path
told = json.load(open(path[5:]))
if "hangs" in told:  # it, and a program that it has started
    child = subprocess.Popen(["/bin/sleep", "1000"])
    open(told["hangs"], "w").write(str(child.pid))
    child.wait()
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


def test_a_video_without_sound_is_called_so(ffmpeg, tmp_path):
    path = tmp_path / "silent.mp4"
    subprocess.run([ffmpeg, "-loglevel", "error", "-f", "lavfi", "-i", "color=d=1:s=16x16", path], check=True)
    with pytest.raises(AudioError, match=r"silent\.mp4: holds no sound, only pictures or other tracks$"):
        audio_info(path)


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


def test_a_program_without_progress_is_ended_with_all_that_it_has_started(film, monkeypatch, tmp_path):
    monkeypatch.setattr("asr.audio.ffmpeg.STALL_S", 1.5)
    with pytest.raises(AudioError, match=r"film\.mp4: ffmpeg made no progress for 1\.5 s and was ended"):
        load_audio(film(hangs=str(tmp_path / "child")), RATE_HZ)
    child = int((tmp_path / "child").read_text())
    for _ in range(50):  # the system may take a moment
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            break
        if Path(f"/proc/{child}/stat").exists() and Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.1)
    else:
        raise AssertionError("the child lives")


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ("[mov @ 0x1] [warning] Found duplicated MOOV Atom. Skipped it\n", "another recording follows"),
        ("[matroska @ 0x1] [warning] File extends beyond end of segment.\n", "another recording follows"),
        (
            "[verbose]   Input stream #0:0 (audio): 9 packets read (9 bytes); 9 frames decoded (32100 samples); \n",
            r"times go back in it, so that ffmpeg dropped 2\.0 s; convert it first",
        ),
        (
            "[in#0 @ 0x1] [verbose]   Input stream #0:1 (audio): 9 packets read; 9 frames decoded; 0 decode errors "
            "(32100 samples); \n",
            r"times go back in it",
        ),
    ],
)
def test_samples_that_ffmpeg_leaves_out_are_noticed(film, says, reason):
    with pytest.raises(AudioError, match=rf"film\.mp4: {reason}"):
        load_audio(film(samples=[[0.5]] * 100, rate=RATE_HZ, says=says), RATE_HZ)


def test_a_part_of_what_ffmpeg_decodes_is_that_part_and_its_length_is_that_of_its_samples(film):
    path = film(samples=[[number / 4000] for number in range(4000)], rate=1000, says="  Duration: 00:00:09.00\n")
    assert audio_info(path).duration_s == 4.0
    part, rate_hz = read_audio(path, start_s=1.5, duration_s=0.25)
    np.testing.assert_array_equal(part, [np.arange(1500, 1750, dtype=np.float32) / 4000])
    assert rate_hz == 1000
    assert read_audio(path, start_s=3.5, duration_s=0.52)[0].shape == (1, 500)
    for start_s, duration_s, reason in ((3.0, 2.0, "ends at 5 s"), (4.0, None, "starts at 4 s")):
        with pytest.raises(AudioError, match=f"{reason}, but the file lasts 4 s"):
            read_audio(path, start_s=start_s, duration_s=duration_s)


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


# Containers and codecs that ffmpeg writes, and with which options; the codec of raw frames is its suffix.
MADE = {
    ".m4a": "-c:a aac",
    ".fast.m4a": "-c:a aac -movflags +faststart",
    ".alac.m4a": "-c:a alac",
    ".pcm.mov": "-c:a pcm_s16le",
    ".fragments.mp4": "-c:a aac -movflags frag_keyframe+empty_moov -frag_duration 200000",
    ".3gp": "-c:a aac",
    ".opus.mkv": "-c:a libopus",
    ".vorbis.webm": "-c:a libvorbis",
    ".flac.mkv": "-c:a flac",
    ".pcm.mka": "-c:a pcm_s16le",
    ".mp3.mkv": "-c:a libmp3lame",
    ".pcm.avi": "-c:a pcm_s16le",
    ".mp3.avi": "-c:a libmp3lame",
    ".wma": "-c:a wmav2",
    ".asf": "-c:a wmav1",
    ".flv": "-c:a libmp3lame -ar 44100",
    ".ts": "-c:a aac",
    ".mpg": "-c:a mp2 -f mpeg",
    ".aac": "-c:a aac -f adts",
    ".ac3": "-c:a ac3",
    ".eac3": "-c:a eac3",
    ".dts": "-c:a dca -strict -2 -ar 48000",
    ".flac.ogg": "-c:a flac",
    ".spx": "-c:a libspeex",
    ".alac.caf": "-c:a alac",
    ".g722.wav": "-c:a g722",
    ".g726.wav": "-c:a g726 -ar 8000",
    ".wma.wav": "-c:a wmav2",
    ".voc": "-c:a pcm_u8",
    ".tta": "-c:a tta",
    ".wv": "-c:a wavpack",
    ".ircam.sf": "-f ircam",
    ".gsm": "-c:a libgsm -ar 8000",
    ".g722": "-c:a g722 -f g722",
}
# Nothing in them tells how long they are: what is there of half a file is all.
WITHOUT_LENGTH = {".ac3", ".eac3", ".ircam.sf", ".dts", ".aac", ".ts", ".mpg", ".gsm", ".g722"}
BOTH_READ = {
    ".pcm.avi",
    ".mp3.avi",
    ".ts",
    ".mpg",
    ".aac",
    ".ac3",
    ".eac3",
    ".dts",
    ".flac.ogg",
    ".ircam.sf",
    ".gsm",
    ".g722",
}


@pytest.fixture(params=MADE)
def encoded(request, ffmpeg, tmp_path):
    """Return a file that ffmpeg encoded of two seconds of tones, and which of `MADE` it is."""
    soundfile.write(tmp_path / "in.wav", tones(2.0), RATE_HZ)
    path = tmp_path / f"a{request.param}"
    command = [ffmpeg, "-v", "error", "-i", tmp_path / "in.wav", *MADE[request.param].split(), path]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"this ffmpeg does not write it: {made.stderr.strip()[-100:]}")
    return path, request.param


def test_what_ffmpeg_wrote_is_read_whole(encoded):
    path, _ = encoded
    samples, rate_hz = read_audio(path)
    assert_whole(samples, seconds=2.0, rate=rate_hz)
    assert audio_info(path).samples == samples.shape[1]


def test_two_of_ffmpegs_files_in_one_are_both_read_or_refused(encoded):
    path, kind = encoded
    path.write_bytes(2 * path.read_bytes())
    if kind in BOTH_READ:
        samples, rate_hz = read_audio(path)
        assert_whole(samples, times=2, seconds=2.0, rate=rate_hz)
    else:
        with pytest.raises(AudioError, match=rf"^{path}: (another recording follows|ffmpeg cannot decode it)"):
            read_audio(path)


def test_half_of_ffmpegs_file_is_refused_unless_it_tells_no_length(encoded):
    path, kind = encoded
    whole = audio_info(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    try:
        samples, _ = read_audio(path)
    except AudioError as error:
        reason = str(error)
    else:
        assert kind in WITHOUT_LENGTH
        assert samples.shape[1] > 0.4 * whole.samples
        reason = "truncated"
    assert "truncated" in reason or "ffmpeg cannot decode it" in reason or "no audio" in reason or "not audio" in reason


def test_what_ffmpeg_wrote_to_a_pipe_is_read_whole(ffmpeg, encoded, tmp_path):
    path, kind = encoded
    form = subprocess.run([ffmpeg, "-i", path], capture_output=True, text=True).stderr
    name = {"mov": "ismv", "matroska": "matroska", "mpeg": "mpeg"}.get(form.split("Input #0, ")[1].split(",")[0])
    form = name or form.split("Input #0, ")[1].split(",")[0]
    command = [ffmpeg, "-v", "error", "-i", tmp_path / "in.wav", *MADE[kind].split(), "-f", form, "pipe:1"]
    made = subprocess.run(command, capture_output=True)
    if made.returncode != 0:
        pytest.skip(f"ffmpeg does not write {form} to a pipe: {made.stderr.decode().strip()[-100:]}")
    path.write_bytes(made.stdout)
    samples, rate_hz = read_audio(path)
    assert_whole(samples, seconds=2.0, rate=rate_hz)


@pytest.mark.parametrize("lie", ["nothing", "the most", "the header too", "half"])
@pytest.mark.parametrize("kind", [".g722.wav", ".g726.wav", ".wma.wav"])
def test_a_wrong_length_of_a_wav_that_ffmpeg_decodes_loses_no_samples(ffmpeg, tmp_path, kind, lie):
    soundfile.write(tmp_path / "in.wav", tones(2.0), RATE_HZ)
    path = tmp_path / f"a{kind}"
    command = [ffmpeg, "-v", "error", "-i", tmp_path / "in.wav", *MADE[kind].split(), path]
    subprocess.run(command, check=True)
    path.write_bytes(with_length(path.read_bytes(), "WAV", lie))
    samples, rate_hz = read_audio(path)
    assert_whole(samples, seconds=2.0, rate=rate_hz)


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{audio}\n",  # without an end: ffmpeg would wait for more
    "concat": "ffconcat version 1.0\nfile '{audio}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 40000 RTP/AVP 0\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic"></MPD>',
}


@pytest.mark.parametrize("suffix", [".m3u8", ".wav", ".mp4", ".txt", ""])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_is_refused_whatever_it_is_called_and_nothing_is_followed(ffmpeg, tmp_path, kind, suffix):
    soundfile.write(tmp_path / "audio.wav", tones(), RATE_HZ)
    path = tmp_path / f"list{suffix}"
    path.write_text(PLAYLISTS[kind].format(audio=tmp_path / "audio.wav"))
    with pytest.raises(
        AudioError, match=rf"^{path}: (a playlist, or in another|not audio|.mp4 files cannot|.*moov atom)"
    ):
        load_audio(path, RATE_HZ)


def shortened(samples, block=256):
    """Return Shorten 2 of `(sample, channel)` 16-bit integers: plain residuals, Rice-coded with 12 bits and more.

    Source: Robinson, "SHORTEN: Simple lossless and near-lossless waveform compression", 1994.
    """
    bits = []

    def number(value, width):
        bits.extend([*[0] * (value >> width), 1, *((value >> place) & 1 for place in reversed(range(width)))])

    for field in (5, samples.shape[1], block, 0, 0, 0):  # 16 bits, low byte first; block size; no prediction
        number(field.bit_length(), 2)
        number(field, field.bit_length())
    for start in range(0, len(samples), block):
        for channel in samples[start : start + block].T:
            number(0, 2)  # "the samples themselves"
            number(12, 3)
            for sample in map(int, channel):
                number(-2 * sample - 1 if sample < 0 else 2 * sample, 13)
    number(4, 2)  # "the end"
    return b"ajkg\x02" + np.packbits(np.array(bits, np.uint8)).tobytes()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_sphere_files_that_are_compressed_with_shorten_are_read(tmp_path, rng):
    samples = rng.integers(-9999, 9999, (2048, 2)).astype(np.int16)
    header = "NIST_1A\n   1024\nchannel_count -i 2\nsample_rate -i 8000\nsample_n_bytes -i 2\nsample_count -i 2048\n"
    header += "sample_byte_format -s2 01\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
    path = tmp_path / "a.sph"
    path.write_bytes(header.encode().ljust(1024) + shortened(samples))
    assert (audio_info(path).sample_rate_hz, audio_info(path).samples) == (8000, 2048)
    np.testing.assert_array_equal(read_audio(path)[0].T * 2**15, samples)
