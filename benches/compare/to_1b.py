#!/usr/bin/env python3
"""A GGUF file of the shape of Llama-Guard-3-1B with random weights, for the comparisons of this folder (`pip install gguf`).

    python3 benches/compare/to_1b.py SMALL.gguf OUT.gguf [F16 | BF16 | Q8_0]

Layers, widths and heads are those of Llama-3.2-1B, which Llama-Guard-3-1B has too; tokenizer and vocabulary are
SMALL's (a Llama model, such as SmolLM2-135M), and the output matrix is the embedding, as there. Speed does not depend on what the weights
are; what such a model says means nothing.
"""

import sys

import numpy
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, quantize

from to_f16 import FILE_TYPES, copy_metadata, save

LAYERS, HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD_DIM = 16, 2_048, 8_192, 32, 8, 64
SHAPE = {
    "block_count": LAYERS,
    "embedding_length": HIDDEN,
    "feed_forward_length": INTERMEDIATE,
    "attention.head_count": HEADS,
    "attention.head_count_kv": KV_HEADS,
    "attention.key_length": HEAD_DIM,
    "attention.value_length": HEAD_DIM,
    "rope.dimension_count": HEAD_DIM,
    "context_length": 8_192,
}
MATRICES = {
    "attn_q": (HEADS * HEAD_DIM, HIDDEN),
    "attn_k": (KV_HEADS * HEAD_DIM, HIDDEN),
    "attn_v": (KV_HEADS * HEAD_DIM, HIDDEN),
    "attn_output": (HIDDEN, HEADS * HEAD_DIM),
    "ffn_gate": (INTERMEDIATE, HIDDEN),
    "ffn_up": (INTERMEDIATE, HIDDEN),
    "ffn_down": (HIDDEN, INTERMEDIATE),
}
SCALE = 0.02


def write(small, target, kind="F16"):
    reader = GGUFReader(small)
    writer = GGUFWriter(target, arch="llama")
    copy_metadata(reader, writer, lambda name: name.startswith(("general.", "split.")) or name.removeprefix("llama.") in SHAPE)
    for name, number in SHAPE.items():
        writer.add_uint32(f"llama.{name}", number)
    writer.add_name("the shape of Llama-Guard-3-1B, random weights")
    writer.add_file_type(FILE_TYPES[kind])
    random = numpy.random.default_rng(0)

    def matrix(name, shape):
        numbers = random.standard_normal(shape, dtype=numpy.float32) * SCALE
        writer.add_tensor(name, quantize(numbers, GGMLQuantizationType[kind]), raw_dtype=GGMLQuantizationType[kind])

    def norm(name):
        writer.add_tensor(name, numpy.ones(HIDDEN, dtype=numpy.float32))

    vocabulary = len(reader.fields["tokenizer.ggml.tokens"].contents())
    matrix("token_embd.weight", (vocabulary, HIDDEN))
    norm("output_norm.weight")
    for layer in range(LAYERS):
        for name, shape in MATRICES.items():
            matrix(f"blk.{layer}.{name}.weight", shape)
        norm(f"blk.{layer}.attn_norm.weight")
        norm(f"blk.{layer}.ffn_norm.weight")
    save(writer)


if __name__ == "__main__":
    write(*sys.argv[1:])
