"""The whole chain through the command line: train → lm → tune → decode → score → transcribe, on tone speech."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import LEARNS_FAST, TINY, make_tone_corpus, tone_speech

import asr
from asr.corpus.manifest import cut_text, read_manifest
from asr.errors import AudioError, ModelError

Succeed = Callable[..., str]

pytestmark = pytest.mark.usefixtures("loud_is_speech")  # tones are no speech to the detector


@pytest.fixture(scope="module")
def tone_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tone_corpus(tmp_path_factory.mktemp("tones"), most_pause_s=0.5)  # a recording has longer pauses


@pytest.fixture(scope="module")
def model(succeed: Succeed, tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder made by `asr train`, `asr lm ngram` and `asr tune`."""
    out = tmp_path_factory.mktemp("exp") / "tones"
    settings = [part for item in (*TINY, *LEARNS_FAST) for part in ("--set", item)]
    shown = succeed("train", "--data", tone_corpus, "--out", out, *settings)
    assert "parameters" in shown
    assert all(figure in shown for figure in (", dev ", "CER", "WER"))
    succeed("lm", "ngram", tone_corpus / "train.jsonl.gz", "--model", out, "--order", 3)
    shown = succeed("tune", out, tone_corpus / "dev.jsonl.gz")
    assert "lm_weight" in shown
    assert "the most usual weights within chance, over 12 utterances" in shown
    assert "beam sizes  4: " in shown
    assert "; 16 stays" in shown
    assert all((out / name).stat().st_size for name in ("calibration.json", "tune.json", "tune.png"))
    assert (
        json.loads((out / "tune.json").read_text())["chosen"] == asr.load(out).decoder.bundle.config.decode.model_dump()
    )
    return out


@pytest.mark.parametrize("method", ["greedy", "beam"])
def test_a_test_set_is_decoded_and_scored(
    succeed: Succeed, model: Path, tone_corpus: Path, tmp_path: Path, method: str
) -> None:
    succeed("decode", model, tone_corpus / "test.jsonl.gz", "--method", method, "--out", tmp_path)
    shown = succeed("score", tmp_path)
    figures = json.loads((tmp_path / "wer.json").read_text())
    assert figures["wer"] <= 0.1
    assert figures["utterances"] == 12
    assert "WER" in shown
    records = [json.loads(line) for line in (tmp_path / "hyp.jsonl").read_text().splitlines()]
    assert [record["id"] for record in records] == [f"test-{index:03d}" for index in range(12)]
    assert all(record["text"] == " ".join(word["text"] for word in record["words"]) for record in records)
    texts = [item["text"] for item in records[0]["nbest"]]
    assert len(set(texts)) == len(texts)
    assert (
        len(texts) == 1
        if method == "greedy"
        else 1 < len(texts) <= asr.load(model).decoder.bundle.config.decode.beam_size
    )


def test_what_the_search_asks_is_chosen_on_the_command_line(
    succeed: Succeed, model: Path, tone_corpus: Path, tmp_path: Path
) -> None:
    def decoded(*options: object) -> list[dict]:
        succeed("decode", model, tone_corpus / "test.jsonl.gz", "--out", tmp_path, *options)
        return [json.loads(line) for line in (tmp_path / "hyp.jsonl").read_text().splitlines()]

    assert all(len(record["nbest"]) <= 3 for record in decoded("--set", "beam_size=3"))
    assert "dddd" not in " ".join(record["text"] for record in decoded())
    assert "dddd" in " ".join(record["text"] for record in decoded("--hotword", "dddd=90"))

    assert "lexicon" in succeed("lm", "ngram", tone_corpus / "train.jsonl.gz", "--model", model, "--words")
    lexicon = {word for cut in read_manifest(tone_corpus / "train.jsonl.gz") for word in cut_text(cut).split()}
    closed = decoded("--set", "lm=words", "--set", "lm_weight=0.3")
    assert {word for record in closed for item in record["nbest"] for word in item["text"].split()} <= lexicon


def test_transcripts_of_files_are_those_of_the_manifest(
    succeed: Succeed, model: Path, tone_corpus: Path, tmp_path: Path
) -> None:
    succeed("decode", model, tone_corpus / "test.jsonl.gz", "--out", tmp_path)
    decoded = [json.loads(line)["text"] for line in (tmp_path / "hyp.jsonl").read_text().splitlines()]
    files = sorted((tone_corpus / "audio").glob("test-*.wav"))
    lines = succeed("transcribe", model, *files).splitlines()
    assert [line.split("\t") for line in lines] == [
        [str(path), text] for path, text in zip(files, decoded, strict=True)
    ]


def test_any_rate_channel_count_and_container_gives_the_same_text_as_a_waveform_does(
    model: Path, tmp_path: Path
) -> None:
    recognizer = asr.load(model)
    waveform = tone_speech("ab cd", np.random.default_rng(1))
    expected = recognizer.transcribe(waveform, sample_rate_hz=16000)
    assert expected.text == "ab cd"
    assert recognizer.transcribe(torch.from_numpy(waveform), sample_rate_hz=16000) == expected
    import librosa

    for rate_hz in (8000, 22050, 44100, 48000):
        resampled = librosa.resample(waveform, orig_sr=16000, target_sr=rate_hz)
        for suffix in ("wav", "flac", "ogg", "mp3"):
            path = tmp_path / f"{rate_hz}.{suffix}"
            soundfile.write(path, np.stack([resampled, 0.8 * resampled], axis=1), rate_hz)
            assert recognizer.transcribe(path).text == "ab cd", path.name


def test_words_have_times_where_they_were_spoken(model: Path) -> None:
    pause = np.zeros(16000, dtype=np.float32)
    rng = np.random.default_rng(2)
    first = tone_speech("ab", rng)
    waveform = np.concatenate([first, tone_speech(" ", rng), tone_speech("dc", rng), pause])
    transcript = asr.load(model).transcribe(waveform, sample_rate_hz=16000)
    assert transcript.text == "ab dc"
    one, two = transcript.words
    assert 0.0 <= one.start_s < 0.2
    assert one.end_s <= len(first) / 16000 <= two.start_s
    assert two.end_s < len(waveform) / 16000 - 0.8
    assert 0 < two.confidence <= 1
    assert transcript.duration_s == pytest.approx(len(waveform) / 16000)


def test_a_given_text_is_aligned_and_a_wrong_word_in_it_named(
    call: Callable[..., tuple[str | int | None, str, str]],
    succeed: Succeed,
    model: Path,
    tone_corpus: Path,
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone_speech("ab cd", np.random.default_rng(1)), 16000)

    def shown(text: str) -> list[list[str]]:
        status, out, err = call("align", model, path, text)
        assert status == 0, err
        assert err.split()[:4] == ["start_s", "end_s", "fit", "word"]
        return [line.split() for line in out.splitlines()]

    right, wrong = shown("ab cd"), shown("ab dc")
    assert [row[3] for row in right] == ["ab", "cd"]
    times = [float(time) for row in right for time in row[:2]]
    assert times == sorted(times)
    assert all(float(row[2]) > 0.5 and len(row) == 4 for row in right)
    assert wrong[1][3:] == ["dc", "fits", "badly"]

    lines = [json.loads(line) for line in succeed("align", model, tone_corpus / "test.jsonl.gz").splitlines()]
    assert sorted(line["id"] for line in lines) == [f"test-{index:03d}" for index in range(12)]
    assert [line["worst_fit"] for line in lines] == sorted(line["worst_fit"] for line in lines)


@pytest.mark.parametrize("segment", ["vad", "fixed"])
def test_a_recording_longer_than_a_segment_is_transcribed_whole(model: Path, segment: str) -> None:
    from asr.scoring.error_counts import count_errors

    rng = np.random.default_rng(3)
    pause = np.zeros(8000, dtype=np.float32)
    texts = ["".join(rng.choice(list("abcd"), 2)) for _ in range(60)]
    pieces = [np.concatenate([tone_speech(text, rng), tone_speech(" ", rng), pause]) for text in texts]
    waveform = np.concatenate(pieces)
    assert len(waveform) > 2 * 30 * 16000
    done_s: list[float] = []
    transcript = asr.load(model).transcribe(
        waveform, sample_rate_hz=16000, method="greedy", segment=segment, on_progress=done_s.append
    )
    assert count_errors(" ".join(texts), transcript.text, unit="word").rate < 0.15
    starts = [word.start_s for word in transcript.words]
    assert starts == sorted(starts)
    ends_s = np.cumsum([len(piece) / 16000 for piece in pieces])
    places = np.searchsorted(ends_s, [(word.start_s + word.end_s) / 2 for word in transcript.words])
    right = [texts[place] == word.text for place, word in zip(places, transcript.words, strict=True)]
    assert np.mean(right) > 0.85
    assert len(done_s) > 1
    assert sum(done_s) == pytest.approx(transcript.duration_s) == len(waveform) / 16000


def test_a_channel_of_a_file_is_transcribed_alone(model: Path, tone_corpus: Path, tmp_path: Path) -> None:
    recognizer = asr.load(model)
    paths = sorted((tone_corpus / "audio").glob("test-*.wav"))[:2]
    first, second = (soundfile.read(path)[0] for path in paths)
    samples = max(len(first), len(second))
    stereo = np.stack([np.pad(waveform, (0, samples - len(waveform))) for waveform in (first, second)], axis=1)
    soundfile.write(tmp_path / "call.wav", stereo, 16000)
    for channel, path in enumerate(paths):
        expected = recognizer.transcribe(path, method="greedy").text
        assert recognizer.transcribe(tmp_path / "call.wav", method="greedy", channel=channel).text == expected
        waveform = stereo.T.astype(np.float32)
        alike = recognizer.transcribe(waveform, sample_rate_hz=16000, method="greedy", channel=channel)
        assert alike.text == expected
    with pytest.raises(AudioError, match=r"call\.wav: channel 2 was asked for, but its 2 are counted from 0"):
        recognizer.transcribe(tmp_path / "call.wav", channel=2)


def test_silence_gives_an_empty_transcript(model: Path) -> None:
    transcript = asr.load(model).transcribe(np.zeros(16000), sample_rate_hz=16000)
    assert (transcript.text, transcript.words) == ("", ())


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros(0, dtype=np.float32), "not empty"),
        (np.zeros(100, dtype=np.int16), "int16"),
        (np.full(100, np.nan), "not finite"),
        (np.zeros((1, 1, 10)), "shape"),
    ],
)
def test_a_waveform_that_cannot_be_used_is_refused(model: Path, waveform: np.ndarray, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        asr.load(model).transcribe(waveform, sample_rate_hz=16000)


def test_a_waveform_without_its_sample_rate_is_refused(model: Path) -> None:
    with pytest.raises(AudioError, match="sample_rate"):
        asr.load(model).transcribe(np.zeros(1600, dtype=np.float32))


@pytest.mark.parametrize("name", ["config.yaml", "tokens.json", "model.safetensors", "decoder.yaml"])
def test_a_damaged_model_folder_is_named_with_the_file(model: Path, tmp_path: Path, name: str) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    (folder / name).write_bytes((folder / name).read_bytes()[:20])
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        asr.load(folder)
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        asr.load(folder)


def test_an_utterance_is_recognised_alike_alone_and_in_a_batch(model: Path, tone_corpus: Path) -> None:
    from asr.corpus.cut_audio import load_cut
    from asr.features.batch import collate

    recognizer = asr.load(model)
    cuts = list(read_manifest(tone_corpus / "test.jsonl.gz"))
    waveforms = [torch.from_numpy(load_cut(cut, 16000)) for cut in cuts]
    together = recognizer.decoder.decode(collate(waveforms, [[]] * 12, [cut.id for cut in cuts]))
    for cut, waveform, decoded in zip(cuts, waveforms, together, strict=True):
        alone = recognizer.decoder.decode(collate([waveform], [[]], [cut.id]))[0]
        assert [h.tokens for h in alone.hypotheses][:3] == [h.tokens for h in decoded.hypotheses][:3], cut_text(cut)
        assert alone.spans[0].start == decoded.spans[0].start
