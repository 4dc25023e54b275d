#!/usr/bin/env python3
"""Parse and check the hand-written histories of this folder (standard library only).

    python3 datasets/check.py datasets/arcs/*.txt

The format is described in datasets/README.md. Exit status 1 when any file breaks it.
This file is also the one parser of the format: the training code imports `parse`.
"""

import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

KINDS = {
    "harassment_escalation", "delusion_reinforcement", "delusion_resisted", "both",
    "twin_harassment", "twin_delusion", "twin_both",
    "fiction_writer", "victim_seeking_help", "venting_moves_on", "true_crime_or_journalist",
    "spiritual_practice", "speculative_hobbyist", "doubts_resolved", "workplace_conflict",
    "osint_professional", "carer_of_unwell_relative", "legal_dispute", "roleplay_game", "grief",
    "dark_humour", "moderator_reading_reports", "survivor_safety_planning", "philosophy_of_mind",
    "parent_open_monitoring", "language_learner", "mundane",
}
POSITIVE = {"harassment_escalation", "delusion_reinforcement", "delusion_resisted", "both"}
HEAD = re.compile(r"^=== (\S+) \|(.*)$")
ARC = re.compile(r'^arc (harassment|delusion) onset=(\d+)\.(\d+)(?: target="([^"]*)")?$')
SESSION = re.compile(r"^--- (\d{4}-\d\d-\d\dT\d\d:\d\d)$")
USER = re.compile(r"^U h([0-3]) d([0-3])( !)?: (.+)$")
ASSISTANT = re.compile(r"^A s(-1|[0-2]): (.+)$")


@dataclass
class Message:
    role: str
    content: str
    harassment: int | None = None
    delusion: int | None = None
    stance: int | None = None
    imminent: bool = False


@dataclass
class History:
    id: str
    kind: str
    style: str
    twin: str | None
    author: str
    sessions: list = field(default_factory=list)  # [(started_at, [Message])]
    arcs: list = field(default_factory=list)  # [(kind, session from 0, message from 0, target)]

    def messages(self):
        return [m for _, ms in self.sessions for m in ms]


class FormatError(ValueError):
    pass


def _header(author, m, where):
    opts = {}
    for part in m.group(2).split("|"):
        key, eq, value = part.strip().partition("=")
        if not eq:
            raise FormatError(f"{where}: expected key=value between the bars, found {part.strip()!r}")
        opts[key] = value
    if opts.get("kind") not in KINDS:
        raise FormatError(f"{where}: unknown kind {opts.get('kind')!r}; hint: one of {sorted(KINDS)}")
    return History(m.group(1), opts["kind"], opts.get("style", ""), opts.get("twin"), author)


def parse(path):
    """The histories of one author's file, labels included; raises FormatError with file:line."""
    histories, author = [], Path(path).stem
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        where = f"{path}:{number}"
        if not line.strip() or line.startswith("#"):
            continue
        if m := HEAD.match(line):
            histories.append(_header(author, m, where))
            continue
        if not histories:
            raise FormatError(f"{where}: text before the first '=== id | kind=… | style=…' line")
        h = histories[-1]
        if m := ARC.match(line):
            h.arcs.append((m.group(1), int(m.group(2)) - 1, int(m.group(3)) - 1, m.group(4)))
        elif m := SESSION.match(line):
            h.sessions.append((m.group(1), []))
        elif not h.sessions:
            raise FormatError(f"{where}: a message before the first '--- 2026-03-01T20:11' line")
        elif m := USER.match(line):
            text = m.group(4).replace("\\n", "\n")
            h.sessions[-1][1].append(
                Message("user", text, int(m.group(1)), int(m.group(2)), None, bool(m.group(3))))
        elif m := ASSISTANT.match(line):
            h.sessions[-1][1].append(
                Message("assistant", m.group(2).replace("\\n", "\n"), stance=int(m.group(1))))
        else:
            raise FormatError(f"{where}: not a line of the format: {line[:60]!r}")
    return histories


def problems(h, by_id):
    """What is wrong with one history, as sentences."""
    out = []
    messages = h.messages()
    if not 3 <= len(h.sessions) <= 14:
        out.append(f"{len(h.sessions)} sessions, expected 3 to 14")
    starts = [s for s, _ in h.sessions]
    if starts != sorted(starts):
        out.append("sessions are not in time order")
    for started, ms in h.sessions:
        if not ms:
            out.append(f"session {started} is empty")
        elif ms[0].role != "user":
            out.append(f"session {started} does not begin with the user")
    if h.kind in POSITIVE and not h.arcs:
        out.append("a positive without an arc line")
    if h.kind not in POSITIVE and h.arcs:
        out.append("a negative with an arc line")
    if h.kind not in POSITIVE and any(m.imminent or max(m.harassment or 0, m.delusion or 0) > 1 for m in messages):
        out.append("a negative with a message labelled 2 or more, or imminent")
    for kind, s, i, _ in h.arcs:
        if s >= len(h.sessions) or i >= len(h.sessions[s][1]):
            out.append(f"onset {s + 1}.{i + 1} of {kind} is outside the history")
    if h.kind in POSITIVE and not any(o.twin == h.id for o in by_id.values()):
        out.append("a positive without a twin")
    if h.twin:
        base = by_id.get(h.twin)
        if base is None:
            out.append(f"twin of {h.twin}, which is not in this file")
        else:
            words = sum(len(m.content.split()) for m in messages)
            words_base = sum(len(m.content.split()) for m in base.messages())
            if not 0.75 <= words / words_base <= 1.33:
                out.append(f"twin has {words} words, its original {words_base}")
            if len(h.sessions) != len(base.sessions):
                out.append(f"twin has {len(h.sessions)} sessions, its original {len(base.sessions)}")
    return out


def main(paths):
    bad, kinds, sessions, count = 0, Counter(), 0, 0
    for path in paths:
        try:
            histories = parse(path)
        except FormatError as error:
            print(error)
            bad += 1
            continue
        by_id = {h.id: h for h in histories}
        if len(by_id) != len(histories):
            print(f"{path}: two histories share an id")
            bad += 1
        for h in histories:
            kinds[h.kind] += 1
            sessions += len(h.sessions)
            count += len(h.messages())
            for sentence in problems(h, by_id):
                print(f"{path}: {h.id}: {sentence}")
                bad += 1
    print(f"{sum(kinds.values())} histories, {sessions} sessions, {count} messages; {dict(kinds)}; {bad} problems")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
