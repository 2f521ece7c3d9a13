"""The runtime against the recogniser that stands on torch; and without torch."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from absent_packages import only

from asr.audio.resample import FourierResampler as StreamResampler
from asr.audio.resample import resample
from asr.audio.segment import segments
from asr.audio.speech_detector import SpeechDetector
from asr.bundle.bundle import ModelBundle
from asr.errors import AudioError, ConfigError, ModelError
from asr.exporting.export import export_onnx
from asr.inference.decoder import Decoder
from asr.inference.recognizer import Recognizer
from asr.model.acoustic import AcousticModel
from asr.runtime import load
from asr.runtime.__main__ import main
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from tests.conftest import TINY, tone_speech, voice_like

onnx = pytest.importorskip("onnx")

SEARCH = {"beam_size": 16, "insertion_bonus": 0.0, "blank_skip": 1.0, "token_floor": 0.0}
SEARCH |= {"lm": "tokens", "lm_weight": 0.5, "oov_penalty": None}

# The three packages that the runtime needs, and what they in turn import.
PRESENT = {
    *("asr", "numpy", "onnxruntime", "soundfile"),
    *("flatbuffers", "google", "packaging"),
    *("_soundfile", "_soundfile_data", "cffi", "_cffi_backend", "typing_extensions"),
}
WITHOUT = only(PRESENT)


@pytest.fixture(scope="module")
def recognizer():
    """A model that was never trained but has strong opinions, so that it finds many words."""
    torch.manual_seed(3)
    config = load_config(None, TINY)
    tokens = TokenTable.from_texts(["abcd "])
    model = AcousticModel(config, len(tokens)).eval()
    with torch.no_grad():
        model.output.weight.normal_(std=3.0)
    return Recognizer(Decoder(ModelBundle(config, tokens, model)))


@pytest.fixture(scope="module")
def exported(recognizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    recognizer.decoder.bundle.save(folder / "model")
    export_onnx(folder / "model", folder / "onnx")
    return folder / "onnx"


def assert_same(result, expected):
    assert result.text == expected.text
    assert [word.text for word in result.words] == [word.text for word in expected.words]
    for name in ("start_s", "end_s", "confidence"):
        values = [[getattr(word, name) for word in transcript.words] for transcript in (result, expected)]
        np.testing.assert_allclose(*values, atol=1e-4)
    assert (result.duration_s, result.path) == (expected.duration_s, expected.path)
    assert result.confidence == pytest.approx(expected.confidence, abs=1e-4)


@pytest.mark.parametrize("text", ["ab cd", "a", "dab bad cab add abba"])
def test_a_file_gets_the_transcript_that_torch_gives_it(text, recognizer, exported, tmp_path, rng):
    path = tmp_path / "speech.wav"
    soundfile.write(path, tone_speech(text, rng), 16000)
    expected = recognizer.transcribe(path, method="greedy", segment="fixed")
    assert expected.words
    assert_same(load(exported).transcribe(path, segment="fixed"), expected)


def test_a_long_recording_is_cut_and_timed_as_with_torch(recognizer, exported, rng):
    speech = np.concatenate([tone_speech("ab cd abc", rng) for _ in range(60)])
    assert len(speech) > 70 * 16000
    expected = recognizer.transcribe(speech, sample_rate_hz=16000, method="greedy", segment="fixed")
    assert_same(load(exported).transcribe(speech, sample_rate_hz=16000, segment="fixed"), expected)


@pytest.mark.parametrize("seconds", [3.0, 20.0])
def test_it_cuts_where_nobody_speaks_as_torch_does(seconds, recognizer, exported, rng):
    silence = 1e-3 * rng.standard_normal(2 * 16000).astype(np.float32)
    speech = np.concatenate([silence, voice_like(rng, seconds), silence, voice_like(rng, seconds), silence])
    cut = list(segments([speech], 16000))
    assert cut[0].start > 16000
    assert len(cut) > 1 or seconds < 20
    for segment in ("vad", "none"):
        expected = recognizer.transcribe(speech, sample_rate_hz=16000, method="greedy", segment=segment)
        assert_same(load(exported).transcribe(speech, sample_rate_hz=16000, segment=segment), expected)


def test_speech_is_detected_the_same_with_the_runtimes_own_resampling(rng):
    speech = resample(np.concatenate([voice_like(rng) for _ in range(12)]), 16000, 22050)
    expected = SpeechDetector(22050)(speech, last=True)
    detector = SpeechDetector(22050, resampler=StreamResampler(22050, 16000))
    found = [detector(block, last=place == 3) for place, block in enumerate(np.split(speech, [5000, 5001, 400_000]))]
    assert [len(block) for block in found[:2]] == [0, 0]
    assert expected.max() > 0.5 > expected.min()
    difference = np.abs(np.concatenate(found) - expected)
    assert difference.mean() < 0.01
    assert difference.max() < 0.2  # the filters differ next to the end of the band


def test_a_damaged_speech_detector_is_named(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "export")
    assert "MIT License" in (folder / "speech_detector.LICENSE").read_text()
    network = folder / "speech_detector.npz"
    whole = network.read_bytes()
    for content in (b"", b"damaged", whole[:5000], whole[:600_000]):
        network.write_bytes(content)
        with pytest.raises(ModelError, match=r"speech_detector\.npz: the speech detector cannot be read .*export"):
            load(folder)
    np.savez(network, **{"conv1.weight": np.zeros(3, np.float32)})
    with pytest.raises(ModelError, match=r"stft_conv\.weight"):
        load(folder)
    network.unlink()
    with pytest.raises(ModelError, match="No such file"):
        load(folder)


def test_channels_and_rates_are_converted(recognizer, exported, tmp_path, rng):
    speech = tone_speech("ab cd", rng, rate_hz=44100)
    path = tmp_path / "speech.flac"
    soundfile.write(path, np.stack([speech, 0.5 * speech], axis=1), 44100)
    expected = recognizer.transcribe(path, method="greedy", segment="fixed")
    result = load(exported).transcribe(path, segment="fixed")
    assert result.text == expected.text
    assert result.duration_s == pytest.approx(len(speech) / 44100, abs=1e-3)


def test_it_transcribes_where_numpy_onnxruntime_and_soundfile_are_all_there_is(recognizer, exported, tmp_path, rng):
    path = tmp_path / "speech.wav"
    soundfile.write(path, tone_speech("ab cd", rng, rate_hz=22050), 22050)
    code = f"{WITHOUT}\nimport runpy\nsys.argv = ['asr.runtime', {str(exported)!r}, {str(path)!r}, '--format=jsonl']\n"
    code += "runpy.run_module('asr.runtime', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["text"] == recognizer.transcribe(path, method="greedy").text


@pytest.mark.parametrize(
    ("absence", "package", "command"),
    [(WITHOUT, "typer", "--help"), ("import sys\nsys.modules['torch'] = None", "torch", "transcribe")],
    ids=["at all", "to transcribe"],
)
def test_other_commands_say_there_what_they_need(absence, package, command, exported, tmp_path):
    arguments = ["asr", command, str(exported), str(tmp_path)]
    code = f"{absence}\nimport runpy\nsys.argv = {arguments!r}\nrunpy.run_module('asr', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: this needs the package {package},")
    assert "python -m asr.runtime" in done.stderr


@pytest.mark.parametrize("package", ["torch", "pydantic", "scipy", "onnx", "hypothesis"])
def test_the_absence_of_all_else_in_that_test_is_real(package):
    done = subprocess.run([sys.executable, "-c", f"{WITHOUT}\nimport {package}"], capture_output=True, text=True)
    assert f"No module named '{package}'" in done.stderr


def test_weights_outside_the_network_s_file_are_not_read(exported, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    folder.mkdir()
    monkeypatch.chdir(folder)  # where onnxruntime looks for them
    (folder / "model.json").write_bytes((exported / "model.json").read_bytes())
    network = onnx.load(exported / "model.onnx")
    weight = max(network.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    (tmp_path / "elsewhere").write_bytes(weight.raw_data)
    (folder / "inside").write_bytes(weight.raw_data)
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for name in ("../elsewhere", str(tmp_path / "elsewhere"), "inside"):
        weight.ClearField("external_data")
        weight.external_data.add(key="location", value=name)
        (folder / "model.onnx").write_bytes(network.SerializeToString())
        with pytest.raises(ModelError, match=r"model\.onnx: keeps its weights in other files"):
            load(folder)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.json", None, "asr export"),
        ("model.json", b"{", "export it again"),
        ("model.json", b"[" * 100_000, "export it again"),
        ("model.json", b'{"format": 1, "rate": 1}', "format 1"),
        ("model.json", {"frame_shift_s": 0.0}, "frame_shift_s"),
        ("model.json", {"sample_rate_hz": 1e9}, "sample_rate_hz"),
        ("model.json", {"tokens": ["a"]}, "<blank>"),
        ("model.json", {"tokens": ["<blank>", "b", "a"]}, "sorted"),
        ("model.json", {"tokens": ["<blank>", "a"]}, r"model\.onnx: does not belong"),
        ("model.json", {"token_kind": "bytes"}, "token_kind"),
        ("model.json", {"text": {"case": "lower"}}, "text does not say"),
        ("model.json", {"calibration": {"bias": 0, "posterior": 1, "acoustic": None}}, "calibration"),
        ("model.json", {"search": {"beam_size": 16}}, "search"),
        ("model.json", {"search": SEARCH | {"beam_size": 10**9}}, "beam_size"),
        ("model.json", {"search": SEARCH | {"blank_skip": 2}}, "blank_skip"),
        ("model.json", {"search": SEARCH | {"lm_weight": "1"}}, "search"),
        ("model.onnx", None, "cannot be read"),
        ("model.onnx", b"", "damaged"),
        ("model.onnx", b"\x08\x08\x12\x03asr", "damaged"),
    ],
)
def test_a_damaged_export_is_refused_with_the_reason(file, content, message, exported, tmp_path):
    for name in ("model.json", "model.onnx"):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    if isinstance(content, dict):
        content = json.dumps(json.loads((exported / file).read_text()) | content).encode()
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(ModelError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("name", [b"waveform", b"LogSoftmax"])
def test_what_is_wrong_with_a_network_is_said_by_the_error_and_nothing_else(name, exported, tmp_path, capfd):
    (tmp_path / "model.json").write_bytes((exported / "model.json").read_bytes())
    network = (exported / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(network.replace(name, b"\xff" + name[1:]))
    with pytest.raises(ModelError, match=r"model\.onnx: damaged"):
        load(tmp_path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("threads", [0, -1, 100_000])
def test_a_number_of_threads_that_no_machine_has_is_refused(threads, exported):
    with pytest.raises(ConfigError, match=f"threads={threads}"):
        load(exported, threads=threads)


def test_a_frame_shift_of_whole_seconds_is_a_number_too(exported, tmp_path):
    content = json.loads((exported / "model.json").read_text()) | {"frame_shift_s": 1}
    (tmp_path / "model.json").write_text(json.dumps(content))
    for name in ("model.onnx", "speech_detector.npz"):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    assert load(tmp_path).frame_shift_s == 1.0


def test_audio_that_cannot_be_used_is_refused(exported, tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    runtime = load(exported)
    with pytest.raises(AudioError, match=r"empty\.wav"):
        runtime.transcribe(tmp_path / "empty.wav")
    for rate_hz in (None, 0, -16000, 1, 0.5, 1e30, np.nan, np.inf, "16000"):
        with pytest.raises(AudioError, match="sample_rate"):
            runtime.transcribe(np.zeros(100, np.float32), sample_rate_hz=rate_hz)
    with pytest.raises(AudioError, match="not finite"):
        runtime.transcribe(np.array([np.inf], np.float16), sample_rate_hz=16000)
    with pytest.raises(AudioError, match="int16"):
        runtime.transcribe(np.zeros(100, np.int16), sample_rate_hz=16000)


def test_a_segmentation_that_is_none_is_refused_with_the_choices(exported):
    with pytest.raises(ConfigError, match=r"segment='foo': .* vad, fixed, none"):
        load(exported).transcribe(np.zeros(100, np.float32), sample_rate_hz=16000, segment="foo")


def run_main(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["asr.runtime", *map(str, arguments)])
    status = main()
    return status, *capsys.readouterr()


def test_several_files_are_named_and_a_bad_one_is_skipped(monkeypatch, capsys, exported, tmp_path, rng):
    good, bad = tmp_path / "good.wav", tmp_path / "bad.wav"
    soundfile.write(good, tone_speech("ab cd", rng), 16000)
    bad.write_bytes(b"no audio")
    text = load(exported).transcribe(good).text
    assert run_main(monkeypatch, capsys, exported, good) == (0, f"{text}\n", "")
    status, out, err = run_main(monkeypatch, capsys, exported, bad, good)
    assert (status, out) == (2, f"{good}\t{text}\n")
    assert err.startswith(f"skipped: {bad}: ")
    status, out, err = run_main(monkeypatch, capsys, tmp_path, good)
    assert (status, out) == (1, "")
    assert err.startswith("error: ")


def test_nothing_is_kept_or_reported_about_who_transcribes(exported, speech, tmp_path):
    """Without a setting onnxruntime keeps a number of the machine, and what it will report, in the cache folder."""
    home = tmp_path / "home"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    home.mkdir()
    command = [sys.executable, "-m", "asr.runtime", str(exported), str(speech)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert list(home.rglob("*")) == []


@pytest.fixture(params=["asr.runtime", "asr transcribe"])
def command(request, exported):
    """The beginning of a command line that transcribes; both commands behave alike."""
    if request.param == "asr.runtime":
        return [sys.executable, "-m", "asr.runtime", str(exported)]
    return [sys.executable, "-m", "asr", "transcribe", "--method", "greedy", str(exported.parent / "model")]


@pytest.fixture
def speech(tmp_path, rng):
    path = tmp_path / "speech.wav"
    soundfile.write(path, tone_speech("ab cd", rng), 16000)
    return path


def test_output_that_nobody_reads_to_its_end_is_no_fault(command, speech, tmp_path):
    shutil.copy(speech, tmp_path / "again.wav")
    process = subprocess.Popen(
        [*command, speech, tmp_path / "again.wav"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_under_standard_output_is_an_error(command, speech):
    with open("/dev/full", "w") as full:
        done = subprocess.run([*command, speech], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.stderr == "error: standard output cannot be written (No space left on device)\n"
    assert done.returncode == 1


@pytest.mark.skipif(os.name != "posix", reason="closes files as a POSIX shell does")
def test_a_closed_standard_input_is_named(command):
    done = subprocess.run(["sh", "-c", '"$@" <&-', "sh", *command, "-"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "skipped: standard input is closed\n")


@pytest.mark.skipif(os.name != "posix", reason="closes files as a POSIX shell does")
def test_a_closed_standard_output_is_an_error_and_closed_standard_errors_are_none(command, speech, tmp_path):
    shell = ["sh", "-c", '"$@" >&-', "sh", *command, speech]
    done = subprocess.run(shell, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "error: standard output is closed\n")
    shell[2] = '"$@" >&- 2>&-'
    assert subprocess.run(shell, timeout=60).returncode == 1
    shell[2] = '"$@" 2>&-'
    done = subprocess.run([*shell, tmp_path / "none.wav"], stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stdout.startswith(f"{speech}\t")
    assert "none.wav" not in done.stdout


def test_formats_are_known_in_any_case_and_one_is_written(monkeypatch, capsys, exported, speech):
    status, out, _ = run_main(monkeypatch, capsys, exported, speech, "--format", "textGRID")
    assert (status, out.splitlines()[0]) == (0, 'File type = "ooTextFile"')
    for names, message in (("doc", "format 'doc' is not one of txt, json"), ("srt,vtt", "names 2 formats")):
        with pytest.raises(SystemExit) as raised:
            run_main(monkeypatch, capsys, exported, speech, "--format", names)
        assert raised.value.code == 2
        assert message in capsys.readouterr().err


def test_several_files_do_not_become_one_subtitle_file(monkeypatch, capsys, exported):
    with pytest.raises(SystemExit) as raised:
        run_main(monkeypatch, capsys, exported, "a.wav", "b.wav", "--format=srt")
    assert raised.value.code == 2
