"""What the demo brought, for a person: a table, the curve, where things are, and what it does not show."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from cli.demo.chart import save_png, terminal_chart
from cli.demo.run import Outcome
from cli.tasks.view import iterations_table

OF_ARM = {
    "targeted": "The gain shows new labels at work as much as their targeting: an arm that draws as many rows at "
    "random is the fair comparison. See it with: treadle demo --arm random --seed {seed}",
    "random": "This is the control arm: as many new labels, drawn at random. Compare: treadle demo --seed {seed}",
    "none": "This arm draws no new labels; what moves is cleaning. Compare: treadle demo --seed {seed}",
}
"""What the numbers do and do not show."""
WIDEST = 100


def report(console: Console, outcome: Outcome) -> None:
    """Print it, and write the PNG beside the data."""
    demo, turns = outcome.demo, outcome.iterations
    png = demo.folder / "curve.png"
    save_png(
        png,
        turns,
        title="A small language model learns to answer a bank's questions",
        subtitle=f"BANKING77, 20 intents · arm {demo.arm}, seed {demo.seed} · bands: 95 % bootstrap intervals",
    )
    console.print()
    console.print(iterations_table(turns, outcome.task.best_iteration))
    console.print(Text("★ best by dev; brackets: 95 % interval", "bright_black"))
    width = min(console.width, WIDEST)
    console.print(Text.from_ansi(terminal_chart(turns, width=width, colour=console.is_terminal)))
    _summary(console, outcome)
    for name, where in (("curve", str(png)), *_places(outcome)):
        console.print(f"  [bold]{name:<10}[/] {where}", soft_wrap=True)


def _summary(console: Console, outcome: Outcome) -> None:
    first, best = outcome.iterations[0], outcome.best
    assert first.test is not None and best.test is not None, "the demo has a test set"
    console.print(
        f"Sealed test: {first.test.value:.3f} → [bold]{best.test.value:.3f}[/] "
        f"(gain {outcome.test_gain:+.3f}, iteration {best.iteration} being best by dev) in {outcome.seconds:.0f} s."
    )
    console.print(OF_ARM[outcome.demo.arm].format(seed=outcome.demo.seed), style="italic")


def _places(outcome: Outcome) -> list[tuple[str, str]]:
    """Where the artifacts are: keys below the bucket, which the S3 server keeps as plain files."""
    best = outcome.best
    return [
        ("model", best.model_path),
        ("evaluation", best.evaluation_path),
        ("data", str(outcome.demo.folder / "data")),
        ("bucket", str(outcome.demo.folder / "stack" / "s3" / "data")),
        ("log", str(outcome.demo.folder / "treadle.log")),
    ]
