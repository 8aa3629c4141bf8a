"""What the gateway is told: where it listens, whom it serves, and how much of it each may have."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from roiae.config import descriptions, read_settings
from roiae.errors import ConfigError
from roiae.schema_errors import explained

REPLY_BYTES = 2**20  # of a reply, until a run says what its own weigh: a handshake's is a few hundred bytes


class Limits(BaseModel):
    """How much one enrolled site, one stranger, and all strangers together may ask of the gateway.

    A stranger is who has shown no enrolled key: an IPv4 address, or an IPv6 /48.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rate: float = Field(100.0, gt=0, description="requests a second of one site, in the long run")
    burst: int = Field(500, ge=1, description="requests of one site at once; a model is a handful")
    in_flight: int = Field(8, ge=1, description="unanswered requests of one site; a node has four")
    site_connections: int = Field(16, ge=1, description="open connections of one site; its oldest goes for a new one")
    replies_ahead: int = Field(8, ge=2, description="of the largest size, that a site may send or fetch at once")
    stranger_rate: float = Field(5.0, gt=0, description="requests a second of one stranger")
    stranger_burst: int = Field(100, ge=1, description="requests of one stranger at once")
    strangers_rate: float = Field(100.0, gt=0, description="requests a second of all strangers; five seconds' at once")
    stranger_connections: int = Field(16, ge=1, description="open connections of one stranger")
    strangers_connections: int = Field(256, ge=1, description="open connections of all strangers")
    handshakes: float = Field(50.0, gt=0, description="TLS handshakes a second with strangers; two seconds' at once")
    header_seconds: float = Field(10.0, gt=0, description="for a TLS handshake, and for the headers of a request")
    idle_seconds: float = Field(30.0, gt=0, description="without a byte of a request's body")
    call_seconds: float = Field(180.0, gt=0, description="for a request's body, and again for its answer")
    upstream_seconds: float = Field(25.0, gt=0, description="that the SuperLink may be silent; a SuperNode waits 30")


class GatewaySettings(BaseModel):
    """What `python -m roiae_server.gateway.app` reads from its file, in JSON or YAML."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str
    port: int = Field(ge=1, le=65535)
    folder: Path = Field(description="of the coordinator: sites.json says who is enrolled, pki/ has the certificate")
    upstream: Path = Field(description="the SuperLink's socket")
    limits: Limits = Limits()


def read_gateway_settings(path: Path) -> GatewaySettings:
    """Raises ConfigError where the file is missing or a setting unknown, ill-typed or impossible."""
    try:
        return GatewaySettings.model_validate(read_settings(path))
    except ValidationError as error:
        known = [name for name, _ in descriptions(GatewaySettings)]
        problems = explained(error, known, "`roiae-server start` writes this file.")
        raise ConfigError(f"{path}: " + "\n  ".join(problems)) from None
