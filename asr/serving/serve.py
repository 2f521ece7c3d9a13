"""`asr.serve`: models → a server for other programs, until it is asked to stop."""

from __future__ import annotations

import ipaddress
import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from asr.decoding.folder_scorers import grammar_threshold
from asr.errors import AsrError, ConfigError, DependencyError, ModelError, explained
from asr.lm.grammar import GrammarSource, load_grammar
from asr.machine import Accelerator, cores
from asr.reading import counted
from asr.serving.app import Service, app
from asr.serving.connection import MOST_MESSAGE_BYTES
from asr.serving.upload import ServeLimits
from asr.serving.worker import Served, is_exported
from asr.sharing.names import is_model_name, model_folder

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

TOKEN_VARIABLE = "ASR_TOKEN"
LOOPBACK = "127.0.0.1"
PORT = 8000
_LIMITS = ServeLimits()
_LEAST_TOKEN = 16  # characters
_MORE_CONNECTIONS = 400  # than there may be requests
_AT_ONCE_ON_GPU = 16  # files, whose segments go through the network together
_NAME = re.compile(r"[\w.-]+")


def serve(
    models: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    host: str = LOOPBACK,
    port: int = PORT,
    token: str | None = None,
    jobs: int | None = None,
    limits: ServeLimits = _LIMITS,
    accelerator: Accelerator = "auto",
    grammar: GrammarSource | None = None,
    log_text: bool = False,
    on_ready: Callable[[str], object] = lambda url: None,
) -> None:
    """Serve models to other programs until SIGTERM or Ctrl-C; running requests are ended first.

    Programs send recordings as they send them to OpenAI: `POST /v1/audio/transcriptions`. `docs/serving.md` describes
    all requests and answers. Each request is logged to stderr as a line of JSON.

    Worker processes transcribe, each with its own copy of all models. In a script, call this below
    `if __name__ == "__main__":`, because each worker imports the script.

    Args:
        models: folders that `asr export` or `asr train` wrote, or `NAME=FOLDER`. A model's name is by default that of
            its folder. Requests that name none get the first.
        host: address to listen at; by default only this machine can ask.
        port: to listen at; 0 takes a free one.
        token: which requests must have in the header `Authorization: Bearer TOKEN`. At an address that other machines
            can reach, there must be one.
        jobs: number of worker processes; None: one for each core, or one if a model runs on a GPU.
        limits: of requests.
        accelerator: for models that run with torch; auto takes a GPU if there is one. Exported ones run on the CPU.
        grammar: what may be said, as for `Recognizer.transcribe`; it holds for all models and for streams. Other speech
            gives no text.
        log_text: whether the log has the transcripts.
        on_ready: is called with the server's address, once all workers have loaded the models.

    Raises:
        AsrError: the address cannot be used, or the workers die while they load the models.
        ConfigError: an argument has a value that it cannot have, or a token is needed.
        DependencyError: a package of the extra `serve` is not installed.
        LanguageModelError, TokenError: the grammar cannot be used.
        ModelError: a model cannot be used.
    """
    _require_token(host, token)
    served = tuple(named_models(models, grammar))
    if jobs is not None and jobs < 1:
        raise ConfigError(f"jobs={jobs}: at least 1 worker process is needed")
    on_gpu = _is_on_gpu(served, accelerator)
    service = Service(
        served,
        jobs or (1 if on_gpu else cores()),
        limits,
        token,
        accelerator,
        log_text,
        at_once=_AT_ONCE_ON_GPU if on_gpu else 1,
    )
    failures: list[AsrError] = []

    def stop(error: AsrError) -> None:
        failures.append(error)
        server.should_exit = True

    with listening(host, port) as taken:
        address = f"http://{_in_url(host)}:{taken.getsockname()[1]}/"
        server = uvicorn_server(app(service, stop, lambda: on_ready(address)), limits)
        with _signals_end_the_server(), _threads_heard_soon():
            server.run(sockets=[taken])
    if failures:
        raise failures[0]


def named_models(
    models: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], grammar: GrammarSource | None = None
) -> Iterator[Served]:
    """Yield models by name: of folders, and of `NAME=FOLDER`; a warning says if one has no threshold for the grammar.

    Raises:
        ConfigError: there is none, or two have the same name.
        LanguageModelError: the grammar cannot be used.
        ModelError: a folder does not exist.
    """
    loaded = None if grammar is None else load_grammar(grammar)
    names: dict[str, str] = {}
    for given in [models] if isinstance(models, (str, os.PathLike)) else models:
        text = os.fspath(given)
        name, separator, folder = text.partition("=")
        if not separator or not _NAME.fullmatch(name) or os.path.exists(text):
            name, folder = os.path.basename(os.path.abspath(text)), text
        if not is_model_name(folder):
            raise ModelError(f"{folder}: there is no such model folder; `asr export` and `asr train` write one")
        if name in names:
            raise ConfigError(f"two models have the name {name}: {names[name]} and {folder}; name one with NAME=FOLDER")
        names[name] = folder
        if loaded is not None:
            grammar_threshold(model_folder(folder), loaded)
        yield Served(name, folder, loaded)
    if not names:
        raise ConfigError("there is no model to serve; name a model folder")


def _is_on_gpu(models: Sequence[Served], accelerator: Accelerator) -> bool:
    """Return whether a model runs on a GPU, which several workers would share."""
    if accelerator == "cpu" or all(is_exported(model.folder) for model in models):
        return False
    from asr.machine import choose_accelerator

    return choose_accelerator(accelerator) == "cuda"


def read_token(file: str | os.PathLike[str] | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the token in a file's first line, else that of the environment variable `ASR_TOKEN`; None without either.

    A token on the command line could be read by everyone who can list this machine's processes.

    Raises:
        ConfigError: the file cannot be read, or the token is not one.
    """
    given = environment.get(TOKEN_VARIABLE)
    if file is not None:
        try:
            given = Path(file).read_text(encoding="utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: {explained(error) if isinstance(error, OSError) else 'not text'}") from None
    if given is not None:
        _require_usable(given)
    return given


def _require_usable(token: str) -> None:
    if not re.fullmatch(r"[\w.~+/=-]+", token, re.ASCII) or len(token) < _LEAST_TOKEN:
        raise ConfigError(
            f"the token is not {counted(_LEAST_TOKEN, 'letter')} or digits at least; "
            'python -c "import secrets; print(secrets.token_urlsafe(32))" makes one'
        )


def _require_token(host: str, token: str | None) -> None:
    """Refuse to let other machines ask without a token.

    Raises:
        ConfigError: there is none, or it is not one.
    """
    if token is not None:
        _require_usable(token)
    elif not _is_loopback(host):
        raise ConfigError(
            f"host {host}: other machines can reach this address, so a token is needed; name a file with one with "
            f"--token-file, or set {TOKEN_VARIABLE}. Without --host, only this machine can ask"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket that is bound to an address.

    Raises:
        AsrError: the address cannot be used.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as listening:
            if os.name == "posix":  # on Windows it would let two servers listen at one port
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen()
            yield listening
    except OSError as error:
        raise AsrError(f"{host}:{port} cannot be listened at ({error.strerror}); choose another --port") from None


def uvicorn_server(application: ASGIApp, limits: ServeLimits) -> uvicorn.Server:
    """Return a server of an application, not started yet.

    Raises:
        DependencyError: uvicorn is not installed.
    """
    try:
        import uvicorn

        from asr.serving.protocol import protocol
    except ImportError:
        raise DependencyError("the server needs the package uvicorn: pip install 'asr[serve]'") from None
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # a damaged form is logged as JSON
    return uvicorn.Server(
        uvicorn.Config(
            application,
            http=protocol(),
            ws_max_size=MOST_MESSAGE_BYTES,
            ws_per_message_deflate=False,  # audio is hardly smaller for it; a bomb would grow
            log_level="critical",  # what is to be known of a request is logged as JSON
            access_log=False,
            server_header=False,
            proxy_headers=True,  # of proxies at 127.0.0.1, or at the addresses of the variable FORWARDED_ALLOW_IPS
            limit_concurrency=limits.requests + _MORE_CONNECTIONS,
            timeout_graceful_shutdown=round(limits.answer_s) + 1,
            lifespan="on",
        )
    )


@contextmanager
def _threads_heard_soon() -> Iterator[None]:
    """Let a thread with a worker's answer be heard within half a millisecond while the event loop computes, not five.

    A worker is idle until then.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def _signals_end_the_server() -> Iterator[None]:
    """Let SIGTERM and SIGINT do no more than end the server, which uvicorn sees to and then raises them again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
