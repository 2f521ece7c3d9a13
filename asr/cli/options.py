"""Options that several commands share, with the same names and the same help."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings file; without it, the defaults.")
]
ConfigSet = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting, e.g. model.layers=4, see asr settings; repeatable."),
]
CorpusDir = Annotated[
    Path | None,
    typer.Option(
        "--corpus-dir",
        metavar="DIR",
        help="Folder of the published corpus. Default: $ASR_CORPORA/RECIPE, else corpora/RECIPE beside the manifests.",
    ),
]
Part = Annotated[
    str, typer.Option("--part", metavar="PART", help="Part of the corpus, if the recipe has parts, e.g. 100.")
]
Language = Annotated[
    str, typer.Option("--language", metavar="CODE", help="Language, if the recipe has several, e.g. de.")
]
Download = Annotated[
    bool, typer.Option("--download", help="Download what the corpus folder lacks; goes on after an interruption.")
]
Mirror = Annotated[
    str | None,
    typer.Option("--mirror", metavar="URL", help="Download from this folder, which has files of the same names."),
]
Accelerator = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="Device to compute on; auto takes a GPU if there is one.")
]
Speaker = Annotated[
    str | None,
    typer.Option("--speaker", metavar="NAME", help="Fit the model to this speaker, as asr adapt has prepared it."),
]
Method = Annotated[
    Literal["greedy", "beam"] | None,
    typer.Option(help="Kind of search. Default: beam if the model has a language model."),
]
Hotword = Annotated[
    list[str] | None,
    typer.Option(
        "--hotword",
        metavar="PHRASE[=BONUS]",
        help="An expected word or phrase, and the bonus for each time it occurs; repeatable.",
    ),
]
Grammar = Annotated[
    Path | None,
    typer.Option(
        "--grammar",
        metavar="FILE",
        help="What may be said: phrases, one a line, or JSGF. Other speech gives no text, see asr tune --grammar.",
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
    """Return the bonus of each phrase in `--hotword` options; if a phrase is given twice, the last one holds.

    Raises:
        BadParameter: the text after the `=` is not a number.
    """
    from asr.decoding.hotwords import parse_hotwords
    from asr.errors import ConfigError

    try:
        return parse_hotwords(given or ())
    except ConfigError as error:
        raise typer.BadParameter(str(error), param_hint="--hotword") from None


def decode_settings(overrides: Sequence[str] | None) -> dict[str, Any]:
    """Return the settings of the search in `--set` options, as `asr.load` takes them.

    Raises:
        ConfigError: an override is malformed.
    """
    from asr.search_config import DecodeSettings
    from asr.settings_file import apply_overrides

    settings: dict[str, Any] = {}
    apply_overrides(settings, overrides or (), DecodeSettings, section="decode")
    return settings
