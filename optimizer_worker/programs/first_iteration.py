"""The first iteration's material: uploaded datasets, read, cleaned and split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from contracts.rows import Row
from infra.child.program import Job
from infra.errors import BadInput
from optimizer_worker.corpus import Corpus
from optimizer_worker.operators.cleaning import clean
from optimizer_worker.operators.decontamination import contaminated
from optimizer_worker.operators.duplicates import exact_duplicates
from optimizer_worker.operators.splitting import split_off
from optimizer_worker.quarantine import Quarantined
from optimizer_worker.reading.dataset import SEALED, UNREADABLE, Reading, read_dataset
from optimizer_worker.spec import REQUEST_FIELDS, Spec
from optimizer_worker.workspace import Splits, Workspace


def read_uploads(spec: Spec, job: Job) -> Workspace:
    """Read every dataset. Raises BadInput where one has no rows or a file is of no known format."""
    given: dict[str, Corpus] = {}
    formats: dict[str, str] = {}
    for name, dataset_id in job.track(spec.datasets.items(), "reading", len(spec.datasets)):
        reading = read_dataset(job.input(name), name, dataset_id)
        formats |= reading.formats
        given[name] = _cleaned(reading, name)
    corpus = given.pop("train")
    splits = Splits(**{name: part.rows for name, part in given.items()}, **_missing(corpus, set(given), spec))
    for name, part in given.items():
        _account(corpus, part, name)
    splits.dev = _apart(splits, corpus, spec.options.near_duplicate)
    return Workspace(corpus=corpus, splits=splits, new_splits=True, formats=formats)


def _cleaned(reading: Reading, name: str) -> Corpus:
    rows, verdicts = clean(reading.rows)
    corpus = Corpus(rows, reading.unreadable)
    corpus.apply(verdicts)
    if not corpus.rows:
        raise BadInput(f"{name}: all {len(rows)} rows are empty or repeat their prompt", field=REQUEST_FIELDS[name])
    if reading.unreadable:
        corpus.actions[UNREADABLE] = len(reading.unreadable)
    return corpus


def _missing(corpus: Corpus, given: set[str], spec: Spec) -> dict[str, list[Row]]:
    """Dev and test rows taken out of the training rows, where no dataset was given for them."""
    options = spec.options
    fractions = {"dev": options.dev_fraction, "test": options.test_fraction}
    wanted = {name: fraction for name, fraction in fractions.items() if name not in given}
    if not wanted:
        return {}
    chosen = split_off(corpus.rows, wanted, options.near_duplicate, spec.seed)
    for name, rows in chosen.items():
        corpus.hold_out(rows, name, told=name != SEALED)
    return {name: _once(rows) for name, rows in chosen.items()}


def _once(rows: Sequence[Row]) -> list[Row]:
    again = {verdict.row for verdict in exact_duplicates(rows)}
    return [row for row in rows if row.id not in again]


def _account(corpus: Corpus, part: Corpus, name: str) -> None:
    """What was found in another dataset goes into one ledger and quarantine; of the sealed one, counts alone."""
    for rule, count in part.actions.items():
        corpus.actions[f"{name}_{rule}"] += count
    if name == SEALED:
        corpus.quarantine += [_nameless(item) for item in part.quarantine]
    else:
        corpus.quarantine += part.quarantine
        corpus.ledger += part.ledger


def _nameless(item: Quarantined) -> Quarantined:
    return item.model_copy(update={"row": None})


def _apart(splits: Splits, corpus: Corpus, threshold: float) -> list[Row]:
    """The dev rows that give no test row away. Raises BadInput where none is left."""
    inside = contaminated(splits.dev, {"test": splits.test}, threshold)
    corpus.ledger += [replace(verdict, rule="dev_in_test") for verdict in inside]
    if inside:
        corpus.actions["dev_in_test"] = len(inside)
    if len(inside) == len(splits.dev):
        raise BadInput(
            "every dev row stands in test too, or a near copy of it; give a dev set of other rows",
            field=REQUEST_FIELDS["dev"],
        )
    out = {verdict.row for verdict in inside}
    return [row for row in splits.dev if row.id not in out]
