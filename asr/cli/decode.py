"""`asr decode`: a manifest → a decode folder. `asr score`: that folder → error rates, on the screen and as reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from asr.cli.options import Accelerator, DecodeSet, Hotword, Method, Speaker
from asr.reading import counted


def decode(
    models: Annotated[
        list[Path],
        typer.Argument(metavar="MODEL", help="A model folder, or several that work as one."),
    ],
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="A manifest, e.g. data/an4/test.jsonl.gz.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The decode folder to write, e.g. exp/an4/decode_test.")],
    method: Method = None,
    hotword: Hotword = None,
    overrides: DecodeSet = None,
    speaker: Speaker = None,
    adapt: Annotated[
        Literal["speaker", "recording"] | None,
        typer.Option(
            help="Fit the network to each speaker's utterances first, or to each utterance, and forget it afterwards. "
            "Takes some 30 times as long as the network alone."
        ),
    ] = None,
    accelerator: Accelerator = "auto",
) -> None:
    """Recognise the utterances of a manifest.

    asr score then counts the errors.

    Of several models each searches by itself. Their n-best lists are joined, and the text with the fewest expected word
    errors is taken.

    --set lm=words searches with a word n-gram, whose words are the lexicon. --set rescore_weight=0.3 lets a recurrent
    language model rank the hypotheses. asr lm writes both models into the model folder.
    """
    import asr
    from asr.cli.console import progress
    from asr.cli.options import decode_settings, hotword_bonuses

    report = asr.decode(
        models,
        manifest,
        out,
        method=method,
        hotwords=hotword_bonuses(hotword),
        decode=decode_settings(overrides),
        speaker=speaker,
        adapt=adapt,
        accelerator=accelerator,
        progress=progress,
    )
    typer.echo(
        f"{out}: {counted(report.utterances, 'utterance')}, {report.audio_s / 60:.1f} min of audio, "
        f"{report.method} search, {report.seconds:.1f} s, RTF {report.rtf:.4f}"
    )


def score(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A decode folder, as `asr decode` writes it.")],
    against: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Another system's decode folder of the same utterances, to compare with."),
    ] = None,
) -> None:
    """Count the errors of a decode folder: WER and CER.

    Both have 95 % intervals. wer.txt lists each utterance's errors. report.html shows them too, and whether the
    confidences can be trusted. If the decode folder is in a model folder, the rates also go into the model card there.
    """
    import asr
    from asr.bundle.files import SCORES_PAGE, SCORES_TEXT
    from asr.files import printable
    from asr.scoring.report import render_comparison, summary

    scored = asr.score(folder, against=against)
    name = printable(scored.folder)
    typer.echo(f"{name}\n{summary(scored.figures)}")
    if against is not None and scored.other is not None and scored.difference is not None:
        typer.echo(f"\n{printable(against)}\n{summary(scored.other)}")
        typer.echo(f"\n{render_comparison(scored.difference, str(scored.folder))}")
    typer.echo(f"\ndetails   {name}: {SCORES_TEXT}, {SCORES_PAGE}")
