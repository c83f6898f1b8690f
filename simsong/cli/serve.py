"""The command that answers over HTTP."""

from __future__ import annotations

import ipaddress
import logging
import socket
import sys

import click

from simsong.cli.options import common, configured
from simsong.config_loader import TOKEN, secret
from simsong.errors import ConfigError, MachineError
from storage.store import Store


@click.command()
@common
@click.option("--host", metavar="ADDRESS", help="Where it listens (default: 127.0.0.1, this machine alone).")
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="N", help="Default: 7474; 0 is any that is free."
)
@click.option("--no-audio", "audio", flag_value=False, default=None, help="Songs cannot be listened to.")
@click.option("--read-only", is_flag=True, default=None, help="Neither stations nor feedback are kept.")
@click.option("--verbose", is_flag=True, help="A line for each request.")
def serve(
    config_file: str | None,
    store: str | None,
    host: str | None,
    port: int | None,
    audio: bool | None,
    read_only: bool | None,
    verbose: bool,
) -> None:
    """The page to listen on, and the HTTP API, until Ctrl-C. What is published meanwhile is shown at once.

    Others than this machine are let in with SIMSONG_TOKEN alone; `[serve]` of simsong.toml says what they
    may do.
    """
    import uvicorn

    from simsong.serving.app import create_app

    config = configured(
        config_file, store, serve={"host": host, "port": port, "audio": audio, "read_only": read_only}
    )
    token, settings = secret(TOKEN), config.serve
    if token is None and not _is_own(settings.host):
        raise ConfigError(
            f"serve.host = {settings.host!r} lets others in than this machine: set {TOKEN} to what "
            "they must bring, or listen on 127.0.0.1"
        )
    app = create_app(Store.open(config.store), config, token)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    if verbose:
        logging.getLogger("simsong.serve").setLevel(logging.DEBUG)
    sys.setswitchinterval(0.001)        # requests are answered while another export is read
    listener = _listening(settings.host, settings.port)
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    click.echo(f"http://{shown}:{listener.getsockname()[1]}/   (Ctrl-C ends it)")
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=5,
        )
    )
    server.run(sockets=[listener])


def _is_own(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listening(host: str, port: int) -> socket.socket:
    """Raises: MachineError where it cannot be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        raise MachineError(
            f"{host}:{port} cannot be listened on ({error.strerror or error}); another with --port"
        ) from None
    return listener
