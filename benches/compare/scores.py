#!/usr/bin/env python3
"""How far two runs of `throughline score` lie apart on the same transcripts (standard library only).

    throughline score DATA --output a.jsonl; throughline score DATA --kernel avx512 --output b.jsonl
    python3 benches/compare/scores.py a.jsonl b.jsonl

Prints the greatest and the mean change of every probability of a message, that of the arcs' scores, and the levels that changed.
"""

import json
import sys

HEADS = ("harassment", "delusion", "stance", "imminent", "harassment_case", "delusion_case", "framed")


def read(path):
    """({message: {head: [probabilities]}}, {arc: (score, level)})."""
    messages, arcs = {}, {}
    with open(path, encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            if record["type"] == "message":
                place = (record["user_id"], record["session_index"], record["message_index"])
                found = {head: record[head] for head in HEADS if record.get(head) is not None}
                messages[place] = {head: p if isinstance(p, list) else [p] for head, p in found.items()}
            elif record["type"] == "history":
                arcs |= {(record["user_id"], arc["kind"]): (arc["score"], arc["level"]) for arc in record["arcs"]}
    return messages, arcs


def main(one, other):
    (messages, arcs), (messages2, arcs2) = read(one), read(other)
    if messages.keys() != messages2.keys() or arcs.keys() != arcs2.keys():
        sys.exit("error: the two files are not of the same messages")
    for head in HEADS:
        changes = [abs(a - b) for place, m in messages.items() if head in m for a, b in zip(m[head], messages2[place][head])]
        if changes:
            print(f"{head}: max {max(changes):.4f}, mean {sum(changes) / len(changes):.5f} of {len(changes)}")
    print(f"arcs: max {max(abs(arcs[k][0] - arcs2[k][0]) for k in arcs):.4f} of {len(arcs)}")
    print(f"levels changed: {sum(arcs[k][1] != arcs2[k][1] for k in arcs)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
