"""`asr decode`: a manifest → references and hypotheses, which `asr score` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import Accelerator, DecodeSet, Hotword, Method


def decode(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, e.g. exp/an4.")],
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="A manifest, e.g. data/an4/test.jsonl.gz.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The decode folder to write, e.g. exp/an4/decode_test.")],
    method: Method = None,
    hotword: Hotword = None,
    overrides: DecodeSet = None,
    accelerator: Accelerator = "auto",
) -> None:
    """Recognise the utterances of a manifest.

    asr score then counts the errors.

    --set lm=words searches with a word n-gram, whose words are the lexicon. --set rescore_weight=0.3 lets a recurrent
    language model rank the hypotheses. asr lm writes both models into the model folder.
    """
    import asr
    from asr.cli.console import progress
    from asr.cli.options import decode_settings, hotword_bonuses

    report = asr.decode(
        model,
        manifest,
        out,
        method=method,
        hotwords=hotword_bonuses(hotword),
        decode=decode_settings(overrides),
        accelerator=accelerator,
        progress=progress,
    )
    typer.echo(
        f"{out}: {report.utterances} utterances, {report.audio_s / 60:.1f} min of audio, "
        f"{report.method} search, {report.seconds:.1f} s, RTF {report.rtf:.4f}"
    )
