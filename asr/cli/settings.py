"""`asr settings`: every setting, with what it does and which values it takes."""

from __future__ import annotations

import typer

from asr.cli.options import ConfigFile, ConfigSet


def settings(
    config: ConfigFile = None,
    overrides: ConfigSet = None,
) -> None:
    """Print every setting and what it means.

    Each has its range of values. The page is a settings file: asr settings > conf/mine.yaml writes one to start from,
    which asr train --config reads.

    --set of asr train takes a setting with its section: model.layers=4. --set of asr decode, transcribe and tune takes
    those of the section decode, --set of asr lm rnn those of the section rnnlm, with or without the section:
    lm_weight=0.5 or decode.lm_weight=0.5.
    """
    from asr.settings_file import describe, load_config

    for line in describe(load_config(config, overrides or ())):
        typer.echo(line)
