#!/usr/bin/env python3
"""Parse and check the hand-written histories of this folder (standard library only).

    python3 datasets/check.py datasets/arcs/*.txt datasets/contrasts/*.txt datasets/targets/*.txt datasets/frames/*.txt

The suites beside this file are only parsed, and compared with what is given: none of their messages may stand there. The format is described in datasets/README.md. Exit status 1 when any file breaks it.
A file in a folder named `contrasts` holds minimal pairs, one in `targets` who is who in histories that are given as well, one in `frames` which
of their messages are told under a frame, every other one histories.
The training code imports `parse`; `throughline benchmark` has a parser of its own (src/benchmark/data/author.rs).
"""

import json
import re
import statistics
import sys
from collections import Counter, defaultdict
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
INNOCENTS = json.loads((Path(__file__).parent / "splits.json").read_text(encoding="utf-8"))["arcs"]["innocents"]
SUITES = sorted((Path(__file__).parent / "suites").glob("*.txt"))
POSITIVE = {"harassment_escalation", "delusion_reinforcement", "delusion_resisted", "both"}
DUPLICATE_WORDS_MIN = 12
DUPLICATE_OVERLAP = 0.5
SHINGLE_WORDS = 4
COMMON_MESSAGES = 60
WORD = re.compile(r"[\w'’]+")
TWIN_WORDS_RATIO = (0.75, 1.33)
HEAD = re.compile(r"^=== (\S+) \|(.*)$")
ARC = re.compile(r'^arc (harassment|delusion) onset=(\d+)\.(\d+)(?: target="([^"]*)")?$')
SESSION = re.compile(r"^--- (\d{4}-\d\d-\d\dT\d\d:\d\d)$")
USER = re.compile(r"^U h([0-3]) d([0-3])( !)?: (.+)$")
ASSISTANT = re.compile(r"^A s(-1|[0-2]): (.+)$")
PERSON = re.compile(r"^(p\d+)( target)? \| .+$")
SPOKEN = re.compile(r'^(\d+)\.(\d+)((?: p\d+="[^"]+"| @p\d+)+)$')
SPOKEN_OF = re.compile(r'(p\d+)="([^"]+)"|@(p\d+)')
FRAMED = re.compile(r"^(\S+) \|((?: \d+\.\d+(?:-\d+\.\d+)?)+)$")
CONTRAST_ID = re.compile(r"^([a-z]+)-(s\d{3})([a-h])$")


@dataclass
class Message:
    role: str
    content: str
    harassment: int | None = None
    delusion: int | None = None
    stance: int | None = None
    imminent: bool = False
    # Whether a case of the arc would be open by this message; the format has it once a history, as the arc's onset.
    harassment_case: bool | None = None
    delusion_case: bool | None = None
    near_onset: bool = False  # of an arc: where telling an open case from none is hardest
    framed: bool | None = None  # told under a frame, a story or a game; None where the author's were not read for it


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


def _header(author, m, where, kinds):
    opts = {}
    for part in m.group(2).split("|"):
        key, eq, value = part.strip().partition("=")
        if not eq:
            raise FormatError(f"{where}: expected key=value between the bars, found {part.strip()!r}")
        opts[key] = value
    if opts.get("kind") not in kinds:
        raise FormatError(f"{where}: unknown kind {opts.get('kind')!r}; hint: one of {sorted(kinds)}")
    return History(m.group(1), opts["kind"], opts.get("style", ""), opts.get("twin"), author)


def parse(path, kinds=frozenset(KINDS)):
    """The histories of one author's file, labels included; raises FormatError with file:line."""
    histories, author = [], Path(path).stem
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        where = f"{path}:{number}"
        if not line.strip() or line.startswith("#"):
            continue
        if m := HEAD.match(line):
            histories.append(_header(author, m, where, kinds))
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


def session_problems(h):
    out = []
    starts = [s for s, _ in h.sessions]
    if starts != sorted(starts):
        out.append("sessions are not in time order")
    for started, ms in h.sessions:
        if not ms:
            out.append(f"session {started} is empty")
        elif ms[0].role != "user":
            out.append(f"session {started} does not begin with the user")
    return out


def problems(h, by_id):
    """What is wrong with one history, as sentences."""
    out = []
    messages = h.messages()
    if not 1 <= len(h.sessions) <= 14:
        out.append(f"{len(h.sessions)} sessions, expected 1 to 14")
    out += session_problems(h)
    if h.kind in POSITIVE and not h.arcs:
        out.append("a positive without an arc line")
    if h.kind not in POSITIVE and h.arcs:
        out.append("a negative with an arc line")
    if h.kind in POSITIVE and h.author in INNOCENTS:
        out.append("a positive by an author whose histories are all innocent")
    if h.kind not in POSITIVE and any(m.imminent or max(m.harassment or 0, m.delusion or 0) > 1 for m in messages):
        out.append("a negative with a message labelled 2 or more, or imminent")
    for kind, s, i, _ in h.arcs:
        if s >= len(h.sessions) or i >= len(h.sessions[s][1]):
            out.append(f"onset {s + 1}.{i + 1} of {kind} is outside the history")
    if h.kind in POSITIVE and not any(o.twin == h.id for o in by_id.values()):
        out.append("a positive without a twin")
    if h.twin:
        out += twin_problems(h, by_id.get(h.twin))
    return out


def words(history):
    return sum(len(m.content.split()) for m in history.messages())


def twin_problems(h, base):
    if base is None:
        return [f"twin of {h.twin}, which is not in this file"]
    out, low, high = [], *TWIN_WORDS_RATIO
    if not low <= words(h) / words(base) <= high:
        out.append(f"twin has {words(h)} words, its original {words(base)}")
    if len(h.sessions) != len(base.sessions):
        out.append(f"twin has {len(h.sessions)} sessions, its original {len(base.sessions)}")
    return out


def contrast_problems(h, sets):
    """What is wrong with one member of a set of minimal pairs."""
    out = []
    m = CONTRAST_ID.match(h.id)
    if not m or m.group(1) != h.author:
        out.append(f"id is not {h.author}-sNNN and a letter from a to h")
    elif len(sets[set_of(h)]) < 2:
        out.append("a set of one; a contrast needs at least 2 variants")
    if not 1 <= len(h.sessions) <= 2:
        out.append(f"{len(h.sessions)} sessions, expected 1 or 2")
    if h.arcs:
        out.append("a contrast with an arc line")
    if h.twin:
        out.append("a contrast with a twin")
    return out + session_problems(h)


def set_of(contrast):
    return contrast.id.rstrip("abcdefgh")


@dataclass
class Targets:
    """Who is who in the histories of one author."""
    author: str
    histories: list = field(default_factory=list)  # [id]
    people: int = 0
    mentions: int = 0
    abouts: int = 0


def read_targets(path, by_id):
    """(what stands in a file of people, sentences about what is wrong with it); `by_id` has the author's histories."""
    out, bad, people = Targets(Path(path).stem), [], {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        where = f"{path}:{number}"
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("=== "):
            out.histories.append(line[4:].strip())
            people = {}
        elif m := PERSON.match(line):
            bad += [f"{where}: {m.group(1)} stands twice"] * (m.group(1) in people)
            people[m.group(1)] = bool(m.group(2))
            out.people += 1
        elif (m := SPOKEN.match(line)) and out.histories:
            text = user_message(by_id.get(out.histories[-1]), int(m.group(1)) - 1, int(m.group(2)) - 1)
            bad += [f"{where}: {sentence}" for sentence in spoken_problems(out, people, text, SPOKEN_OF.findall(m.group(3)))]
        else:
            bad.append(f"{where}: not a line of the format: {line[:60]!r}")
    written = list(by_id)
    bad += [f"{path}: no history {i}" for i in out.histories if i not in by_id]
    bad += [f"{path}: nothing of {i}" for i in written if i not in out.histories]
    if [i for i in out.histories if i in by_id] != [i for i in written if i in out.histories]:
        bad.append(f"{path}: not in the order of the histories, or one stands twice")
    return out, bad


def user_message(history, session, message):
    """The text of a message of the user; None where there is none."""
    if history is None or not 0 <= session < len(history.sessions):
        return None
    messages = history.sessions[session][1]
    if not 0 <= message < len(messages) or messages[message].role != "user":
        return None
    return messages[message].content


def spoken_problems(out, people, text, spoken):
    if text is None:
        return ["no message of the user stands there"]
    bad, end = [], {}  # of words: where the last of them ended
    for person, words, about in spoken:
        number = person or about
        if number not in people:
            bad.append(f"{number} is not listed")
        elif about:
            out.abouts += 1
            bad += [f"@{about} is no target"] * (not people[about])
        if words:
            out.mentions += 1
            words = words.replace("\\n", "\n")
            at = text.find(words, end.get(words, 0))
            if at < 0:
                bad.append(f"these words do not stand there, or not so often: {words!r}")
            end[words] = at + len(words)
    return bad


@dataclass
class Frames:
    """Which messages of one author's histories are told under a frame."""
    author: str
    framed: dict = field(default_factory=dict)  # id -> {(session, message)} of user messages, from 0


def read_frames(path, by_id):
    """(what stands in a file of frames, sentences about what is wrong with it); `by_id` has the author's histories."""
    out, bad = Frames(Path(path).stem), []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        where = f"{path}:{number}"
        if not line.strip() or line.startswith("#"):
            continue
        m = FRAMED.match(line)
        if not m:
            bad.append(f"{where}: not a line of the format: {line[:60]!r}")
        elif m.group(1) not in by_id:
            bad.append(f"{where}: no history {m.group(1)}")
        elif m.group(1) in out.framed:
            bad.append(f"{where}: {m.group(1)} stands twice")
        else:
            places = [framed_places(by_id[m.group(1)], words) for words in m.group(2).split()]
            bad += [f"{where}: no messages of the user from and to {words}" for words, found in zip(m.group(2).split(), places) if not found]
            out.framed[m.group(1)] = set().union(*places)
    return out, bad


def framed_places(history, words):
    """The places (session, message), from 0, of the user's messages of `2.3` or `2.3-2.7`; none where either end is none of the user's."""
    ends = [tuple(int(n) - 1 for n in end.split(".")) for end in words.split("-")]
    (session, first), (last_session, last) = ends[0], ends[-1]
    if session != last_session or any(user_message(history, *end) is None for end in ends):
        return set()
    return {(session, i) for i in range(first, last + 1) if user_message(history, session, i) is not None}


def shingles(text):
    """The runs of SHINGLE_WORDS words of a message, without case and punctuation; none of a short message."""
    said = WORD.findall(text.casefold())
    if len(said) < DUPLICATE_WORDS_MIN:
        return frozenset()
    return frozenset(zip(*(said[i:] for i in range(SHINGLE_WORDS))))


def near_duplicates(groups):
    """Messages of two groups of which the shorter has DUPLICATE_OVERLAP of its shingles in the other (Broder 1997).

    `groups`: {name: [History]}; a group is an original with its twin, or one set, where repeats are the point. Overlaps
    are counted, not estimated by MinHash: there are few enough messages. Shingles of more than COMMON_MESSAGES messages
    are idiom, and nominate no pair; the same text is found however often it stands.
    """
    found, index, same, out = [], defaultdict(list), {}, []  # found: (group, id, text, shingles)
    for name, histories in groups.items():
        for text, identifier in {m.content: h.id for h in histories for m in h.messages()}.items():
            own = shingles(text)
            if not own:
                continue
            first_name, first_id = same.setdefault(own, (name, identifier))
            if first_name != name:
                out.append(f"{identifier} repeats a message of {first_id}: {text[:60]!r}")
                continue
            for shingle in own:
                index[shingle].append(len(found))
            found.append((name, identifier, text, own))
    nominated = {
        (a, b)
        for places in index.values() if len(places) <= COMMON_MESSAGES
        for i, a in enumerate(places) for b in places[:i] if found[a][0] != found[b][0]}
    for a, b in sorted(nominated):
        (_, id_a, text, own), (_, id_b, _, other) = found[a], found[b]
        if len(own & other) >= DUPLICATE_OVERLAP * min(len(own), len(other)):
            out.append(f"{id_a} says much of a message of {id_b}: {text[:60]!r}")
    return out


def twin_balance(histories):
    """One line: how far lengths alone tell twins from originals (0.5 in the last figure: not at all)."""
    by_id = {h.id: h for h in histories}
    pairs = [(by_id[h.twin], h) for h in histories if h.twin in by_id]
    if not pairs:
        return None
    ratios = [words(twin) / words(base) for base, twin in pairs]
    longer = sum(r > 1 for r in ratios) / len(ratios)
    bases, twins = [words(b) for b, _ in pairs], [words(t) for _, t in pairs]
    area = statistics.fmean((t > b) + (t == b) / 2 for b in bases for t in twins)
    return (f"{len(pairs)} twins: words over the original's {min(ratios):.2f} to {max(ratios):.2f}, "
            f"median {statistics.median(ratios):.2f}; longer than their own original {longer:.0%}; "
            f"longer than any original {area:.2f} of the time")


def labels(histories):
    """How often each label stands, as one line."""
    count = Counter()
    for m in (m for h in histories for m in h.messages()):
        if m.role == "user":
            count.update([f"h{m.harassment}", f"d{m.delusion}"] + ["imminent"] * m.imminent)
        else:
            count[f"s{m.stance}"] += 1
    count.update(f"arc {kind}" for h in histories for kind, *_ in h.arcs)
    return ", ".join(f"{name} {n}" for name, n in sorted(count.items()))


def read(paths):
    """(histories, contrasts, sentences about what does not parse or shares an id); files about histories are for later."""
    arcs, contrasts, bad = [], [], []
    for path in paths:
        if Path(path).parent.name in ("targets", "frames"):
            continue
        is_contrast = Path(path).parent.name == "contrasts"
        try:
            found = parse(path, frozenset({"contrast"})) if is_contrast else parse(path)
        except FormatError as error:
            bad.append(str(error))
            continue
        shared = [i for i, n in Counter(h.id for h in found).items() if n > 1]
        bad += [f"{path}: two histories share the id {i}" for i in shared]
        (contrasts if is_contrast else arcs).extend(found)
    return arcs, contrasts, bad


def report(name, histories, extra=()):
    if histories:
        sessions = sum(len(h.sessions) for h in histories)
        messages = sum(len(h.messages()) for h in histories)
        authors = len({h.author for h in histories})
        print(f"{name}: {len(histories)} by {authors} authors, {sessions} sessions, {messages} messages, "
              f"{sum(map(words, histories))} words")
        print(f"  labels: {labels(histories)}")
        for line in filter(None, extra):
            print(f"  {line}")


def main(paths):
    arcs, contrasts, bad = read(paths)
    by_author, groups, sets = defaultdict(dict), defaultdict(list), defaultdict(list)
    for h in arcs:
        by_author[h.author][h.id] = h
        groups[h.author, h.twin or h.id].append(h)
    for h in contrasts:
        sets[set_of(h)].append(h)
        groups[h.author, set_of(h)].append(h)
    for h in arcs:
        bad += [f"{h.author}.txt: {h.id}: {sentence}" for sentence in problems(h, by_author[h.author])]
    for h in contrasts:
        bad += [f"{h.author}.txt: {h.id}: {sentence}" for sentence in contrast_problems(h, sets)]
    for path in SUITES:
        groups["suites", path.stem] = parse(path)
    bad += near_duplicates(groups)
    targets = []
    for path in (p for p in paths if Path(p).parent.name == "targets"):
        found, problems_found = read_targets(path, by_author[Path(path).stem])
        targets.append(found)
        bad += problems_found
    frames = []
    for path in (p for p in paths if Path(p).parent.name == "frames"):
        found, problems_found = read_frames(path, by_author[Path(path).stem])
        frames.append(found)
        bad += problems_found
    for sentence in bad:
        print(sentence)
    kinds = Counter(h.kind for h in arcs)
    report("histories", arcs, [f"kinds: {', '.join(f'{k} {n}' for k, n in kinds.most_common())}", twin_balance(arcs)])
    report("contrasts", contrasts, [f"{len(sets)} sets"])
    if targets:
        count = {name: sum(getattr(one, name) for one in targets) for name in ("people", "mentions", "abouts")}
        print(f"targets: {sum(len(one.histories) for one in targets)} histories by {len(targets)} authors, {count['people']} people, "
              f"{count['mentions']} mentions, {count['abouts']} times a message is about a target")
    if frames:
        read_for = sum(len(by_author[one.author]) for one in frames)
        print(f"frames: {sum(len(places) for one in frames for places in one.framed.values())} messages of "
              f"{sum(len(one.framed) for one in frames)} histories are told under one, of {read_for} histories by {len(frames)} authors")
    print(f"{len(bad)} problems")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
