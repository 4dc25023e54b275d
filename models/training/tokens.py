"""Messages to token windows. The Rust side (`src/`) does exactly the same; `golden-guard.json` pins both.

A message is `<|im_start|>` "role\\n" content `<|im_end|>` "\\n", each piece tokenised on its own and never with
special-token recognition: `<|im_end|>` typed by a user is plain text.
"""

from dataclasses import dataclass
from datetime import datetime

from tokenizers import Tokenizer

MAX_CONTENT = 512  # tokens of one message; of a longer one the first and the last half of this are kept
WINDOW_TOKENS = 2048
FULL = WINDOW_TOKENS - 64  # what the messages of a window may take together
OVERLAP = 8  # earlier messages every window repeats
EARLIER, LATER = "earlier, in part", "later"


@dataclass(frozen=True)
class Piece:
    """One message as tokens; `end` is the place of its `<|im_end|>` within `ids`."""

    ids: tuple
    end: int
    message: object = None  # the labelled message, or None for marks


class Encoder:
    def __init__(self, tokenizer_json, max_content=MAX_CONTENT):
        self.tokenizer = Tokenizer.from_str(tokenizer_json)
        self.tokenizer.encode_special_tokens = True
        self.start = self.tokenizer.token_to_id("<|im_start|>")
        self.stop = self.tokenizer.token_to_id("<|im_end|>")
        self.max_content = max_content
        self.newline = self.encode("\n")

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def piece(self, role, content, message=None):
        body = self.encode(content)
        if len(body) > self.max_content:
            half = self.max_content // 2
            body = body[:half] + body[-half:]
        ids = (self.start, *self.encode(role + "\n"), *body, self.stop, *self.newline)
        return Piece(ids, len(ids) - 1 - len(self.newline), message)

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


def window(encoder, sessions, pieces, first, last, carried=()):
    """The pieces of the window over messages first..last (exclusive); `carried` are indices of earlier messages."""
    out = []
    if first > 0:
        out.append(encoder.mark(EARLIER))
        out += [pieces[i][1] for i in carried]
        out.append(encoder.mark(LATER))
    session, start = None, None
    for number, piece in pieces[first:last]:
        if number != session:
            previous, start = start, datetime.fromisoformat(sessions[number][0])
            out.append(encoder.mark(gap_mark(previous, start)))
            session = number
        out.append(piece)
    return out


def room_of(piece):
    """The tokens that a message may take in a window, a gap mark before it counted."""
    return len(piece.ids) + 12


def span(sizes, done):
    """(first, last) of the window that judges the messages from `done` on, of a history whose messages take `sizes`.

    Near to what the program does (`src/window`), which leaves room for gap marks only where there are some and so reads more whole.
    """
    if sum(sizes) <= FULL:
        return 0, len(sizes)
    own = FULL if done == 0 else FULL * 3 // 4
    first = max(0, done - OVERLAP)
    last, used = done, sum(sizes[first:done])
    while last < len(sizes) and (last == done or used + sizes[last] <= own):
        used += sizes[last]
        last += 1
    while first > 0 and used + sizes[first - 1] <= own:
        first -= 1
        used += sizes[first]
    return first, last


def carry(sizes, order, budget):
    """Which of the messages in `order`, the weightiest first, are carried into a window that has `budget` tokens for them."""
    carried, used = [], 0
    for i in order:
        if used + sizes[i] <= budget:
            carried.append(i)
            used += sizes[i]
    return sorted(carried)


def flatten(pieces):
    """(token ids, [(position of <|im_end|>, message)]) of a window; marks have no message."""
    ids, ends = [], []
    for piece in pieces:
        if piece.message is not None:
            ends.append((len(ids) + piece.end, piece.message))
        ids += piece.ids
    return ids, ends
