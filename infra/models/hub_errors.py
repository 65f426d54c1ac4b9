"""What went wrong with the hub, as one sentence: trouble that passes, or a model that cannot be had."""

from __future__ import annotations

import json
import os
import re
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RevisionNotFoundError,
)

from infra.child.machine_errors import causes
from infra.errors import BadConfiguration, HubUnavailable, PhaseError
from infra.models.hub_client import HubAway, reason_of

MAX_REASON_LENGTH = 300
FIELD, OFFLINE = "model", "HF_HUB_OFFLINE"
_QUERY = re.compile(r"\?[^\s)'\"]+")
"""The end of an address, which may be a signature."""

_ACCOUNT = "the account of HF_TOKEN"


def trouble_of(error: BaseException) -> str | None:
    """Why the hub could not be reached, if that is among the causes of `error`; None if it is not."""
    for cause in causes(error):
        if isinstance(cause, HubAway):
            return without_secrets(str(cause))
        if isinstance(cause, httpx2.UnsupportedProtocol | httpx2.LocalProtocolError | OfflineModeIsEnabled):
            return None
        if isinstance(cause, httpx2.TransportError):
            return without_secrets(reason_of(cause))
    return None


def hub_unavailable(sentence: str, reason: str) -> HubUnavailable:
    """The failure of an attempt for which the hub was away; `sentence` names the model."""
    return HubUnavailable(f"{sentence}: the hub {hub_name()} is unavailable ({reason})", field=FIELD)


def hub_failure(error: Exception, name: str, hub_id: str, revision: str | None) -> PhaseError | None:
    """The failure of a download as one sentence about the model `name`; None if the hub is not its cause."""
    if reason := trouble_of(error) or _odd_answer(error):
        return hub_unavailable(f"model {name}", reason)
    final = next(filter(None, (_refusal(cause, hub_id, revision) for cause in causes(error))), None)
    return BadConfiguration(f"model {name}: could not be loaded from the hub: {final}", field=FIELD) if final else None


def hub_name() -> str:
    """The address of the hub without user and password."""
    parts = urlsplit(constants.ENDPOINT)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else constants.ENDPOINT


def offline(name: str) -> BadConfiguration:
    """The failure of a model that is not in the cache while downloads are forbidden."""
    setting = (
        "TRANSFORMERS_OFFLINE" if not os.environ.get(OFFLINE) and os.environ.get("TRANSFORMERS_OFFLINE") else OFFLINE
    )
    return BadConfiguration(
        f"model {name}: could not be loaded from the hub, because {setting} is set and the cache "
        f"{constants.HF_HUB_CACHE} does not have it: unset {setting} on the workers, or fill their cache first",
        field=FIELD,
    )


def without_secrets(text: str) -> str:
    """The text on one line without the token and without the signatures of addresses, cut at its maximum length."""
    token = get_token()
    text = _QUERY.sub("?…", " ".join(text.split()))
    return (text.replace(token, "***") if token else text)[:MAX_REASON_LENGTH]


def _odd_answer(error: BaseException) -> str | None:
    """Why a download ended otherwise: it was cut, or a proxy or a portal answers in the hub's place."""
    for cause in causes(error):
        if isinstance(cause, ConnectionError | TimeoutError) and not isinstance(cause, OfflineModeIsEnabled):
            return without_secrets(str(cause)) or type(cause).__name__
        if isinstance(cause, json.JSONDecodeError | FileMetadataError | httpx2.DecodingError):
            return "its answer is none of a hub: check HF_ENDPOINT, proxy and firewall"
        if isinstance(cause, OSError) and "Consistency check failed" in str(cause):
            return "it cut a download"
        if isinstance(cause, RuntimeError) and "CAS Client Error" in str(cause):  # of hf_xet, which repeats requests
            return without_secrets(str(cause))
    return None


def _refusal(error: BaseException, hub_id: str, revision: str | None) -> str | None:
    """What to do about an answer that another attempt does not change; None if the error is none of the hub's."""
    match error:
        case GatedRepoError():
            whose = _ACCOUNT if get_token() else "an account, and set HF_TOKEN on the workers to its token"
            return f"{hub_id} is gated: accept its licence at {hub_name()}/{hub_id} with {whose}"
        case DisabledRepoError():
            return f"the hub has disabled {hub_id}: choose another model"
        case RevisionNotFoundError():
            return f"{hub_id} has no revision {revision or 'main'!r}: check the spelling after the @"
        case HfHubHTTPError():
            return _by_status(error, hub_id)
        case EntryNotFoundError() if not isinstance(error, LocalEntryNotFoundError):
            return f"{hub_id} lacks a file: {without_secrets(str(error))}"
        case httpx2.UnsupportedProtocol() | httpx2.InvalidURL():
            return f"HF_ENDPOINT is {hub_name()!r:.200}, which is no address: expected https://host"
        case httpx2.LocalProtocolError() | UnicodeEncodeError():
            return "HF_TOKEN has a character that no token has: set it again"
        case _:
            return None


def _by_status(error: HfHubHTTPError, hub_id: str) -> str:
    status, said = error.response.status_code, error.response.headers.get("X-Error-Message", "")
    if status == 401 and "Invalid credentials" in said:
        return "the hub does not know the token in HF_TOKEN: set a valid one, or none if the model is public"
    if status == 403:
        return f"HF_TOKEN may not read {hub_id}: give the token the right to read it at {hub_name()}/settings/tokens"
    if status in {401, 404}:
        token = f"which {_ACCOUNT} may read" if get_token() else "which is public"
        private = "" if get_token() else ", or set HF_TOKEN on the workers if it is private"
        return f"the hub {hub_name()} has no model {hub_id} {token}: check the spelling{private}"
    return f"the hub {hub_name()} refuses the request for {hub_id} with {status}: {without_secrets(said or str(error))}"
