"""`asr decode`: a manifest → references and hypotheses, ready to be scored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import Accelerator, DecodeSet, Hotword, Method


def decode(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, e.g. exp/an4.")],
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="A manifest, e.g. data/an4/test.jsonl.gz.")],
    out: Annotated[Path, typer.Option(help="The decode folder to write, e.g. exp/an4/decode_test.")],
    method: Method = None,
    hotword: Hotword = None,
    overrides: DecodeSet = None,
    accelerator: Accelerator = "auto",
) -> None:
    """Recognise a manifest's utterances; `asr score` then counts the errors.

    --set lm=words searches through the lexicon of a word n-gram, --set rescore_weight=0.3 ranks what the search finds
    by a recurrent language model; `asr lm` writes both into the model folder.
    """
    import time

    import asr
    from asr.cli.console import progress
    from asr.cli.options import decode_settings, hotword_bonuses
    from asr.corpus.manifest import load_manifest
    from asr.inference.decode_corpus import decode_cuts, write_decode_folder, write_run
    from asr.inference.decoder import Search
    from asr.scoring.decode_folder import check_ids

    cuts = load_manifest(manifest)
    check_ids([cut.id for cut in cuts], out)  # and that there is room for the result, before the work and not after it
    out.mkdir(parents=True, exist_ok=True)
    decoder = asr.load(model, accelerator=accelerator, decode=decode_settings(overrides)).decoder
    search = Search(method, hotword_bonuses(hotword))
    method = decoder.method_of(search)
    began = time.perf_counter()
    utterances = []
    with progress("decode", len(cuts)) as advance:
        for utterance in decode_cuts(decoder, cuts, search):
            utterances.append(utterance)
            advance(1)
    seconds, audio_s = time.perf_counter() - began, sum(cut.duration for cut in cuts)
    write_decode_folder(out, utterances, decoder)
    write_run(out, manifest, method, audio_s, seconds)
    typer.echo(
        f"{out}: {len(utterances)} utterances, {audio_s / 60:.1f} min of audio, "
        f"{method} search, {seconds:.1f} s, RTF {seconds / audio_s:.4f}"
    )
