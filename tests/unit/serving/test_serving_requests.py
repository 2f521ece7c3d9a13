"""The server as programs see it: OpenAI's client and plain requests against a port."""

from __future__ import annotations

import asyncio
import json

import httpx
import openai
import pytest
import torch

import asr
import asr.runtime
from asr.serving.app import Service
from asr.serving.worker import Served
from tests.unit.serving.running_server import running

URL = "/v1/audio/transcriptions"
GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(api_key="any", base_url=f"{server.url}/v1", max_retries=0)


@pytest.fixture(scope="module")
def expected(exported, recordings):
    recognizer = asr.runtime.load(exported)
    found = [recognizer.transcribe(path) for path in recordings]
    assert any(transcript.words for transcript in found)
    return found


def words_of(transcript):
    return [(w.text, round(w.start_s, 3), round(w.end_s, 3), round(w.confidence, 4)) for w in transcript.words]


def words_in(answer):
    return [(word["word"], word["start"], word["end"], word["confidence"]) for word in answer["words"]]


def test_openais_client_gets_the_transcript_of_the_runtime(client, recordings, expected):
    for path, transcript in zip(recordings, expected, strict=True):
        with path.open("rb") as file:
            answer = client.audio.transcriptions.create(
                model="exported", file=file, response_format="verbose_json", timestamp_granularities=["word", "segment"]
            )
        assert (answer.text, answer.duration) == (transcript.text, pytest.approx(transcript.duration_s, abs=1e-3))
        assert words_in(answer.to_dict()) == words_of(transcript)
        assert " ".join(segment.text for segment in answer.segments) == transcript.text


def test_a_trained_folder_gives_what_asr_transcribe_gives(client, recordings, model):
    recognizer = asr.load(model, accelerator="cpu")
    for path in recordings:
        with path.open("rb") as file:
            answer = client.audio.transcriptions.create(model="trained", file=file, response_format="verbose_json")
        assert words_in(answer.to_dict()) == words_of(recognizer.transcribe(path))


def test_many_requests_at_once_get_each_its_own_transcript(server, recordings, expected):
    async def all_of_them():
        async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:
            return await asyncio.gather(
                *(
                    client.post(URL, files={"file": path.read_bytes()}, data={"response_format": "verbose_json"})
                    for path in recordings * 6
                )
            )

    answers = asyncio.run(all_of_them())
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    assert [words_in(answer.json()) for answer in answers] == [words_of(transcript) for transcript in expected] * 6


@pytest.mark.parametrize("accelerator", ["cpu", pytest.param("cuda", marks=GPU)])
def test_files_that_the_network_computes_together_get_each_its_own_transcript(model, recordings, accelerator):
    recognizer = asr.load(model, accelerator=accelerator)
    expected = [recognizer.transcribe(path) for path in recordings]

    async def all_of_them(url):
        form = {"response_format": "verbose_json"}
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            files = [{"file": path.read_bytes()} for path in recordings * 3]
            return await asyncio.gather(*(client.post(URL, files=file, data=form) for file in files))

    with running(Service((Served("m", str(model)),), accelerator=accelerator, at_once=4)) as server:
        answers = asyncio.run(all_of_them(server.url))
    for answer, transcript in zip(answers, expected * 3, strict=True):
        found, same = words_in(answer.json()), words_of(transcript)
        assert [word[:3] for word in found] == [word[:3] for word in same]
        # Of passes with other neighbours the last digits of float32 differ.
        assert [word[3] for word in found] == pytest.approx([word[3] for word in same], abs=2e-4)


def test_texts_and_subtitles_are_those_of_the_transcript(client, recordings, expected):
    for form, text in (("text", expected[3].to_txt()), ("srt", expected[3].to_srt()), ("vtt", expected[3].to_vtt())):
        with recordings[3].open("rb") as file:
            assert client.audio.transcriptions.create(model="exported", file=file, response_format=form) == text


def test_a_prompt_is_a_list_of_hotwords_and_those_that_cannot_be_written_are_named(client, exported, recordings):
    transcript = asr.runtime.load(exported).transcribe(recordings[1], hotwords=["abba", "cd ab"])
    with recordings[1].open("rb") as file:
        answer = client.audio.transcriptions.create(model="exported", file=file, prompt="abba, cd ab\nzoe")
    assert answer.text == transcript.text
    (warning,) = answer.to_dict()["warnings"]
    assert "'zoe'" in warning
    with recordings[1].open("rb") as file:
        raw = client.audio.transcriptions.with_raw_response.create(
            model="exported", file=file, prompt="abba, cd ab\nzoé", response_format="text"
        )
    assert (raw.text.strip(), "zo\\xe9" in raw.headers["x-warnings"]) == (transcript.text, True)


def test_the_models_are_listed_and_an_unknown_one_is_not_found(client, recordings):
    assert [model.id for model in client.models.list()] == ["exported", "trained"]
    assert client.models.retrieve("trained").id == "trained"
    with (
        recordings[0].open("rb") as file,
        pytest.raises(openai.NotFoundError, match="there are: exported, trained") as error,
    ):
        client.audio.transcriptions.create(model="whisper-1", file=file)
    assert (error.value.code, error.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"response_format": "yaml"}, "not one of json, text, srt, verbose_json, vtt"),
        ({"temperature": "3"}, "not a number from 0 to 1"),
        ({"stream": "true"}, "not sent in parts"),
        ({"include[]": "logprobs"}, "no log-probabilities"),
        ({"colour": "red"}, "unknown"),
        ({"timestamp_granularities[]": "word"}, "verbose_json"),
        ({"prompt": ",".join(map(str, range(2000)))}, "the most are 1000"),
    ],
)
def test_a_field_that_cannot_be_used_is_refused_by_name(server, recordings, fields, sentence):
    answer = httpx.post(server.url + URL, files={"file": recordings[0].read_bytes()}, data=fields)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["param"] == next(iter(fields)).removesuffix("[]")
    assert sentence in error["message"]


def test_damaged_audio_is_refused_with_the_name_that_the_sender_gave(client, server):
    for name in ("call.wav", "../../etc/passwd.wav", "C:\\secret\\call.wav"):
        with pytest.raises(openai.BadRequestError) as error:
            client.audio.transcriptions.create(model="exported", file=(name, b"RIFF no audio"))
        assert error.value.code == "invalid_audio"
        message = error.value.body["message"]
        assert message.startswith(name.replace("\\", "/").rsplit("/", 1)[-1])
        assert str(server.desk.folder) not in message
        assert "upload-" not in message


def test_nothing_is_left_of_uploads(server):
    assert list(server.desk.folder.iterdir()) == []


def test_health_and_metrics_say_what_happens(server, recordings):
    answer = httpx.get(f"{server.url}/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")
    httpx.post(server.url + URL, files={"file": recordings[0].read_bytes()}).raise_for_status()
    figures = httpx.get(f"{server.url}/metrics").text
    assert 'asr_requests_total{path="/v1/audio/transcriptions",status="200"}' in figures
    assert 'asr_audio_seconds_total{model="exported"}' in figures
    assert "asr_workers_ready 2.0" in figures


def test_errors_of_addresses_have_openais_form(server):
    for method, path, status in (("GET", URL, 405), ("POST", "/v1/audio/translations", 404)):
        answer = httpx.request(method, server.url + path)
        assert (answer.status_code, answer.json()["error"]["type"]) == (status, "invalid_request_error")


def test_other_sites_and_other_names_are_refused(server):
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
        answer = httpx.get(f"{server.url}/v1/models", headers=headers)
        assert answer.status_code == 403
        assert json.loads(answer.text)["error"]["message"]
