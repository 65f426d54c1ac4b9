"""Prepare the data of the first iteration: read, clean and split the uploaded datasets."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from contracts.notices import Notice
from contracts.options import OptimizationOptions
from contracts.rows import Row
from infra.child.program import Job
from infra.errors import BadInput
from optimizer_worker.corpus import Corpus
from optimizer_worker.ledger import Action, RuleDecision
from optimizer_worker.operators.cleaning import clean, tidied
from optimizer_worker.operators.decontamination import contaminated
from optimizer_worker.operators.duplicates import exact_duplicates
from optimizer_worker.operators.spellings import preferred, with_slices
from optimizer_worker.operators.splitting import split_off
from optimizer_worker.quarantine import Quarantined
from optimizer_worker.reading.dataset import ReadResult, read_dataset
from optimizer_worker.reading.losses import NOT_LEARNT, UNREADABLE
from optimizer_worker.spec import REQUEST_FIELDS, SEALED, Spec
from optimizer_worker.workspace import Splits, Workspace


def read_uploads(spec: Spec, job: Job) -> Workspace:
    """Read, clean and split the datasets.

    Raises BadInput if a dataset has no usable rows, a file cannot be read, or too few rows are left to split.
    """
    given: dict[str, Corpus] = {}
    formats: dict[str, str] = {}
    notices: list[Notice] = []
    for name, dataset_id in job.track(spec.datasets.items(), "reading", len(spec.datasets)):
        reading = read_dataset(job.input(name), name, dataset_id)
        formats |= reading.formats
        notices += reading.notices
        given[name] = _cleaned(reading, name, spec.options)
    _use_one_name_per_slice(given.values())
    corpus = given.pop("train")
    missing = _split_missing(corpus, set(given), spec)
    splits = Splits(**{name: part.rows for name, part in given.items()}, **missing)
    for name, part in given.items():
        _merge_records(corpus, part, name)
    splits.dev = _dev_outside_test(splits, corpus, spec.options.near_duplicate)
    return Workspace(corpus=corpus, splits=splits, new_splits=True, formats=formats, notices=notices)


def _use_one_name_per_slice(parts: Collection[Corpus]) -> None:
    """Give slices whose names are spellings of one name the most frequent of them, in all datasets."""
    spelling = preferred(row.slice for part in parts for row in part.rows)
    for part in parts:
        part.replace(with_slices(part.rows, spelling))


def _cleaned(reading: ReadResult, name: str, options: OptimizationOptions) -> Corpus:
    rows, rewritten = tidied(reading.rows) if options.tidy else (reading.rows, [])
    corpus = Corpus(rows, reading.unreadable)
    corpus.add([], [*_set_aside(reading.unreadable), *rewritten])
    decisions = clean(rows)
    if len(decisions) == len(rows):
        raise BadInput(
            f"{name}: all {len(rows)} rows are empty or repeat their prompt; expected at least one usable row"
            f"{_lost(reading.unreadable)}",
            field=REQUEST_FIELDS[name],
        )
    corpus.apply(decisions, options.max_loss)
    return corpus


def _set_aside(lines: Sequence[Quarantined]) -> list[RuleDecision]:
    return [RuleDecision(_place(line), Action.QUARANTINED, line.rule, reason=line.reason) for line in lines]


def _place(line: Quarantined) -> str:
    return f"{line.file}:{line.line}"


def _lost(lines: Sequence[Quarantined]) -> str:
    """Return the end of an error text about too few rows that names the lines that were set aside in reading."""
    if not lines:
        return ""
    return f"; {len(lines)} lines were set aside, the first of which is {_place(lines[0])}: {lines[0].reason}"


def _split_missing(corpus: Corpus, given: set[str], spec: Spec) -> dict[str, list[Row]]:
    """Split off dev and test rows from the training rows, if no dataset was given for them."""
    options = spec.options
    fractions = {"dev": options.dev_fraction, "test": options.test_fraction}
    wanted = {name: fraction for name, fraction in fractions.items() if name not in given}
    if not wanted:
        return {}
    try:
        chosen = split_off(corpus.rows, wanted, options.near_duplicate, spec.seed)
    except BadInput as error:
        lines = [item for item in corpus.quarantine if item.rule in (UNREADABLE, NOT_LEARNT)]
        raise BadInput(f"{error}{_lost(lines)}", field=error.field) from error
    for name, rows in chosen.items():
        corpus.hold_out(rows, name, in_ledger=name != SEALED)
    return {name: _without_duplicates(rows) for name, rows in chosen.items()}


def _without_duplicates(rows: Sequence[Row]) -> list[Row]:
    duplicates = {decision.row for decision in exact_duplicates(rows)}
    return [row for row in rows if row.id not in duplicates]


def _merge_records(corpus: Corpus, part: Corpus, name: str) -> None:
    """Merge another dataset's ledger and quarantine into the corpus; for the sealed split only counts are merged."""
    for rule, count in part.actions.items():
        corpus.actions[f"{name}_{rule}"] += count
    if name == SEALED:
        corpus.quarantine += [_without_row(item) for item in part.quarantine]
    else:
        corpus.quarantine += part.quarantine
        corpus.ledger += part.ledger


def _without_row(item: Quarantined) -> Quarantined:
    return item.model_copy(update={"row": None})


def _dev_outside_test(splits: Splits, corpus: Corpus, threshold: float) -> list[Row]:
    """Return the dev rows that do not match a test row. Raises BadInput if none is left."""
    in_test = contaminated(splits.dev, {"test": splits.test}, threshold, corpus.rows)
    corpus.ledger += [replace(decision, rule="dev_in_test") for decision in in_test]
    if in_test:
        corpus.actions["dev_in_test"] = len(in_test)
    if len(in_test) == len(splits.dev):
        raise BadInput(
            "every dev row, or a near copy of it, is also in test; give a dev dataset of other rows",
            field=REQUEST_FIELDS["dev"],
        )
    removed = {decision.row for decision in in_test}
    return [row for row in splits.dev if row.id not in removed]
