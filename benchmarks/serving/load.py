"""`simsong serve` under load: 50 clients ask for similar songs twice a second each, whether or not they were
answered (open loop), while another export is published. Prints latencies from when each request was due,
failures, memory.

`python -m benchmarks.serving.load [SONGS]`
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa

from simsong.config_loader import load
from simsong.parts.stages import MFCC, RunContext
from storage.store import Store
from tasks.export import export
from tasks.index import index

DIM, SHARD, CLIENTS, EACH_S, SECONDS = 200, 4096, 50, 0.5, 60.0


def build(root: str, songs: int) -> None:
    rng = np.random.default_rng(0)
    ids = [f"TR{i:07d}" for i in range(songs)]
    artists = rng.standard_normal((songs // 8 + 1, DIM)).astype(np.float32)
    with Store.writing(root) as store:
        store.write(
            "tracks",
            [
                pa.table(
                    {
                        "track_id": ids,
                        "artist": [f"Artist {i // 8}" for i in range(songs)],
                        "title": [f"Song {i}" for i in range(songs)],
                        "release": [f"Album {i // 10}" for i in range(songs)],
                        "year": pa.array([1960 + i % 60 for i in range(songs)], pa.int16()),
                        "source": ["table"] * songs,
                        "shard": pa.array([i // SHARD for i in range(songs)], pa.int32()),
                    }
                )
            ],
            "id",
        )
        for shard, first in enumerate(range(0, songs, SHARD)):
            rows = np.arange(first, min(first + SHARD, songs))
            vectors = artists[rows // 8] + rng.standard_normal((len(rows), DIM)).astype(np.float32)
            column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM)
            part = pa.table({"track_id": [ids[i] for i in rows], "embedding": column})
            store.write("track_embeddings", [part], "id", shard=shard, partition=MFCC)
        publish(root, store)


def publish(root: str, store: Store, name: str = "") -> None:
    config = load(None, {"store": root, "publish": {"model": "mfcc"}}, {})
    assert store.generation is not None
    if name:
        rows = store.read("tracks")
        titles = rows["title"].to_pylist()
        titles[0] = name
        store.write(
            "tracks", [rows.set_column(rows.schema.get_field_index("title"), "title", pa.array(titles))], name
        )
    run = RunContext(config=config, generation=store.generation)
    export.fn(run=run, after=[])
    index.fn(run=run, after=[])


async def ask(address: str, songs: int, replies: list[tuple[float, int]]) -> None:
    """One client, light: what it costs is taken from the server, where both share the cores."""
    rng = random.Random(os.urandom(8))
    host, _, port = address.removeprefix("http://").partition(":")
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def one(due: float) -> None:
        status = 0
        try:
            while idle and idle[-1][0].at_eof():        # the server has closed it meanwhile
                idle.pop()
            reader, writer = idle.pop() if idle else await asyncio.open_connection(host, int(port))
            number = rng.randrange(songs)
            writer.write(
                f"GET /api/similar?like=TR{number:07d}&k=10 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            body = await reader.readexactly(length)
            status = int(head[9:12]) if body.count(b'"rank":') == 10 else 0
            idle.append((reader, writer))
        except (OSError, ValueError, asyncio.IncompleteReadError):
            pass
        replies.append((time.monotonic() - due, status))

    await asyncio.sleep(rng.random() * EACH_S)
    began, waiting = time.monotonic(), list[asyncio.Task[None]]()
    for number in range(int(SECONDS / EACH_S)):
        due = began + number * EACH_S
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        waiting.append(asyncio.create_task(one(due)))
    await asyncio.gather(*waiting)
    for _, writer in idle:
        writer.close()


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


async def measure_one(address: str, root: str, songs: int, pid: int) -> None:
    replies: list[tuple[float, int]] = []
    asking = [asyncio.create_task(ask(address, songs, replies)) for _ in range(CLIENTS)]
    await asyncio.sleep(5)
    before_mb, seen_s, before_s = memory_mb(pid), None, cpu_s(pid)
    name = f"renamed {time.time_ns()}"
    await asyncio.sleep(SECONDS / 2 - 5)
    script = (
        "import sys; from storage.store import Store; from benchmarks.serving.load import publish\n"
        "with Store.writing(sys.argv[1]) as store: publish(sys.argv[1], store, sys.argv[2])"
    )
    publishing = await asyncio.create_subprocess_exec(sys.executable, "-c", script, root, name)
    await publishing.wait()
    done = time.monotonic()
    async with httpx.AsyncClient(base_url=address, timeout=30) as client:
        while seen_s is None and time.monotonic() - done < 30:
            if (await client.get("/api/songs", params={"q": name})).json()["total"]:
                seen_s = time.monotonic() - done
            await asyncio.sleep(0.1)
    await asyncio.gather(*asking)
    times_ms = 1000 * np.array([seconds for seconds, _ in replies])
    failures = sum(status != 200 for _, status in replies)
    p50, p95, p99 = np.percentile(times_ms, [50, 95, 99])
    print(
        f"{songs:,} songs; {len(replies):,} requests, {len(replies) / SECONDS:.0f}/s, {failures} failed; "
        f"ms: p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f}, most {times_ms.max():.0f}; "
        f"processor s: server {cpu_s(pid) - before_s:.1f}, clients {time.process_time():.1f}; "
        f"memory {before_mb:.0f} -> {memory_mb(pid):.0f} MB; "
        f"publish seen after {seen_s or float('nan'):.1f} s; "
        f"load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )


def main(songs: int = 100_000) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = os.environ.get("SERVING_STORE") or f"{folder}/store"
        if not Path(root).exists():
            began = time.monotonic()
            build(root, songs)
            print(f"built in {time.monotonic() - began:.0f} s")
        server = subprocess.Popen(
            [sys.executable, "-m", "simsong.cli", "serve", "--store", root, "--port", "0"],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[0].rstrip("/")
            while True:
                try:
                    httpx.get(f"{address}/api/ready", timeout=60).raise_for_status()
                    break
                except httpx.HTTPError:
                    time.sleep(0.5)
            asyncio.run(measure_one(address, root, songs, server.pid))
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
