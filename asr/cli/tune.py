"""`asr tune`: the beam search's settings and the confidences' calibration, found on dev, into the model folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import Accelerator

if TYPE_CHECKING:
    from asr.config import DecodeSettings


def tune(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder with a language model.")],
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="The dev manifest, e.g. data/an4/dev.jsonl.gz.")],
    jobs: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="So many processes search. Default: one a core, fewer for little audio."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Another setting of the search, e.g. lm=words; repeatable."),
    ] = None,
    accelerator: Accelerator = "auto",
) -> None:
    """Choose the language model's weight, the insertion bonus and the beam size by the word errors on dev.

    Of weights with so few errors that chance cannot tell them apart, the most usual are taken. If --set or the model
    folder's decoder.yaml gives rnn_weight, rescore_weight or, with lm=words, oov_penalty a value, it is chosen as well,
    starting from there.

    The words' confidences are then calibrated on the same data. What was tried stands in tune.json and tune.png; what
    was chosen, with what --set says, becomes the model folder's decoder.yaml.
    """
    import json

    import asr
    from asr.bundle.files import CALIBRATION, DECODER, TUNE_PLOT, TUNE_TRIALS
    from asr.bundle.settings import save_calibration, save_decoder
    from asr.cli.console import progress
    from asr.cli.options import decode_settings
    from asr.corpus.manifest import load_manifest
    from asr.errors import ModelError, ScoringError
    from asr.files import write_text
    from asr.scoring.calibration import score_calibration
    from asr.tuning.dev_search import DevSearch, require_language_models, run_network, usual_jobs
    from asr.tuning.plot import draw_tuning
    from asr.tuning.tune import CHOSEN, WEIGHTS_BEAM_SIZE, fit_calibration, tune

    given = decode_settings(overrides)
    if chosen := [name for name in CHOSEN if name in given]:
        raise typer.BadParameter(f"{', '.join(chosen)}: that is what `asr tune` chooses", param_hint="--set")
    decoder = asr.load(model, accelerator=accelerator, decode=given).decoder
    if decoder.bundle.config.decode.lm == "tokens" and decoder.bundle.lm_path is None:
        raise ModelError(f"{model}: no language model to weigh; `asr lm ngram TEXT --model {model}` estimates one")
    require_language_models(decoder)
    cuts = load_manifest(manifest)
    batches = []
    with progress("log-posteriors", len(cuts)) as advance:
        for batch in run_network(decoder, cuts):
            batches.append(batch)
            advance(len(batch.references))
    words = sum(len(reference.split()) for batch in batches for reference in batch.references)
    if not words:
        raise ScoringError(f"{manifest}: no transcript holds a word, so there are no errors to choose by")
    jobs = jobs or usual_jobs(decoder, sum(cut.duration for cut in cuts))
    with DevSearch(decoder, batches, jobs) as dev:

        def count_errors(what: str, settings: Sequence[DecodeSettings]) -> list[int]:
            with progress(what, len(settings) * len(batches)) as advance:
                return dev.count_errors(settings, advance)

        result = tune(count_errors, decoder.bundle.config.decode)
        evidence, right = dev.evidence(result.best)
    calibration = fit_calibration(evidence, right)
    save_decoder(result.best, model)
    save_calibration(calibration, model)
    write_text(model / TUNE_TRIALS, json.dumps(result.to_json(words), indent=2) + "\n")
    draw_tuning(result, words, model / TUNE_PLOT)

    best = result.best
    without = result.errors(0.0, 0.0, WEIGHTS_BEAM_SIZE)
    fewest = result.errors(best.lm_weight, best.insertion_bonus, best.beam_size)
    typer.echo(f"dev WER     {100 * without / words:.2f} % without, {100 * fewest / words:.2f} % with the n-gram")
    if without == fewest == 0:
        typer.echo("note        there is no error on dev to choose by; a larger dev set would tell more")
    typer.echo(f"chosen      {', '.join(f'{name} {getattr(best, name):g}' for name in result.chosen)}")
    if evidence:
        fit = score_calibration([calibration.confidence(item) for item in evidence], right)
        auc = "" if fit.auc is None else f", AUC {fit.auc:.3f}"
        typer.echo(f"confidence  ECE {fit.ece:.3f}{auc} on dev")
    typer.echo(f"written to  {model}: {DECODER}, {CALIBRATION}, {TUNE_TRIALS}, {TUNE_PLOT}")
