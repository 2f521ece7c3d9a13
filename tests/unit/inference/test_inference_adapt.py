"""A speaker's weights: what they change, what they leave alone, and when they are kept."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import LEARNS_FAST, TINY

import asr
from asr.bundle.bundle import ModelBundle
from asr.bundle.speakers import Speaker, save_speaker
from asr.config import Config
from asr.corpus.manifest import load_manifest, read_manifest, write_manifest
from asr.errors import ManifestError
from asr.features.batching import evaluation_batches
from asr.inference import adapt as adapting
from asr.inference.decoder import Decoder
from asr.model.acoustic import AcousticModel
from asr.model.adaptation import adapted, fit, gradient, own_weights, spoken_of, text_loss, with_weights
from asr.model.rnn import layout_of
from asr.settings_file import load_config
from asr.text.tokens import TokenTable

TOKENS = TokenTable.from_texts(["abcd "])
DEEP = ("model.layers=2", "model.hidden_size=16")


def config_of(*settings: str) -> Config:
    return load_config(None, [*TINY, *settings])


def model_of(config: Config) -> AcousticModel:
    torch.manual_seed(3)
    return AcousticModel(config, len(TOKENS)).eval()


def saved(folder: Path, *settings: str) -> Path:
    config = config_of(*settings)
    ModelBundle(config, TOKENS, model_of(config)).save(folder)
    return folder


def cuts_of(corpus: Path, split: str = "test") -> list:
    return list(read_manifest(corpus / f"{split}.jsonl.gz"))


def other_weights(model: AcousticModel) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        name: tensor + 0.3 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in own_weights(model).items()
    }


@pytest.mark.parametrize("settings", [(), ("model.bidirectional=false",), ("model.encoder=conformer",)])
def test_scales_of_1_and_the_own_norms_change_nothing(tone_corpus: Path, settings: tuple[str, ...]) -> None:
    config = config_of(*DEEP, *settings)
    model = model_of(config)
    (batch,) = evaluation_batches(cuts_of(tone_corpus), config)
    with torch.no_grad():
        expected, _ = model(batch.waveforms, batch.lengths)
        with adapted(model, own_weights(model)):
            same, _ = model(batch.waveforms, batch.lengths)
        assert torch.equal(same, expected)
        assert torch.equal(with_weights(model, own_weights(model))(batch.waveforms, batch.lengths)[0], expected)


def test_a_scale_multiplies_what_its_unit_gives(tone_corpus: Path) -> None:
    config = config_of("model.layers=1")
    model = model_of(config)
    x, lengths = torch.randn(2, 5, 64), torch.tensor([5, 3])
    layer = model.layers[0]
    layout = layout_of(lengths, 5)
    scale = torch.rand(64) + 0.5
    with torch.no_grad():
        plain = layer(x, lengths, layout)
        valid = (torch.arange(5) < lengths[:, None])[..., None]
        with adapted(model, {"layers.0.scale": scale}):
            scaled = layer(x, lengths, layout)
    torch.testing.assert_close(scaled, (x * valid) + (plain - x * valid) * scale)


def test_gradients_agree_with_finite_differences_and_no_other_weight_gets_one(
    tone_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_float64(self: AcousticModel, x: torch.Tensor) -> torch.Tensor:
        return self.output(self.norm(x)).log_softmax(-1)

    monkeypatch.setattr(AcousticModel, "_classified", in_float64)
    config = config_of(*DEEP)
    model = model_of(config)
    (batch,) = evaluation_batches(cuts_of(tone_corpus)[:3], config)
    spoken = spoken_of(model, batch, [([1, 2, 3], 1.0), ([4, 2], 0.5), ([], 0.0)])
    model = model.double()
    spoken = type(spoken)(spoken.features.double(), spoken.frames, spoken.tokens, spoken.token_lengths, spoken.weights)
    start = own_weights(model)
    fitted = {name: torch.zeros_like(value).requires_grad_() for name, value in start.items()}
    gradient(model, start, fitted, spoken)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    step = 1e-5
    for name, value in fitted.items():
        for place in (0, 7):
            found = []
            for sign in (1, -1):
                moved = {key: torch.zeros_like(other).requires_grad_() for key, other in start.items()}
                with torch.no_grad():
                    moved[name][place] += sign * step
                found.append(float(gradient(model, start, moved, spoken)))
            expected = (found[0] - found[1]) / (2 * step)
            assert float(value.grad[place]) == pytest.approx(expected, rel=1e-4, abs=1e-7), name


def test_fitting_lowers_the_loss_and_leaves_the_network_as_it_was(tone_corpus: Path) -> None:
    config = config_of(*DEEP)
    model = model_of(config)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    (batch,) = evaluation_batches(cuts_of(tone_corpus)[:4], config)
    spoken = spoken_of(model, batch, [([1, 2], 1.0)] * 4)
    first, *_, last = fit(model, [spoken], (0, 5, 10))
    for name, tensor in own_weights(model).items():
        assert torch.equal(first[name], tensor)
        assert not torch.equal(last[name], tensor)

    def loss(weights: dict[str, torch.Tensor]) -> float:
        with torch.no_grad(), adapted(model, weights):
            return float(text_loss(*model.encode(spoken.features, spoken.frames), spoken))

    assert loss(last) < loss(first)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    *_, again = fit(model, [spoken], (0, 5, 10))
    assert all(torch.equal(tensor, again[name]) for name, tensor in last.items())


def test_texts_without_tokens_or_weight_teach_nothing(tone_corpus: Path) -> None:
    config = config_of()
    model = model_of(config)
    (batch,) = evaluation_batches(cuts_of(tone_corpus)[:2], config)
    spoken = spoken_of(model, batch, [([1, 2], 0.0), ([], 1.0)])
    with torch.no_grad():
        assert float(text_loss(*model.encode(spoken.features, spoken.frames), spoken)) == 0.0


def test_one_speaker_changes_nothing_for_another_or_for_nobody(tone_corpus: Path, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", *DEEP)
    (batch,) = evaluation_batches(cuts_of(tone_corpus), config_of())
    plain, _ = Decoder.load(folder, accelerator="cpu").log_posteriors(batch)
    model = ModelBundle.load(folder).model
    save_speaker(folder, Speaker("anna", other_weights(model)), model)
    save_speaker(folder, Speaker("bert", own_weights(model)), model)
    nobody, anna, bert = (
        Decoder.load(folder, accelerator="cpu", speaker=name).log_posteriors(batch)[0]
        for name in (None, "anna", "bert")
    )
    assert torch.equal(nobody, plain)
    assert torch.equal(bert, plain)
    assert (anna - plain).abs().max() > 0.1
    alone = Decoder.load(folder, accelerator="cpu", speaker="anna").log_posteriors(batch.only(3))[0]
    torch.testing.assert_close(anna[3, : alone.shape[1]], alone[0], rtol=0, atol=1e-4)


def test_a_speaker_goes_with_a_decoder_to_another_process_and_into_an_export(tmp_path: Path, tone_corpus: Path) -> None:
    import pickle

    folder = saved(tmp_path / "model")
    model = ModelBundle.load(folder).model
    save_speaker(folder, Speaker("anna", other_weights(model)), model)
    (batch,) = evaluation_batches(cuts_of(tone_corpus)[:2], config_of())
    decoder = Decoder.load(folder, accelerator="cpu", speaker="anna")
    again = pickle.loads(pickle.dumps(decoder))
    assert torch.equal(again.log_posteriors(batch)[0], decoder.log_posteriors(batch)[0])
    asr.export(folder, tmp_path / "small", format="torch", int8=True)
    assert Decoder.load(tmp_path / "small", accelerator="cpu", speaker="anna").speaker.name == "anna"
    assert "`anna`" in (tmp_path / "small" / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def trained(tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapt") / "model"
    asr.train(load_config(None, [*TINY, *LEARNS_FAST, "training.epochs=5"]), tone_corpus, folder)
    return folder


def copy_of(folder: Path, to: Path) -> Path:
    bundle = ModelBundle.load(folder)
    bundle.save(to)
    return to


def test_transcripts_of_a_speaker_teach_the_model_and_its_file_is_chosen_by_name(
    trained: Path, tone_corpus: Path, tmp_path: Path, succeed: Callable[..., str]
) -> None:
    folder = copy_of(trained, tmp_path / "model")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "README.md"}
    report = asr.adapt(folder, tone_corpus / "train.jsonl.gz", "train-speaker-1", accelerator="cpu")
    assert (report.utterances, report.transcribed) == (24, 24)
    assert report.steps > 0
    assert report.loss[1] < report.loss[0]
    assert report.errors[1] <= report.errors[0]
    assert report.path == folder / "speakers" / "train-speaker-1.safetensors"
    assert {
        path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name in before
    } == before
    assert "`train-speaker-1`" in (folder / "README.md").read_text(encoding="utf-8")
    succeed(
        *("decode", folder, tone_corpus / "test.jsonl.gz", "--out", tmp_path / "decoded"),
        *("--speaker", "train-speaker-1", "--accelerator", "cpu"),
    )
    assert asr.load(folder, speaker="train-speaker-1").decoder.speaker is not None


def test_what_harms_held_out_utterances_is_not_kept(
    trained: Path, tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of(trained, tmp_path / "model")
    monkeypatch.setattr("asr.model.adaptation.SCALE_RATE", 30.0)
    monkeypatch.setattr("asr.model.adaptation.NORM_RATE", 10.0)
    report = asr.adapt(folder, tone_corpus / "dev.jsonl.gz", "dev-speaker-1", accelerator="cpu")
    assert (report.steps, report.path) == (0, None)
    assert report.loss[0] == report.loss[1]
    assert not (folder / "speakers").exists()


def test_of_steps_with_more_errors_none_is_taken_however_low_their_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    def count(decoder, part, score) -> None:
        number = next(numbers)
        score.loss += 5.0 - number
        score.errors += (0, 0, 1, 1, 1)[number]

    numbers = iter(range(5))
    monkeypatch.setattr(adapting, "_count", count)
    monkeypatch.setattr(adapting, "fit", lambda *_: ({} for _ in adapting.MARKS))
    part = type("P", (), {"spoken": [], "batches": [], "references": {}})()
    decoder = type("D", (), {"model": torch.nn.Identity()})()
    steps, scores = adapting._held_out(decoder, [part], asr.machine.silent)
    assert steps == adapting.MARKS[1]
    assert scores[steps].loss == 4.0


def test_without_transcripts_the_model_s_own_texts_are_taken_from_audio_too(
    trained: Path, tone_corpus: Path, tmp_path: Path
) -> None:
    folder = copy_of(trained, tmp_path / "model")
    data = tone_corpus / "dev.jsonl.gz"
    report = asr.adapt(folder, data, "dev-speaker-1", transcripts=False, accelerator="cpu")
    assert (report.utterances, report.transcribed, report.reference_length) == (3, 0, 0)
    assert report.loss[1] <= report.loss[0]


def test_of_a_manifest_only_the_speaker_s_utterances_are_taken(
    trained: Path, tone_corpus: Path, tmp_path: Path
) -> None:
    with pytest.raises(ManifestError, match=r"no speaker 'anna', but others: dev-speaker-0"):
        asr.adapt(trained, tone_corpus / "dev.jsonl.gz", "anna", accelerator="cpu")
    (one,) = [cut for cut in load_manifest(tone_corpus / "dev.jsonl.gz") if cut.id == "dev-001"]
    write_manifest([one], tmp_path / "one.jsonl.gz")
    with pytest.raises(ManifestError, match="at least 2 are needed"):
        asr.adapt(trained, tmp_path / "one.jsonl.gz", "dev-speaker-1", accelerator="cpu")


def test_a_model_that_normalises_by_the_speaker_learns_his_moments_and_then_hears_his_stream(
    tone_corpus: Path, tmp_path: Path
) -> None:
    from asr.corpus.cut_audio import load_cut
    from asr.model.speaker_moments import speaker_moments

    folder = saved(tmp_path / "model", "features.cmvn=speaker")
    cuts = cuts_of(tone_corpus, "dev")
    report = asr.adapt(folder, tone_corpus / "dev.jsonl.gz", "dev-speaker-1", accelerator="cpu")
    assert report.path is not None
    recognizer = asr.load(folder, speaker="dev-speaker-1", accelerator="cpu")
    (cut, *_) = [cut for cut in cuts if cut.supervisions[0].speaker == "dev-speaker-1"]
    expected = speaker_moments(cuts, config_of("features.cmvn=speaker"))(cut, 1.0)
    assert torch.equal(recognizer.decoder.speaker.moments, expected)
    list(recognizer.stream([load_cut(cut)], sample_rate_hz=16000))


def test_a_transcript_made_for_another_speaker_is_made_anew(trained: Path, tone_corpus: Path, tmp_path: Path) -> None:
    folder = copy_of(trained, tmp_path / "model")
    model = ModelBundle.load(folder).model
    soundfile.write(tmp_path / "a.wav", np.zeros(1600, np.float32), 16000)

    def done(speaker: str | None) -> int:
        return asr.transcribe_files(
            folder, tmp_path / "a.wav", out=tmp_path / "out", speaker=speaker, accelerator="cpu", segment="none"
        ).done

    save_speaker(folder, Speaker("anna", own_weights(model)), model)
    assert [done(None), done(None), done("anna"), done("anna")] == [1, 0, 1, 0]
    save_speaker(folder, Speaker("anna", other_weights(model)), model)
    assert done("anna") == 1
