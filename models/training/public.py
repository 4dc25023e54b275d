"""Small adapters for openly licensed public dialogue (optional, `--public DIR`; nothing of it is in this repository).

    python models/training/public.py DIR [--sessions 125] [--after 125] > held.jsonl

writes benign sessions of the tenth that is never trained on, whole, for `throughline score`: what alarms there is false.

Each file is gzip JSON lines as described in models/README.md. Benign talk gives level-0 messages; judged replies to
delusional prompts give `stance` alone, every other head being masked.
"""

import argparse
import gzip
import hashlib
import json
import random
import sys
from pathlib import Path

from corpus import Unit, check

History, Message = check.History, check.Message

# source -> (sessions used, messages used of each, may be spliced into a history, has neutral assistant turns, is `imminent` known to be 0)
BENIGN = {
    "mt_bench_101": (110, 10, True, True, True),
    "mt_eval": (30, 20, True, True, True),
    "memorybank": (60, 20, True, True, True),
    "chitchat": (120, 60, False, False, True),
    "sgd": (60, 10, True, True, True),
    "casino": (40, 26, False, False, True),
    "counsel_chat": (60, 10, False, False, False),
    "gpteacher_roleplay": (90, 10, True, True, True),
    "character_llm": (40, 10, False, False, True),
}
# schizobench: risk_score of a reply -> stance. Its scale is 0 refuses … 4 reifies (automatic scorer: noisy);
# 1 is rare and 3 lies between, so only the clear ends and the middle are used.
SCHIZO_STANCE = {0: -1, 2: 0, 4: 2}
SYCO_STANCE = {0: -1, 1: -1, 3: 1, 5: 2}  # syco-bench: median of 3 judges, 0 pushes back … 5 goes along
MAX_WORDS = 70  # of one public message: the long replies are cut in the middle
SPLICED_MESSAGES = 6


def held_out(key):
    """A tenth of the groups never trained on, by a hash that does not depend on the run."""
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % 10 == 0


def rows(folder, source):
    path = Path(folder) / f"{source}.jsonl.gz"
    if not path.exists():
        return []
    with gzip.open(path, "rt", encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def shorten(text):
    words = text.split(" ")
    if len(words) <= MAX_WORDS:
        return text
    return " ".join(words[: MAX_WORDS - 20] + ["…"] + words[-20:])


def session(identifier, source, messages):
    return History(identifier, "public", source, None, source, [("2026-01-01T12:00", messages)])


def benign(folder, seed):
    """([one-session histories], [lists of messages that may be spliced between sessions])."""
    histories, splices = [], []
    for source, (count, most, splice, neutral, not_imminent) in BENIGN.items():
        found = [r for r in rows(folder, source) if not held_out(f"{source}/{r.get('group') or r['id']}")]
        random.Random(f"{seed}/{source}").shuffle(found)
        for row in found[:count]:
            messages = [benign_message(m, neutral, not_imminent) for m in row["messages"][:most]]
            histories.append(session(f"{source}/{row['id']}", source, messages))
            if splice:
                splices.append(messages[:SPLICED_MESSAGES])
    return histories, splices


def benign_message(m, neutral, not_imminent):
    text = shorten(m["content"])
    if m["role"] == "user":
        return Message("user", text, 0, 0, None, False if not_imminent else None, False, False)
    return Message("assistant", text, stance=0 if neutral else None)


def unlabelled_user(m):
    return Message("user", shorten(m["content"]), None, None, None, None)


def schizobench(folder, seed, count=220):
    """Runs of scripted delusional prompts: the stance of each reply."""
    found = [r for r in rows(folder, "schizobench") if not held_out(r["group"]) and len(r["messages"]) <= 16]
    random.Random(seed).shuffle(found)
    for row in found[:count]:
        messages = []
        for m in row["messages"][:8]:
            if m["role"] == "user":
                messages.append(unlabelled_user(m))
            else:
                risk = (m.get("labels") or {}).get("risk_score")
                messages.append(Message("assistant", shorten(m["content"]), stance=SCHIZO_STANCE.get(risk)))
        yield session(f"schizobench/{row['id']}", "schizobench", messages)


def syco_bench(folder, seed, count=200):
    found = [r for r in rows(folder, "syco_bench") if not held_out(r["group"])]
    random.Random(seed).shuffle(found)
    for row in found[:count]:
        user, reply = row["messages"][:2]
        stance = SYCO_STANCE.get(reply["labels"]["median_score"])
        if stance is not None:
            messages = [unlabelled_user(user), Message("assistant", shorten(reply["content"]), stance=stance)]
            yield session(f"syco_bench/{row['id']}", "syco_bench", messages)


def held_sessions(folder, most, after=0):
    """Native records of at most `most` held-out sessions of each benign set, without the first `after`, one user each, every word of them."""
    for source in BENIGN:
        found = [r for r in rows(folder, source) if held_out(f"{source}/{r.get('group') or r['id']}")]
        random.Random(source).shuffle(found)
        for row in found[after:after + most]:
            identifier = f"{source}/{row['id']}"
            messages = [{"role": m["role"], "content": m["content"]} for m in row["messages"]]
            yield {"user_id": identifier, "session_id": identifier, "messages": messages}


def units(folder, seed):
    """(units to train on, splices); both empty without a folder."""
    if not folder:
        return [], []
    histories, splices = benign(folder, seed)
    histories += [*schizobench(folder, seed), *syco_bench(folder, seed)]
    return [Unit(h.id, [h]) for h in histories], splices


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", help="folder of NAME.jsonl.gz")
    p.add_argument("--sessions", type=int, default=125, help="of each set, at most")
    p.add_argument("--after", type=int, default=0, help="leave out so many of each set, which somebody has looked at")
    args = p.parse_args()
    for record in held_sessions(args.folder, args.sessions, args.after):
        sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
