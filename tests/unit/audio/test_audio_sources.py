"""Where a recording is: paths, open pipes, standard input; named pipes and devices are refused and never waited for."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from conftest import pipe_of

from asr.audio import sources
from asr.audio.blocks import load_audio, open_audio
from asr.audio.sound_file import audio_files, audio_info, read_audio
from asr.audio.sources import is_read_once
from asr.errors import AudioError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes and devices of POSIX")
RATE_HZ = 16000


@pytest.fixture
def flac(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, 0.1 * np.sin(np.arange(40_000) / 20), RATE_HZ)
    return path


def test_an_open_pipe_given_as_a_path_is_read_from_its_first_byte_to_its_last(flac):
    with pipe_of(flac.read_bytes()) as descriptor:
        path = f"/dev/fd/{descriptor}"
        assert is_read_once(path)
        np.testing.assert_array_equal(load_audio(path, RATE_HZ), load_audio(flac, RATE_HZ))


def test_standard_input_has_names_of_its_own(flac):
    code = "import sys; from asr.audio.blocks import load_audio; print(len(load_audio(sys.argv[1], 16000)))"
    for name in ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"):
        if name == "-" or os.path.exists(name):
            for given in (flac.open("rb"), subprocess.Popen(["cat", flac], stdout=subprocess.PIPE).stdout):
                result = subprocess.run([sys.executable, "-c", code, name], stdin=given, capture_output=True, text=True)
                assert (result.stdout.strip(), result.stderr) == ("40000", "")


def test_the_error_in_a_pipe_has_its_name():
    with (
        pipe_of(b"no audio " * 1000) as descriptor,
        pytest.raises(AudioError, match=rf"^/dev/fd/{descriptor}: not audio"),
    ):
        load_audio(f"/dev/fd/{descriptor}", RATE_HZ)
    with pytest.raises(AudioError, match=r"^/dev/fd/987: no such file"):
        load_audio("/dev/fd/987", RATE_HZ)


@pytest.mark.parametrize("read", [audio_info, read_audio, lambda path: load_audio(path, RATE_HZ)])
def test_named_pipes_and_devices_are_refused_without_waiting(tmp_path, read):
    os.mkfifo(tmp_path / "a.wav")
    with pytest.raises(AudioError, match=r"a\.wav: is a pipe, not a file; `- < .*a\.wav` reads it"):
        read(tmp_path / "a.wav")
    for device in ("/dev/zero", "/dev/null"):
        with pytest.raises(AudioError, match=f"{device}: is a device, not a file"):
            read(device)


def test_pipes_in_a_folder_are_named_and_passed_over(tmp_path, flac):
    os.mkfifo(tmp_path / "pipe.wav")
    errors = []
    assert list(audio_files(tmp_path, errors.append)) == [flac]
    assert [(error.filename, error.strerror) for error in errors] == [
        (str(tmp_path / "pipe.wav"), "is a pipe or a device, not a file")
    ]


def test_a_temporary_folder_that_is_full_or_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(
        AudioError, match=r"the bytes given: no temporary folder to copy it to \(.*gone.*\); set TMPDIR"
    ):
        load_audio(b"RIFF", RATE_HZ)

    def full(self, *_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sources.Path, "open", full)
    with pytest.raises(
        AudioError, match=r"does not fit into the temporary folder .* \(No space left on device\); set TMP"
    ):
        load_audio(b"RIFF", RATE_HZ)
    assert os.listdir(tmp_path) == []


def test_a_folder_among_the_open_files_is_named(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(AudioError, match=r"is a folder, not an audio file"):
            load_audio(f"/dev/fd/{descriptor}", RATE_HZ)
    finally:
        os.close(descriptor)


def test_leaving_early_removes_the_copy(tmp_path, flac, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    with open_audio(flac.read_bytes()) as stream:
        next(stream.blocks)
    assert os.listdir(tmp_path / "tmp") == []
