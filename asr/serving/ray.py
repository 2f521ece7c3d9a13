"""The server as an application of Ray Serve: replicas on the machines of a cluster, behind Ray's own balancer.

    ASR_MODELS="exp/mine-onnx other=exp/other-onnx" serve run asr.serving.ray:app

Each replica is a server of its own, with worker processes. It reads its environment: `ASR_MODELS`, separated by spaces
as in a shell; `ASR_TOKEN`; `ASR_JOBS`, the number of its worker processes, 1 by default. Folders must exist on every
machine, under the same path. Without a token, only programs on the machine of Ray's proxy may ask.

Source: https://docs.ray.io/en/latest/serve/http-guide.html.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from asr.errors import ConfigError, DependencyError
from asr.serving.app import Service
from asr.serving.app import app as application
from asr.serving.serve import named_models, read_token

if TYPE_CHECKING:
    from starlette.applications import Starlette

try:
    from ray import serve
except ImportError:
    raise DependencyError("a cluster needs Ray Serve: pip install 'ray[serve]'") from None


def service_of(environment: Mapping[str, str]) -> Service:
    """Return what environment variables say is to be served.

    Raises:
        ConfigError: one is missing, or has a value that it cannot have.
        ModelError: a model folder does not exist on this machine.
    """
    models = shlex.split(environment.get("ASR_MODELS", ""))
    if not models:
        raise ConfigError("ASR_MODELS is empty; set it to model folders, e.g. ASR_MODELS=exp/mine-onnx")
    jobs = environment.get("ASR_JOBS", "1")
    if not jobs.isdecimal() or int(jobs) < 1:
        raise ConfigError(f"ASR_JOBS is {jobs}, not a number of worker processes from 1 on")
    return Service(tuple(named_models(models)), int(jobs), token=read_token(None, environment))


def replica() -> Starlette:
    """Return the application of one replica, in its process."""
    return application(service_of(os.environ))


class Server:
    """A replica; all that it does is in the application."""


# More requests than a server takes would wait where it cannot count them.
app = serve.deployment(max_ongoing_requests=2 * Service(()).limits.requests)(serve.ingress(replica)(Server)).bind()
