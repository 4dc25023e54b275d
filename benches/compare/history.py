#!/usr/bin/env python3
"""A whole conversation, every message of it scored: throughline's message heads, and peers that are asked for a verdict a turn.

    cargo build --release
    pip install torch transformers accelerate gguf openvino-genai llama-cpp-python   # peers that are missing are left out, and said so
    python3 benches/compare/history.py MODEL.gguf [--threads 2] [--rounds 3] [--turns 60] [--tokens 5800] [--window 2048]
        [--policy-tokens 350] [--room 1 0.5] [--llama-build avx2=FOLDER] [--llama-model MODEL-bf16.gguf]

MODEL.gguf is a Llama model with SmolLM2's vocabulary (`tokenizer.ggml.pre` is `smollm`), in F16 (`to_f16.py` makes one).

The conversation: --turns messages of --tokens tokens in all, the user's and the assistant's by turns, of everyday words from a list
drawn from a seed, in one session. Every round has another one, and every --room another with messages as long, so that no peer
finds in its cache what it was asked before.

throughline: one `throughline score` of the conversation by MODEL.gguf's own weights with message heads that say "nothing" (weights of
zero: what they cost is the same, and no evidence is carried into later windows, as in any conversation that harms nobody). A
process begins anew each time and reads the model: that part is the same command on one message of one word, run just before, and is
taken off; so one message of some 15 tokens too many is. Included: reading the file, tokenising, the detectors, writing the
scores. `embedded` is the same with the model that throughline comes with: smaller, not the peers' weights, but what one would use.
`in words` is MODEL.gguf read as a guard that answers in words: one verdict a message, in the peers' own prompts, which a chat template
writes that is put into the model for that; more is read than by peers, whole verdicts ("safe", "unsafe" and two codes) where they
read one token. A model that is no guard puts no probability on them, so that each is refused after it has cost what it costs; and taken
off with the start is one policy and one verdict.

Peers: after every message one verdict, the next token's logits, on a prompt of the policy (--policy-tokens tokens, the same in all
rounds), the last messages that fit into --window tokens with it, and the opening of the assistant's turn. Each keeps the keys and values
of what it has read and reads only what is new behind the longest common beginning: transformers a cache that is cut back to it,
OpenVINO GenAI its paged cache with `enable_prefix_caching`, llama.cpp the prompt cache of llama-cpp-python's `generate`, as
llama-server's slots do it. When the window is full, messages are dropped at its beginning, and behind the policy nothing is alike any more.
--room says how much of the room for messages is filled again then: 1, as many as fit, so that every verdict sees the most and almost
every prompt begins anew; 0.5, half, so that the next ones go on from it, as throughline's windows do (from a quarter). Prompts are
made and tokenised beforehand, and models loaded: the sum of the verdicts' times is measured, and nothing else.

Not measured: memory, several conversations side by side, whether a verdict is any good. Every round runs every engine once, every other
round in the opposite order; the table has medians of seconds, and the medians of the rounds' ratios to throughline.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peers import BINARY, add_arguments, serve, started, torch_model, wanted
from to_f16 import copy

WORDS = ("garden bread letter window morning train river winter recipe chapter bicycle ticket coffee music report shoes market question "
         "answer weekend budget lesson photo travel summer paper kettle corner story rain soup paint meeting invoice holiday piano tax "
         "spring football carpet beach kitchen street dinner project picture yellow green heavy quiet slow early tired often never "
         "always walked called asked found bought read wrote maybe today tomorrow because before after about with without under over "
         "from into the and but our then there again still some more every other").split()
ROLES = ("user", "assistant")
CODES = ("S1", "S2")
HEADS = {"harassment": [0, 1, 2, 3], "delusion": [0, 1, 2, 3], "stance": [-1, 0, 1, 2], "imminent": [0, 1]}
NO, YES = -20.0, 20.0  # logits of heads that say "nothing"
POLICY_SEED = 0
TURN_TOKENS = 5  # of a turn without a word: <|im_start|>, role, line end, <|im_end|>, line end


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(p)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--turns", type=int, default=60)
    p.add_argument("--tokens", type=int, default=5_800)
    p.add_argument("--window", type=int, default=2_048)
    p.add_argument("--policy-tokens", type=int, default=350)
    p.add_argument("--room", type=float, nargs="+", default=[1.0, 0.5])
    p.add_argument("--seed", type=int, default=1)
    return p.parse_args()


# The conversation, as text and as prompts.


class Chat:
    """Token ids of a chat in SmolLM2's template (ChatML)."""

    def __init__(self, path):
        from gguf import GGUFReader
        from tokenizers import Tokenizer, models, pre_tokenizers

        fields = GGUFReader(path).fields
        if fields["tokenizer.ggml.pre"].contents() != "smollm":
            sys.exit(f"error: {path} has another vocabulary than SmolLM2's")
        vocabulary = {token: i for i, token in enumerate(fields["tokenizer.ggml.tokens"].contents())}
        merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
        self.tokenizer = Tokenizer(models.BPE(vocabulary, merges))
        self.tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                                pre_tokenizers.ByteLevel(add_prefix_space=False)])
        self.start, self.end = vocabulary["<|im_start|>"], vocabulary["<|im_end|>"]

    def ids(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def turn(self, role, content):
        return [self.start, *self.ids(f"{role}\n{content}"), self.end, *self.ids("\n")]

    def opening(self):
        return [self.start, *self.ids("assistant\n")]


def words(seed, count):
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def conversation(args, chat, seed, variant=0):
    """[(role, content)]: messages of unlike lengths, from half to one and a half of their mean, which add up to about --tokens.
    Variants have other words in messages as long."""
    around = len(chat.turn("user", ""))
    chooser = random.Random(seed)
    parts = [chooser.uniform(0.5, 1.5) for _ in range(args.turns)]
    scale = (args.tokens - around * args.turns) / sum(parts)
    return [(ROLES[i % 2], words((seed * 100 + variant) * 10_000 + i, max(1, round(part * scale)))) for i, part in enumerate(parts)]


def policy_words(args):
    """As many words, each a token, as make a turn of --policy-tokens."""
    return words(POLICY_SEED, args.policy_tokens - TURN_TOKENS)


def prompts(args, chat, messages, room):
    """Token ids of a prompt after every message: the policy, the last messages that fit, the opening of the answer."""
    policy = chat.turn("system", policy_words(args)) if args.policy_tokens else []
    free = args.window - len(policy) - len(chat.opening())
    kept, found = [], []
    for role, content in messages:
        kept.append(chat.turn(role, content))
        if sum(map(len, kept)) > free:
            while len(kept) > 1 and sum(map(len, kept)) > room * free:
                kept.pop(0)
        found.append([*policy, *(token for turn in kept for token in turn), *chat.opening()])
    return found


def common(a, b):
    """How many tokens both begin with."""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


# throughline.


def with_heads(source, target):
    """The model with heads that say "nothing", in F16."""
    import numpy
    from gguf import GGUFReader

    hidden = int(GGUFReader(source).fields["llama.embedding_length"].contents())

    def add(writer):
        writer.add_string("throughline.heads", json.dumps({name: {"labels": labels, "temperature": 1.0} for name, labels in HEADS.items()}))
        for name, labels in HEADS.items():
            bias = [YES if name == "stance" and label == 0 else NO for label in labels[1:]]
            writer.add_tensor(f"head.{name}.weight", numpy.zeros((1, hidden), numpy.float32))
            writer.add_tensor(f"head.{name}.bias", numpy.array(bias, numpy.float32))

    copy(source, target, "F16", add)


def with_template(args, target):
    """(the model with a chat template that writes the peers' prompts, its categories): a guard, as far as its prompts go."""
    policy = "<|im_start|>system\n" + policy_words(args) + "<|im_end|>\n" if args.policy_tokens else ""
    template = ("{#- <BEGIN UNSAFE CONTENT CATEGORIES> <BEGIN CONVERSATION> -#}{%- set codes = categories -%}" + policy
                + "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'][0]['text'] }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n")
    copy(args.model, target, "F16", lambda writer: writer.add_chat_template(template), ("tokenizer.chat_template",))
    categories = target.with_suffix(".toml")
    listed = "".join(f'[[category]]\nid = "{code}"\ntitle = "{code}"\nrisk = "harassment"\n' for code in CODES)
    categories.write_text('list = "replace"\n' + listed)
    return categories


def scored(args, model, messages, folder, categories):
    """Seconds of one `throughline score`, and what its summary says; where there are categories, of a guard that answers in words."""
    chat, out = folder / "chat.jsonl", folder / "scores.jsonl"
    chat.write_text(json.dumps({"user_id": "u", "session_id": "s", "messages": [{"role": r, "content": c} for r, c in messages]}) + "\n")
    command = [BINARY, "score", chat, "--model", model, "--threads", str(args.threads), "--window-tokens", str(args.window),
               "--output", out, "--quiet"]
    if categories:
        command += ["--guard", "llama-guard-3-1b", "--categories", categories]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode != 0 and not (categories and "the guard refused to judge every message" in done.stderr):
        sys.exit(done.stderr.strip() or f"error: throughline ended with {done.returncode}")
    records = [json.loads(line) for line in out.read_text().splitlines()]
    if sum(record["type"] == "message" for record in records) != len(messages):
        sys.exit("error: throughline did not score every message")
    return seconds, next(record["notes"] for record in records if record["type"] == "history")


def ours(args, model, messages, folder, categories=None):
    """Seconds of the conversation, without what one word takes."""
    start, _ = scored(args, model, [("user", "hello")], folder, categories)
    whole, notes = scored(args, model, messages, folder, categories)
    print(f"  throughline: {start:.2f} s to start, {whole:.2f} s in all, {notes['tokens']} tokens read in {notes['windows']} windows",
          file=sys.stderr)
    return whole - start


# Peers: each a function that takes a prompt's ids and returns when the verdict is there.


def torch_peer(args, dtype):
    import torch
    from transformers import DynamicCache

    model = torch_model(args.model, dtype, args.threads)
    cache, before = DynamicCache(config=model.config), []

    def verdict(ids):
        nonlocal before
        alike = min(common(before, ids), len(ids) - 1)
        if alike < len(before):
            cache.crop(alike - len(before))
        with torch.inference_mode():
            model(torch.tensor([ids[alike:]]), past_key_values=cache, use_cache=True, logits_to_keep=1)
        before = ids
        if cache.get_seq_length() != len(ids):
            raise RuntimeError("the cache was not cut")

    return verdict


def openvino_peer(args, _):
    import numpy
    import openvino
    import openvino_genai

    scheduler = openvino_genai.SchedulerConfig()
    scheduler.enable_prefix_caching = True
    scheduler.max_num_batched_tokens = 2 * args.window  # a prompt in one pass
    scheduler.cache_size = 2  # GB
    pipe = openvino_genai.LLMPipeline(args.model, "CPU", scheduler_config=scheduler, INFERENCE_NUM_THREADS=args.threads)
    settings = openvino_genai.GenerationConfig(max_new_tokens=1, do_sample=False, ignore_eos=True)

    def verdict(ids):
        ids = numpy.array([ids], numpy.int64)
        mask = numpy.ones_like(ids)
        pipe.generate(openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(mask)), settings)

    return verdict


def llama_peer(args, attention):
    import llama_cpp

    model = llama_cpp.Llama(args.model, n_ctx=args.window + 64, n_batch=args.window, n_threads=args.threads,
                            n_threads_batch=args.threads, flash_attn=attention == "flash", verbose=False)

    def verdict(ids):
        next(model.generate(ids, temp=0.0))

    return verdict


PLAIN = {"transformers bf16": "torch:bfloat16", "OpenVINO GenAI": "openvino:"}
PEERS = {"torch": torch_peer, "openvino": openvino_peer, "llama": llama_peer}


def answers(args):
    """One peer: the seconds that it takes for the prompts of a file."""
    which, how = args.serve.split(":")
    verdict = PEERS[which](args, how)

    def answer(path):
        asked = json.loads(Path(path).read_text())
        start = time.perf_counter()
        for ids in asked:
            verdict(ids)
        return time.perf_counter() - start

    return answer


# The comparison.


def engines(args, chat, folder):
    """Every row's name, and what tells its seconds of the conversation of a seed."""
    model, guard = folder / "heads.gguf", folder / "guard.gguf"
    with_heads(args.model, model)
    own = {"throughline": (model,), "throughline, embedded": ("embedded",), "throughline, in words": (guard, with_template(args, guard))}
    found = {name: lambda seed, how=how: ours(args, how[0], conversation(args, chat, seed), folder, *how[1:]) for name, how in own.items()}
    command = lambda which, model: [__file__, model, "--threads", args.threads, "--window", args.window, "--serve", which]
    file = folder / "prompts.json"

    def asked(peer, room, seed, turns=None):
        messages = conversation(args, chat, seed, args.room.index(room))[:turns]
        file.write_text(json.dumps(prompts(args, chat, messages, room)))
        return peer.ask(file)

    for peer in started(args, PLAIN, command):
        asked(peer, args.room[0], args.seed + args.rounds, 3)  # not counted: it reads the policy, and compiles what it compiles
        for room in args.room:
            found[f"{peer.name}, room {room:g}"] = lambda seed, peer=peer, room=room: asked(peer, room, seed)
    return {name: run for name, run in found.items() if name == "throughline" or wanted(args, name)}


def tell_prompts(args, chat):
    """What the peers are asked, of the first round's conversation."""
    messages = conversation(args, chat, args.seed)
    tokens = sum(len(chat.turn(*message)) for message in messages)
    print(f"{len(messages)} messages, {tokens} tokens; a policy of {args.policy_tokens}, a window of {args.window}; {args.threads} threads")
    for room in args.room:
        asked = prompts(args, chat, messages, room)
        alike = sum(common(a, b) for a, b in zip(asked, asked[1:]))
        print(f"room {room:g}: prompts of {sum(map(len, asked))} tokens, of which {alike} begin as in the prompt before", flush=True)


def measure(args, found):
    """{row: its seconds by round}; what failed once is asked no more."""
    seconds = {name: [] for name in found}
    for number in range(args.rounds):
        for name in list(found) if number % 2 == 0 else list(reversed(found)):
            print(f"round {number + 1} of {args.rounds}, {name}", file=sys.stderr, flush=True)
            if (took := found[name](args.seed + number)) is None:
                del seconds[name], found[name]
            else:
                seconds[name].append(took)
    return seconds


def main():
    args = arguments()
    if args.serve:
        return serve(answers(args))
    chat = Chat(args.model)
    tell_prompts(args, chat)
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(args, engines(args, chat, Path(folder)))
    print(f"{'medians of ' + str(args.rounds) + ' rounds':50}{'seconds':>10}{'ratio':>10}")
    for name, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(times, seconds["throughline"]))
        print(f"{name:50}{statistics.median(times):>10.2f}{ratio:>10.2f}")


if __name__ == "__main__":
    main()
