"""How a client connects: from keywords and the environment, as for Martlet's command line."""

from __future__ import annotations

import os
import ssl
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .retry import RetryPolicy

DEFAULT_SERVER = "127.0.0.1:7311"
#: The longest answer that is taken before the server was asked for its frame_bytes_max: the default of that.
DEFAULT_MESSAGE_BYTES_MAX = 8 * 1024 * 1024
#: Bytes that the server may send ahead on one stream: a few pages of events.
WINDOW_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Settings:
    """How a client connects and what it does about failures. `read_settings` makes it."""

    #: host:port, one or more servers of one storage.
    servers: tuple[str, ...] = (DEFAULT_SERVER,)
    #: PEM; None means the system's certificate authorities.
    ca: bytes | None = field(default=None, repr=False)
    cert: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)
    tenant: uuid.UUID | None = None
    #: A server that is silent for two of these, in seconds, counts as gone. At least 1.
    heartbeat: float = 10.0
    #: The time of a call with all its attempts, in seconds; None means without end.
    timeout: float | None = 30.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    #: Replaces the opening of channels in tests: target and options.
    open_channel: Callable[[str, list[tuple[str, Any]]], Any] | None = None

    @property
    def silence_max(self) -> float:
        """The time after which a silent subscription counts as dead; below two heartbeats by the time to notice it."""
        return 1.8 * self.heartbeat

    def channel_options(self, message_bytes_max: int) -> list[tuple[str, Any]]:
        """The options of a gRPC channel that takes answers of so many bytes."""
        beat = int(self.heartbeat * 1000)
        return [
            ("grpc.max_receive_message_length", message_bytes_max),
            ("grpc.max_send_message_length", -1),
            # A peer that answers no ping counts as gone within two heartbeats, whether calls are open or not. The
            # server allows 1,000 pings per second.
            ("grpc.keepalive_time_ms", beat),
            ("grpc.keepalive_timeout_ms", beat * 8 // 10),
            # grpcio 1.60 and later wait a minute for the answer to a ping, whatever the option above says.
            ("grpc.http2.ping_timeout_ms", beat * 8 // 10),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            # The time to connect, and the waits between attempts: calls are retried by the client itself.
            ("grpc.min_reconnect_backoff_ms", beat),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.enable_retries", 0),
            ("grpc.service_config_disable_resolution", 1),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
            ("grpc.primary_user_agent", "martlet-python"),
        ]


def tenant_id(tenant: str | uuid.UUID | None, settings: Settings) -> uuid.UUID:
    """The tenant itself, or that of the settings."""
    if isinstance(tenant, uuid.UUID):
        return tenant
    if tenant is not None:
        try:
            return uuid.UUID(tenant)
        except ValueError:
            raise ValueError(f"the tenant {tenant!r} is not a UUID") from None
    if settings.tenant is None:
        raise ValueError("no tenant: name one, or set MARTLET_TENANT")
    return settings.tenant


def _servers(given: str | Sequence[str]) -> tuple[str, ...]:
    parts = given.split(",") if isinstance(given, str) else list(given)
    servers = tuple(part.strip() for part in parts if part.strip())
    if not servers:
        raise ValueError("no server: name one as host:port, or set MARTLET_SERVER")
    for server in servers:
        host, colon, port = server.rpartition(":")
        if not colon or not host or not port.isdigit():
            raise ValueError(f"the server {server!r} is not host:port")
    return servers


def _file(path: str | os.PathLike[str] | None) -> bytes | None:
    return Path(path).read_bytes() if path else None


def system_authorities() -> bytes | None:
    """The system's certificate authorities; None where it has none in one file."""
    paths = ssl.get_default_verify_paths()
    for path in (paths.cafile, "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"):
        if path and os.path.isfile(path):
            return Path(path).read_bytes()
    return None


def read_settings(
    server: str | Sequence[str] | None = None,
    *,
    ca: str | os.PathLike[str] | None = None,
    cert: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
    tenant: str | uuid.UUID | None = None,
    heartbeat: float = 10.0,
    timeout: float | None = 30.0,
    retry: RetryPolicy | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Settings:
    """Settings from keywords, else from MARTLET_SERVER, MARTLET_CA, MARTLET_CERT, MARTLET_KEY and MARTLET_TENANT.

    Several servers of one storage are given as a list, or with commas between them. `ca`, `cert` and `key` are files
    in PEM. ValueError for what cannot be used, OSError for files that cannot be read.
    """
    if heartbeat < 1:
        raise ValueError("heartbeat is at least 1 second")
    tenant = tenant or environment.get("MARTLET_TENANT") or None
    settings = Settings(
        servers=_servers(server or environment.get("MARTLET_SERVER") or DEFAULT_SERVER),
        ca=_file(ca or environment.get("MARTLET_CA")),
        cert=_file(cert or environment.get("MARTLET_CERT")),
        key=_file(key or environment.get("MARTLET_KEY")),
        heartbeat=heartbeat,
        timeout=timeout,
        retry=retry or RetryPolicy(),
    )
    if (settings.cert is None) != (settings.key is None):
        raise ValueError("a client certificate needs both: cert and key (MARTLET_CERT and MARTLET_KEY)")
    if tenant is None:
        return settings
    return Settings(**{**settings.__dict__, "tenant": tenant_id(tenant, settings)})
