#!/usr/bin/env python3
"""Record what Hugging Face transformers makes of chat templates, for tests/guard_templates.rs,
and what `tokenizers` makes of prompts, for tests/guard_tokens.rs.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install -r tests/golden/templates/requirements.txt
    /tmp/golden/bin/python tests/golden/templates/record.py

Writes, beside this file:
  chats.json      500 chats from a seeded generator: Unicode, line ends, braces, Jinja, control tokens, nothing
  golden.json     for each template and chat the first 16 digits of the rendering's SHA-256, or `!` and
                  the exception's message; and the first two renderings whole
  tokenizer.json  a byte-level BPE tokenizer with Llama 3's way of splitting, trained on the renderings
  tokens.json     token ids of whole rendered prompts
The templates are the built-in ones of src/guard/llama_guard, and two of this folder's own. The real
models' templates are behind a licence gate and were not used.
"""

import hashlib
import json
import random
from pathlib import Path

import jinja2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers.utils.chat_template_utils import render_jinja_template

HERE = Path(__file__).parent
BUILT_IN = HERE.parents[2] / "src" / "guard" / "llama_guard"
PIECES = [
    "hello", "She ", "leaves at six", " ", "  ", "\n", "\n\n", "\t", "\r\n", "\r", "\u00a0", "\u2028", "\x1c", "\x1f", "\x00", "\x85",
    "é", "e\u0301", "漢字", "😀", "👩‍👩‍👧", "\u200b", "\ufeff", "ß", "İ", "{{", "}}", "{% if x %}", "{%", "%}", "{#", "#}", "{{ 7*7 }}",
    "{", "}", "'", '"', "\\", "\\n", "<b>&amp;</b>", "<|eot_id|>", "<|begin_of_text|>", "<|start_header_id|>user<|end_header_id|>",
    "[INST]", "[/INST]", "<<SYS>>", "</s>", "<s>", "User: ", "\nAgent: ", "<END CONVERSATION>", "<BEGIN CONVERSATION>", "safe", "unsafe\nS1",
    "skip", "</think>", "0", "123", "e", "a", "x", "y", "…", "%s", "$", "`",
]
ROLES = ["user", "assistant"]
EXTRAS = {"a": "1 & 2", "b": "<ü>"}
CATEGORIES = {"S1": "One thing", "S3": "Another: with a colon", "S20": "Ünïcode"}
# Name, source, variables.
CASES = [
    ("family1", "<s>", {}), ("family2", "<|begin_of_text|>", {}), ("family3_8b", "<|begin_of_text|>", {}),
    ("family3_1b", "<|begin_of_text|>", {}),
    ("family3_1b+categories", "<|begin_of_text|>", {"categories": CATEGORIES}),
    ("family3_1b+excluded", "<|begin_of_text|>", {"excluded_category_keys": ["S2", "S13"]}),
    ("oneline", "<s>", {}), ("stress", "<s>", {"extras": EXTRAS}),
]


def text(rng):
    kind = rng.random()
    if kind < 0.06:
        return ""
    if kind < 0.10:
        return rng.choice([" ", "\n", "\t\n ", "\u00a0", "\x1c", "\u2003\u200b"])
    return "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 7)))


def chats():
    rng = random.Random(20260801)
    made = []
    for _ in range(500):
        turns = rng.choice([1, 1, 2, 3, 4, 5])
        # One in ten does not alternate; one in ten begins with a system message.
        roles = [rng.choice(ROLES + ["system"]) if rng.random() < 0.5 else ROLES[i % 2] for i in range(turns)] \
            if rng.random() < 0.1 else [ROLES[i % 2] for i in range(turns)]
        if rng.random() < 0.1:
            roles.insert(0, "system")
        made.append([{"content": text(rng), "role": role} for role in roles])
    return made


def source(name):
    name = name.split("+")[0]
    path = BUILT_IN / f"{name}.jinja"
    return (path if path.exists() else HERE / f"{name}.jinja").read_text()


def render(name, chat, bos_token, variables):
    if name.startswith("family3_1b"):
        chat = [{"content": [{"text": m["content"], "type": "text"}], "role": m["role"]} for m in chat]
    try:
        (rendered,), _ = render_jinja_template([chat], chat_template=source(name), bos_token=bos_token,
                                               eos_token="</s>", add_generation_prompt=True, **variables)
    except jinja2.exceptions.TemplateError as error:
        return "!" + str(error)
    return rendered


def as_written(variables):
    """A list of pairs keeps the order of categories in every reader of JSON."""
    return {key: list(value.items()) if key == "categories" else value for key, value in variables.items()}


def digest(rendered):
    return rendered if rendered.startswith("!") else hashlib.sha256(rendered.encode()).hexdigest()[:16]


def record_templates(all_chats):
    golden = []
    for name, bos_token, variables in CASES:
        rendered = [render(name, chat, bos_token, variables) for chat in all_chats]
        golden.append({"name": name, "bos_token": bos_token, "variables": as_written(variables),
                       "digests": [digest(r) for r in rendered], "whole": rendered[:2]})
    (HERE / "golden.json").write_text(json.dumps(golden, ensure_ascii=False, indent=0) + "\n")


CONTROLS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
# Llama 3's split pattern, as published with its tokenizer's code (tiktoken's cl100k pattern).
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def record_tokens(all_chats):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    texts = [render("family3_8b", chat, "", {}) for chat in all_chats[:200]] + ["safe unsafe\nS1\nS10, S2 " * 5]
    for control in CONTROLS:
        # Their letters must not become one ordinary token.
        texts = [text.replace(control, " ") for text in texts]
    trainer = trainers.BpeTrainer(vocab_size=600, show_progress=False, special_tokens=[],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROLS])
    (HERE / "tokenizer.json").write_text(tokenizer.to_str(pretty=False))
    cases = []
    for index, chat in enumerate(all_chats):
        contents = "".join(m["content"] for m in chat)
        if any(control in contents for control in CONTROLS) or len(cases) == 60:
            continue
        rendered = render("family3_8b", chat, "<|begin_of_text|>", {})
        if rendered.startswith("!"):
            continue
        cases.append({"chat": index, "ids": tokenizer.encode(rendered, add_special_tokens=False).ids})
    (HERE / "tokens.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")


def main():
    all_chats = chats()
    (HERE / "chats.json").write_text(json.dumps(all_chats, ensure_ascii=True, separators=(",", ":")) + "\n")
    record_templates(all_chats)
    record_tokens(all_chats)


if __name__ == "__main__":
    main()
