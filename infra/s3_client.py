"""The client of the SDK for the object store, with its connections."""

from __future__ import annotations

from urllib.parse import urlsplit

import urllib3
from minio import Minio

from infra.errors import BadConfiguration
from infra.settings import Settings


def s3_client(settings: Settings, connections: int) -> Minio:
    """A client with at most so many connections. Raises BadConfiguration if TREADLE_S3_ENDPOINT is no address."""
    address = urlsplit(settings.s3_endpoint)
    if address.scheme not in {"http", "https"} or not address.netloc or address.path.strip("/"):
        raise BadConfiguration(
            f"expected http://host:port or https://host:port, got {settings.s3_endpoint!r}", field="TREADLE_S3_ENDPOINT"
        )
    return Minio(
        address.netloc,
        access_key=settings.s3_access_key.get_secret_value(),
        secret_key=settings.s3_secret_key.get_secret_value(),
        secure=address.scheme == "https",
        region=settings.s3_region,
        http_client=_connections(connections),
    )


def _connections(number: int) -> urllib3.PoolManager:
    """Few and short retries, because callers that can wait longer retry themselves."""
    return urllib3.PoolManager(
        maxsize=number,
        timeout=urllib3.Timeout(connect=3.0, read=60.0),
        retries=urllib3.Retry(total=2, connect=1, backoff_factor=0.1, status_forcelist=(500, 502, 503, 504)),
    )
