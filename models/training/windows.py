"""Units to token windows: training variants drawn at random, and the rolling windows of inference."""

import hashlib
import random
from dataclasses import replace

import torch

from augment import augment, cut, rolled
from corpus import ARCS
from model import expected_level, level_probabilities
from plan import choose_carried, plan
from tokens import flatten, history_pieces, items_of, shown_in, window

ROLLED_SHARE = 0.85  # of the augmented variants of histories whose windows are those of `predict`; of the others they are cut anywhere


def unit_windows(unit, variant, encoder, splices, seed):
    """[(ids, ends, messages)] for one variant of a unit; variant 0 is the text as written."""
    key = f"{seed}/{unit.id}/{variant}"
    histories = unit.histories
    if variant:
        histories = augment(histories, splices, random.Random(key))
    out = []
    for h in histories:
        rng = random.Random(key + "/cut")  # twins are cut alike
        pieces = history_pieces(encoder, h.sessions)
        items = items_of(encoder, h.sessions, pieces)
        anywhere = variant and h.kind not in ("contrast", "public") and rng.random() >= ROLLED_SHARE
        shown, carried = (cut if anywhere else rolled)(h.messages(), items, rng)
        ids, ends, messages = tensors(window(encoder, h.sessions, pieces, shown, carried))
        # What is carried was judged where it was said, and of what is cut nobody may know what the label rests on.
        whole = [len(carried) + n for n, (_, start, _) in enumerate(shown) if start == 0]
        known = shown_cases(messages)
        out.append((ids, ends[whole], [known[n] for n in whole]))
    return out


def shown_cases(messages):
    """The messages, an open case unknown where the window has shown none of its evidence up to them."""
    shown, out = dict.fromkeys(ARCS, False), []
    for m in messages:
        for kind in ARCS if m.role == "user" else ():
            if getattr(m, f"{kind}_case"):
                shown[kind] |= (getattr(m, kind) or 0) >= 1
                if not shown[kind]:
                    m = replace(m, **{f"{kind}_case": None})
        out.append(m)
    return out


def tensors(pieces, skip=0):
    """(ids, ends, messages) of a window without its `skip` first (already judged) messages among the ends."""
    ids, ends = flatten(pieces)
    ends = ends[skip:]
    return torch.tensor(ids), torch.tensor([e for e, _ in ends]), [m for _, m in ends]


class LowerCache:
    """Outputs of the frozen layers by window: they never change, and variants come round again."""

    def __init__(self, model, limit_bytes):
        self.model, self.left, self.store = model, limit_bytes, {}

    def __call__(self, windows):
        """The outputs for several id tensors, one after another in one tensor."""
        keys = [hashlib.sha1(ids.numpy().tobytes()).digest() for ids in windows]
        fresh = {k: ids for k, ids in zip(keys, windows) if k not in self.store}
        found = {}
        if fresh:
            lengths = [len(ids) for ids in fresh.values()]
            found = dict(zip(fresh, self.model.lower(torch.cat(list(fresh.values())), lengths).split(lengths)))
        for key, x in found.items():
            if self.left > x.nbytes:
                self.left -= x.nbytes
                self.store[key] = x
        return torch.cat([found[k] if k in found else self.store[k] for k in keys])


def tensors_of(lower, windows):
    """(lower outputs, positions of message ends, lengths) of several windows laid one after another."""
    lengths = [len(ids) for ids, _, _ in windows]
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    ends = torch.cat([e + s for (_, e, _), s in zip(windows, starts)])
    return lower([ids for ids, _, _ in windows]), ends, lengths


def run_windows(model, lower, windows):
    """Head logits of each of several (ids, ends, messages), run as one batch."""
    logits = model.upper(*tensors_of(lower, windows))
    counts = [len(e) for _, e, _ in windows]
    split = {name: x.split(counts) for name, x in logits.items()}
    return [{name: x[i] for name, x in split.items()} for i in range(len(windows))]


@torch.no_grad()
def predict(model, encoder, history, lower=None):
    """Head logits (messages, K-1) of a whole history, by the rolling windows of inference.

    The windows of `plan.plan`, into which the earlier messages of the greatest `weight` are carried.
    """
    lower = lower or LowerCache(model, 0)
    pieces, messages = history_pieces(encoder, history.sessions), history.messages()
    items = items_of(encoder, history.sessions, pieces)
    rows, weights = [], []
    for planned in plan(items):
        carried = choose_carried(items, weights, planned.first())
        whole = window(encoder, history.sessions, pieces, shown_in(planned, items), carried)
        skip = len(carried) + len(planned.context)
        logits = run_windows(model, lower, [tensors(whole, skip)])[0]
        fresh = [{name: x[i] for name, x in logits.items()} for i in range(len(planned.fresh))]
        rows += fresh
        weights += [weight(messages[i].role, row) for i, row in zip(planned.fresh, fresh)]
    return {name: torch.stack([r[name] for r in rows]) for name in rows[0]}


def weight(role, row):
    """How much a message matters to later windows: its P(level >= 2), its imminence, or its stance.

    `src/scorer/carried.rs` of logits that are not calibrated yet; `carried-weights.json` pins both.
    """
    if role == "user":
        high = [level_probabilities(row[arc])[2:].sum().item() for arc in ARCS]
        return max(*high, torch.sigmoid(row["imminent"]).item())
    return abs(expected_level(row["stance"]).item() - 1) / 2
