"""The servers that tests use: at a given address, else as private processes, else in Docker; else tests are skipped."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelNotFoundEntity
from pydantic import SecretStr

from contracts.topology import QUEUES
from infra.stack.ports import LOOPBACK, accepts, free_port
from infra.stack.postgres import PostgresNode
from infra.stack.rabbitmq import RabbitMQNode, rabbitmq_script
from infra.stack.s3 import S3Node
from infra.stack.server_process import ServerProcess

RABBITMQ_IMAGE = "rabbitmq:4.2.9"


@dataclass(frozen=True)
class Broker:
    """A RabbitMQ for tests, which delete its messages; `node` is set if the tests may stop and start it."""

    url: str
    node: RabbitMQNode | None = None


@dataclass(frozen=True)
class ObjectServer:
    """An S3 server for tests."""

    endpoint: str
    access_key: str
    secret_key: str

    def settings(self) -> dict[str, object]:
        """The S3 fields of Settings, with a bucket that does not exist yet."""
        return {
            "s3_endpoint": self.endpoint,
            "s3_access_key": SecretStr(self.access_key),
            "s3_secret_key": SecretStr(self.secret_key),
            "s3_bucket": f"test-{uuid4().hex[:16]}",
        }


def missing(reason: str) -> None:
    """Skip a test whose server is missing; with CI=true the test fails, because CI must run every test."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and CI=true", pytrace=False)
    pytest.skip(reason)


@asynccontextmanager
async def rabbitmq(folder: Path) -> AsyncIterator[Broker]:
    """TREADLE_TEST_BUS_URL, else a private node, else a container."""
    if url := os.environ.get("TREADLE_TEST_BUS_URL"):
        yield Broker(url)
    elif rabbitmq_script("rabbitmq-server"):
        node = RabbitMQNode(folder)
        try:
            await node.start()
            yield Broker(node.url, node)
        finally:
            await node.stop()
    elif docker_runs():
        async with _container() as url:
            yield Broker(url)
    else:
        missing("no RabbitMQ: set TREADLE_TEST_BUS_URL, or install rabbitmq-server or Docker")


async def purge(url: str) -> None:
    """Empty the existing queues of the topology, after the consumers of earlier tests have ended.

    The queues are not deleted: RabbitMQ 3.10 may stop if a quorum queue with dead-lettering is deleted while it
    starts (its rabbit_fifo_dlx_worker crashes until the supervisor gives up).
    """
    async with await aio_pika.connect(url, timeout=10) as connection, asyncio.timeout(10):
        for queue in QUEUES:
            with suppress(ChannelNotFoundEntity):
                await _purge_queue(await connection.channel(), queue.name)


async def _purge_queue(channel: AbstractChannel, name: str) -> None:
    queue = await channel.declare_queue(name, passive=True)
    while (await queue.declare()).consumer_count:  # noqa: ASYNC110 - the broker does not report it
        await asyncio.sleep(0.02)
    await queue.purge()
    await channel.close()


@asynccontextmanager
async def postgres(folder: Path) -> AsyncIterator[str]:
    """The address of a database whose user may create others: TREADLE_TEST_DATABASE_URL, else the embedded server."""
    if url := os.environ.get("TREADLE_TEST_DATABASE_URL"):
        yield url
        return
    node = PostgresNode(folder)
    try:
        await node.start()
        yield node.dsn()
    finally:
        await node.stop()


@asynccontextmanager
async def s3(folder: Path) -> AsyncIterator[ObjectServer]:
    """TREADLE_TEST_S3_ENDPOINT (with _ACCESS_KEY and _SECRET_KEY), else a private server."""
    if endpoint := os.environ.get("TREADLE_TEST_S3_ENDPOINT"):
        yield ObjectServer(endpoint, os.environ["TREADLE_TEST_S3_ACCESS_KEY"], os.environ["TREADLE_TEST_S3_SECRET_KEY"])
        return
    node = S3Node(folder)
    try:
        await node.start()
        yield ObjectServer(node.endpoint, node.access_key, node.secret_key)
    finally:
        await node.stop()


@asynccontextmanager
async def moto(folder: Path) -> AsyncIterator[ObjectServer]:
    """moto's S3 server: it answers with AWS's XML, also for errors, and checks every signature once its user exists."""
    child, port = ServerProcess("moto", folder / "moto.log"), free_port()
    env = {"PATH": os.environ.get("PATH", ""), "INITIAL_NO_AUTH_ACTION_COUNT": str(len(_UNSIGNED_CALLS))}
    child.start([sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(port)], env=env)
    try:
        await child.ready(lambda: accepts(port))
        endpoint = f"http://{LOOPBACK}:{port}"
        yield ObjectServer(endpoint, *await asyncio.to_thread(_key, endpoint))
    finally:
        await child.stop()


_UNSIGNED_CALLS = ("CreateUser", "PutUserPolicy", "CreateAccessKey")
"""The calls that moto accepts without a signature: they create the user of all other calls."""


def _key(endpoint: str) -> tuple[str, str]:
    """The access key and the secret key of a new user with all rights in S3."""
    import boto3

    client = boto3.client("iam", "us-east-1", endpoint_url=endpoint, aws_access_key_id="-", aws_secret_access_key="-")
    policy = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}
    client.create_user(UserName="treadle")
    client.put_user_policy(UserName="treadle", PolicyName="s3", PolicyDocument=json.dumps(policy))
    key = client.create_access_key(UserName="treadle")["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


@asynccontextmanager
async def _container() -> AsyncIterator[str]:
    """The address of a RabbitMQ in Docker. (The RabbitMQ class of testcontainers needs pika.)"""
    from testcontainers.core.container import DockerContainer

    server = DockerContainer(RABBITMQ_IMAGE).with_exposed_ports(5672)
    server = server.with_env("RABBITMQ_DEFAULT_USER", "treadle").with_env("RABBITMQ_DEFAULT_PASS", "treadle")
    with server as container:
        url = f"amqp://treadle:treadle@{container.get_container_host_ip()}:{container.get_exposed_port(5672)}/"
        await _until_it_accepts(url)
        yield url


async def _until_it_accepts(url: str) -> None:
    async with asyncio.timeout(120):
        while True:
            try:
                await (await aio_pika.connect(url, timeout=5)).close()
            except CONNECTION_EXCEPTIONS:
                await asyncio.sleep(0.2)
            else:
                return


def docker_runs() -> bool:
    """Whether a Docker daemon answers."""
    client = shutil.which("docker")
    return client is not None and subprocess.run([client, "info"], capture_output=True, timeout=20).returncode == 0
