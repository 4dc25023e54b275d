#!/usr/bin/env python3
"""Prefill of one model by throughline and by its peers, side by side in one run.

    cargo build --release
    pip install torch transformers accelerate gguf openvino-genai   # peers that are missing are left out, and said so
    python3 benches/compare/prefill.py MODEL.gguf [--threads 2] [--shapes 1x512 1x2048 8x512] [--rounds 5]
        [--llama-build avx2=FOLDER] [--llama-model MODEL-bf16.gguf] [--to "throughline avx512-bf16" "throughline avx2"]

MODEL.gguf is a Llama model that all of them read, such as SmolLM2-135M-Instruct in F16 (`to_f16.py` beside this makes one of any
other, `to_1b.py` one of the shape of Llama-Guard-3-1B). llama.cpp is llama-cpp-python, built by pip as `peers.py` says: of MODEL.gguf's types it is not fastest in every one, hence
--llama-model (`to_f16.py … BF16`, `… Q8_0`), and it is asked with its flash attention and without.

What is measured: the time from a batch of token ids until the last token's logits, or hidden state, of every sequence are there.
Every round runs every engine once on every shape, one after another, so that what else the machine does falls on all alike; every
other round runs them in the opposite order. The table gives medians in tokens a second, and the medians of the rounds' ratios to
throughline's fastest kernel, or to the rows that --to names. A shape's first run is not counted. One process an engine, all on the
same threads; throughline begins a new one each time, and runs the shape once before it counts.

Caches: token ids are random and new in every call, so that no peer finds a prefix of its own; PyTorch keeps no cache, OpenVINO's has
no prefixes here, and llama.cpp's is emptied before every call. throughline's ids are the same in every process, but it keeps
nothing from one forward pass to the next.

Not measured: loading, tokenising, memory, anything after the first token. throughline, llama.cpp and PyTorch leave out the output
matrix at all positions but the last; throughline and llama.cpp also most of the last layer there. candle's operations take minutes at
8x512: --engines leaves them out.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

from peers import BINARY, add_arguments, serve, started, torch_model, wanted

VOCAB = 40_000  # ids below it are words in every Llama vocabulary of the size of SmolLM2's
UBATCH = 512  # llama.cpp's tokens of one graph, its default


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(p)
    p.add_argument("--shapes", nargs="+", default=["1x512", "1x2048", "8x512"])
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--to", nargs="+", help="the rows that ratios are to")
    return p.parse_args()


def sizes(shape):
    return tuple(int(n) for n in shape.split("x"))


def ours(args, kernel, shape):
    """Tokens a second of `throughline model speed`, one repeat after one that is not counted."""
    command = [BINARY, "model", "speed", "--model", args.model, "--kernel", kernel, "--shape", shape,
               "--threads", str(args.threads), "--repeat", "1", "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["shapes"][0]["tokens_per_second"]


def kernels(args):
    """The kernels that this processor has and this model leaves room for, by asking."""
    found = []
    for kernel in ("amx-bf16", "amx-int8", "avx512-bf16", "avx512-vnni", "avx512", "avx2", "neon", "candle"):
        command = [BINARY, "model", "speed", "--model", args.model, "--kernel", kernel, "--shape", "1x16", "--repeat", "1"]
        if wanted(args, f"throughline {kernel}") and subprocess.run(command, capture_output=True).returncode == 0:
            found.append(kernel)
    return found


def torch_peer(args, dtype):
    import torch

    model = torch_model(args.model, dtype, args.threads)

    def prefill(sequences, tokens):
        ids = torch.randint(VOCAB, (sequences, tokens))
        with torch.inference_mode():
            model(ids, use_cache=False, logits_to_keep=1)

    return prefill


def openvino_peer(args, _):
    import numpy
    import openvino
    import openvino_genai

    pipe = openvino_genai.LLMPipeline(args.model, "CPU", INFERENCE_NUM_THREADS=args.threads, ATTENTION_BACKEND="SDPA")
    settings = openvino_genai.GenerationConfig(max_new_tokens=1, do_sample=False, ignore_eos=True)

    def prefill(sequences, tokens):
        ids = numpy.random.randint(VOCAB, size=(sequences, tokens), dtype=numpy.int64)
        mask = numpy.ones_like(ids)
        pipe.generate(openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(mask)), settings)

    return prefill


def llama_peer(args, attention):
    """By the bindings of llama.cpp's own functions, for what lies above them reads one sequence at a time."""
    import llama_cpp
    import numpy

    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(args.model.encode(), llama_cpp.llama_model_default_params())
    made = {}

    def prefill(sequences, tokens):
        if (sequences, tokens) not in made:
            made[sequences, tokens] = (llama_context(model, sequences, tokens, (args.threads, attention)),
                                       llama_batch(sequences, tokens))
        context, (batch, ids) = made[sequences, tokens]
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), False)
        ids[:] = numpy.random.randint(VOCAB, size=len(ids))
        if llama_cpp.llama_decode(context, batch) != 0:
            raise RuntimeError(f"llama_decode failed at {sequences}x{tokens}")
        llama_cpp.llama_synchronize(context)

    return prefill


def llama_context(model, sequences, tokens, how):
    """A cache for the sequences, each with a part of its own, so that none is compared with another's keys."""
    import llama_cpp

    threads, attention = how
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx = settings.n_batch = sequences * tokens
    settings.n_ubatch = min(UBATCH, settings.n_batch)
    settings.n_seq_max = sequences
    settings.kv_unified = False
    settings.n_threads = settings.n_threads_batch = threads
    flash = attention == "flash"
    settings.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED if flash else llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return llama_cpp.llama_init_from_model(model, settings)


def llama_batch(sequences, tokens):
    """A batch, its last tokens' logits asked for, and the array of its ids."""
    import llama_cpp
    from numpy.ctypeslib import as_array

    count = sequences * tokens
    batch = llama_cpp.llama_batch_init(count, 0, 1)
    batch.n_tokens = count
    for i in range(count):
        batch.pos[i] = i % tokens
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = i // tokens
        batch.logits[i] = i % tokens == tokens - 1
    return batch, as_array(batch.token, (count,))


PLAIN = {"PyTorch bf16": "torch:bfloat16", "PyTorch f32": "torch:float32", "OpenVINO GenAI": "openvino:"}
PEERS = {"torch": torch_peer, "openvino": openvino_peer, "llama": llama_peer}


def answers(args):
    """One peer: tokens a second of a shape, which runs once before it counts."""
    which, how = args.serve.split(":")
    prefill = PEERS[which](args, how)
    warm = set()

    def answer(shape):
        sequences, tokens = sizes(shape)
        if shape not in warm:
            warm.add(shape)
            prefill(sequences, tokens)
        start = time.perf_counter()
        prefill(sequences, tokens)
        return sequences * tokens / (time.perf_counter() - start)

    return answer


def engines(args):
    """Every engine's name, and what tells its tokens a second of a shape; throughline's kernels first, the fastest before others."""
    found = {f"throughline {kernel}": lambda shape, kernel=kernel: ours(args, kernel, shape) for kernel in kernels(args)}
    command = lambda which, model: [__file__, model, "--threads", args.threads, "--serve", which]
    return found | {peer.name: peer.ask for peer in started(args, PLAIN, command)}


def measure(args, found):
    """{(engine, shape): its rates by round}; what failed once is asked no more."""
    rates = {(name, shape): [] for name in found for shape in args.shapes}
    for number in range(args.rounds):
        order = list(found) if number % 2 == 0 else list(reversed(found))
        for shape in args.shapes:
            print(f"round {number + 1} of {args.rounds}, {shape}", file=sys.stderr, flush=True)
            for name in (name for name in order if (name, shape) in rates):
                if (rate := found[name](shape)) is None:
                    del rates[name, shape]
                else:
                    rates[name, shape].append(rate)
    return rates


def cell(rates, name, shape, to):
    """`tokens a second (ratios)`."""
    if (name, shape) not in rates:
        return "-"
    ratios = []
    for other in to:
        pairs = zip(rates[name, shape], rates.get((other, shape), []))
        ratio = [a / b for a, b in pairs]
        ratios.append(f"{statistics.median(ratio):.2f}" if ratio else "-")
    return f"{statistics.median(rates[name, shape]):.0f} ({', '.join(ratios)})"


def main():
    args = arguments()
    if args.serve:
        return serve(answers(args))
    found = engines(args)
    if not found:
        sys.exit("error: no engine by these names")
    to = args.to or [next(iter(found))]
    if unknown := [name for name in to if name not in found]:
        sys.exit(f"error: --to {unknown[0]}: no such row; hint: {', '.join(found)}")
    rates = measure(args, found)
    print(f"tokens/s (ratio to {', to '.join(to)}), {args.threads} threads, medians of {args.rounds} rounds")
    print(f"{'':50}" + "".join(f"{shape:>22}" for shape in args.shapes))
    for name in found:
        print(f"{name:50}" + "".join(f"{cell(rates, name, shape, to):>22}" for shape in args.shapes))


if __name__ == "__main__":
    main()
