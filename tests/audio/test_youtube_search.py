"""YouTube's own answers, through yt-dlp's real YouTube search, behind a proxy on loopback."""

from __future__ import annotations

import datetime
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from simsong.audio.choose import CandidateVerdict, choose
from simsong.audio.fetch import AudioFetcher
from simsong.config import FetchSettings, NetworkSettings
from simsong.errors import FetchError
from simsong.records import Wanted

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "youtube"
ABSTRAKT = (Wanted("t", "Abstrakt", "Nobody Else", 162.4), "search_abstrakt_nobody_else", "bNXMlIogpXc")
MOMENTS = (Wanted("t", "Lost Identities", "Moments", 219.6), "search_lost_identities_moments", "14CjyUYO8lE")


class Proxy(http.server.ThreadingHTTPServer):
    """Takes every CONNECT for itself: it has the key of a certificate for any name, which nobody signed."""

    daemon_threads = True

    def __init__(self, tls: ssl.SSLContext, answers: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.tls, self.answers = tls, answers                   # the query → the body of YouTube's answer
        self.asked: list[tuple[str, str, str]] = []             # host, method, path

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass                                                    # who does not trust it hangs up


class Handler(http.server.BaseHTTPRequestHandler):
    server: Proxy                       # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    host = ""

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_CONNECT(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.host, self.close_connection = self.path, False
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)

    def do_POST(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        search = self.path.startswith("/youtubei/v1/search")
        self.answer(self.server.answers.get(given.get("query", "")) if search else None)

    def do_GET(self) -> None:
        self.answer(None)

    def answer(self, body: bytes | None) -> None:
        self.server.asked.append((self.host, self.command, self.path.partition("?")[0]))
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is not there")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate(tmp_path_factory.mktemp("tls") / "key.pem"))
    server = Proxy(tls, {f"{wanted.artist} - {wanted.title}": (DATA / f"{name}.json").read_bytes()
                         for wanted, name, _ in (ABSTRAKT, MOMENTS)})
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def certificate(file: Path) -> Path:
    """A key and a certificate that it signed itself, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "www.youtube.com")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
              .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
              .not_valid_after(now + datetime.timedelta(days=1))
              .add_extension(x509.SubjectAlternativeName([x509.DNSName("www.youtube.com")]), critical=False)
              .sign(key, hashes.SHA256()))
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                serialization.NoEncryption())
    file.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return file


def fetcher(proxy: Proxy, folder: Path, results: int, **network: Any) -> AudioFetcher:
    settings = {"proxy": proxy.url, "insecure": True, "retries": 0, "timeout_s": 10, **network}
    return AudioFetcher(FetchSettings(results=results), NetworkSettings(**settings), folder)


@pytest.mark.parametrize("results", [10, 30])
@pytest.mark.parametrize(("wanted", "name", "right"), [ABSTRAKT, MOMENTS], ids=["abstrakt", "moments"])
def test_the_right_recording_is_chosen_through_the_real_extractor(
        proxy: Proxy, tmp_path: Path, wanted: Wanted, name: str, right: str, results: int) -> None:
    proxy.asked.clear()
    candidates = fetcher(proxy, tmp_path, results).search(wanted)
    assert len(candidates) == results
    assert [candidate.rank for candidate in candidates] == list(range(results))
    assert ("www.youtube.com:443", "POST", "/youtubei/v1/search") in proxy.asked
    assert {host for host, _, _ in proxy.asked} == {"www.youtube.com:443"}
    chosen = choose(wanted, candidates, FetchSettings().threshold)[0].candidate
    assert chosen.url == f"https://www.youtube.com/watch?v={right}"
    # what the score rests on comes through the extractor
    assert abs((chosen.duration_s or 0) - (wanted.duration_s or 0)) < 2
    assert chosen.verified and chosen.channel and (chosen.views or 0) > 1000


def test_what_was_found_is_kept_though_the_download_is_refused(proxy: Proxy, tmp_path: Path) -> None:
    kept: list[CandidateVerdict] = []
    with pytest.raises(FetchError) as caught:           # the proxy has the search alone: all else is 404
        fetcher(proxy, tmp_path, 10).fetch(ABSTRAKT[0], kept.extend)
    assert caught.value.reason != "no_match"
    assert len(kept) == 10 and not any(verdict.chosen for verdict in kept)
    assert kept[0].candidate.url.endswith(ABSTRAKT[2])
    assert kept[0].why == f"could not be had: {caught.value.reason}"


def test_an_unsigned_certificate_is_refused_by_default(proxy: Proxy, tmp_path: Path) -> None:
    with pytest.raises(FetchError) as caught:
        fetcher(proxy, tmp_path, 10, insecure=False).search(ABSTRAKT[0])
    assert caught.value.reason == "connection"
    assert "CERTIFICATE_VERIFY_FAILED" in caught.value.detail
