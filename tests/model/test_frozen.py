"""Networks of the hub as frozen encoders: small checkpoints of AST and CLAP, with random weights."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import pytest
import soxr
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTModel,
    BertConfig,
    BertModel,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    PreTrainedTokenizerFast,
)

from simsong.config import Config
from simsong.errors import ModelError
from simsong.model.frozen import ClapEncoder, load
from simsong.parts.stages import features_label
from simsong.pretrained.features import PATCH_SAMPLES, alone, song_features, version_of
from storage.store import Store
from tests.cli.test_cli import simsong
from tests.pretrained.test_features import published
from tests.small_world import RATE_HZ, configured, write_song

WORDS = ("<s>", "<pad>", "</s>", "<unk>", "calm", "piano", "loud", "guitar")
RNG = np.random.default_rng(0)
SOUND = (0.1 * RNG.standard_normal(2 * 16_000)).astype(np.float32)


def save_ast(folder: Path) -> Path:
    torch.manual_seed(0)
    ASTModel(ASTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                       max_length=98, num_mel_bins=32)).eval().save_pretrained(folder)
    ASTFeatureExtractor(num_mel_bins=32, max_length=98).save_pretrained(folder)
    return folder


def save_clap(folder: Path, fused: bool = False) -> Path:
    torch.manual_seed(0)
    audio = {"hidden_size": 16, "patch_embeds_hidden_size": 8, "depths": [1, 1],
             "num_attention_heads": [1, 2], "num_hidden_layers": 2, "spec_size": 64, "window_size": 4,
             "num_mel_bins": 32, "num_classes": 2, "enable_fusion": fused, "fusion_type": None}
    text = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 16, "max_position_embeddings": 40}
    config = ClapConfig(text_config=text, audio_config=audio, projection_dim=8)
    ClapModel(config).eval().save_pretrained(folder)
    ClapFeatureExtractor(feature_size=32, max_length_s=1, truncation="fusion" if fused else "rand_trunc"
                         ).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
                            pad_token="<pad>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_ast(tmp_path_factory.mktemp("small-ast"))


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clap(tmp_path_factory.mktemp("small-clap"))


def test_ast_is_transformers_own(ast: Path) -> None:
    network = load(str(ast))
    assert (network.rate_hz, network.patch, network.dim) == (16_000, 97 * 160 + 400, 32)
    features = network.features(SOUND, 1)
    start = (len(SOUND) - network.patch) // 2
    inputs = ASTFeatureExtractor.from_pretrained(ast)(SOUND[start:start + network.patch],
                                                      sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        theirs = ASTModel.from_pretrained(ast).eval()(**inputs)
    expected = torch.cat([theirs.pooler_output, theirs.last_hidden_state[:, 2:].mean(1)], 1).numpy()
    np.testing.assert_allclose(features, expected, atol=1e-5)


def test_clap_is_transformers_own(clap: Path) -> None:
    network = load(str(clap))
    assert isinstance(network, ClapEncoder)
    assert (network.rate_hz, network.patch, network.dim) == (48_000, 16_000, 8)
    features = network.features(SOUND, 2)
    patches = [soxr.resample(part, 16_000, 48_000) for part in (SOUND[:16_000], SOUND[16_000:])]
    inputs = ClapFeatureExtractor.from_pretrained(clap)(patches, sampling_rate=48_000, return_tensors="pt")
    theirs: Any = ClapModel.from_pretrained(clap).eval()
    words = PreTrainedTokenizerFast.from_pretrained(clap)(["calm piano"], return_tensors="pt")
    with torch.inference_mode():
        audio = theirs.get_audio_features(input_features=inputs["input_features"]).pooler_output
        text = theirs.get_text_features(words["input_ids"], words["attention_mask"]).pooler_output
    np.testing.assert_allclose(features, audio.numpy(), atol=1e-5)
    np.testing.assert_allclose(network.text("calm piano"), text[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    assert np.linalg.norm(network.text("loud guitar " * 100)) == pytest.approx(1, abs=1e-5)


def test_a_fused_clap_answers_the_same_each_time(tmp_path: Path) -> None:
    """Its extractor marks one of each batch at random as longer than it is."""
    network = load(str(save_clap(tmp_path / "fused", fused=True)))
    once, again = (network.features(SOUND, 2) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    np.testing.assert_allclose(network.features(SOUND[:16_000], 1), once[:1], atol=1e-5)


@pytest.mark.parametrize("kind", ["ast", "clap"])
def test_short_sounds_are_repeated_and_long_ones_heard_all_over(kind: str, request: Any) -> None:
    network = load(str(request.getfixturevalue(kind)))
    _, once = song_features(network, SOUND[:8_000], 1)
    _, twice = song_features(network, np.tile(SOUND[:8_000], 3)[:network.patch], 1)
    np.testing.assert_array_equal(once, twice)
    starts_s, result = song_features(network, np.tile(SOUND, 2), 3)
    assert result.shape == (3, network.dim) and alone("hub-x-1", result).shape == (network.dim,)
    middles_s = starts_s + PATCH_SAMPLES / RATE_HZ / 2
    np.testing.assert_allclose(middles_s, [2 / 3, 2.0, 10 / 3], atol=0.001)


def test_the_version_is_of_what_the_files_hold(ast: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(ast, tmp_path / ast.name)
    label = version_of(str(ast))
    assert label is not None and label.startswith("hub-small-ast") and version_of(str(copy)) == label
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    assert version_of(str(copy)) != label
    assert version_of("none") is None and version_of("nobody/no-such-network") is None


def test_wrong_and_damaged_ones_are_one_typed_error(ast: Path, clap: Path, tmp_path: Path) -> None:
    def damaged(source: Path, name: str, file: str, content: bytes | None) -> str:
        folder = shutil.copytree(source, tmp_path / name)
        (folder / file).unlink()
        if content is not None:
            (folder / file).write_bytes(content)
        return str(folder)

    weights = (clap / "model.safetensors").read_bytes()
    BertModel(BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
                         intermediate_size=8)).save_pretrained(tmp_path / "bert")
    other = json.loads((clap / "config.json").read_text())
    other["audio_config"]["hidden_size"] = other["audio_config"]["num_hidden_layers"] = "many"
    wrong = [str(tmp_path / "bert"), str(tmp_path), "no-such-network", str(tmp_path / "nothing"), "./nothing",
             "nobody/no-such-network",
             damaged(clap, "a", "model.safetensors", weights[:-100]),
             damaged(clap, "b", "model.safetensors", b""), damaged(clap, "c", "model.safetensors", None),
             damaged(clap, "d", "config.json", b"{"), damaged(clap, "e", "config.json", b"[]"),
             damaged(clap, "f", "config.json", json.dumps(other).encode()),
             damaged(clap, "g", "preprocessor_config.json", None),
             damaged(clap, "h", "preprocessor_config.json", b"{"),
             damaged(clap, "i", "tokenizer.json", b"{"),
             damaged(clap, "j", "model.safetensors", (ast / "model.safetensors").read_bytes()),
             damaged(ast, "k", "preprocessor_config.json", (clap / "preprocessor_config.json").read_bytes()),
             damaged(clap, "l", "preprocessor_config.json", (ast / "preprocessor_config.json").read_bytes())]
    for network in wrong:
        with pytest.raises(ModelError) as error:
            load(network).features(SOUND, 1)
        assert "\n" not in str(error.value), network


# From a folder of songs to answers

@pytest.fixture(scope="module")
def world(clap: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    root = tmp_path_factory.mktemp("world")
    for artist in ("ann", "bob", "cat", "dan", "eve", "fay"):
        write_song(root / "music", artist, lyrics=None)
    config = configured(root / "music", root / "store", pretrained={"patches": 3, "network": str(clap)},
                        training={"steps": 2, "batch": 4, "losses": ["ns"], "validation": 0.0})
    published(config)
    (root / "simsong.toml").write_text(
        f'store = "{config.store}"\n[segments]\nlength_s = 1.0\nhop_s = 1.0\n[trim]\nmode = "none"\n'
        f'[pretrained]\nnetwork = "{clap}"\npatches = 3\n')
    return config


def ask(config: Config, *words: str | Path, code: int = 0) -> Any:
    file = Path(config.store).parent / "simsong.toml"
    return simsong("similar", *words, "--config", file, "--json", code=code)


def test_words_find_songs_by_cosine(world: Config, clap: Path) -> None:
    store, network = Store.open(world.store), load(str(clap))
    assert isinstance(network, ClapEncoder)
    label = features_label(world)
    rows = store.read("features", partition=label).to_pylist()
    heard: dict[str, list[list[float]]] = {}
    for row in rows:
        heard.setdefault(row["track_id"], []).append(row["embedding"])
    assert len(heard) == 6 and all(len(patches) == 3 for patches in heard.values())
    for words in ("calm piano", "loud guitar"):
        query = network.text(words)
        cosines = {i: float(query @ np.mean(patches, 0) / np.linalg.norm(np.mean(patches, 0)))
                   for i, patches in heard.items()}
        answer = json.loads(ask(world, "--text", words).stdout)
        assert [row["track_id"] for row in answer] == sorted(cosines, key=lambda i: -cosines[i])
        for row in answer:
            assert row["score"] == pytest.approx(cosines[row["track_id"]], abs=1e-4)


def test_a_file_is_placed_by_a_network_of_the_hub(world: Config) -> None:
    file = next((Path(world.sources.folder[0]) / "cat").glob("*.wav"))
    first = json.loads(ask(world, file, "-k", "1").stdout)[0]
    assert first["artist"] == "cat" and first["score"] > 0.999


@pytest.mark.parametrize(("words", "said"), [
    ((), "nothing is asked"), (("ann", "--text", "calm"), "text is asked by itself"),
    (("--text", " "), "text needs words")])
def test_what_cannot_be_asked_is_one_line(world: Config, words: tuple[str, ...], said: str) -> None:
    output = ask(world, *words, code=1).stderr
    assert said in output and output.count("\n") == 1


@pytest.mark.parametrize("network", ["none", "auto", "{ast}", "nobody/clap"])
def test_without_a_text_side_it_is_one_line(world: Config, ast: Path, tmp_path: Path, network: str) -> None:
    text = (Path(world.store).parent / "simsong.toml").read_text().split("[pretrained]")[0]
    (tmp_path / "simsong.toml").write_text(f'{text}[pretrained]\nnetwork = "{network.format(ast=ast)}"\n')
    output = simsong("similar", "--text", "calm piano", "--config", tmp_path / "simsong.toml", code=1).stderr
    assert "text side" in output and output.count("\n") == 1


# The hub

class Hub(BaseHTTPRequestHandler):
    """As much of Hugging Face's hub as a download asks for: one repository, `small/clap`."""

    folder: Path
    commit = "0123456789abcdef0123456789abcdef01234567"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path, files = urlparse(self.path).path, sorted(file.name for file in self.folder.iterdir())
        name, content = path.rpartition("/")[2], None
        if path.startswith("/api/models/small/clap/tree/"):
            content = json.dumps([{"type": "file", "path": file, "oid": "0" * 40,
                                   "size": (self.folder / file).stat().st_size} for file in files]).encode()
        elif path.startswith("/api/models/small/clap"):
            content = json.dumps({"id": "small/clap", "sha": self.commit,
                                  "siblings": [{"rfilename": file} for file in files]}).encode()
        elif path.startswith("/small/clap/resolve/") and name in files:
            content = (self.folder / name).read_bytes()
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.send_header("X-Repo-Commit", self.commit)
        self.send_header("ETag", f'"{name}"')
        self.end_headers()
        if body and content is not None:
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub(clap: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Hub,), {"folder": clap})) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_hub_id_is_fetched_listed_and_removed(hub: str, clap: Path, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"HF_HOME": str(tmp_path), "HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0",
                        "HF_HUB_DISABLE_XET": "1"}.items():
        monkeypatch.setenv(name, value)

    def names() -> dict[str, bool]:
        rows = json.loads(simsong("pretrained", "list", "--json").stdout)
        return {row["name"]: row["here"] for row in rows}

    assert set(names()) == {"msd-musicnn", "mtt-musicnn"}
    done = simsong("pretrained", "fetch", "small/clap")
    assert done.stdout.startswith("small/clap is here: ")
    assert names()["small/clap"]
    folder = Path(done.stdout.strip().partition(": ")[2])
    kept = str(version_of(str(clap))).rpartition("-")[2]
    assert str(version_of(str(folder))).rpartition("-")[2] == kept
    assert simsong("pretrained", "remove", "small/clap").stdout == "small/clap is removed\n"
    assert set(names()) == {"msd-musicnn", "mtt-musicnn"}
    assert simsong("pretrained", "remove", "small/clap").stdout == "small/clap is not here\n"
    for network in ("small/other", "no-such-network", str(tmp_path)):
        output = simsong("pretrained", "fetch", network, code=1).stderr
        assert output.count("\n") == 1 and network in output


def test_offline_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    output = simsong("pretrained", "fetch", "small/clap", code=1).stderr
    assert output.count("\n") == 1 and "cannot be had from Hugging Face's hub (it does not answer)" in output
