#!/usr/bin/env python3
"""The second annotation, blind to the first: hand out texts without labels, and compare (standard library only).

    python3 datasets/second.py blind 0 datasets/arcs/perrin.txt …   # prints the texts of one half, for an annotator
    python3 datasets/second.py compare datasets/second/*.txt        # agreement with the labels in datasets/arcs

An annotator sees neither ids, kinds, styles nor labels, and of an original and its twin only one: each half
holds one of the two, drawn by a digest. The annotator writes into `second/AUTHOR.txt`, a block a history:

    === 3fa21b
    arc delusion onset=4.3
    h0d0 s0 h0d1 s0
    h0d2 s1 h0d3! s2

the code under which the text was handed out; an `arc` line for each risk that builds, with the session and message
(both from 1) at which to open a case; then a line a session, with a label for every message in its order.
"""

import hashlib
import re
import statistics
import sys
from pathlib import Path

import check

ARCS = Path(__file__).parent / "arcs"
LABEL = re.compile(r"^(?:h([0-3])d([0-3])(!?)|s(-1|[0-2]))$")
LEVELS = {"harassment": 4, "delusion": 4, "stance": 4}


def code(history):
    return hashlib.sha256(history.id.encode()).hexdigest()[:6]


def half(history):
    """0 or 1: an original's by its digest, a twin's the other."""
    digest = hashlib.sha256((history.twin or history.id).encode()).digest()
    return (digest[0] + bool(history.twin)) % 2


def blind(histories):
    """The texts in the order of their codes, which says nothing about what they are."""
    for history in sorted(histories, key=code):
        print(f"=== {code(history)}")
        for start, messages in history.sessions:
            print(f"--- {start}")
            for message in messages:
                content = message.content.replace("\n", "\\n")
                print(f"{message.role[0].upper()}: {content}")
        print()


def read(path):
    """{code: (arcs {kind: (session, message) from 0}, labels)} of one annotated file."""
    found, current = {}, None
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        where = f"{path}:{number}"
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("=== "):
            current = found.setdefault(line[4:].strip(), ({}, []))
        elif current is None:
            raise check.FormatError(f"{where}: labels before the first '=== code' line")
        elif m := check.ARC.match(line):
            current[0][m.group(1)] = (int(m.group(2)) - 1, int(m.group(3)) - 1)
        else:
            labels = [LABEL.match(word) for word in line.split()]
            if not all(labels):
                raise check.FormatError(f"{where}: not labels such as 'h0d1 s0': {line[:60]!r}")
            current[1].append(labels)
    return found


def labels_of(history, sessions, path):
    """[(message, label)] of one history; the shapes must agree."""
    shape = [len(messages) for _, messages in history.sessions]
    if shape != [len(labels) for labels in sessions]:
        raise check.FormatError(f"{path}: {code(history)} has {shape} messages, labelled {[len(s) for s in sessions]}")
    pairs = [(m, l) for (_, ms), ls in zip(history.sessions, sessions) for m, l in zip(ms, ls)]
    for message, label in pairs:
        if (message.role == "user") != (label.group(1) is not None):
            raise check.FormatError(f"{path}: {code(history)}: a user's label on an assistant's message, or the reverse")
    return pairs


def kappa(pairs, levels):
    """Quadratic-weighted kappa (Cohen 1968) of [(first, second)], levels from 0."""
    n = len(pairs)
    rows = [sum(a == i for a, _ in pairs) for i in range(levels)]
    columns = [sum(b == i for _, b in pairs) for i in range(levels)]
    seen = sum((a - b) ** 2 for a, b in pairs) / n
    by_chance = sum(rows[i] * columns[j] * (i - j) ** 2 for i in range(levels) for j in range(levels)) / n**2
    return 1 - seen / by_chance if by_chance else float("nan")


def onset_distances(history, arcs):
    """Messages from the first annotator's onset to the second's, for each arc that both opened."""
    places = [(s, m) for s, (_, ms) in enumerate(history.sessions) for m in range(len(ms))]
    return [places.index(arcs[kind]) - places.index((s, m)) for kind, s, m, _ in history.arcs if kind in arcs]


def compare(paths):
    by_head, cases, distances, done = {head: [] for head in LEVELS}, [], [], 0
    for path in paths:
        known = {code(h): h for h in check.parse(ARCS / Path(path).name)}
        for name, (arcs, sessions) in read(path).items():
            if name not in known:
                raise check.FormatError(f"{path}: no history has the code {name}")
            history = known[name]
            done += 1
            for message, label in labels_of(history, sessions, path):
                if message.role == "user":
                    by_head["harassment"].append((message.harassment, int(label.group(1))))
                    by_head["delusion"].append((message.delusion, int(label.group(2))))
                else:
                    by_head["stance"].append((message.stance + 1, int(label.group(4)) + 1))
            for kind in ("harassment", "delusion"):
                cases.append((any(a[0] == kind for a in history.arcs), kind in arcs))
            distances += onset_distances(history, arcs)
    print(f"{done} histories labelled twice")
    for head, pairs in by_head.items():
        same = sum(a == b for a, b in pairs) / len(pairs)
        print(f"  {head}: quadratic kappa {kappa(pairs, LEVELS[head]):.3f}, the same label {same:.3f} of {len(pairs)} messages")
    both, one = sum(a and b for a, b in cases), sum(a != b for a, b in cases)
    print(f"  arcs: opened by both {both}, by one alone {one} (kappa {kappa([tuple(map(int, c)) for c in cases], 2):.3f})")
    if distances:
        away = [abs(d) for d in distances]
        print(f"  onset: median distance {statistics.median(away)} messages, within 4 messages "
              f"{sum(d <= 4 for d in away) / len(away):.2f}; the second is later by {statistics.mean(distances):.1f} on average")


def main():
    match sys.argv[1:]:
        case ["blind", part, *paths] if paths:
            blind([h for path in paths for h in check.parse(path) if half(h) == int(part)])
        case ["compare", *paths] if paths:
            compare(paths)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main()
    except check.FormatError as error:
        sys.exit(str(error))
