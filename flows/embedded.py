"""The Prefect server of a run: the one that is configured, once it has answered, else one of the run's own.

A server of its own has a database of its own, named after Prefect's version, in Prefect's home: `prefect.db`
there belongs to whichever Prefect the user has, whose versions cannot read each other's.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from simsong import programs
from simsong.errors import PrefectError
from simsong.fetching.redact import plain

ANSWER_S = 5.0          # for a server to say that it is there
START_S = 180.0         # for the run's own to start, on a busy machine
ASK_EVERY_S, SILENT_S = 10.0, 60.0      # a server that has not answered for so long is gone
DATABASE = "PREFECT_API_DATABASE_CONNECTION_URL"
Lost = Callable[[str], None]
_ours: list[Callable[[], None]] = []    # what `stop` does, last first
atexit.register(lambda: stop())


@dataclass(frozen=True)
class Server:
    url: str
    origin: str | None          # of the address, in words; None for the run's own

    def __str__(self) -> str:
        return f"Prefect's server at {plain(self.url)} (PREFECT_API_URL of {self.origin})" if self.origin \
            else "Prefect's own server"


_used: list[Server] = []
_WITHOUT = "go on without it: put `PREFECT_API_URL=` before the command"


def settle_home() -> str | None:
    """Before Prefect is imported: give it a home for this run alone where it has none that can be written.

    Returns: `home_problem()`.
    """
    if (problem := home_problem()) is not None:
        os.environ.setdefault("PREFECT_PROFILES_PATH", str(_home() / "profiles.toml"))
        os.environ["PREFECT_HOME"] = temporary = tempfile.mkdtemp(prefix="simsong-prefect-")
        _ours.append(lambda: shutil.rmtree(temporary, ignore_errors=True))
    return problem


def home_problem() -> str | None:
    """What is wrong with Prefect's home and what mends it, for the user; None where it can be written."""
    home = _home()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            return None
    except OSError as error:
        return (f"Prefect's home {home} cannot be written ({error.strerror}), so its history of runs is not "
                "kept; export PREFECT_HOME=DIR names another")


def _home() -> Path:
    return Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()


def configured() -> Server | None:
    """Raises: PrefectError where Prefect's settings cannot be read."""
    try:
        from prefect.context import get_settings_context
        from prefect.settings import get_current_settings

        url = get_current_settings().api.url
    except Exception as error:      # of pydantic, toml or Prefect, at the import
        raise PrefectError(f"Prefect's settings cannot be read: {_line(error)}; they are in the environment "
                           "(PREFECT_…), .env, prefect.toml, ~/.prefect/profiles.toml") from None
    return Server(url, _origin(get_settings_context().profile.name)) if url else None


def check(server: Server) -> None:
    """Raises: PrefectError, unless the server answers, as one that this version of Prefect can use."""
    from prefect.client.base import ServerType
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    try:
        with (temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
              get_client(httpx_settings={"timeout": ANSWER_S}, sync_client=True) as client):
            problem: Any = client.api_healthcheck()
            status = getattr(getattr(problem, "response", None), "status_code", None)
            if problem is None or (status and client.server_type == ServerType.CLOUD):
                problem = None
                client.raise_for_api_version_mismatch()
    except Exception as error:      # of addresses, sockets, certificates, HTTP, versions: all are its answer
        problem = error.__cause__ or error
        status = getattr(getattr(problem, "response", None), "status_code", None)
    if problem is None:
        return
    if status in (401, 403):
        raise PrefectError(f"{server} refuses this user (HTTP {status}): set PREFECT_API_KEY or "
                           f"PREFECT_API_AUTH_STRING, or {_WITHOUT}")
    detail = f"HTTP {status}, so it may be no server of Prefect's" if status else _line(problem)
    mend = f"start it (`prefect server start`), or {_WITHOUT}" if server.origin else "try again"
    raise PrefectError(f"{server} does not answer as it should ({detail}); {mend}")


def check_again() -> None:
    """Raises: PrefectError where the server that `start` saw to does not answer any more."""
    for server in _used:
        check(server)


def start(lost: Lost) -> None:
    """See to a server for the flows of this process, and watch it; `stop` ends it.

    Args: lost: called from another thread, with a line about it, if the server goes away.
    Raises: PrefectError.
    """
    if (server := configured()) is None:
        _start_own(lost)
    else:
        check(server)
        _used.append(server)
        threading.Thread(target=_watch, args=(server, lost), daemon=True, name="watch Prefect").start()


def stop() -> None:
    """End the run's own server, if it has one, and remove its home, if that was for this run alone."""
    while _ours:
        _ours.pop()()


def _start_own(lost: Lost) -> None:
    from prefect.context import refresh_global_settings_context
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    environ = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1",
               **settings.to_environment_variables(exclude_unset=True)}
    named = DATABASE in environ or "PREFECT_SERVER_DATABASE_CONNECTION_URL" in environ
    database = _database(settings.home)
    if not named:
        environ[DATABASE] = f"sqlite+aiosqlite:///{database}"
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    ours, its_end = os.pipe()[::-1]
    with tempfile.TemporaryFile() as log:
        process = programs.start("flows.prefect_server", its_end, words=[str(port)], environ=environ,
                                 stderr=log, own_session=True)
        os.close(its_end)
        import_module("flows.ablation")         # while it starts: takes as long
        if (problem := _awaited(process, url, log)) is not None:
            os.close(ours)
            mend = f"{DATABASE} names its database" if named else \
                f"if its database is damaged, remove it: rm '{database}'"
            raise PrefectError(f"Prefect's own server did not start ({problem}); {mend}")
    os.environ["PREFECT_API_URL"] = url         # for processes of this run as well
    refresh_global_settings_context()
    _used.append(Server(url, None))
    _ours.append(lambda: os.close(ours))

    def watch() -> None:
        process.wait()
        if _ours:
            lost(f"Prefect's own server ended (exit code {process.returncode})")

    threading.Thread(target=watch, daemon=True, name="watch Prefect").start()


def _awaited(process: subprocess.Popen[bytes], url: str, log: IO[bytes]) -> str | None:
    """Wait until the server answers. Returns: why it does not, or None."""
    import httpx

    end = time.monotonic() + START_S
    with httpx.Client(timeout=ANSWER_S) as client:
        while time.monotonic() < end:
            if process.poll() is not None:
                log.seek(0)
                lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
                said = [line for line in lines if line[0] not in " \t" and "Error" in line.split(":")[0]]
                return plain(said[-1] if said else lines[-1] if lines else f"code {process.returncode}")
            with suppress(httpx.TransportError):
                if client.get(f"{url}/health").status_code == 200:
                    return None
            time.sleep(0.1)
    return f"no answer in {START_S:.0f} s"


def _watch(server: Server, lost: Lost, ask_every_s: float = ASK_EVERY_S, silent_s: float = SILENT_S,
           now_s: Callable[[], float] = time.monotonic) -> None:
    answered = now_s()
    while True:
        time.sleep(ask_every_s)
        try:
            check(server)
            answered = now_s()
        except PrefectError:
            if now_s() - answered >= silent_s:
                lost(f"{server} has not answered for {silent_s:.0f} s")
                return


def _database(home: Path) -> Path:
    import prefect

    return home / f"simsong-{prefect.__version__}.db"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _origin(profile: str) -> str:
    """Where PREFECT_API_URL is set, in the order in which Prefect looks."""
    if os.environ.get("PREFECT_API_URL"):
        return "the environment"
    with suppress(OSError, UnicodeError):
        lines = Path(".env").read_text("utf-8").splitlines()
        if any(line.removeprefix("export ").lstrip().startswith("PREFECT_API_URL") for line in lines):
            return "the file .env"
    for name, sections in (("prefect.toml", ("api",)), ("pyproject.toml", ("tool", "prefect", "api"))):
        with suppress(OSError, UnicodeError, tomllib.TOMLDecodeError, KeyError, TypeError):
            settings: Any = tomllib.loads(Path(name).read_text("utf-8"))
            for section in sections:
                settings = settings[section]
            if settings["url"]:
                return f"the file {name}"
    return f"Prefect's profile {profile}"


def _line(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return plain(f"{error.title}: {'.'.join(map(str, first['loc']))}: {first['msg']}")
    text = " ".join(str(error).split())
    return plain(f"{type(error).__name__}: {text}" if text else type(error).__name__)
