"""What scores of messages come to at fixed points: threats found, and weights by which messages are carried.

    python models/training/counts.py DEV.jsonl TEST.jsonl      # both written by `throughline score --output`

First imminent threats: how many of them, and of the other messages of the user, reach a probability, on the development authors and on
the other file's. Then what messages of each label are carried into later windows by, on the development authors: the numbers of
corpus.gold_weight.
"""

import json
import sys
from collections import defaultdict

import numpy as np

import corpus
from plan import CARRIED_WEIGHT

CUTS = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6]


def messages(path):
    """((history, session, message), record) of each message."""
    with open(path, encoding="utf-8") as lines:
        records = [r for r in map(json.loads, lines) if r["type"] == "message"]
    return [((r["user_id"], r["session_index"], r["message_index"]), r) for r in records]


def labels(histories):
    return {(h.id, s, i): m for h in histories for s, (_, ms) in enumerate(h.sessions) for i, m in enumerate(ms)}


def threats(found, labelled):
    """({probability: (threats that reach it, other messages that do)}, threats, others) among messages of the user."""
    rows = [(labelled[place].imminent, r["imminent"]) for place, r in found if r["role"] == "user"]
    count = lambda wanted, cut: sum(threat == wanted and p >= cut for threat, p in rows)  # noqa: E731
    return {cut: (count(True, cut), count(False, cut)) for cut in CUTS}, count(True, 0), count(False, 0)


def weights(found, labelled):
    """{(role, label): weights by which such messages are carried (src/scorer/carried.rs)}."""
    out = defaultdict(list)
    for place, r in found:
        m = labelled[place]
        if m.role == "user":
            weight = max(sum(r["harassment"][2:]), sum(r["delusion"][2:]), r["imminent"])
            out["user", "imminent" if m.imminent else max(m.harassment, m.delusion)].append(weight)
        else:
            out["assistant", m.stance].append(abs(np.dot(r["stance"], [-1, 0, 1, 2])) / 2)
    return out


def main(dev, test):
    labelled = labels(h for split in ("dev", "test") for h in corpus.read_arcs(corpus.DATASETS / "arcs", split))
    files = {"development": messages(dev), "judged": messages(test)}
    for name, found in files.items():
        reached, threatening, other = threats(found, labelled)
        print(f"imminent, {name}: of {threatening} threats and {other} others from a probability on: "
              + ", ".join(f"{cut}: {a} and {b}" for cut, (a, b) in reached.items()))
    for (role, label), found in sorted(weights(files["development"], labelled).items(), key=str):
        carried = np.mean(np.array(found) >= CARRIED_WEIGHT)
        print(f"weight, {role} {label}: mean {np.mean(found):.2f}, spread {np.std(found):.2f}, carried {carried:.2f} of {len(found)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
