"""Errors of the command line: a red sentence and an exit status instead of a traceback."""

from __future__ import annotations

from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

FAILED, WRONG_INPUT = 1, 2
"""Exit statuses."""


class ReadableErrors(TyperGroup):
    """A command group that prints Treadle's errors as sentences."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  # the signature is typer's
        """Run the command; exit with 2 after wrong input, 1 after another Treadle or file error, 130 after Ctrl-C."""
        from contracts.errors import InvalidInput, TreadleError

        try:
            return super().invoke(ctx)
        except TreadleError as error:
            wrong = isinstance(error, InvalidInput) or getattr(error, "wrong_input", False)
            fail(str(error), status=WRONG_INPUT if wrong else FAILED)
        except OSError as error:
            if error.filename is None:
                raise  # no file is named, so it is not the user's input: keep the traceback
            fail(f"{error.filename}: {error.strerror}")
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def fail(sentence: str, *, status: int = FAILED) -> NoReturn:
    """Print `sentence` in red on standard error and exit with `status`."""
    typer.secho(sentence, fg=typer.colors.RED, err=True)
    raise typer.Exit(status)
