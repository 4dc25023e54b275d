"""Windows of a history whose messages take so many tokens: what `src/window/mod.rs` does, on the same numbers.

`window-plans.json` (`python3 plan.py > window-plans.json`) pins both. A message too long for a window, which the program reads in parts, is refused here:
the longest of the histories has 368 tokens.
"""

import json
import random
from dataclasses import dataclass

WINDOW_TOKENS = 4096
CONTEXT_MESSAGES = 8  # at least so many, or all there are, stand before every fresh message
OVERHEAD_TOKENS = 48  # of notes around the messages
CARRIED_WEIGHT = 0.2  # evidence below is not carried
EXAMPLES = [(1, 4096), (9, 2048), (30, 2048), (60, 2048), (90, 2048), (90, 4096), (200, 4096)]  # messages, tokens of a window


def share(tokens=WINDOW_TOKENS):
    """Of a window of so many tokens those of context, and as many of what is carried."""
    return tokens // 4


def first_room(tokens=WINDOW_TOKENS):
    """Fresh tokens of the first window, which has neither context nor evidence."""
    return tokens - OVERHEAD_TOKENS


def fresh_room(tokens=WINDOW_TOKENS):
    """Those of the windows after it."""
    return first_room(tokens) - 2 * share(tokens)


@dataclass(frozen=True)
class Item:
    """A message's tokens: of its text, of what is written around it, and of the gap mark before it."""

    content: int
    wrap: int
    gap: int

    def around(self):
        return self.wrap + self.gap


@dataclass
class Window:
    """`context`: (item, start, end) by tokens of its text, the last ones where it is shortened; `fresh`: items judged here."""

    context: list
    fresh: list

    def first(self):
        """The first item that stands in the window itself; what is carried lies before it."""
        return self.context[0][0] if self.context else self.fresh[0]


def plan(items, window_tokens=WINDOW_TOKENS):
    """The windows of a history, each item fresh in one of them."""
    first, later = first_room(window_tokens), fresh_room(window_tokens)
    windows, used, room = [], 0, 0
    for i, item in enumerate(items):
        tokens = item.content + item.around()
        assert tokens <= later, f"message {i} takes {tokens} tokens of {later}"
        if windows and used + tokens <= room:
            windows[-1].fresh.append(i)
            used += tokens
        else:
            used, room = tokens, later if windows else first
            windows.append(Window(context_before(items, i, share(window_tokens)), [i]))
    return windows


def context_before(items, first, context_tokens):
    """What a window repeats before its first fresh item: CONTEXT_MESSAGES, each whole where the others still have
    their share and else its end, and more while they fit whole."""
    must, used, context = min(CONTEXT_MESSAGES, first), 0, []
    each = context_tokens // CONTEXT_MESSAGES
    for offset, i in enumerate(range(first - 1, -1, -1)):
        item = items[i]
        keep = item.content
        if offset < must:
            room = context_tokens - used - each * (must - offset - 1)
            keep = min(keep, max(0, room - item.around()))
        elif used + keep + item.around() > context_tokens:
            break
        used += keep + item.around()
        context.append((i, item.content - keep, item.content))
    return context[::-1]


def choose_carried(items, weights, before, tokens=share()):
    """The items before `before` of the greatest weight that fit in so many tokens, in order of time; of equal ones the later."""
    known = [i for i in range(before) if weights[i] >= CARRIED_WEIGHT]
    carried, used = [], 0
    for i in sorted(known, key=lambda i: (-weights[i], -i)):
        if used + items[i].content + items[i].wrap <= tokens:
            carried.append(i)
            used += items[i].content + items[i].wrap
    return sorted(carried)


def example(seed, count, window_tokens):
    """A history of so many messages, some of them long, with its windows as [context, fresh, carried]."""
    rng = random.Random(seed)
    contents = [rng.randrange(1, 60) if rng.random() < 0.5 else rng.randrange(60, 500) for _ in range(count)]
    items = [Item(content, rng.choice([5, 6]), rng.choice([0, 0, 0, 9, 11]) if i else 8) for i, content in enumerate(contents)]
    weights = [rng.choice([0, 0, 0.25, 0.5, 0.75]) for _ in items]
    planned = plan(items, window_tokens)
    windows = [[w.context, w.fresh, choose_carried(items, weights, w.first(), share(window_tokens))] for w in planned]
    return {"window_tokens": window_tokens, "items": [[i.content, i.wrap, i.gap] for i in items], "weights": weights, "windows": windows}


def examples():
    return [example(seed, count, tokens) for seed, (count, tokens) in enumerate(EXAMPLES)]


if __name__ == "__main__":
    print(json.dumps(examples(), separators=(",", ":")))
