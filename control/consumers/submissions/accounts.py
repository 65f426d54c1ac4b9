"""Names the account that sent a submission, as RabbitMQ has validated it."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from contracts.bounds import Name
from contracts.errors import AccountRequired
from contracts.submissions import CreateTask, TaskRequest

NAME: TypeAdapter[str] = TypeAdapter(Name)


def require_account(user_id: str | None) -> str:
    """The account in the property `user_id`. Raises AccountRequired if it is missing or too long to be stored.

    RabbitMQ refuses a message whose `user_id` is not the account of its connection.
    """
    try:
        return NAME.validate_python(user_id)
    except ValidationError as error:
        raise AccountRequired(
            "user_id: expected the name of your account on the broker in this property of the message"
        ) from error


def sent_by(account: str, submission: CreateTask | TaskRequest) -> CreateTask | TaskRequest:
    """The submission with the account as its actor, in place of the one that its body claims."""
    return submission.model_copy(update={"actor": account})
