"""What to switch off in a model: tried on the validation split, and what the choice does on the test split."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ifam.config import SelectBy
from ifam.data.table import ImageTable
from ifam.interventions import Intervention, Trial, choose, possible, require_criterion, try_interventions
from ifam.model.two_stage import IFAM


@dataclass(frozen=True, kw_only=True)
class Study:
    """Trials on the validation split, best first, and the best of them beside no intervention on the test split."""

    trials: Sequence[Trial]
    chosen: Intervention
    chosen_by: str
    """the number that the trials were ranked by"""
    test_before: Trial
    test_after: Trial

    def notes(self) -> dict[int, str]:
        """For each part that was left out alone, what the validation split scores without it, and how surely better."""
        before = next(trial for trial in self.trials if trial.intervention == Intervention())
        what = self.chosen_by.replace("_", " ").replace(" accuracy", "")
        notes = {}
        for trial in self.trials:
            if len(trial.intervention.remove_parts) == 1 and trial.intervention.token_quantile is None:
                (part,) = trial.intervention.remove_parts
                score = getattr(trial, self.chosen_by)
                change = score - getattr(before, self.chosen_by)
                better = "" if trial.beats_none is None else f"\nbetter in {trial.beats_none:.0%} of resamples"
                removed = "\nremoved" if part in self.chosen.remove_parts else ""
                notes[part] = f"without it {what}\n{score:.3f} ({change:+.3f}){better}{removed}"
        return notes

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def intervene(model: IFAM, table: ImageTable, *, select_by: SelectBy = "auto", **resources: Any) -> Study:
    """Leave out each part, remove unsure tokens, both, and remove parts greedily; choose on validation, report on test.

    What is best there is chosen if it surely beats no intervention, see `ifam.interventions.choose`.

    ``select_by``: what is best, one of `ifam.interventions.CRITERIA`. ``resources``: batch_size, workers, device,
    precision, skip_unreadable and progress of `try_interventions`.

    Raises:
        UsageError: no such criterion.
        DataError: no validation or no test split, one that does not allow the criterion, or an unreadable image.
    """
    for split in ("val", "test"):  # refused before the work
        require_criterion(select_by, table, split, num_classes=model.num_classes)
    trials = trials_on_validation(model, table, select_by=select_by, **resources)
    chosen = choose(trials).intervention
    both = try_interventions(
        model, table, [Intervention(), chosen], split="test", select_by=select_by, intervals=True, **resources
    )
    before, after = (
        next(trial for trial in both if trial.intervention == wanted) for wanted in (Intervention(), chosen)
    )
    return Study(
        trials=trials,
        chosen=chosen,
        chosen_by=trials[0].criterion(select_by),
        test_before=before,
        test_after=after,
    )


def trials_on_validation(
    model: IFAM, table: ImageTable, *, select_by: SelectBy = "auto", **resources: Any
) -> list[Trial]:
    """Every single intervention, and parts removed greedily, on the validation split, best first; see `intervene`."""
    trials = try_interventions(model, table, possible(model), select_by=select_by, **resources)
    trials += _greedy(model, table, trials, select_by, resources)
    return sorted(trials, key=lambda trial: trial.score(select_by), reverse=True)


def _greedy(
    model: IFAM, table: ImageTable, trials: Sequence[Trial], select_by: SelectBy, resources: dict[str, Any]
) -> list[Trial]:
    """Remove one more part as long as the score rises and a part remains; then unsure tokens of those left."""

    def beside_none(interventions: list[Intervention]) -> list[Trial]:
        tried = try_interventions(model, table, [Intervention(), *interventions], select_by=select_by, **resources)
        return [trial for trial in tried if trial.intervention != Intervention()]

    parts_only = [trial for trial in trials if trial.intervention.token_quantile is None]
    best, found = parts_only[0], []
    while best.intervention.remove_parts and len(best.intervention.remove_parts) < model.num_parts - 1:
        removed = best.intervention.remove_parts
        left = [part for part in range(model.num_parts) if part not in removed]
        further = [Intervention(remove_parts=tuple(sorted((*removed, part)))) for part in left]
        step = beside_none(further)
        found += step
        if step[0].score(select_by) <= best.score(select_by):
            break
        best = step[0]
    removed = best.intervention.remove_parts
    if len(removed) > 1 and model.token_thresholds:
        found += beside_none(
            [Intervention(remove_parts=removed, token_quantile=quantile) for quantile in model.token_thresholds]
        )
    return found
