"""Draw rows from the pool in answer to a report, and add them to the training rows and the ledger."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.options import Arm
from contracts.rows import Row, Turn
from optimizer_worker.feedback.selection import Draw, Prompt, Vectorize, draw_random, draw_targeted
from optimizer_worker.ledger import Action, RuleDecision
from optimizer_worker.operators.decontamination import contaminated
from optimizer_worker.similarity.normalization import Words, words
from optimizer_worker.similarity.pairs import similar_pairs
from optimizer_worker.similarity.shared_text import distinguishing
from optimizer_worker.spec import Spec
from optimizer_worker.workspace import Workspace


def draw(work: Workspace, spec: Spec, vectorize: Vectorize) -> list[Draw]:
    """Choose at most `label_budget` rows of the pool; none without a report, a pool, a budget or an arm."""
    budget, arm = spec.options.label_budget, spec.options.arm
    if work.report is None or arm is Arm.NONE or not budget:
        return []
    prompts = candidate_prompts(work, spec.options.near_duplicate)
    if arm is Arm.RANDOM:
        return draw_random(prompts, budget, _seed(spec))
    return draw_targeted(prompts, work.report, [words(row.prompt) for row in work.corpus.rows], budget, vectorize)


def add_drawn(work: Workspace, draws: Sequence[Draw], spec: Spec) -> None:
    """Add the drawn rows with their labels; each counts as a label, even if decontamination then drops the row."""
    pool = {row.id: row for row in work.splits.pool}
    rule = f"added_{spec.options.arm}"
    work.corpus.add(
        [pool[d.id] for d in draws],
        [RuleDecision(d.id, Action.ADDED, rule, d.similarity, parent=d.bad_case) for d in draws],
    )
    drawn, protected = [pool[d.id] for d in draws], work.splits.protected
    work.corpus.apply(contaminated(drawn, protected, spec.options.near_duplicate, work.corpus.rows))
    work.drawn |= {d.id: spec.iteration for d in draws}
    work.labels = len(draws)


def candidate_prompts(work: Workspace, threshold: float) -> list[Prompt]:
    """Return the pool prompts that were not drawn, match no dev or test row, and repeat no training or pool prompt."""
    unlabelled = [_without_label(row) for row in work.splits.pool if row.id not in work.drawn]
    known = work.corpus.rows
    leaking = {decision.row for decision in contaminated(unlabelled, work.splits.protected, threshold, known)}
    clean = [Prompt(row.id, words(row.prompt)) for row in unlabelled if row.id not in leaking]
    return _unrepeated(clean, [words(row.prompt) for row in known], threshold)


def _without_label(row: Row) -> Row:
    """Return the row without its answer and slice, which are unknown until the row is drawn."""
    turns = (*row.turns[:-1], Turn(role="assistant", content="")) if row.turns else ()
    return row.model_copy(update={"turns": turns, "slice": "all"})


def _unrepeated(prompts: Sequence[Prompt], known: Sequence[Words], threshold: float) -> list[Prompt]:
    """Return the prompts that are not similar to a known prompt or to an earlier returned one."""
    pairs = similar_pairs(distinguishing([*known, *(item.words for item in prompts)]), threshold)
    repeated: set[int] = set()
    for left, right in zip(pairs.left.tolist(), pairs.right.tolist(), strict=True):
        if right >= len(known) and left not in repeated:
            repeated.add(right)
    return [item for index, item in enumerate(prompts, len(known)) if index not in repeated]


def _seed(spec: Spec) -> int:
    """Return a seed that differs between iterations but is the same for every attempt."""
    return spec.seed * 1_000_003 + spec.iteration
