"""The classifier: the first layers of a llama-shaped decoder and ordinal heads on its hidden states.

Blocks may be in bfloat16 (norms and rotations are computed in float32 all the same); output norm and heads are float32.
Parameters carry the names llama.cpp gives them in GGUF (`blk.0.attn_q.weight`, …) and q/k rows stay in llama.cpp's
order, in which rotary pairs are neighbours; so weights go in and out of GGUF as they are.
"""

import torch
import torch.nn.functional as F
from torch import nn

# name -> number of ordered levels; index 0 is the lowest (for `stance`, level -1)
HEADS = {"harassment": 4, "delusion": 4, "stance": 4, "imminent": 2, "harassment_case": 2, "delusion_case": 2}
# Fitted to what the trained layers say when they are done (`frames.py`): they are trained for nothing of it.
FITTED = {"framed": 2}
HEAD_LABELS = {"harassment": [0, 1, 2, 3], "delusion": [0, 1, 2, 3], "stance": [-1, 0, 1, 2], "imminent": [0, 1],
               "harassment_case": [0, 1], "delusion_case": [0, 1], "framed": [0, 1]}


class RMSNorm(nn.Module):
    """Zhang & Sennrich 2019, arXiv 1910.07467."""

    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        h = x.float()
        h = h * torch.rsqrt(h.square().mean(-1, keepdim=True) + self.eps)
        return (h * self.weight.float()).to(x.dtype)


def rope_tables(lengths, width, base):
    """cos and sin of position × base^(-2i/width) (Su et al. 2021, arXiv 2104.09864), from 0 in each window."""
    position = torch.cat([torch.arange(n) for n in lengths]).float()
    angles = torch.outer(position, base ** (-torch.arange(0, width, 2).float() / width))
    return angles.cos()[:, None], angles.sin()[:, None]


def rotate(x, cos, sin):
    """Rotate neighbouring pairs of the last axis of x (time, heads, width)."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x.dtype)


def attend(q, k, v, lengths, read=None):
    """Causal attention within windows that lie one after another: q, k, v (time, heads, width) -> (queries, hidden).

    `read`: ascending positions that q holds alone; without it, q holds all.
    """
    out, start, queries = [], 0, 0
    for n in lengths:
        mask = None
        count = n
        if read is not None:
            here = read[(read >= start) & (read < start + n)] - start
            count = len(here)
            mask = torch.arange(n) <= here[:, None]  # (queries, time)
        window = (q[queries : queries + count], k[start : start + n], v[start : start + n])
        y = F.scaled_dot_product_attention(*(t.transpose(0, 1)[None] for t in window), attn_mask=mask,
                                           is_causal=mask is None, enable_gqa=True)
        out.append(y[0].transpose(0, 1).flatten(1))
        start, queries = start + n, queries + count
    return torch.cat(out)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        width = c.hidden // c.heads
        self.heads, self.kv_heads, self.width = c.heads, c.kv_heads, width
        self.attn_norm = RMSNorm(c.hidden, c.eps)
        self.attn_q = nn.Linear(c.hidden, c.hidden, bias=False)
        self.attn_k = nn.Linear(c.hidden, c.kv_heads * width, bias=False)
        self.attn_v = nn.Linear(c.hidden, c.kv_heads * width, bias=False)
        self.attn_output = nn.Linear(c.hidden, c.hidden, bias=False)
        self.ffn_norm = RMSNorm(c.hidden, c.eps)
        self.ffn_gate = nn.Linear(c.hidden, c.ffn, bias=False)
        self.ffn_up = nn.Linear(c.hidden, c.ffn, bias=False)
        self.ffn_down = nn.Linear(c.ffn, c.hidden, bias=False)

    def forward(self, x, rope, lengths, read=None):
        """The block's output, of the positions `read` alone where they are given: nothing else of a last layer is used."""
        h = self.attn_norm(x)
        own = (lambda t: t) if read is None else (lambda t: t[read])  # noqa: E731
        heads = lambda t: t.unflatten(-1, (-1, self.width))  # noqa: E731
        q = rotate(heads(self.attn_q(own(h))), *(own(t) for t in rope))
        k, v = rotate(heads(self.attn_k(h)), *rope), heads(self.attn_v(h))
        x = own(x) + self.attn_output(attend(q, k, v, lengths, read))
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class OrdinalHead(nn.Module):
    """P(y > k) = sigmoid(w_k·x + b_k), one linear classifier a threshold (Frank & Hall 2001).

    One w for all thresholds, as in CORAL, would put protective, neutral and amplifying replies on one line, on which they
    do not lie: to resist a belief and to feed it are both ways of speaking of it.
    """

    def __init__(self, hidden, levels):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(levels - 1, hidden))
        self.bias = nn.Parameter(torch.zeros(levels - 1))

    def forward(self, x):
        return x @ self.weight.T + self.bias


class Guard(nn.Module):
    def __init__(self, config, frozen=0, heads=HEADS):
        """`frozen`: how many of the lowest layers (and always the embedding) are not trained; `heads`: levels by name."""
        super().__init__()
        self.config, self.frozen = config, frozen
        self.token_embd = nn.Embedding(config.vocab, config.hidden)
        self.blk = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.output_norm = RMSNorm(config.hidden, config.eps)
        self.head = nn.ModuleDict({name: OrdinalHead(config.hidden, k) for name, k in heads.items()})
        for part in (self.token_embd, *self.blk[:frozen]):
            part.requires_grad_(False)

    def run(self, x, blocks, lengths, read=None):
        """Windows of these lengths lie one after another in x (time, hidden); attention stays within each.

        With `read`, the last block gives its output at those positions alone.
        """
        rope = rope_tables(lengths, self.config.hidden // self.config.heads, self.config.rope_base)
        for block in blocks[:-1]:
            x = block(x, rope, lengths)
        return blocks[-1](x, rope, lengths, read)

    @torch.no_grad()
    def lower(self, ids, lengths):
        """The hidden states under the trained layers."""
        x = self.token_embd(ids)
        return self.run(x, self.blk[: self.frozen], lengths) if self.frozen else x

    def upper(self, x, ends, lengths):
        """Head logits (messages, levels - 1) at the positions `ends` of x, from the output of `lower`."""
        x = x.to(self.blk[-1].attn_q.weight.dtype)
        h = self.output_norm(self.run(x, self.blk[self.frozen :], lengths, read=ends).float())
        return {name: head(h) for name, head in self.head.items()}

    def forward(self, ids, ends):
        """One window."""
        lengths = [len(ids)]
        return self.upper(self.lower(ids, lengths), ends, lengths)


def above_thresholds(logits, temperature=1.0):
    """P(y > k), never greater than P(y > k − 1): classifiers that were trained apart may cross."""
    return torch.cummin(torch.sigmoid(logits / temperature), -1).values


def level_probabilities(logits, temperature=1.0):
    """(…, K-1) cumulative logits -> (…, K) probabilities of the levels."""
    above = above_thresholds(logits, temperature)
    edge = torch.ones_like(above[..., :1])
    return (torch.cat((edge, above), -1) - torch.cat((above, 0 * edge), -1)).clamp_min(0)


def expected_level(logits, temperature=1.0):
    """E[y] = Σ_k P(y > k), from 0 to K-1."""
    return above_thresholds(logits, temperature).sum(-1)
