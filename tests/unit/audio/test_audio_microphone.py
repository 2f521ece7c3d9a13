"""A microphone's blocks, by a sounddevice that only pretends to be one."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

import asr
from asr.audio.microphone import microphone
from asr.errors import AudioError, DependencyError


class PortAudioError(Exception):
    pass


class InputStream:
    """Hears these samples, and then says that it was unplugged."""

    samples = np.zeros(0, np.float32)

    def __init__(self, samplerate, blocksize, *, channels, dtype):
        assert (channels, dtype) == (1, "float32")
        self.begin, self.started, self.closed = 0, False, False
        InputStream.last = self

    def start(self):
        self.started = True

    def read(self, count):
        assert self.started
        if self.begin >= len(self.samples):
            raise PortAudioError("unplugged")
        block = self.samples[self.begin : self.begin + count, None]
        self.begin += count
        return block, False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True


@pytest.fixture
def pretended(monkeypatch):
    module = SimpleNamespace(InputStream=InputStream, PortAudioError=PortAudioError)
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


def test_what_is_heard_comes_in_blocks_of_a_tenth_of_a_second(pretended, monkeypatch, rng):
    monkeypatch.setattr(InputStream, "samples", rng.uniform(-1, 1, 4800).astype(np.float32))
    blocks = microphone(16000)
    heard = [next(blocks) for _ in range(3)]
    assert [block.shape for block in heard] == [(1600,)] * 3
    np.testing.assert_array_equal(np.concatenate(heard), InputStream.samples)
    with pytest.raises(AudioError, match="unplugged"):
        next(blocks)
    assert InputStream.last.closed


def test_the_microphone_is_let_go_of_when_nobody_listens(pretended, monkeypatch):
    monkeypatch.setattr(InputStream, "samples", np.zeros(16000, np.float32))
    blocks = microphone(16000)
    next(blocks)
    blocks.close()
    assert InputStream.last.closed


@pytest.mark.parametrize("error", [PortAudioError("no default input device"), ValueError("no input device")])
def test_a_machine_without_a_microphone_is_told_what_else_there_is(pretended, monkeypatch, error):
    def missing(*_, **__):
        raise error

    monkeypatch.setattr(pretended, "InputStream", missing)
    with pytest.raises(AudioError, match=r"no microphone .* asr transcribe --stream -"):
        microphone()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(DependencyError, match=r"pip install 'asr\[microphone\]'"):
        asr.microphone()


def test_a_missing_library_is_named(monkeypatch):
    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(DependencyError, match="libportaudio2"):
        microphone()


def test_the_demonstration_prints_what_is_said_into_the_microphone(pretended, monkeypatch, call):
    sample = asr.sample_recording()
    said, _ = soundfile.read(io.BytesIO(sample.path.read_bytes()), dtype="float32")
    monkeypatch.setattr(InputStream, "samples", np.concatenate([said, np.zeros(24000, np.float32)]))
    status, out, err = call("demo", "--microphone")
    assert out == f"{sample.text}\n"
    assert status == 1  # since it was unplugged
    assert "Ctrl-C ends" in err
    assert "unplugged" in err
