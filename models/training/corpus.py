"""The hand-written histories and contrasts, split by author, and the windows a model is trained on."""

import json
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

DATASETS = Path(__file__).resolve().parents[2] / "datasets"
sys.path.insert(0, str(DATASETS))
import check  # noqa: E402  (the one parser of the format lives beside the data)

# Test authors are never read by anything but baselines.py, tells.py, the figures of frames.py and counts.py, and `throughline benchmark`.
SPLITS = json.loads((DATASETS / "splits.json").read_text(encoding="utf-8"))


ARCS = ("harassment", "delusion")
NEAR_ONSET = 4  # user messages on either side


@dataclass
class Unit:
    """What is trained on in one go: histories that belong together.

    `twins`: (original, twin) by index, the first of which must score higher as a whole; `aligned`: the members are
    minimal pairs, of which messages at one place are compared when their labels differ.
    """

    id: str
    histories: list
    twins: list = field(default_factory=list)
    aligned: bool = False


def split_of(author, folder="arcs"):
    """`test`, `dev`, `innocents`, or `train`, as datasets/splits.json says."""
    return next((split for split, authors in SPLITS[folder].items() if author in authors), "train")


def read_arcs(folder, split):
    """All histories of the split; a file that does not parse yet is reported and left out."""
    out = []
    for path in sorted(Path(folder).glob("*.txt")):
        if split_of(path.stem) != split:
            continue
        try:
            out += [with_cases(h) for h in check.parse(path)]
        except check.FormatError as error:
            print(f"left out: {error}", file=sys.stderr)
    return out


def with_cases(history):
    """The history, each of its user messages told whether a case of either arc would be open by then, and how near that is."""
    onsets = {kind: (session, message) for kind, session, message, _ in history.arcs}
    users = [((s, i), m) for s, (_, messages) in enumerate(history.sessions) for i, m in enumerate(messages) if m.role == "user"]
    for kind in ARCS:
        before = sum(place < onsets[kind] for place, _ in users) if kind in onsets else len(users)
        for n, (_, m) in enumerate(users):
            setattr(m, f"{kind}_case", n >= before)
            m.near_onset |= kind in onsets and -NEAR_ONSET <= n - before < NEAR_ONSET
    return history


def read_framed(folder, split):
    """The histories of the split whose authors were read for frames (`frames` beside their folder), each user message told whether it is framed."""
    folder, out = Path(folder), []
    for path in sorted((folder.parent / "frames").glob("*.txt")):
        if split_of(path.stem) != split:
            continue
        try:
            histories = check.parse(folder / path.name)
        except check.FormatError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        frames, bad = check.read_frames(path, {h.id: h for h in histories})
        if bad:
            raise ValueError(bad[0])
        for h in histories:
            for s, (_, messages) in enumerate(h.sessions):
                for i, m in enumerate(messages):
                    m.framed = (s, i) in frames.framed.get(h.id, ()) if m.role == "user" else None
            out.append(h)
    return out


def read_contrasts(folder, split):
    """Minimal pairs by set id (`alder-s001a` and `…b` are set `alder-s001`); a member with a bad line is left out."""
    sets = defaultdict(list)
    for path in sorted(Path(folder).glob("*.txt")):
        if split_of(path.stem, "contrasts") != split:
            continue
        for history in contrast_file(path):
            sets[history.id.rstrip("abcdefgh")].append(history)
    return dict(sets)


def contrast_file(path):
    """The members of one file of contrasts, by the line patterns of datasets/check.py."""
    blocks, bad = [], set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if m := check.HEAD.match(line):
            blocks.append(check.History(m.group(1), "contrast", "", None, path.stem))
        elif not blocks or not line.strip() or line.startswith("#") or check.ARC.match(line):
            continue
        elif m := check.SESSION.match(line):
            blocks[-1].sessions.append((m.group(1), []))
        elif message := message_of(line) if blocks[-1].sessions else None:
            blocks[-1].sessions[-1][1].append(message)
        else:
            print(f"{path}:{number}: left out: {line[:60]!r}", file=sys.stderr)
            bad.add(blocks[-1].id)
    return [b for b in blocks if b.id not in bad and b.messages()]


def message_of(line):
    if m := check.USER.match(line):
        text = m.group(4).replace("\\n", "\n")
        return check.Message("user", text, int(m.group(1)), int(m.group(2)), None, bool(m.group(3)))
    if m := check.ASSISTANT.match(line):
        return check.Message("assistant", m.group(2).replace("\\n", "\n"), stance=int(m.group(1)))
    return None


def arc_units(histories):
    """Originals with their twins, and every other history by itself."""
    twins = {h.twin: h for h in histories if h.twin}
    paired = {h.id for h in twins.values() if h.twin in {o.id for o in histories}}
    units = []
    for h in histories:
        if h.id in twins:
            units.append(Unit(h.id, [h, twins[h.id]], twins=[(0, 1)]))
        elif h.id not in paired:
            units.append(Unit(h.id, [h]))
    return units


def contrast_units(sets):
    return [Unit(name, members, aligned=True) for name, members in sets.items()]


def target(message, head):
    """The level index of a message for a head, or None where the head has no label."""
    if head == "stance":
        return None if message.role != "assistant" or message.stance is None else message.stance + 1
    if message.role != "user":
        return None
    value = getattr(message, head)
    return None if value is None else int(value)


def gold_evidence(message):
    """The risk in a message by its labels, in 0..1."""
    if message.role == "user":
        return max(message.harassment or 0, message.delusion or 0) / 3
    return max(message.stance or 0, 0) / 3


def gold_weight(message):
    """What `windows.weight` of a message is in the mean, by its labels: as 0.9.0 has it on the development authors
    (`counts.py` prints it).

    Its spread is about .1 at the lowest levels and .3 at level 2 and of stances; one level 0 in twenty is carried, and 85% of level 2.
    """
    if message.role == "user":
        return 0.8 if message.imminent else (0.03, 0.03, 0.62, 0.87)[max(message.harassment or 0, message.delusion or 0)]
    return {-1: 0.35, 1: 0.26, 2: 0.59}.get(message.stance, 0.04)
