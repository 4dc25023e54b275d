"""Count how often user messages have which level in the histories that the shipped model was trained on, and how many of these hold an
arc: the constants of src/arc/evidence.rs.

    python3 models/training/reference.py [--check]

With --check it fails where a constant is further from its count than 0.01.
"""

import re
import sys
from collections import Counter

from corpus import DATASETS, read_arcs

SOURCE = DATASETS.parent / "src" / "arc" / "evidence.rs"
TOLERANCE = 0.01
SLIP = 0.005  # as in src/arc/evidence.rs: what `benign` has at levels 2 and 3, where nothing is counted

# Authors for training whom the shipped model has not seen; none once they are trained on.
UNSEEN = {"kurosawa", "lockhart", "mahlangu", "pappas", "sinclair"}


def tables(histories, kind):
    """Counts of the levels of one kind: of all messages, of those from its onset on, of those of histories without any arc."""
    counts = {"all": Counter(), "risk": Counter(), "benign": Counter()}
    for history in histories:
        onset = next(((session, message) for arc, session, message, _ in history.arcs if arc == kind), None)
        for at_session, (_, messages) in enumerate(history.sessions):
            for at_message, message in enumerate(messages):
                if message.role != "user":
                    continue
                level = getattr(message, kind)
                counts["all"][level] += 1
                if not history.arcs:
                    counts["benign"][level] += 1
                elif onset is not None and (at_session, at_message) >= onset:
                    counts["risk"][level] += 1
    return counts


def shares(counts, slip=0.0):
    """The counts as shares of 1, of which levels 2 and 3 get `slip` each where it is given."""
    total = sum(counts.values())
    out = [counts[level] / total for level in range(4)]
    if slip:
        below = out[0] + out[1]
        out = [share * (1 - 2 * slip) / below for share in out[:2]] + [slip, slip]
    return out


def constants(kind):
    """{name: numbers} as they stand in the program."""
    text = SOURCE.read_text(encoding="utf-8").replace("SLIP", str(SLIP))
    body = re.search(rf"const {kind.upper()}: Reference = Reference \{{(.*?)\}};", text, re.S).group(1)
    return {name: [float(number) for number in re.findall(r"[\d.]+", values)]
            for name, values in re.findall(r"(\w+): (\[[^\]]*\]|[\d.]+),", body)}


def main():
    train = [history for history in read_arcs(DATASETS / "arcs", "train") if history.author not in UNSEEN]
    print(f"{len(train)} histories that the shipped model was trained on")
    off = []
    for kind in ("harassment", "delusion"):
        found = {"histories": [sum(any(arc == kind for arc, *_ in h.arcs) for h in train) / len(train)]}
        print(f"{kind}: in {found['histories'][0]:.3f} of the histories")
        for name, counts in tables(train, kind).items():
            found[name] = shares(counts, SLIP if name == "benign" else 0.0)
            row = ", ".join(f"{share:.3f}" for share in found[name])
            print(f"  {name}: [{row}],  of {sum(counts.values())} messages")
        written = constants(kind)
        off += [f"{kind} {name}: {written[name]} in {SOURCE.name}, counted {[round(value, 3) for value in values]}"
                for name, values in found.items() if max(abs(a - b) for a, b in zip(values, written[name], strict=True)) > TOLERANCE]
    if "--check" in sys.argv[1:] and off:
        sys.exit("\n".join(off))


if __name__ == "__main__":
    main()
