"""Training on sub-word pieces and on words, from the manifest to the beam search with a language model."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import LEARNS_FAST, TINY, tone_speech

import asr
from asr.corpus.manifest import cut_text, make_cut, read_manifest, write_manifest
from asr.errors import ConfigError, TrainingError
from asr.inference.decoder import Search
from asr.lm.arpa import write_arpa
from asr.lm.estimate import token_ngram
from asr.settings_file import load_config
from asr.text.tokens import load_tokens
from asr.training.survey import survey_training_cuts
from asr.training.trainer import training_reports

WORDS = ["ab", "abcd", "cd", "ddba"]


@pytest.fixture(scope="module")
def word_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifests of tone speech: 64 training and 12 dev utterances of one to three of `WORDS`."""
    folder = tmp_path_factory.mktemp("words")
    rng = np.random.default_rng(7)
    for split, count in (("train", 64), ("dev", 12)):
        cuts = []
        for index in range(count):
            text = " ".join(rng.choice(WORDS, rng.integers(1, 4)))
            path = folder / f"{split}-{index}.wav"
            soundfile.write(path, tone_speech(text, rng), 16000)
            cuts.append(make_cut(path.stem, path, text, split))
        write_manifest(cuts, folder / f"{split}.jsonl.gz")
    return folder


@pytest.mark.usefixtures("loud_is_speech")  # tones are no speech to the detector
def test_pieces_are_learnt_with_the_model_and_carry_it_to_words_and_language_model(
    word_corpus: Path, tmp_path: Path
) -> None:
    pieces = ["text.tokens=bpe", "text.pieces=9", "model.subsampling=4", "model.hidden_size=64", "training.batch_s=4"]
    config = load_config(None, [*TINY, *LEARNS_FAST, *pieces])
    *_, last = training_reports(config, word_corpus, tmp_path)
    assert last.dev.rate < 0.1

    table = load_tokens(tmp_path / "tokens.json")
    assert table.symbols[0] == "<blank>"
    assert len(table) == 10
    assert any(len(symbol) > 1 for symbol in table.symbols[1:])
    assert "| tokens | 9 bpe pieces and the blank |" in (tmp_path / "README.md").read_text()

    cuts = list(read_manifest(word_corpus / "dev.jsonl.gz"))
    references = [cut_text(cut) for cut in cuts]
    recordings = [Path(cut.recording.sources[0].source) for cut in cuts]
    recognizer = asr.load(tmp_path, accelerator="cpu")
    assert recognizer.decoder.method_of(Search()) == "greedy"
    greedy = [recognizer.transcribe(path) for path in recordings]
    assert sum(text.text == reference for text, reference in zip(greedy, references, strict=True)) > 9

    texts = [cut_text(cut) for cut in read_manifest(word_corpus / "train.jsonl.gz")]
    write_arpa(token_ngram(texts, table, 3), tmp_path / "lm.arpa.gz")
    recognizer = asr.load(tmp_path, accelerator="cpu")
    assert recognizer.decoder.method_of(Search()) == "beam"
    beam = [recognizer.transcribe(path) for path in recordings]
    assert sum(text.text == reference for text, reference in zip(beam, references, strict=True)) > 9
    for transcript in (*greedy, *beam):
        assert transcript.text == " ".join(word.text for word in transcript.words)
        times = [time for word in transcript.words for time in (word.start_s, word.end_s)]
        assert times == sorted(times)
        assert set(" ".join(word.text for word in transcript.words)) <= set("abcd ")


@pytest.mark.usefixtures("loud_is_speech")
def test_word_tokens_are_those_of_the_text_and_carry_it_to_words_and_language_model(
    word_corpus: Path, tmp_path: Path
) -> None:
    words = ["text.tokens=words", "model.subsampling=4", "model.hidden_size=64", "training.batch_s=4"]
    *_, last = training_reports(load_config(None, [*TINY, *LEARNS_FAST, *words]), word_corpus, tmp_path)
    assert last.dev.rate < 0.3
    table = load_tokens(tmp_path / "tokens.json")
    assert table.symbols == ("<blank>", *WORDS)
    assert "| tokens | 4 words and the blank |" in (tmp_path / "README.md").read_text()
    texts = [cut_text(cut) for cut in read_manifest(word_corpus / "train.jsonl.gz")]
    write_arpa(token_ngram(texts, table, 3), tmp_path / "lm.arpa.gz")
    recognizer = asr.load(tmp_path, accelerator="cpu")
    assert recognizer.decoder.method_of(Search()) == "beam"
    cuts = list(read_manifest(word_corpus / "dev.jsonl.gz"))
    found = [recognizer.transcribe(cut.recording.sources[0].source) for cut in cuts]
    assert sum(transcript.text == cut_text(cut) for transcript, cut in zip(found, cuts, strict=True)) >= 7
    for transcript in found:
        assert transcript.text.split() == [word.text for word in transcript.words]


def test_a_word_token_takes_a_frame_and_equal_neighbours_a_blank_between_them(word_corpus: Path) -> None:
    cuts = list(read_manifest(word_corpus / "train.jsonl.gz"))
    frames = int(cuts[0].duration / 0.08)
    for cut, text in zip(cuts[:2], (["abcd", "cd"] * frames, ["abcd"] * frames), strict=True):
        cut.duration = cuts[0].duration
        cut.supervisions[0].text = " ".join(text[:frames])
    survey = survey_training_cuts(cuts, load_config(None, ["text.tokens=words", "model.subsampling=8"]))
    need = f"CTC needs {2 * frames - 1}; model.subsampling=2"
    assert {name: need in fault for name, fault in survey.skipped.items()} == {cuts[1].id: True}


def test_what_pieces_spell_in_time_is_kept_and_the_rest_left_out_with_its_need(word_corpus: Path) -> None:
    cuts = list(read_manifest(word_corpus / "train.jsonl.gz"))
    frames = int(cuts[0].duration / 0.08)
    # With all pieces there can be, each word of the text is one; characters would be more than there are frames.
    kept = " ".join(["abcd", "ddba"] * (frames // 2))
    left_out = " ".join(["abcd", "abcd"] * (frames // 2))  # as many words, but each needs a blank before it
    hopeless = " ".join(["ab"] * (frames + 1))
    spelled = " ".join(["cb"] * (frames // 2))  # a word that is no piece takes three: ▁ c b
    for cut, text in zip(cuts[:4], (kept, left_out, hopeless, spelled), strict=True):
        cut.duration = cuts[0].duration
        cut.supervisions[0].text = text
    config = load_config(None, ["text.tokens=unigram", "text.pieces=9", "model.subsampling=8"])
    survey = survey_training_cuts(cuts, config)
    assert set(survey.tokens.symbols[1:]) == {*"▁abcd", *(f"▁{word}" for word in WORDS)}
    needs = {1: f"at least {2 * (frames // 2 * 2) - 1}", 2: f"at least {2 * (frames + 1) - 1}", 3: 3 * (frames // 2)}
    assert survey.skipped == {
        cuts[index].id: f"too short for its transcript: {frames} output frames, CTC needs {need}; "
        f"model.subsampling=2 gives {int(cuts[0].duration / 0.02)}"
        for index, need in needs.items()
    }
    usable = [cut for cut in cuts if cut.id not in survey.skipped]
    assert survey.utterances == len(usable)
    assert survey.audio_s == pytest.approx(sum(cut.duration for cut in usable))
    with pytest.raises(TrainingError, match="no usable training utterance"):
        survey_training_cuts(cuts[2:3], config)


def test_characters_are_too_many_where_pieces_are_not(word_corpus: Path) -> None:
    cuts = list(read_manifest(word_corpus / "train.jsonl.gz"))
    cuts[0].supervisions[0].text = " ".join(["abcd", "ddba"] * (int(cuts[0].duration / 0.08) // 2))
    characters = survey_training_cuts(cuts, load_config(None, ["model.subsampling=8"]))
    assert cuts[0].id in characters.skipped


def test_more_pieces_than_the_text_supports_are_refused_before_training(word_corpus: Path, tmp_path: Path) -> None:
    config = load_config(None, [*TINY, "text.tokens=unigram"])
    with pytest.raises(
        ConfigError, match=r"text\.pieces = 500 is more than .* supports: it has at most \d+ unigram pieces"
    ):
        next(training_reports(config, word_corpus, tmp_path))
    assert not (tmp_path / "tokens.json").exists()


def test_a_run_on_pieces_resumes_and_a_changed_text_is_noticed(word_corpus: Path, tmp_path: Path) -> None:
    settings = [*TINY, "text.tokens=bpe", "text.pieces=9", "model.subsampling=8", "training.epochs=1"]
    config = load_config(None, settings)
    list(training_reports(config, word_corpus, tmp_path / "model"))
    other_search = load_config(None, [*settings, "decode.beam_size=3", "rnnlm.layers=3"])  # training does not ask
    list(training_reports(other_search, word_corpus, tmp_path / "model", resume=True))
    cuts = list(read_manifest(word_corpus / "train.jsonl.gz"))
    for cut in cuts:
        cut.supervisions[0].text = "dcab dcab"
    write_manifest(cuts, tmp_path / "train.jsonl.gz")
    write_manifest(read_manifest(word_corpus / "dev.jsonl.gz"), tmp_path / "dev.jsonl.gz")
    with pytest.raises(ConfigError, match=r"cannot resume.*\(asr train --init-from \S+model starts from its weights\)"):
        next(training_reports(config, tmp_path, tmp_path / "model", resume=True))
