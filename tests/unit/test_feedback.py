from __future__ import annotations

from collections import Counter

from contracts.report import DevReport
from optimizer_worker.feedback.quotas import slice_quotas
from optimizer_worker.feedback.selection import Prompt, draw_random, draw_targeted
from optimizer_worker.programs.text_models import word_vectors
from optimizer_worker.similarity.normalization import words
from tests.examples import report, row

CARD = ["card arrival post", "card delivery late", "card mail arrive", "card delivery address"]
RATE = ["exchange rate euro", "rate dollar today", "exchange rate pound", "rate of exchange yen"]
OTHER = ["reset my pin", "top up by cheque", "close account"]
POOL = [Prompt(f"p{n}", words(text)) for n, text in enumerate([*CARD, *RATE, *OTHER])]
BAD = [row("my card delivery", "card", "d1"), row("euro exchange rate", "rate", "d2")]


def weak(card: float = 0.5, rate: float = 0.5, suggested: dict[str, int] | None = None) -> DevReport:
    return report(BAD, {"card": (card, 10), "rate": (rate, 10), "pin": (1.0, 10)}, suggested)


def texts(*, budget: int = 4, known: tuple[str, ...] = ()) -> list[str]:
    by_id = {item.id: " ".join(item.words) for item in POOL}
    drawn = draw_targeted(POOL, weak(), [words(text) for text in known], budget, word_vectors)
    return [by_id[d.id] for d in drawn]


def test_rows_are_drawn_near_the_bad_cases_and_balanced_over_their_slices() -> None:
    drawn = texts()
    assert (len(set(drawn) & set(CARD)), len(set(drawn) & set(RATE))) == (2, 2)


def test_each_draw_names_its_bad_case() -> None:
    cases = {d.id: d.bad_case for d in draw_targeted(POOL, weak(), [], 4, word_vectors)}
    assert set(cases.values()) == {"d1", "d2"}


def test_no_more_than_the_budget_and_no_row_twice() -> None:
    drawn = [d.id for d in draw_targeted(POOL, weak(), [], 5, word_vectors)]
    assert len(drawn) == len(set(drawn)) == 5


def test_what_shares_no_word_with_a_bad_case_is_not_drawn() -> None:
    assert not set(texts(budget=100)) & {"top up by cheque", "close account"}


def test_what_one_slice_cannot_spend_goes_to_the_other() -> None:
    pool = [*POOL[:1], *POOL[4:8]]
    assert len(draw_targeted(pool, weak(), [], 5, word_vectors)) == 5


def test_a_prompt_like_a_training_row_is_drawn_after_others() -> None:
    assert "card delivery late" not in texts(budget=2, known=("card delivery late",))


def test_draws_are_unlike_one_another() -> None:
    bad = [row("my card delivery", "card"), row("stuck in a machine", "card")]
    prompts = ("my card delivery", "my card delivery please", "stuck in a machine")
    pool = [Prompt(name, words(text)) for name, text in zip("abc", prompts, strict=True)]
    drawn = draw_targeted(pool, report(bad, {"card": (0.0, 10)}), [], 2, word_vectors)
    assert {d.id for d in drawn} == {"a", "c"}


def test_a_report_without_bad_cases_draws_nothing() -> None:
    assert draw_targeted(POOL, report([], {"card": (1.0, 5)}), [], 5, word_vectors) == []


def test_an_empty_pool_gives_nothing() -> None:
    assert draw_targeted([], weak(), [], 5, word_vectors) == []


def test_a_random_draw_is_the_same_for_the_same_seed() -> None:
    assert draw_random(POOL, 5, 7) == draw_random(POOL, 5, 7) != draw_random(POOL, 5, 8)


def test_a_random_draw_takes_no_more_than_there_is() -> None:
    assert len({d.id for d in draw_random(POOL, 100, 1)}) == len(POOL)


def test_quotas_follow_the_errors() -> None:
    assert slice_quotas(weak(card=0.9, rate=0.1), 100) == {"card": 10, "rate": 90}


def test_suggestions_move_half_of_the_budget() -> None:
    assert slice_quotas(weak(card=0.5, rate=0.5, suggested={"card": 40}), 100) == {"card": 75, "rate": 25}


def test_quotas_sum_to_the_budget() -> None:
    bad = [row(f"q{n}", f"s{n}") for n in range(7)]
    quotas = slice_quotas(report(bad, {f"s{n}": (0.3, 3) for n in range(7)}), 10)
    assert sum(quotas.values()) == 10 and max(Counter(quotas.values())) == 2
