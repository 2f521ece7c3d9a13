"""`asr settings`: every setting with its range and meaning, as a settings file."""

from __future__ import annotations

import typer

from asr.cli.options import ConfigFile, ConfigSet
from asr.settings_file import describe


def settings(
    config: ConfigFile = None,
    overrides: ConfigSet = None,
) -> None:
    """Print every setting, with its range and what it means.

    What is printed is a settings file: asr settings > conf/mine.yaml is one to begin with.
    """
    from asr.settings_file import load_config

    for line in describe(load_config(config, overrides or ())):
        typer.echo(line)
