"""Messages to token windows. The Rust side (`src/`) does exactly the same; `golden-guard.json` pins both.

A message is `<|im_start|>` "role\\n" content `<|im_end|>` "\\n", each piece tokenised on its own and never with
special-token recognition: `<|im_end|>` typed by a user is plain text.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from tokenizers import Tokenizer

from plan import Item

EARLIER, LATER = "earlier, in part", "later"


@dataclass(frozen=True)
class Piece:
    """One message as tokens; its text is `ids[begin:end]`, and at `end` stands its `<|im_end|>`."""

    ids: tuple
    begin: int
    end: int
    message: object = None  # the labelled message, or None for marks

    def part(self, start, end):
        """The same with these tokens of its text alone."""
        kept = self.ids[self.begin + start : self.begin + end]
        return replace(self, ids=self.ids[: self.begin] + kept + self.ids[self.end :], end=self.begin + len(kept))


class Encoder:
    def __init__(self, tokenizer_json):
        self.tokenizer = Tokenizer.from_str(tokenizer_json)
        self.tokenizer.encode_special_tokens = True
        self.start = self.tokenizer.token_to_id("<|im_start|>")
        self.stop = self.tokenizer.token_to_id("<|im_end|>")
        self.newline = self.encode("\n")

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def piece(self, role, content, message=None):
        body = self.encode(content)
        head = (self.start, *self.encode(role + "\n"))
        begin, end = len(head), len(head) + len(body)
        return Piece((*head, *body, self.stop, *self.newline), begin, end, message)

    def mark(self, text):
        return self.piece("system", text)


def counted(n, unit):
    return f"{n} {unit}{'' if n == 1 else 's'}"


def gap_mark(previous, start):
    """What is said before a session; both are datetimes of session starts, `previous` None for a window's first."""
    if previous is None:
        return "new session"
    hours = int((start - previous).total_seconds() // 3600)
    days = hours // 24
    if hours < 1:
        return "new session, same hour"
    if hours < 24:
        return f"new session, {counted(hours, 'hour')} later"
    if days < 14:
        return f"new session, {counted(days, 'day')} later"
    if days < 60:
        return f"new session, {counted(days // 7, 'week')} later"
    return f"new session, {counted(days // 30, 'month')} later"


def history_pieces(encoder, sessions):
    """[(session number, Piece)] of all messages of [(started_at, messages)], without marks."""
    return [
        (number, encoder.piece(m.role, m.content, m))
        for number, (_, messages) in enumerate(sessions)
        for m in messages
    ]


def items_of(encoder, sessions, pieces):
    """What each of the `history_pieces` takes of a window (plan.Item)."""
    out, session, start = [], None, None
    for number, piece in pieces:
        gap = 0
        if number != session:
            previous, start = start, datetime.fromisoformat(sessions[number][0])
            gap, session = len(encoder.mark(gap_mark(previous, start)).ids), number
        content = piece.end - piece.begin
        out.append(Item(content, len(piece.ids) - content, gap))
    return out


def window(encoder, sessions, pieces, shown, carried=()):
    """The pieces of a window: `shown` are (index, start, end) of neighbouring messages by tokens of their text, `carried`
    indices of earlier ones."""
    out = []
    if shown[0][0] > 0:
        out.append(encoder.mark(EARLIER))
        out += [pieces[i][1] for i in carried]
        out.append(encoder.mark(LATER))
    session, start = None, None
    for index, begin, end in shown:
        number, piece = pieces[index]
        if number != session:
            previous, start = start, datetime.fromisoformat(sessions[number][0])
            out.append(encoder.mark(gap_mark(previous, start)))
            session = number
        out.append(piece.part(begin, end))
    return out


def shown_in(planned, items):
    """What `window` takes of a plan.Window."""
    return planned.context + [(i, 0, items[i].content) for i in planned.fresh]


def flatten(pieces):
    """(token ids, [(position of <|im_end|>, message)]) of a window; marks have no message."""
    ids, ends = [], []
    for piece in pieces:
        if piece.message is not None:
            ends.append((len(ids) + piece.end, piece.message))
        ids += piece.ids
    return ids, ends
