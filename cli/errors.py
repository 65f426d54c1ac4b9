"""Errors of the command line: a red sentence and an exit status instead of a traceback."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

FAILED, WRONG_INPUT = 1, 2
"""Exit statuses."""


class ReadableErrors(TyperGroup):
    """A command group that prints Treadle's errors as sentences."""

    def make_context(self, *given: Any, **named: Any) -> Any:  # noqa: ANN401  # the signature is typer's
        """Parse the options of the group."""
        with _safe_usage_errors():
            return super().make_context(*given, **named)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  # the signature is typer's
        """Run the command; exit with 2 after wrong input, 1 after any other error, 130 after Ctrl-C.

        Treadle's errors and errors about a file are printed as sentences, unforeseen ones with their traceback.
        """
        from contracts.errors import InvalidInput, TreadleError

        try:
            with _safe_usage_errors():
                return super().invoke(ctx)
        except TreadleError as error:
            wrong = isinstance(error, InvalidInput) or getattr(error, "wrong_input", False)
            fail(str(error), status=WRONG_INPUT if wrong else FAILED)
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                fail(f"{error.filename or 'the disk'}: {error.strerror}: make room, or choose another --folder")
            if error.filename is None:  # no file is named, so it is not the user's input
                _fail_with_traceback()
            fail(f"{error.filename}: {error.strerror}")
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except (typer.Exit, typer.Abort, typer.TyperException):
            raise
        except Exception:  # noqa: BLE001  # the last boundary: typer would print the texts of exceptions as they are
            _fail_with_traceback()


@contextmanager
def _safe_usage_errors() -> Iterator[None]:
    """Escape the texts of typer's own errors, which quote arguments such as the names of files."""
    from infra.safe_text import safe_text

    try:
        yield
    except typer.TyperException as error:
        error.message = safe_text(error.message)
        raise


def fail(sentence: str, *, status: int = FAILED) -> NoReturn:
    """Print `sentence` in red on standard error, without passwords in addresses, and exit with `status`.

    Lines after the first are indented, so that none of them looks like a line of another command.
    """
    from cli.terminal import echo
    from infra.logs import without_credentials

    echo(without_credentials(sentence).replace("\n", "\n  "), lines=True, err=True, colour="red")
    raise typer.Exit(status)


def _fail_with_traceback() -> NoReturn:
    import traceback

    fail(traceback.format_exc().rstrip())
