"""Accounts as RabbitMQ's definitions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from contracts.permissions import TOPIC_EXCHANGES, Permissions, TopicPermission
from contracts.topology import Exchange
from infra.bus.rabbitmq.accounts.account import Account

Definitions = dict[str, list[dict[str, Any]]]
ORDER = {exchange.name: place for place, exchange in enumerate(TOPIC_EXCHANGES)}
"""The order of topic permissions in Treadle's table, so that those of the broker can be compared with it."""


def to_definitions(accounts: Iterable[Account], vhost: str) -> Definitions:
    """The definitions to import, so that these accounts have their passwords, tags and permissions.

    They include the topic exchanges: RabbitMQ refuses a topic permission for a missing exchange from 4.3.2 on.
    """
    accounts = list(accounts)
    permitted = [(account.name, account.permissions) for account in accounts if account.permissions is not None]
    return {
        "users": [{"name": a.name, "tags": ",".join(a.tags), "limits": {}, **a.credentials} for a in accounts],
        "permissions": [
            {"user": name, "vhost": vhost, "configure": p.configure, "write": p.write, "read": p.read}
            for name, p in permitted
        ],
        "exchanges": [_exchange(exchange, vhost) for exchange in TOPIC_EXCHANGES],
        "topic_permissions": [
            {"user": name, "vhost": vhost, "exchange": topic.exchange, "write": topic.write, "read": topic.read}
            for name, p in permitted
            for topic in p.topics
        ],
    }


def from_definitions(definitions: Mapping[str, Any], vhost: str) -> list[Account]:
    """The accounts in exported definitions, by name. Raises KeyError or TypeError if they have another form."""
    topics: dict[str, list[TopicPermission]] = {}
    for row in _of_vhost(definitions["topic_permissions"], vhost):
        topics.setdefault(row["user"], []).append(TopicPermission(row["exchange"], row["write"], row["read"]))
    permissions = {
        row["user"]: Permissions(row["configure"], row["write"], row["read"], _in_order(topics.get(row["user"], ())))
        for row in _of_vhost(definitions["permissions"], vhost)
    }
    accounts = [
        Account(user["name"], _tags(user["tags"]), permissions.get(user["name"]), _credentials(user))
        for user in definitions["users"]
    ]
    return sorted(accounts, key=lambda account: account.name)


def _exchange(exchange: Exchange, vhost: str) -> dict[str, Any]:
    flags = {"durable": True, "auto_delete": False, "internal": False, "arguments": {}}
    return {"name": exchange.name, "vhost": vhost, "type": exchange.kind.value, **flags}


def _of_vhost(rows: Sequence[Mapping[str, Any]], vhost: str) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["vhost"] == vhost]


def _credentials(user: Mapping[str, Any]) -> dict[str, Any]:
    return {name: user[name] for name in ("password_hash", "hashing_algorithm") if name in user}


def _tags(tags: str | Sequence[str]) -> tuple[str, ...]:
    """Older versions write the tags as one text."""
    return tuple(tag for tag in (tags.split(",") if isinstance(tags, str) else tags) if tag)


def _in_order(topics: Iterable[TopicPermission]) -> tuple[TopicPermission, ...]:
    return tuple(sorted(topics, key=lambda topic: ORDER.get(topic.exchange, len(ORDER))))
