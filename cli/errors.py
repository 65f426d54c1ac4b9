"""How the command line says that something went wrong: a red sentence, an exit status, never a traceback."""

from __future__ import annotations

from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

FAILED, WRONG_INPUT = 1, 2


class Readable(TyperGroup):
    """A group of commands whose own errors reach a person as sentences."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  # the signature is typer's
        """Run the command; turn Treadle's own errors into a sentence and an exit status."""
        from contracts.errors import InvalidInput, TreadleError

        try:
            return super().invoke(ctx)
        except TreadleError as error:
            wrong = isinstance(error, InvalidInput) or getattr(error, "wrong_input", False)
            fail(str(error), status=WRONG_INPUT if wrong else FAILED)
        except OSError as error:
            if error.filename is None:
                raise  # about no file that a person named
            fail(f"{error.filename}: {error.strerror}")
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def fail(sentence: str, *, status: int = FAILED) -> NoReturn:
    """Print `sentence` in red on standard error and leave with `status`."""
    typer.secho(sentence, fg=typer.colors.RED, err=True)
    raise typer.Exit(status)
