"""Predictions and maps for files, folders and globs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import torch

from ifam.config import Precision
from ifam.data.batch import Batch
from ifam.data.files import batched, read_batches
from ifam.data.tar import ImageFile
from ifam.device import arithmetic
from ifam.errors import OutputError, UsageError
from ifam.explanations.explanation import to_photograph
from ifam.explanations.figures import save_overlay
from ifam.files import as_utf8, replacing, to_json
from ifam.model.base import Classifier
from ifam.model.two_stage import IFAM, interventions_on
from ifam.output import Output, Prediction, are_numbers
from ifam.outputs import Recognise, lines_with, make_room_for, parquet_with
from ifam.overlays import overlay_paths

OVERLAY_SIDE = 480
NO_EVIDENCE, ABSTAINED, UNREADABLE, NOT_FINITE, OK = "no evidence", "abstained", "unreadable", "not finite", "ok"


@dataclass(frozen=True, kw_only=True)
class PredictionRow:
    """What is known of one file."""

    path: str
    status: str
    """ok; no evidence: nothing was selected; abstained: less was selected than asked for; unreadable;
    not finite: the scores of the classes are no numbers"""
    label: str | None
    """None where abstained, unreadable or not finite"""
    probability: float | None
    kept: float | None
    """share of the image's tokens that the prediction rests on; None for a model that sees more than its mask"""
    parts: list[list[int]] | None
    """part of each token, row by row; K = background"""
    message: str | None = None


@dataclass(frozen=True, kw_only=True)
class PredictionSettings:
    """What decides a prediction, beside the model and the image."""

    min_kept: float = 0.0
    remove_parts: Sequence[int] = ()
    token_quantile: float | None = None
    precision: Precision = "32-true"

    def __post_init__(self) -> None:
        if not 0 <= self.min_kept <= 1:
            raise UsageError(f"min_kept: expected a share from 0 to 1, got {self.min_kept}")

    def interventions_on(self, model: Classifier) -> dict[str, Any]:
        """Arguments of the model's call.

        Raises:
            UsageError: this model has no parts, or sees more than its mask, and more was asked of it.
        """
        if self.min_kept > 0 and not (isinstance(model, IFAM) and model.is_faithful):
            raise UsageError(
                "min-kept: expected a model whose prediction rests on its mask only, got one that sees more"
            )
        return interventions_on(model, self.remove_parts, self.token_quantile)


@dataclass(frozen=True, kw_only=True)
class PredictedBatch:
    """Rows of a batch of files, in order, and what they were made from."""

    rows: Sequence[PredictionRow]
    batch: Batch
    output: Prediction | None
    """None where no file could be read"""


def predict(
    model: Classifier,
    paths: Sequence[ImageFile],
    *,
    min_kept: float = 0.0,
    remove_parts: Sequence[int] = (),
    token_quantile: float | None = None,
    overlays: Path | None = None,
    batch_size: int = 32,
    workers: int = 0,
    device: str | torch.device = "cpu",
    precision: Precision = "32-true",
) -> Iterator[PredictionRow]:
    """One row per file, in order; memory does not grow with the number of files.

    ``overlays``: a folder for pictures of the parts over the photographs, see `ifam.overlays.overlay_paths`. Where
    one cannot be written, no more are drawn, and the error comes behind the last row.

    Raises:
        UsageError: an impossible argument, one that asks for parts of a model that has none, or a folder in which
            pictures could take the place of photographs.
        OutputError: there was no room for the pictures.
    """
    if overlays is not None and not isinstance(model, IFAM):
        raise UsageError(f"overlays: expected a model with parts, got a {type(model).__name__}, which has none")
    settings = PredictionSettings(
        min_kept=min_kept, remove_parts=remove_parts, token_quantile=token_quantile, precision=precision
    )
    settings.interventions_on(model)  # refused before anything is made
    pictures = iter([] if overlays is None else overlay_paths(overlays, paths))
    undrawn: OutputError | None = None
    for found in predict_batches(model, batched(paths, batch_size), settings, workers=workers, device=device):
        if overlays is not None and undrawn is None:
            try:
                _draw(model, found, list(islice(pictures, len(found.rows))))
            except OutputError as error:
                undrawn = error
        yield from found.rows
    if undrawn is not None:
        raise undrawn


@torch.inference_mode()
def predict_batches(
    model: Classifier,
    batches: Iterable[Sequence[ImageFile]],
    settings: PredictionSettings,
    *,
    workers: int = 0,
    device: str | torch.device = "cpu",
) -> Iterator[PredictedBatch]:
    """The rows of each batch of files; of ``batches`` no more is held than is being read.

    Raises:
        UsageError: settings that ask for parts of a model that has none.
    """
    interventions = settings.interventions_on(model)
    model = model.to(device).eval()
    for images, batch in read_batches(batches, model.preprocessing, workers=workers):
        rows = {each.index: _unreadable(images[each.index], each.message) for each in batch.unreadable}
        output = None
        if len(batch):
            with arithmetic(settings.precision, torch.device(device)):
                output = model(batch.images.to(device), **interventions)
            rows |= dict(
                zip(batch.indices.tolist(), _rows(model, output, batch, images, settings.min_kept), strict=True)
            )
        yield PredictedBatch(rows=[rows[index] for index in sorted(rows)], batch=batch, output=output)


def _rows(
    model: Classifier, output: Any, batch: Batch, images: Sequence[ImageFile], min_kept: float
) -> Iterable[PredictionRow]:
    finite = are_numbers(output).tolist()
    best = output.logits.float().softmax(1).max(1)
    for row, index in enumerate(batch.indices.tolist()):
        limited = isinstance(model, IFAM) and model.is_faithful
        kept = float(output.kept[row]) if limited else None
        abstains = kept is not None and kept < min_kept
        status = NO_EVIDENCE if kept == 0 else ABSTAINED if abstains else OK
        if not finite[row]:
            status = NOT_FINITE
        answers = finite[row] and not abstains
        yield PredictionRow(
            path=as_utf8(images[index]),
            status=status,
            label=None if not answers else model.class_names[int(best.indices[row])],
            probability=None if not answers else float(best.values[row]),
            kept=kept,
            parts=output.parts[row].tolist() if isinstance(output, Output) else None,
        )


def _unreadable(image: ImageFile, message: str) -> PredictionRow:
    return PredictionRow(
        path=as_utf8(image),
        status=UNREADABLE,
        label=None,
        probability=None,
        kept=None,
        parts=None,
        message=as_utf8(message),
    )


def _draw(model: Classifier, found: PredictedBatch, paths: Sequence[Path]) -> None:
    """The parts over what the model saw of each photograph, enlarged so that small images can be looked at.

    ``paths``: of the pictures, one for each row.
    """
    if not isinstance(model, IFAM) or not isinstance(found.output, Output):
        return
    batch, parts_of_images = found.batch, found.output.parts.cpu().numpy()
    for index, image, parts in zip(batch.indices.tolist(), batch.images, parts_of_images, strict=True):
        path = paths[index]
        photograph = to_photograph(image, model.preprocessing)
        factor = max(1, round(OVERLAY_SIDE / min(photograph.shape[:2])))
        save_overlay(path, photograph.repeat(factor, 0).repeat(factor, 1), parts, model.num_parts)


COLUMNS = ("path", "status", "label", "probability", "kept", "parts", "message")
EARLIER: dict[str, Recognise] = {".jsonl": lines_with(*COLUMNS), ".parquet": parquet_with(*COLUMNS)}
"""the kinds of files for rows, and how one of an earlier prediction is recognised"""
Write = Callable[[PredictionRow], None]


def writer(path: Path) -> AbstractContextManager[Write]:
    """A function that appends rows to a .jsonl or .parquet file, which appears whole when the block ends.

    Raises:
        UsageError: another suffix, or a file that is none of rows.
    """
    if path.suffix in EARLIER:
        make_room_for(path, EARLIER[path.suffix])
        return _jsonl(path) if path.suffix == ".jsonl" else _parquet(path)
    raise UsageError(f"out: expected a name ending in .parquet or .jsonl, or that of a folder, got {str(path)!r}")


@contextmanager
def _jsonl(path: Path) -> Iterator[Write]:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        handle: IO[str] = file
        yield lambda row: print(to_json(asdict(row), ensure_ascii=False), file=handle)


@contextmanager
def _parquet(path: Path, rows_per_group: int = 1000) -> Iterator[Write]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("path", pa.string()),
            ("status", pa.string()),
            ("label", pa.string()),
            ("probability", pa.float32()),
            ("kept", pa.float32()),
            ("parts", pa.list_(pa.list_(pa.int16()))),
            ("message", pa.string()),
        ]
    )
    waiting: list[dict[str, Any]] = []
    pa.Table.from_pylist(waiting, schema=schema)  # loads pandas where there is one: now, and not after many images
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema) as file:

        def flush() -> None:
            file.write_table(pa.Table.from_pylist(waiting, schema=schema))
            waiting.clear()

        def write(row: PredictionRow) -> None:
            waiting.append(asdict(row))
            if len(waiting) == rows_per_group:
                flush()

        yield write
        flush()
