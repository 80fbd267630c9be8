"""A bounded search for training options of a store's towers: short trainings, each guided by the previous ones.

STORE/training/tuning-0123456789abcdef.db the study, in optuna's format
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from shelfwise.rerank.text_towers.task import TextTowerOptions
from shelfwise.rerank.training.trainer import Epoch
from shelfwise.retrieval.errors import TrainingError
from shelfwise.retrieval.progress import Progress

if TYPE_CHECKING:
    import optuna

Train = Callable[[TextTowerOptions, Path, Callable[[Epoch], None]], float]
"""Trains new towers in their own folder; returns the nDCG@10 of the validation queries."""
_WARM_UP = 4
"""Number of trials before a bad one is stopped early."""
_STUDY = "towers"


def tuned(options: TextTowerOptions, trials: int, path: Path, train: Train, progress: Progress) -> TextTowerOptions:
    """The best options of a number of trials, of which the given options are the first. The study is stored in the file
    `path`, from which a killed search is resumed.

    Learning rate, temperature, margin and negatives are searched by the Tree-structured Parzen Estimator (Bergstra et
    al. 2011, Algorithms for Hyper-Parameter Optimization, section 4); a trial below the median of earlier ones is
    stopped. Raises TrainingError if no trial completed or the file is not a study.
    """
    study = _study(path, options.seed)
    scratch = path.with_suffix("")
    if not _done(study):
        loss, negatives = options.loss, options.negatives.count
        given = {"learning_rate": options.learning_rate, "temperature": loss.temperature, "margin": loss.margin}
        study.enqueue_trial({**given, "negatives": negatives})
    while (done := len(_done(study))) < trials:
        trial = study.ask()
        tried = _suggested(trial, options)
        progress.begin(f"trial {done + 1} of {trials}", None, "")
        value = _value(study, trial, tried, scratch, train)
        outcome = "pruned" if value is None else f"nDCG@10 {value:.4f}"
        progress.end(f"{outcome} with {_words(tried)}")
    shutil.rmtree(scratch, ignore_errors=True)
    whole = [each for each in _done(study) if each.value is not None]
    if not whole:
        raise TrainingError("no trial completed: lower --learning-rate, or check the labels")
    best = max(whole, key=lambda each: (each.value or 0.0, -each.number))
    found = _with(options, best.params)
    progress.begin("tuning", None, "")
    progress.end(f"nDCG@10 {best.value:.4f} with {_words(found)}; all trials are in {path}")
    return found


def _study(path: Path, seed: int) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    from sqlalchemy.exc import SQLAlchemyError

    try:
        study = optuna.create_study(
            storage=f"sqlite:///{path}",
            study_name=_STUDY,
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_WARM_UP),
            load_if_exists=True,
        )
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        message = str(error).partition("\n")[0]
        raise TrainingError(f"{path} has no search that can resume ({message}); remove it to start again") from error
    # Another seed for each resumption; the same one would repeat earlier trials.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.get_trials(deepcopy=False)))
    return study


def _done(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The completed trials, including bad ones; a killed trial stays marked as running."""
    return [each for each in study.get_trials(deepcopy=False) if each.state.is_finished()]


def _suggested(trial: optuna.Trial, options: TextTowerOptions) -> TextTowerOptions:
    """Suggested options within the usual bounds, or those of the given options if they are outside. The pointwise
    loss has no margin."""
    rate, margin = options.learning_rate, options.loss.margin
    temperature, count = options.loss.temperature, options.negatives.count
    widest = 0.0 if options.loss.name == "pointwise" else max(0.2, margin)
    return _with(
        options,
        {
            "learning_rate": trial.suggest_float("learning_rate", min(1e-5, rate), max(1e-3, rate), log=True),
            "temperature": trial.suggest_float("temperature", min(0.01, temperature), max(0.1, temperature), log=True),
            "margin": trial.suggest_float("margin", 0.0, widest),
            "negatives": trial.suggest_int("negatives", 0, max(3, count)),
        },
    )


def _with(options: TextTowerOptions, found: Mapping[str, float]) -> TextTowerOptions:
    loss = replace(options.loss, temperature=found["temperature"], margin=found["margin"])
    negatives = replace(options.negatives, count=int(found["negatives"]))
    return replace(options, learning_rate=found["learning_rate"], loss=loss, negatives=negatives)


def _value(
    study: optuna.Study, trial: optuna.Trial, options: TextTowerOptions, folder: Path, train: Train
) -> float | None:
    """nDCG@10 of a trial; None for one that was stopped, or whose loss was non-finite."""
    import optuna

    def judged(epoch: Epoch) -> None:
        trial.report(epoch.validation, epoch.number)
        if epoch.number and trial.should_prune():
            raise optuna.TrialPruned

    shutil.rmtree(folder, ignore_errors=True)
    try:
        value = train(options, folder, judged)
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return None
    except TrainingError:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return None
    study.tell(trial, value)
    return value


def _words(options: TextTowerOptions) -> str:
    return (
        f"learning rate {options.learning_rate:.2g}, temperature {options.loss.temperature:.3f}, margin "
        f"{options.loss.margin:.3f}, {options.negatives.count} negatives"
    )
