"""Flower's SuperLink at a unix socket in place of a port.

It serves calls that start runs and register nodes without a password, so who reaches it is who may: the service's own
user, and nobody else on the machine. `flower-superlink` itself takes a port alone.
"""

import logging
import sys
from pathlib import Path

import uvicorn
from flwr.common.constant import ISOLATION_MODE_PROCESS, TRANSPORT_TYPE_GRPC_RERE
from flwr.supercore.auth import load_superexec_auth_secret
from flwr.supercore.http_logging import get_uvicorn_log_config
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
from flwr.superlink.config_loader import SuperLinkLifespanConfig, load_control_authn_plugin
from flwr.superlink.main import create_app

from roiae_server.flower.store import Sweeper, bound, compact, quota

DATABASE, SECRET = "superlink.db", "secret"


def superlink_config(state: Path) -> SuperLinkLifespanConfig:
    """Node authentication, a database, and apps that are run by us and never installed."""
    return SuperLinkLifespanConfig(
        control_address="",
        health_server_address=None,
        host="",
        port=0,
        insecure=True,  # TLS ends at the gateway
        certificates=None,
        superexec_auth_secret=load_superexec_auth_secret(secret_file=str(state / SECRET)),
        authn_plugin=load_control_authn_plugin(),
        event_log_plugin=None,
        fleet_event_log_plugin=None,
        enable_event_log=False,
        artifact_provider=None,
        enable_supernode_auth=True,
        fleet_api_type=TRANSPORT_TYPE_GRPC_RERE,
        fleet_api_address=None,
        simulation=False,
        ssl_ca_certfile=None,
        ssl_certfile=None,
        ssl_keyfile=None,
        database=str(state / DATABASE),
        isolation=ISOLATION_MODE_PROCESS,
        runtime_dependency_install=False,
    )


def main() -> None:
    """`python -m roiae_server.flower.superlink_process STATE SOCKET`: started by the service alone."""
    state, socket = map(Path, sys.argv[1:])
    logging.getLogger("flwr").setLevel(logging.INFO)  # this process's log is Flower's own
    compact(state / DATABASE)
    bound(quota(state / DATABASE))
    app = create_app(superlink_config(state), SuperLinkLifespan)
    Sweeper(app.state.linkstate_factory.state()).start()
    uvicorn.run(app, uds=str(socket), log_config=get_uvicorn_log_config(logging.INFO))


if __name__ == "__main__":
    main()
