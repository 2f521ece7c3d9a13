"""`asr serve`: models → a server for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import Accelerator, Grammar


def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL",
            help="Folders that asr export or asr train wrote, or NAME=DIR. Requests that name no model get the first.",
        ),
    ],
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen at. Others than this machine's need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="Port to listen at; 0: a free one.")] = 8000,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File with a token, which requests must have. Default: the environment variable ASR_TOKEN.",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Number of worker processes. Default: one a core; on a GPU one."),
    ] = None,
    upload_mb: Annotated[float, typer.Option(metavar="MB", help="Largest upload, in millions of bytes.")] = 100.0,
    upload_s: Annotated[float, typer.Option(metavar="S", help="Longest time for an upload, in seconds.")] = 300.0,
    audio_s: Annotated[float, typer.Option(metavar="S", help="Longest recording, in seconds.")] = 3600.0,
    answer_s: Annotated[
        float, typer.Option(metavar="S", help="Longest time from the end of the upload to the answer, in seconds.")
    ] = 600.0,
    requests: Annotated[
        int, typer.Option(metavar="N", min=1, help="Most requests at once, those that wait included.")
    ] = 100,
    streams: Annotated[int, typer.Option(metavar="N", min=1, help="Most streams at once.")] = 20,
    accelerator: Accelerator = "auto",
    grammar: Grammar = None,
    log_text: Annotated[bool, typer.Option("--log-text", help="Log transcripts too.")] = False,
) -> None:
    """Serve models to other programs, as OpenAI serves its own.

    POST /v1/audio/transcriptions takes a recording and returns its transcript: as json, verbose_json with words and
    segments, text, srt or vtt. The prompt is a list of expected words. curl and the package openai use it unchanged.

    /v1/stream is a WebSocket for audio that is still arriving. / is a page for files and the microphone.

    Exported models run without torch. Each worker process loads all models and transcribes one file at a time; on a
    GPU it computes several together. The transcript is the one of asr transcribe, whatever else is asked for at the
    same time. Those who ask are served in turn, told apart by their addresses.

    Each request is a line of JSON on stderr. GET /health says whether the server is ready, GET /metrics has figures for
    Prometheus. SIGTERM and Ctrl-C let running requests end first.
    """
    import asr
    from asr.cli.console import out as console
    from asr.serving.serve import read_token

    limits = asr.ServeLimits(upload_mb, upload_s, audio_s, answer_s, requests, streams)
    asr.serve(
        models,
        host=host,
        port=port,
        token=read_token(token_file),
        jobs=jobs,
        limits=limits,
        accelerator=accelerator,
        grammar=grammar,
        log_text=log_text,
        on_ready=lambda url: console.print(f"serves at {url}; Ctrl-C ends"),
    )
