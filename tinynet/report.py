"""From predictions to explained mistakes: what is drawn and listed for every run."""

from pathlib import Path

from tinynet.analysis import Analysis, analyse, confused_pairs, worst_mistakes
from tinynet.evaluation import Predictions
from tinynet.plots import curves, misclassified, worst_pairs
from tinynet.shards import Split
from tinynet.tracking import Cell, Tracker, read_metrics

MISTAKES_SHOWN = 200


def explain(folder: Path, predictions: Predictions, split: Split, tracker: Tracker) -> None:
    """Draw the plots and write the tables of a run whose metrics lie in ``folder``."""
    analysis = analyse(predictions, split.manifest.class_names)
    tracker.figure("curves", lambda: curves(read_metrics(folder)))
    tracker.figure("misclassified", lambda: misclassified(analysis, split.gather))
    tracker.figure("confusion", lambda: worst_pairs(analysis))
    tracker.table("mistakes", *mistakes_table(analysis, split))
    tracker.table("classes", *class_table(analysis, split))
    tracker.table("confusions", *confusion_table(analysis))


def mistakes_table(analysis: Analysis, split: Split) -> tuple[list[str], list[list[Cell]]]:
    """The mistakes that the model was surest of, with their pictures."""
    ids = worst_mistakes(analysis, MISTAKES_SHOWN)
    rows: list[list[Cell]] = []
    for sample, image in zip(ids.tolist(), split.gather(ids), strict=True):
        rows.append(
            [
                image.numpy(),
                split.key(sample),
                analysis.classes[int(analysis.labels[sample])].name,
                analysis.classes[int(analysis.predicted[sample])].name,
                round(float(analysis.confidence[sample]), 4),
                sample,
            ]
        )
    return ["picture", "key", "true", "predicted", "confidence", "sample_id"], rows


def class_table(analysis: Analysis, split: Split) -> tuple[list[str], list[list[Cell]]]:
    """Accuracy of every class, worst first."""
    ids = split.manifest.class_ids
    reports = sorted(analysis.classes, key=lambda report: (not report.count, report.accuracy))
    rows: list[list[Cell]] = [
        [ids[report.label], report.name, report.count, report.correct, round(report.accuracy, 2)]
        for report in reports
    ]
    return ["class", "name", "samples", "correct", "accuracy"], rows


def confusion_table(analysis: Analysis) -> tuple[list[str], list[list[Cell]]]:
    """The hundred most frequent confusions."""
    names = [report.name for report in analysis.classes]
    rows: list[list[Cell]] = [
        [names[pair.true], names[pair.predicted], pair.count]
        for pair in confused_pairs(analysis, 100)
    ]
    return ["true", "predicted", "count"], rows
