"""`asr tune`: the beam search's weights and the confidences' calibration, found on dev, into the model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import Accelerator


def tune(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder with a language model.")],
    manifest: Annotated[Path, typer.Argument(help="The dev manifest, e.g. data/an4/dev.jsonl.gz.")],
    accelerator: Accelerator = "auto",
) -> None:
    """Choose the language model's weight and the insertion bonus with the fewest word errors on dev.

    The words' confidences are then calibrated on the same data.
    """
    import asr
    from asr.cli.console import progress
    from asr.config import DecodeSettings
    from asr.data.manifest import read_manifest, transcripts
    from asr.decode.confidence import CALIBRATION
    from asr.decode.tune import MOST_TRIALS, tune
    from asr.errors import ModelError
    from asr.features.batching import evaluation_batches
    from asr.inference.evaluation import calibrate, decode_cuts
    from asr.model.bundle import save_decoder
    from asr.scoring.errors_count import count_errors

    recognizer = asr.load(model, accelerator=accelerator)
    bundle = recognizer.bundle
    if bundle.lm_path is None:
        raise ModelError(f"{model}: no language model to weigh; `asr lm ngram TEXT --model {model}` estimates one")
    cuts = read_manifest(manifest).to_eager()
    references = transcripts(cuts, bundle.config.text)
    posteriors = []
    with progress("log-posteriors", len(cuts)) as advance:
        for batch in evaluation_batches(cuts, bundle.config):
            posteriors.append((batch.ids, *recognizer.log_posteriors(batch)))
            advance(len(batch.ids))
    ids = [utterance_id for batch_ids, _, _ in posteriors for utterance_id in batch_ids]

    def errors(reference: str, hypothesis: str) -> int:
        return count_errors(reference, hypothesis, unit="word").errors

    with progress("tune", MOST_TRIALS) as advance:

        def decode(settings: DecodeSettings) -> list[str]:
            advance(1)
            searched = [
                hypotheses
                for _, log_posteriors, lengths in posteriors
                for hypotheses in recognizer.search(log_posteriors, lengths, "beam", settings)
            ]
            return [bundle.tokens.decode(hypotheses[0].tokens) for hypotheses in searched]

        result = tune(decode, [references[utterance_id] for utterance_id in ids], errors, bundle.decoder)
    save_decoder(result.best, model)
    tuned = asr.load(model, accelerator=accelerator)  # with the weights just chosen
    calibration, fit = calibrate(tuned, decode_cuts(tuned, cuts, "beam"))
    calibration.save(model)
    words = sum(len(reference.split()) for reference in references.values())
    without = next(trial for trial in result.trials if trial.lm_weight == 0 and trial.insertion_bonus == 0)
    fewest = min(trial.errors for trial in result.trials)
    typer.echo(f"dev WER     {100 * without.errors / words:.2f} % without, {100 * fewest / words:.2f} % with the LM")
    typer.echo(f"chosen      lm_weight {result.best.lm_weight:g}, insertion_bonus {result.best.insertion_bonus:g}")
    if fit is not None:
        auc = "" if fit.auc is None else f", AUC {fit.auc:.3f}"
        typer.echo(f"confidence  ECE {fit.ece:.3f}{auc} on dev")
    typer.echo(f"written to  {model / 'decoder.yaml'}, {model / CALIBRATION}")
