"""A web server's certificate runs out between two requests: what a client is told then."""

import subprocess
from pathlib import Path

import pytest

from pytest_vdsotime import FrozenClock

CONFIG = """
daemon off; pid pid; events {}
http {
    access_log off; client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    ssl_certificate certificate.pem; ssl_certificate_key key.pem;
    server { listen unix:socket ssl; location / { return 200 hello; } }
}
"""
CERTIFICATE = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30"
NAMES = "-subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout key.pem"
CURL = "curl --silent --show-error --cacert certificate.pem --unix-socket socket https://localhost"


@pytest.mark.frozen_time("2030-06-01T12:00:00Z")
def test_certificate_runs_out(frozen_clock: FrozenClock, tmp_path: Path) -> None:
    # The marker patches subprocess: openssl, nginx and curl are all on the clock.
    openssl = [*CERTIFICATE.split(), *NAMES.split(), "-out", "certificate.pem"]
    subprocess.run(openssl, cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "nginx.conf").write_text(CONFIG)
    nginx = "nginx -p . -c nginx.conf -e stderr"
    server = subprocess.Popen(nginx.split(), cwd=tmp_path)
    frozen_clock.settle()  # nginx listens
    assert subprocess.check_output(CURL.split(), cwd=tmp_path) == b"hello"
    frozen_clock.advance(days=30, seconds=1)
    refused = subprocess.run(CURL.split(), cwd=tmp_path, capture_output=True, text=True)
    assert (refused.returncode, refused.stdout) == (60, "")
    assert "certificate has expired" in refused.stderr
    server.terminate()
    server.wait()
