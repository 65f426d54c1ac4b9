"""The report of the demo: a table, a chart, the paths of the results, and the limits of the comparison."""

from __future__ import annotations

from rich.text import Text

from cli.demo.chart import save_png, terminal_chart
from cli.demo.run import DemoResult
from cli.tasks.view import iterations_table
from cli.terminal import Terminal, text

ARM_NOTES = {
    "targeted": "The gain comes from the new labels and from their targeting. For a fair comparison, draw as many rows "
    "at random with: treadle demo --arm random --seed {seed}",
    "random": "This is the control arm: it draws as many new labels, at random. Compare: treadle demo --seed {seed}",
    "none": "This arm draws no new labels; it only cleans the data. Compare: treadle demo --seed {seed}",
}
"""For each arm, what its numbers show, and the command to compare with."""
MAX_CHART_WIDTH = 100
"""Columns of the terminal."""


def report(terminal: Terminal, outcome: DemoResult) -> None:
    """Print the report, and write the chart to curve.png in the folder of the demo."""
    demo, results = outcome.demo, outcome.iterations
    png = demo.folder / "curve.png"
    save_png(
        png,
        results,
        title="A small language model learns to answer a bank's questions",
        subtitle=f"BANKING77, 20 intents · arm {demo.arm}, seed {demo.seed} · bands: 95 % bootstrap intervals",
    )
    terminal.print()
    terminal.print(iterations_table(results, outcome.task.best_iteration))
    terminal.print(text("★ best by dev; brackets: 95 % interval", style="bright_black"))
    width = min(terminal.width, MAX_CHART_WIDTH)
    terminal.print(Text.from_ansi(terminal_chart(results, width=width, colour=terminal.is_terminal)))
    _summary(terminal, outcome)
    for name, path in (("curve", str(png)), *_paths(outcome)):
        terminal.print(text("  ", (f"{name:<10}", "bold"), f" {path}"), soft_wrap=True)


def _summary(terminal: Terminal, outcome: DemoResult) -> None:
    first, best = outcome.iterations[0], outcome.best
    assert first.test is not None and best.test is not None, "the demo has a test set"
    gain = f" (gain {outcome.test_gain:+.3f}, iteration {best.iteration} being best by dev)"
    before, after = f"Sealed test: {first.test.value:.3f} → ", (f"{best.test.value:.3f}", "bold")
    terminal.print(text(before, after, f"{gain} in {outcome.seconds:.0f} s."))
    terminal.print(
        f"The programs of both tasks worked {outcome.work_seconds:.0f} s of these {outcome.seconds:.0f} s; "
        f"overhead {outcome.overhead * 100:.0f} %: start and imports, transfers and waiting."
    )
    terminal.print(ARM_NOTES[outcome.demo.arm].format(seed=outcome.demo.seed), style="italic")


def _paths(outcome: DemoResult) -> list[tuple[str, str]]:
    """Paths of the results; model and evaluation are keys in the bucket, which the S3 server stores as plain files."""
    best = outcome.best
    return [
        ("model", best.model_path),
        ("evaluation", best.evaluation_path),
        ("data", str(outcome.demo.folder / "data")),
        ("bucket", str(outcome.demo.folder / "stack" / "s3" / "data")),
        ("log", str(outcome.demo.folder / "treadle.log")),
    ]
