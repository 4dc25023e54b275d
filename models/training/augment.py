"""Cheap changes that keep every label true. All draw from the generator given, so a seed gives the same windows."""

import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from corpus import gold_evidence, gold_weight
from plan import WINDOW_TOKENS, choose_carried, first_room, plan, share
from tokens import shown_in

# Names are swapped for ones that go with the pronouns around them, or with any.
WOMEN = ["Sarah", "Lucy", "Hannah", "Leila", "Amina", "Sunita", "Kavya", "Xiulan", "Yan", "Adaeze", "Amara", "Zofia", "Kasia",
         "Lucia", "Camila", "Ingrid", "Elif", "Thuy", "Marta", "Shira"]
MEN = ["Daniel", "Luke", "Ben", "Karim", "Yusuf", "Arjun", "Vikram", "Wei", "Haoran", "Emeka", "Kwame", "Pawel", "Tomek",
       "Diego", "Mateo", "Lars", "Emre", "Minh", "Stefan", "Avi"]
NEUTRAL = ["Robin", "Alex", "Sam", "Jordan", "Casey", "Morgan", "Kit", "Jamie", "Ari", "Noor", "Kim", "Sasha", "Remy",
           "Toni", "Ash", "Quinn", "Yuki", "Ming", "Ola", "Dani"]
CAPITAL = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]{2,}\b")
NOT_NAMES = set(
    "January February March April May June July August September October November December Monday Tuesday Wednesday "
    "Thursday Friday Saturday Sunday English German French Spanish God Christmas Easter Instagram Facebook Google "
    "Discord WhatsApp Reddit Excel Word Python The This That And But You Your".split())
# Words that change when the people of a history change sex; `her` is decided by what follows it.
OPPOSITE = {
    "she": "he", "she's": "he's", "she'd": "he'd", "she'll": "he'll", "hers": "his", "herself": "himself", "him": "her",
    "himself": "herself", "woman": "man", "women": "men", "girl": "boy", "girls": "boys", "girlfriend": "boyfriend", "wife": "husband",
    "mother": "father", "mum": "dad", "mom": "dad", "sister": "brother", "daughter": "son", "aunt": "uncle", "niece": "nephew",
    "lady": "gentleman", "ladies": "gentlemen", "mrs": "mr", "ms": "mr", "actress": "actor", "landlady": "landlord", "waitress": "waiter",
    "queen": "king", "gran": "grandad", "grandma": "grandpa", "grandmother": "grandfather", "lass": "lad", "bride": "groom",
}
OPPOSITE |= {b: a for a, b in OPPOSITE.items() if a not in ("mom", "ms", "hers", "she")} | {"he": "she", "his": "her"}
SEXED = re.compile(r"\b(" + "|".join(sorted({*OPPOSITE, "her"}, key=len, reverse=True)) + r")\b", re.I)
# After the object `her` comes the end of a clause or one of these; after the possessive, what she has.
AFTER_OBJECT = re.compile(
    r"\s*(?:$|[.,;:!?)\"”…—–-]|(?:a|about|after|again|all|alone|already|an|and|anyway|anymore|any|are|as|at|back|because|before|being|but|by"
    r"|directly|do|doing|down|either|every|everything|first|for|from|go|going|here|how|i|i'm|if|in|instead|into|is|it|just|know|like|more|my"
    r"|now|of|off|on|once|one|only|or|out|over|own up|right|said|since|so|some|something|still|straight|than|that|the|their|then|there|they|this"
    r"|through|to|today|tomorrow|tonight|too|twice|two|under|until|up|very|was|we|well|what|when|where|whether|which|while|who|why|with"
    r"|without|yes|yesterday|yet|you|your)\b)", re.I)
SHORT_WINDOW_TOKENS = 2048
SHORT_WINDOW_SHARE = 0.3
# What people write at a classifier, one a line: none of it may count.
CLAIMS = [line.replace("\\n", "\n") for line in (Path(__file__).parent / "claims.txt").read_text(encoding="utf-8").splitlines()]


def names_in(histories):
    """Capitalised words inside sentences that recur over the unit: mostly names of people and places."""
    counts = {}
    for h in histories:
        for m in h.messages():
            for word in CAPITAL.findall(m.content):
                counts[word] = counts.get(word, 0) + 1
    return sorted(w for w, n in counts.items() if n >= 3 and w not in NOT_NAMES)


def sex_changed(text):
    """The text about a man where it was about a woman, and the other way round."""

    def word(match):
        old = match.group().lower()
        if old == "her":
            new = "him" if AFTER_OBJECT.match(text, match.end()) else "his"
        else:
            new = OPPOSITE[old]
        return new.upper() if match.group().isupper() and len(old) > 1 else new.capitalize() if match.group()[0].isupper() else new

    return SEXED.sub(word, text)


def swap_sexes(histories):
    return [map_messages(h, lambda m: replace(m, content=sex_changed(m.content))) for h in histories]


def sex_of(name, histories):
    """`f` or `m` where the pronouns of the messages with the name are mostly of one kind, else None."""
    texts = [m.content.lower() for h in histories for m in h.messages() if name in m.content]
    f, m = (sum(len(re.findall(words, t)) for t in texts) for words in (r"\b(?:she|her|hers)\b", r"\b(?:he|him|his)\b"))
    return "f" if f > 3 * m else "m" if m > 3 * f else None


def map_messages(history, change):
    sessions = [(start, [change(m) for m in messages]) for start, messages in history.sessions]
    return replace(history, sessions=sessions)


def swap_names(histories, rng):
    found = names_in(histories)
    chosen = [n for n in found if rng.random() < 0.7]
    pools = {sex: iter(rng.sample(names, len(names))) for sex, names in (("f", WOMEN), ("m", MEN), (None, NEUTRAL))}
    table = {n: new for n in chosen if (new := next(pools[sex_of(n, histories)], None))}
    if not table:
        return histories
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, table)) + r")\b")
    change = lambda m: replace(m, content=pattern.sub(lambda x: table[x.group()], m.content))  # noqa: E731
    return [map_messages(h, change) for h in histories]


def lower_case(history):
    return map_messages(history, lambda m: replace(m, content=m.content.lower()) if m.role == "user" else m)


def misspell(history, rng, chance=0.05):
    """Two letters of a user's word changed about, in some words."""

    def word(match):
        text = match.group()
        if rng.random() >= chance:
            return text
        at = rng.randrange(1, len(text) - 2)
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]

    change = lambda text: re.sub(r"[A-Za-z]{4,}", word, text)  # noqa: E731
    return map_messages(history, lambda m: replace(m, content=change(m.content)) if m.role == "user" else m)


def inject_claim(history, rng):
    """A sentence that asks to be let through, before or after what a user says, in one message, a few or all."""
    users = [i for i, m in enumerate(history.messages()) if m.role == "user"]
    claims = {i: rng.choice(CLAIMS) for i in rng.sample(users, min(len(users), rng.choice([1, 1, 2, 3, len(users)])))}
    first, mark, place = rng.random() < 0.4, rng.choice([" ", "\n"]), iter(range(len(history.messages())))

    def change(message):
        claim = claims.get(next(place))
        if claim is None:
            return message
        parts = [claim, message.content] if first else [message.content, claim]
        return replace(message, content=mark.join(parts))

    return map_messages(history, change)


def pad(histories, sessions, rng, chance=0.35):
    """Everyday talk before, after or around what a user says, in some messages of whatever label, alike at one place of all the histories."""
    talk = [[m.content for m in messages if m.role == "user"] for messages in sessions]
    talk = [said for said in talk if said]
    if not talk:
        return histories
    longest = max(len(h.messages()) for h in histories)
    around = {}
    for i in range(longest):
        if rng.random() < chance:
            before, after = rng.choice([(1, 0), (0, 1), (1, 1), (2, 0), (0, 2), (2, 2)])
            around[i] = rng.choice(talk)[:before], rng.choice(talk)[:after], rng.choice([" ", "\n"])

    def padded(history):
        place = iter(range(longest))

        def change(message):
            at = next(place)
            if message.role != "user" or at not in around:
                return message
            before, after, mark = around[at]
            return replace(message, content=mark.join([*before, message.content, *after]))

        return map_messages(history, change)

    return [padded(h) for h in histories]


def users_alone(history):
    """Without the assistant's messages, as in logs of prompts."""
    return replace(history, sessions=[(start, [m for m in messages if m.role == "user"]) for start, messages in history.sessions])


def drop_benign(history, rng, chance=0.2):
    quiet = lambda ms: all(gold_evidence(m) == 0 and (m.stance or 0) == 0 for m in ms)  # noqa: E731
    kept = [s for s in history.sessions if not (quiet(s[1]) and rng.random() < chance)]
    return replace(history, sessions=kept) if len(kept) >= 2 else history


def between(before, after, rng):
    """A start of a session somewhere between two others."""
    before, after = datetime.fromisoformat(before), datetime.fromisoformat(after)
    return (before + (after - before) * rng.random()).isoformat(timespec="minutes")


def splice(history, sessions, rng, count=1):
    """So many public benign sessions, each between two of the history's own."""
    out = list(history.sessions)
    if not sessions or len(out) < 2:
        return history
    for at in sorted((rng.randrange(1, len(out)) for _ in range(count)), reverse=True):
        start = between(out[at - 1][0], out[at][0], rng)
        # Whoever has an open case has it in an everyday session, too.
        last = [m for m in out[at - 1][1] if m.role == "user"][-1]
        cases = {name: getattr(last, name) for name in ("harassment_case", "delusion_case")}
        out.insert(at, (start, [replace(m, **cases) if m.role == "user" else m for m in rng.choice(sessions)]))
    return replace(history, sessions=out)


def break_up(history, rng, chance=0.5):
    """Sessions cut before a message of the user, in as many parts as chance will have; later parts begin before the next session does."""
    starts = [start for start, _ in history.sessions]
    weeks_after = (datetime.fromisoformat(starts[-1]) + timedelta(days=14)).isoformat(timespec="minutes")
    out = []
    for (start, messages), after in zip(history.sessions, [*starts[1:], weeks_after]):
        out.append((start, messages[:1]))
        for m in messages[1:]:
            if m.role == "user" and rng.random() < chance:
                out.append((between(out[-1][0], after, rng), []))
            out[-1][1].append(m)
    return replace(history, sessions=out)


def dilute(history, sessions, rng):
    """The same evidence in more and shorter sessions, with up to six everyday ones between them."""
    return splice(break_up(history, rng), [s[:4] for s in sessions], rng, rng.randint(2, 6))


def in_one(history):
    """Everything said in one session."""
    return replace(history, sessions=[(history.sessions[0][0], history.messages())])


def stretch(history, rng):
    """Gaps between sessions shorter or longer by up to a factor of two."""
    factor = 2 ** rng.uniform(-1, 1)
    first = datetime.fromisoformat(history.sessions[0][0])
    sessions = []
    for start, messages in history.sessions:
        elapsed = (datetime.fromisoformat(start) - first).total_seconds()
        sessions.append(((first + timedelta(seconds=elapsed * factor)).isoformat(timespec="minutes"), messages))
    return replace(history, sessions=sessions)


def augment(histories, splices, rng):
    """One variant of the histories of a unit; changes of the whole unit (sexes, names, case, one side alone) fall on all alike."""
    if rng.random() < 0.35 and all(h.kind != "public" for h in histories):
        histories = pad(histories, splices, rng)
    exchanged = rng.random() < 0.5
    if exchanged:
        histories = swap_sexes(histories)
    if rng.random() < (0.8 if exchanged else 0.4):
        histories = swap_names(histories, rng)
    if rng.random() < 0.2:
        histories = [lower_case(h) for h in histories]
    alone = rng.random() < 0.06
    out = []
    for h in histories:
        if h.kind not in ("contrast", "public"):
            h = stretch(drop_benign(h, rng), rng)
            way = rng.random()
            if way < 0.25:
                h = splice(h, splices, rng)
            elif way < 0.5:
                h = dilute(h, splices, rng)
            elif way < 0.6:
                h = in_one(h)
        if alone:
            h = users_alone(h)
        if rng.random() < 0.2:
            h = inject_claim(h, rng)
        if rng.random() < 0.2:
            h = misspell(h, rng)
        out.append(h)
    return out


def rolled(messages, items, rng):
    """(shown, carried) of one of the windows that `windows.predict` rolls over the history, any of them; at times of shorter ones, as
    histories that go beyond a whole window are few."""
    tokens = SHORT_WINDOW_TOKENS if rng.random() < SHORT_WINDOW_SHARE else WINDOW_TOKENS
    found = plan(items, tokens)
    drawn = found[int(rng.random() * len(found))]  # of twins one at the same part of the way
    return shown_in(drawn, items), choose_carried(items, guessed_weights(messages, rng), drawn.first(), share(tokens))


def cut(messages, items, rng):
    """(shown, carried) of a window that ends anywhere and may lack the history's beginning or middle: one of the shorter ones at most."""
    total = len(items)
    last = total if rng.random() < 0.4 else rng.randrange(min(8, total), total + 1)
    budget = rng.randrange(384, first_room(SHORT_WINDOW_TOKENS))
    first, used = last, 0
    while first > 0 and (first == last or used + items[first - 1].content + items[first - 1].around() <= budget * 3 // 4):
        first -= 1
        used += items[first].content + items[first].around()
    shown = [(i, 0, items[i].content) for i in range(first, last)]
    return shown, choose_carried(items, guessed_weights(messages, rng), first, budget // 4)


def guessed_weights(messages, rng):
    """What inference might make of how much each message matters to later windows, by its labels: `windows.weight` with the noise of a model."""
    return [min(1.0, max(0.0, gold_weight(m) + rng.gauss(0, 0.12))) for m in messages]
