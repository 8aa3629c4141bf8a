"""nginx in the gateway's place lets the same calls through, within the same bounds."""

import re
import shutil
import subprocess
from pathlib import Path

import trustme

from roiae_server.gateway import FLEET_OPERATIONS, Limits
from tests.server.test_gateway_tls import free_port

CONF = (Path(__file__).parents[2] / "deploy" / "nginx.conf").read_text()


def said(directive: str) -> str:
    (value,) = re.findall(rf"^\s*{directive} (.*);", CONF, flags=re.M)
    return str(value)


def test_nginx_lets_through_the_gateways_operations() -> None:
    (operations,) = re.findall(r"location ~ \^/v1/fleet/\(([\w|-]+)\)\$ ", CONF)

    assert set(operations.split("|")) == FLEET_OPERATIONS
    assert re.findall(r"^        location (\S+) \{\s+return 404;", CONF, flags=re.M) == ["/"]


def test_nginx_has_the_gateways_bounds() -> None:
    limits = Limits()

    assert said("client_max_body_size") == f"{limits.body_bytes // 2**20}m"
    assert said("limit_req_zone").endswith(f"rate={limits.rate:g}r/s")
    assert said("limit_req zone=calls") == f"burst={limits.burst} nodelay"
    assert said("limit_conn client") == str(limits.client_connections)
    assert said("limit_conn everyone") == str(limits.connections)
    assert said("client_header_timeout") == f"{limits.header_seconds:g}s"
    assert said("client_body_timeout") == f"{limits.idle_seconds:g}s"
    assert said("proxy_read_timeout") == f"{limits.upstream_seconds:g}s"


def test_nginx_answers_503_to_whatever_may_pass() -> None:
    codes = set(said("error_page").split(" =503 ")[0].split())

    assert codes >= {"408", "500", "502", "503", "504"}
    assert said("limit_req_status") == said("limit_conn_status") == "503"
    assert said("proxy_intercept_errors") == "on"


def test_nginx_takes_the_file_where_it_is_installed(tmp_path: Path) -> None:
    leaf = trustme.CA().issue_cert("localhost")
    leaf.private_key_pem.write_to_path(tmp_path / "server.key")
    for name in ("server.crt", "ca.crt"):
        leaf.cert_chain_pems[0].write_to_path(tmp_path / name)
    here = CONF.replace("/var/lib/roiae-server/pki", str(tmp_path)).replace("/run/", f"{tmp_path}/")
    (tmp_path / "nginx.conf").write_text(here.replace("listen 8443", f"listen 127.0.0.1:{free_port()}"))
    if nginx := shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"):
        command = [nginx, "-t", "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path), "-e", "stderr"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
