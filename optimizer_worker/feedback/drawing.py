"""From a report to bought rows: what the pool may offer, what is drawn of it, and what the ledger says of it."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.options import Arm
from contracts.report import DevReport
from contracts.rows import Row, Turn
from optimizer_worker.feedback.selection import Draw, Prompt, draw_random, draw_targeted
from optimizer_worker.ledger import Action, Verdict
from optimizer_worker.operators.decontamination import contaminated
from optimizer_worker.similarity.pairs import similar_pairs
from optimizer_worker.spec import Spec
from optimizer_worker.workspace import Workspace


def draw(work: Workspace, spec: Spec) -> list[Draw]:
    """At most `label_budget` draws from the pool. None without a report, a pool, a budget, or an arm."""
    budget, arm = spec.options.label_budget, spec.options.arm
    if work.report is None or arm is Arm.NONE or not budget:
        return []
    prompts = offered(work, spec.options.near_duplicate)
    return _draw(arm, prompts, work.report, [row.prompt for row in work.corpus.rows], budget, _seed(spec))


def buy(work: Workspace, draws: Sequence[Draw], spec: Spec) -> None:
    """Take the drawn rows in, labels and all. Each counts as a label, also where its answer gives a test row away."""
    pool = {row.id: row for row in work.splits.pool}
    rule = f"added_{spec.options.arm}"
    work.corpus.add(
        [pool[d.id] for d in draws],
        [Verdict(d.id, Action.ADDED, rule, d.likeness, parent=d.bad_case) for d in draws],
    )
    work.corpus.apply(contaminated([pool[d.id] for d in draws], work.splits.protected, spec.options.near_duplicate))
    work.drawn |= {d.id: spec.iteration for d in draws}
    work.labels = len(draws)


def offered(work: Workspace, threshold: float) -> list[Prompt]:
    """The pool prompts that were not drawn before, give nothing away, and repeat no training row nor one another."""
    blind = [_blind(row) for row in work.splits.pool if row.id not in work.drawn]
    leaking = {verdict.row for verdict in contaminated(blind, work.splits.protected, threshold)}
    clean = [Prompt(row.id, row.prompt) for row in blind if row.id not in leaking]
    return _new(clean, [row.prompt for row in work.corpus.rows], threshold)


def _draw(
    arm: Arm, prompts: Sequence[Prompt], report: DevReport, known: Sequence[str], budget: int, seed: int
) -> list[Draw]:
    if arm is Arm.RANDOM:
        return draw_random(prompts, budget, seed)
    return draw_targeted(prompts, report, known, budget)


def _blind(row: Row) -> Row:
    """The row as it is known before it is bought: without its answer and its slice."""
    turns = (*row.turns[:-1], Turn(role="assistant", content="")) if row.turns else ()
    return row.model_copy(update={"turns": turns, "slice": "all"})


def _new(prompts: Sequence[Prompt], known: Sequence[str], threshold: float) -> list[Prompt]:
    """The prompts unlike the known ones, and unlike those before them that stay."""
    pairs = similar_pairs([*known, *(item.prompt for item in prompts)], threshold)
    repeated: set[int] = set()
    for left, right in zip(pairs.left.tolist(), pairs.right.tolist(), strict=True):
        if right >= len(known) and left not in repeated:
            repeated.add(right)
    return [item for place, item in enumerate(prompts, len(known)) if place not in repeated]


def _seed(spec: Spec) -> int:
    """Another sample in every iteration, the same in every run."""
    return spec.seed * 1_000_003 + spec.iteration
