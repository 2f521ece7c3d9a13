"""What runs in the browser against Python: samples, segments, log-posteriors, words, subtitles. Node runs it here."""

import json
import re
import subprocess
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import asr
import asr.runtime
from asr.audio.blocks import load_audio
from asr.audio.channels import mix_down
from asr.audio.resample import FourierResampler, SincResampler
from asr.audio.segment import FILE_RULE, STREAM_RULE, Segmenter, segments, speech_extent
from asr.audio.speech_detector import RATE_HZ, Network, SpeechDetector, shipped_weights
from asr.bundle.bundle import ModelBundle
from asr.errors import ModelError
from asr.exporting.web import ONNXRUNTIME_WEB
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from asr.text.units import words_of
from asr.transcript.subtitles import columns
from asr.transcript.transcript import Transcript
from asr.transcript.words import Word
from tests.conftest import TINY, LoudnessDetector, syllables

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

RUNNER = Path(__file__).parents[2] / "web_recognizer.mjs"


def save_model(folder, *overrides):
    """Write a model that was never trained but has strong opinions, so that it finds many words."""
    torch.manual_seed(3)
    config = load_config(None, [*TINY, *overrides])
    tokens = TokenTable.from_texts(["abcd "])
    model = AcousticModel(config, len(tokens)).eval()
    with torch.no_grad():
        model.output.weight.normal_(std=0.3)
    ModelBundle(config, tokens, model).save(folder)


@pytest.fixture(scope="module")
def exports(tmp_path_factory, onnxruntime_web):
    """Exports for browsers by their sample rates; the last is in integers."""
    folders = {}
    for name, rate_hz in (("16000", 16000), ("8000", 8000), ("int8", 16000)):
        folder = tmp_path_factory.mktemp("web")
        save_model(folder / "model", f"features.sample_rate_hz={rate_hz}")
        report = asr.export(folder / "model", folder / "web", format="web", int8=name == "int8")
        assert report.size_bytes == (folder / "web" / "model" / "model.onnx").stat().st_size
        (folder / "web" / "node_modules").symlink_to(onnxruntime_web)
        folders[name] = folder / "web"
    return folders


@pytest.fixture(scope="module", params=["16000", "8000"])
def exported(request, exports):
    return exports[request.param]


@pytest.fixture(scope="module")
def recognizer(exported):
    return asr.runtime.load(exported / "model")


def answers(folder, requests):
    """Return the answers of `tests/web_recognizer.mjs`; it starts once for all requests."""
    command = ["node", str(RUNNER), str(folder)]
    ran = subprocess.run(command, input=json.dumps(requests), capture_output=True, text=True, timeout=250)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.fixture(scope="module")
def ask(exported):
    return lambda *requests: answers(exported, requests)


@pytest.fixture(scope="module")
def ask_any(exports):
    return lambda *requests: answers(exports["16000"], requests)


def vowels(rng, seconds):
    """Vowels of a voice that rises and falls, which the speech detector takes for speech."""
    time_s = np.arange(round(seconds * 16000)) / 16000
    pitch_hz = 120 + 30 * np.sin(2 * np.pi * 0.7 * time_s + rng.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch_hz) / 16000
    formants_hz = 700 + 200 * np.sin(13 * time_s), 1300 + 400 * np.sin(11 * time_s + 1), np.full_like(time_s, 2600)
    harmonics = sum(
        (0.02 + sum(np.exp(-(((k * pitch_hz - hz) / 150) ** 2)) for hz in formants_hz)) * np.sin(k * phase) / k**0.5
        for k in range(1, 40)
    )
    syllables = np.clip(np.sin(2 * np.pi * 3 * time_s), 0, 1) ** 0.5
    return 0.15 * syllables * harmonics + 1e-3 * rng.standard_normal(len(time_s))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Files of voices with pauses: short, long, with an offset, in stereo, at other rates, of silence alone."""
    rng = np.random.default_rng(5)
    folder = tmp_path_factory.mktemp("recordings")
    spoken = [vowels(rng, seconds) for seconds in (1.0, 2.4, 4.0, 3.1)]
    pauses = [0.0005 * rng.standard_normal(round(16000 * seconds)) for seconds in (0.1, 0.9, 0.4, 2.0)]
    turns = np.concatenate([part for pair in zip(pauses, spoken, strict=True) for part in pair])
    waveforms = {
        "short": (spoken[1], 16000),
        "turns": (turns, 16000),
        "long": (np.concatenate([turns, turns[::-1], turns]), 16000),
        "offset": (0.2 + 0.5 * turns, 16000),
        "stereo": (np.stack([turns, 0.5 * np.roll(turns, 80)], axis=1), 16000),
        "other-rate": (turns, 22050),
        "low-rate": (turns, 8000),
        "silence": (pauses[3], 16000),
        "click": (np.ones(10), 16000),
    }
    for name, (waveform, rate_hz) in waveforms.items():
        soundfile.write(folder / f"{name}.wav", np.clip(waveform, -1, 1), rate_hz, subtype="PCM_16")
    return sorted(folder.iterdir())


def test_the_detectors_graph_computes_what_numpy_does(rng, exports):
    windows = (rng.standard_normal((40, 576)) * np.linspace(0, 0.2, 40)[:, None]).astype(np.float32)
    state = rng.standard_normal((2, 128)).astype(np.float32)
    expected, after = Network(shipped_weights())(windows, state)
    session = onnxruntime.InferenceSession(exports["16000"] / "model" / "speech_detector.onnx")
    given = {"windows": windows, "hidden": state[:1, None], "cell": state[1:, None]}
    probabilities, hidden, cell = session.run(["probabilities", "next_hidden", "next_cell"], given)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(np.stack([hidden[0, 0], cell[0, 0]]), after, atol=1e-4)


def test_log_posteriors_are_those_of_python(ask, recognizer, recordings):
    found = ask(*({"kind": "log_posteriors", "path": str(path)} for path in recordings))
    for path, log_posteriors in zip(recordings, found, strict=True):
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        resampler = FourierResampler(rate_hz, recognizer.sample_rate_hz)
        heard = np.concatenate([resampler(mix_down(samples.T)), resampler(np.zeros(0, np.float32), last=True)])
        # Other rates are computed in another order, so that samples differ in their last digits.
        tolerance = 1e-4 if rate_hz == recognizer.sample_rate_hz else 1e-3
        expected = recognizer.log_posteriors(heard)
        # This network's opinions are so strong that values reach -60, where float32 has fewer digits.
        np.testing.assert_allclose(log_posteriors, expected, rtol=3e-5, atol=tolerance, err_msg=str(path))


def test_int8_gives_the_log_posteriors_of_python(exports, recordings):
    (path,) = (path for path in recordings if path.stem == "short")
    (found,) = answers(exports["int8"], [{"kind": "log_posteriors", "path": str(path)}])
    expected = asr.runtime.load(exports["int8"] / "model").log_posteriors(load_audio(str(path), 16000))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_recordings_are_cut_where_python_cuts_them(ask, recognizer, recordings):
    found = ask(*({"kind": "segments", "path": str(path)} for path in recordings))
    counts = []
    for path, cuts in zip(recordings, found, strict=True):
        rate_hz = recognizer.sample_rate_hz
        samples, from_hz = soundfile.read(path, dtype="float32", always_2d=True)
        resampler = FourierResampler(from_hz, rate_hz)
        whole = np.concatenate([resampler(mix_down(samples.T)), resampler(np.zeros(0, np.float32), last=True)])
        detector = SpeechDetector(rate_hz, resampler=FourierResampler(rate_hz, RATE_HZ))
        expected = list(segments([whole], rate_hz, "vad", detector))
        assert [(cut["start"], cut["length"]) for cut in cuts] == [(one.start, len(one.waveform)) for one in expected]
        for cut, one in zip(cuts, expected, strict=True):
            assert cut["speech"] == pytest.approx(speech_extent(one.waveform, rate_hz))
        counts.append(len(cuts))
    assert max(counts) > 3
    assert min(counts) == 0


def test_the_rule_that_cuts_is_the_same_at_any_rate_and_length(ask_any, tmp_path, rng):
    requests, expected = [], []
    for name, rule in (("file", FILE_RULE), ("stream", STREAM_RULE)):
        for rate_hz in (8000, 11025, 16000, 44100):
            talks = [syllables(rng, float(rng.uniform(0.2, 45)), rate_hz) for _ in range(3)]
            hushes = [0.01 * rng.standard_normal(round(float(rng.uniform(0.1, 1.5)) * rate_hz)) for _ in range(3)]
            parts = [part for pair in zip(hushes, talks, strict=True) for part in pair]
            waveform = np.concatenate(parts).astype(np.float32)
            path = tmp_path / f"{name}-{rate_hz}"
            waveform.tofile(path)
            block = int(rng.integers(3000, 30000))
            requests.append({"kind": "cut", "path": str(path), "rate_hz": rate_hz, "rule": name, "block": block})
            segmenter = Segmenter(rate_hz, rule, LoudnessDetector(rate_hz))
            found = [*segmenter.hear(waveform), *segmenter.hear(np.zeros(0, np.float32), last=True)]
            expected.append([{"start": one.start, "length": len(one.waveform)} for one in found])
    assert ask_any(*requests) == expected
    assert max(map(len, expected)) > 3


def test_words_times_and_confidences_are_those_of_python(ask, recognizer, recordings):
    found = ask(*({"kind": "transcribe", "path": str(path)} for path in recordings))
    for path, answer in zip(recordings, found, strict=True):
        expected = recognizer.transcribe(path, method="greedy")
        assert [word["text"] for word in answer["words"]] == [word.text for word in expected.words], path
        for name in ("start_s", "end_s", "confidence"):
            values = [word[name] for word in answer["words"]]
            np.testing.assert_allclose(values, [getattr(word, name) for word in expected.words], atol=1e-3)
    assert sum(len(answer["words"]) for answer in found) > 20


def test_a_stream_has_the_results_of_python(ask, recognizer, recordings):
    paths = [path for path in recordings if path.stem in ("turns", "other-rate")]
    found = ask(
        *({"kind": "stream", "path": str(path), "block": soundfile.info(path).samplerate // 10} for path in paths)
    )
    for path, results in zip(paths, found, strict=True):
        samples, rate_hz = soundfile.read(path, dtype="float32")
        partials = recognizer.stream([samples], sample_rate_hz=rate_hz, method="greedy")
        expected = [[one.text, one.is_final] for one in partials]
        assert results == expected
        assert {is_final for _, is_final in expected} == {True, False}


def test_wav_files_are_read_to_the_last_bit(ask_any, tmp_path, rng):
    stereo = rng.uniform(-1, 1, (3000, 2)) * 0.9
    inverted = np.stack([stereo[:, 0], -stereo[:, 0]], axis=1)
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"):
        for name, waveform, form in (
            ("mono", stereo[:, 0], "WAV"),
            ("two", stereo, "WAVEX"),
            ("back", inverted, "WAV"),
        ):
            soundfile.write(tmp_path / f"{subtype}-{name}.wav", waveform, 11025, subtype=subtype, format=form)
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 18
    for path, read in zip(paths, ask_any(*({"kind": "read", "path": str(path)} for path in paths)), strict=True):
        expected, _ = soundfile.read(path, dtype="float32", always_2d=True)
        assert read["rate_hz"] == 11025
        np.testing.assert_array_equal(np.float32(read["samples"]), mix_down(expected.T), err_msg=path.name)


def test_what_is_no_plain_wav_file_is_left_to_the_browser(ask_any, tmp_path, rng):
    soundfile.write(tmp_path / "law.wav", rng.uniform(-1, 1, 100), 8000, subtype="ULAW")
    soundfile.write(tmp_path / "other.flac", rng.uniform(-1, 1, 100), 8000)
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "short.wav").write_bytes((tmp_path / "law.wav").read_bytes()[:20])
    requests = [{"kind": "read", "path": str(path)} for path in sorted(tmp_path.iterdir())]
    assert ask_any(*requests) == [None] * 4


def test_a_wav_file_that_says_it_is_longer_is_read_to_its_end(ask_any, tmp_path):
    soundfile.write(tmp_path / "whole.wav", np.linspace(-1, 1, 1000), 8000, subtype="PCM_16")
    (tmp_path / "cut.wav").write_bytes((tmp_path / "whole.wav").read_bytes()[:-501])
    whole, cut = ask_any(*({"kind": "read", "path": str(tmp_path / f"{name}.wav")} for name in ("whole", "cut")))
    assert cut["samples"] == whole["samples"][:749]


@pytest.mark.parametrize(("way", "seconds"), [(FourierResampler, 13), (SincResampler, 2)])
def test_rates_change_as_in_python(way, seconds, ask_any, tmp_path, rng):
    requests, expected = [], []
    for from_hz, to_hz in ((44100, 16000), (8000, 16000), (16000, 8000), (22051, 16000)):
        waveform = (0.3 + 0.2 * rng.standard_normal(from_hz * seconds + 17)).astype(np.float32)
        waveform.tofile(tmp_path / f"{from_hz}")
        request = {"kind": "resample", "way": way.__name__, "path": str(tmp_path / f"{from_hz}"), "block": 9999}
        requests.append({**request, "from_hz": from_hz, "to_hz": to_hz})
        resampler = way(from_hz, to_hz)
        expected.append(np.concatenate([resampler(waveform), resampler(np.zeros(0, np.float32), last=True)]))
    for found, wanted in zip(ask_any(*requests), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-6)


TEXTS = [
    "plain words of a language with spaces that go on for more than one line of a subtitle and then further",
    "今天天氣很好。我們去公園、看花吧！",
    "コーヒーを飲みますか ええ、ぜひ",
    "ผมกินข้าวที่บ้าน",
    "བཀྲ་ཤིས་བདེ་ལེགས",
    "iPhoneを買う 2024年",
    "a <b>tag</b> & {\\an8} --> times \x1b[31m \u202e",
]


def words_in(text):
    """Return the words of a text, a quarter of a second each, with a pause after every fifth."""
    parts = text.split(" ")
    starts_s = np.cumsum([0.3 + 0.8 * (place % 5 == 4) for place in range(len(parts))])
    return tuple(
        Word(part, float(start), float(start) + 0.25, 0.5) for part, start in zip(parts, starts_s, strict=True)
    )


def test_subtitles_are_those_of_python(ask_any):
    transcripts = [Transcript.of((), 1.0), *(Transcript.of(words_in(text), 60.0) for text in TEXTS)]
    requests = [{"kind": "write", "words": [word.to_json() for word in one.words]} for one in transcripts]
    for transcript, answer in zip(transcripts, ask_any(*requests), strict=True):
        assert answer["srt"] == transcript.to_srt()
        assert answer["vtt"] == transcript.to_vtt()
        assert answer["txt"] == transcript.to_txt()


def test_words_are_divided_as_in_python(ask_any):
    assert ask_any(*({"kind": "units", "text": text} for text in TEXTS)) == [words_of(text) for text in TEXTS]


def test_letters_take_the_columns_that_python_gives_them(ask_any):
    letters = [chr(code) for code in range(0x80, 0x30000) if unicodedata.category(chr(code))[0] == "L"][::37]
    assert {columns(letter) for letter in letters} == {1, 2}
    # Two such words fill 33 columns of a line, or 44, which are too many.
    transcripts = [Transcript.of(words_in(f"{'x' * 21} {letter * 11}"), 60.0) for letter in letters]
    requests = [{"kind": "write", "words": [word.to_json() for word in one.words]} for one in transcripts]
    assert [answer["srt"] for answer in ask_any(*requests)] == [one.to_srt() for one in transcripts]


def test_the_page_asks_for_one_version_of_onnxruntime_web_and_keeps_all_that_it_needs(exports):
    exported = exports["16000"]
    package = json.loads((exported / "package.json").read_text())
    assert package["dependencies"] == {"onnxruntime-web": ONNXRUNTIME_WEB}
    script = (exported / "service_worker.js").read_text()
    kept = json.loads(re.search(r"FILES = (\[.*\]);", script)[1])
    assert all((exported / name).exists() for name in kept)
    imported = {
        (path.parent / name).resolve().relative_to(exported)
        for path in (exported / name for name in kept if name.endswith(".js"))
        for name in re.findall(r"from '(\./[^']+)'", path.read_text())
        if "node_modules" not in name
    }
    assert imported
    assert {str(path) for path in imported} <= set(kept)


def test_another_model_has_another_version(tmp_path):
    for place in range(2):
        save_model(tmp_path / f"model{place}", f"model.hidden_size={16 * (place + 1)}")
        asr.export(tmp_path / f"model{place}", tmp_path / f"web{place}", format="web")
    asr.export(tmp_path / "model0", tmp_path / "again", format="web")
    first, second, again = (
        re.search(r'OWN \+ "(\w+)"', (tmp_path / name / "service_worker.js").read_text())[1]
        for name in ("web0", "web1", "again")
    )
    assert first == again != second


def test_a_page_of_others_is_not_replaced(tmp_path):
    save_model(tmp_path / "model")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("mine")
    with pytest.raises(ModelError, match="not of an export"):
        asr.export(tmp_path / "model", tmp_path / "site", format="web")
    assert [path.name for path in (tmp_path / "site").iterdir()] == ["index.html"]
