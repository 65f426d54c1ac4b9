"""`treadle check`: print what would be read, kept and set aside, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.extras import Extra, require
from cli.options import AsJson
from cli.terminal import Terminal, echo_json
from contracts.options import Answers
from infra.safe_text import safe_text

if TYPE_CHECKING:
    from contracts.checks import CheckReport
    from contracts.options import OptimizationOptions
    from infra.child.progress import ProgressLine
    from infra.models.model_inputs import ModelLocation

InputFile = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="One file with the rows.")]


def check(
    file: InputFile,
    dev: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="File with the dev rows.")] = None,
    test: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="File with the test rows.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Folder or hub id of the model; its tokenizer and chat template render the rows.")
    ] = None,
    answers: Annotated[Answers, typer.Option(help="What the answers are. Only labels can conflict.")] = Answers.AUTO,
    max_loss: Annotated[
        float, typer.Option(min=0.01, max=1, help="Largest share of the rows that one rule may remove.")
    ] = 0.5,
    tidy: Annotated[
        bool, typer.Option("--tidy", help="Rewrite texts: composed Unicode, no surplus white space.")
    ] = False,
    merge_spellings: Annotated[
        bool, typer.Option("--merge-spellings", help="Write each label in its most frequent spelling.")
    ] = False,
    near_duplicate: Annotated[
        float, typer.Option(min=0.01, max=1, help="Similarity from which two prompts or answers count as the same.")
    ] = 0.8,
    max_length: Annotated[int, typer.Option(min=8, help="Tokens of one row; used with --model.")] = 1024,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split, if --dev or --test is missing.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Check the rows of one file: print what a task would read, keep and set aside, and why.

    Nothing is uploaded and no service is needed. Without --dev or --test, these rows are split off the file, as in a
    task. The exit status is 1 if a task with these rows would fail.

    **Examples**

        treadle check questions.csv
        treadle check chats.jsonl --test test.jsonl --model org/model
    """
    import asyncio

    from cli.check.view import show_report
    from cli.settings import log_warnings
    from contracts.options import OptimizationOptions

    require("`treadle check`", Extra.TRAIN)
    log_warnings()
    options = OptimizationOptions(
        answers=answers,
        max_loss=max_loss,
        near_duplicate=near_duplicate,
        tidy=tidy,
        merge_spellings=merge_spellings,
    )
    files = {"train": file, "dev": dev, "test": test}
    given = {name: path.resolve() for name, path in files.items() if path is not None}
    with _progress_bar() as on_step:
        report = asyncio.run(_run(given, options, _location(model) if model else None, seed, max_length, on_step))
    if as_json:
        echo_json(report)
    else:
        show_report(report, file.name)
    if report.problem:
        raise typer.Exit(1)


def _location(model: str) -> ModelLocation:
    """Return the location of a folder, if there is one, or of a hub id."""
    from infra.models.model_inputs import ModelLocation

    folder = Path(model).expanduser()
    if folder.is_dir() or folder.is_absolute():
        return ModelLocation(kind="path", name=str(folder.resolve()))
    return ModelLocation(kind="hub", name=model)


async def _run(
    files: dict[str, Path],
    options: OptimizationOptions,
    model: ModelLocation | None,
    seed: int,
    max_length: int,
    on_step: Callable[[ProgressLine], None],
) -> CheckReport:
    """Run the check in a temporary folder with links to the files."""
    import tempfile

    from cli.services.composition import CHECK_PROGRAM
    from infra.row_check import CheckSpec, run_check

    with tempfile.TemporaryDirectory(prefix="treadle-check-") as name:
        folder = Path(name)
        for dataset, path in files.items():
            (folder / "input" / dataset).mkdir(parents=True)
            (folder / "input" / dataset / path.name).symlink_to(path)
        datasets = {dataset: path.name for dataset, path in files.items()}
        spec = CheckSpec(datasets=datasets, options=options, seed=seed, model=model, max_length=max_length)
        return await run_check(CHECK_PROGRAM, folder, spec, on_step)


@contextmanager
def _progress_bar() -> Iterator[Callable[[ProgressLine], None]]:
    """Show the steps on standard error; yields a function to call with each progress line."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    terminal = Terminal(stderr=True)
    stage = TextColumn("{task.description}", markup=False)
    columns = (stage, BarColumn(), TimeRemainingColumn(elapsed_when_finished=True))
    with Progress(*columns, console=terminal, disable=not terminal.is_terminal, transient=True) as progress:
        bar = progress.add_task("starting", total=None)

        def on_step(line: ProgressLine) -> None:
            progress.update(bar, description=safe_text(line.stage), completed=line.done, total=line.total or None)

        yield on_step
