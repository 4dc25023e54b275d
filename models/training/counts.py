"""Agreement of levels where the cut points are chosen on other data: quadratic kappa of messages.

    python models/training/levels.py DEV.jsonl TEST.jsonl      # both written by `throughline score --output`

A calibrated probability of a rare level is seldom above ½, so that the rounded expected level, which `throughline
benchmark` compares, says too little. Here a message is of level k where P(level ≥ k) reaches a cut point, each chosen on the
development authors for its kappa; kappa on the other file's authors follows, with a 95% bootstrap interval over histories, an
original drawn together with its twin. Then imminent threats: how many of them, and of the other messages, reach a probability. Last what
messages of each label are carried into later windows by, on the development authors: the numbers of corpus.gold_weight.
"""

import itertools
import json
import random
import sys
from collections import defaultdict

import numpy as np
from sklearn.metrics import cohen_kappa_score

import corpus
from plan import CARRIED_WEIGHT

CUTS = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6]
SAMPLES = 1000
HEADS = {"harassment": "user", "delusion": "user", "stance": "assistant"}


def at_least(path):
    """{(history, session, message): {head: [P(level ≥ 1), P(≥ 2), P(≥ 3)]}}, levels from 0."""
    found = {}
    with open(path, encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            if record["type"] == "message":
                place = (record["user_id"], record["session_index"], record["message_index"])
                found[place] = {head: np.cumsum(record[head][::-1])[::-1][1:] for head in HEADS}
    return found


def rows(histories, found, head):
    """{cluster: [(label from 0, probabilities)]}."""
    out = defaultdict(list)
    for h in histories:
        for s, (_, messages) in enumerate(h.sessions):
            for i, m in enumerate(messages):
                if m.role == HEADS[head]:
                    out[h.twin or h.id].append((corpus.target(m, head), found[h.id, s, i][head]))
    return out


def kappa(pairs, cuts):
    labels = [y for y, _ in pairs]
    said = (np.array([p for _, p in pairs]) >= np.array(cuts)).sum(1)
    return cohen_kappa_score(labels, said, weights="quadratic", labels=[0, 1, 2, 3])


def threats(path, histories):
    """({probability: (threats that reach it, other messages that do)}, threats, others) among messages of the user."""
    labels = {(h.id, s, i): m.imminent for h in histories for s, (_, ms) in enumerate(h.sessions)
              for i, m in enumerate(ms) if m.role == "user"}
    with open(path, encoding="utf-8") as lines:
        records = [r for r in map(json.loads, lines) if r["type"] == "message" and r["role"] == "user"]
    rows = [(labels[r["user_id"], r["session_index"], r["message_index"]], r["imminent"]) for r in records]
    count = lambda wanted, cut: sum(threat == wanted and p >= cut for threat, p in rows)  # noqa: E731
    return {cut: (count(True, cut), count(False, cut)) for cut in CUTS}, count(True, 0), count(False, 0)


def weights(path, histories):
    """{(role, label): weights by which such messages are carried (src/scorer/carried.rs)}."""
    messages = {(h.id, s, i): m for h in histories for s, (_, ms) in enumerate(h.sessions) for i, m in enumerate(ms)}
    out = defaultdict(list)
    with open(path, encoding="utf-8") as lines:
        for r in (r for r in map(json.loads, lines) if r["type"] == "message"):
            m = messages[r["user_id"], r["session_index"], r["message_index"]]
            if m.role == "user":
                weight = max(sum(r["harassment"][2:]), sum(r["delusion"][2:]), r["imminent"])
                out["user", "imminent" if m.imminent else max(m.harassment, m.delusion)].append(weight)
            else:
                out["assistant", m.stance].append(abs(np.dot(r["stance"], [-1, 0, 1, 2])) / 2)
    return out


def main(dev, test):
    chosen_on, judged_on = at_least(dev), at_least(test)
    authors = {place[0] for place in judged_on}
    judged = [h for split in ("dev", "test") for h in corpus.read_arcs(corpus.DATASETS / "arcs", split) if h.id in authors]
    for head in HEADS:
        fitted = rows(corpus.read_arcs(corpus.DATASETS / "arcs", "dev"), chosen_on, head)
        cuts = max(itertools.product(CUTS, repeat=3), key=lambda c: kappa(sum(fitted.values(), []), c))
        groups = list(rows(judged, judged_on, head).values())
        rng = random.Random(1)
        drawn = sorted(kappa(sum((rng.choice(groups) for _ in groups), []), cuts) for _ in range(SAMPLES))
        value = kappa(sum(groups, []), cuts)
        print(f"{head}: cut points {cuts}, kappa {value:.2f} [{drawn[int(0.025 * SAMPLES)]:.2f}, {drawn[int(0.975 * SAMPLES)]:.2f}]")
    for name, path in (("development", dev), ("judged", test)):
        found, threatening, other = threats(path, corpus.read_arcs(corpus.DATASETS / "arcs", "dev") + judged)
        print(f"imminent, {name}: of {threatening} threats and {other} others from a probability on: "
              + ", ".join(f"{cut}: {a} and {b}" for cut, (a, b) in found.items()))
    for (role, label), found in sorted(weights(dev, corpus.read_arcs(corpus.DATASETS / "arcs", "dev")).items(), key=str):
        carried = np.mean(np.array(found) >= CARRIED_WEIGHT)
        print(f"weight, {role} {label}: mean {np.mean(found):.2f}, spread {np.std(found):.2f}, carried {carried:.2f} of {len(found)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
