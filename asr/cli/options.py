"""Options that several commands share, so that they are named, explained and read alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

ConfigFile = Annotated[Path | None, typer.Option("--config", help="Settings file; the defaults without it.")]
ConfigSet = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting, e.g. model.hidden_size=320; repeatable."),
]
Accelerator = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto takes a GPU if there is one.")]
Method = Annotated[Literal["greedy", "beam"] | None, typer.Option(help="By default beam if the model has an LM.")]
Hotword = Annotated[
    list[str] | None,
    typer.Option(
        "--hotword",
        metavar="PHRASE[=BONUS]",
        help="A word or phrase that is expected, with the bonus of its occurrence; repeatable.",
    ),
]
DecodeSet = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting of the search, e.g. beam_size=50 or decode.lm=words, see asr settings; repeatable.",
    ),
]


def hotword_bonuses(given: Sequence[str] | None) -> dict[str, float]:
    """Return the bonus of each phrase of `--hotword` options; the last one of a phrase holds.

    Raises:
        BadParameter: what stands after the `=` is no number.
    """
    from asr.decoding.hotwords import DEFAULT_BONUS

    bonuses = {}
    for item in given or ():
        phrase, separator, bonus = item.partition("=")
        try:
            bonuses[phrase] = float(bonus) if separator else DEFAULT_BONUS
        except ValueError:
            raise typer.BadParameter(f"{item!r}: {bonus!r} is not a number", param_hint="--hotword") from None
    return bonuses


def decode_settings(overrides: Sequence[str] | None) -> dict[str, Any]:
    """Return what `--set` options say of the search's settings, for `asr.load`.

    Raises:
        ConfigError: an override is malformed.
    """
    from asr.config import DecodeSettings
    from asr.settings_file import apply_overrides

    settings: dict[str, Any] = {}
    apply_overrides(settings, overrides or (), DecodeSettings, section="decode")
    return settings
