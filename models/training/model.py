"""The classifier: the first layers of a llama-shaped decoder and ordinal heads on its hidden states.

Parameters carry the names llama.cpp gives them in GGUF (`blk.0.attn_q.weight`, …) and q/k rows stay in llama.cpp's
order, in which rotary pairs are neighbours; so weights go in and out of GGUF as they are.
"""

import torch
import torch.nn.functional as F
from torch import nn

# name -> number of ordered levels; index 0 is the lowest (for `stance`, level -1)
HEADS = {"harassment": 4, "delusion": 4, "stance": 4, "imminent": 2}
HEAD_LABELS = {"harassment": [0, 1, 2, 3], "delusion": [0, 1, 2, 3], "stance": [-1, 0, 1, 2], "imminent": [0, 1]}
USER_HEADS = ("harassment", "delusion", "imminent")


class RMSNorm(nn.Module):
    """Zhang & Sennrich 2019, arXiv 1910.07467."""

    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


def rope_tables(lengths, width, base):
    """cos and sin of position × base^(-2i/width) (Su et al. 2021, arXiv 2104.09864), from 0 in each window."""
    position = torch.cat([torch.arange(n) for n in lengths]).float()
    angles = torch.outer(position, base ** (-torch.arange(0, width, 2).float() / width))
    return angles.cos(), angles.sin()


def rotate(x, cos, sin):
    """Rotate neighbouring pairs of the last axis of x (heads, time, width)."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


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

    def attention(self, x, cos, sin, lengths):
        time = x.shape[0]
        q = rotate(self.attn_q(x).view(time, self.heads, self.width).transpose(0, 1), cos, sin)
        k = rotate(self.attn_k(x).view(time, self.kv_heads, self.width).transpose(0, 1), cos, sin)
        v = self.attn_v(x).view(time, self.kv_heads, self.width).transpose(0, 1)
        repeat = self.heads // self.kv_heads
        k, v = k.repeat_interleave(repeat, 0), v.repeat_interleave(repeat, 0)
        parts = zip(*(t[None].split(lengths, dim=2) for t in (q, k, v)))
        y = torch.cat([F.scaled_dot_product_attention(*p, is_causal=True)[0] for p in parts], 1)
        return self.attn_output(y.transpose(0, 1).reshape(time, -1))

    def forward(self, x, cos, sin, lengths):
        x = x + self.attention(self.attn_norm(x), cos, sin, lengths)
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class OrdinalHead(nn.Module):
    """Cumulative-link head: P(y > k) = sigmoid(w·x + b_k) with one w and b_0 ≥ b_1 ≥ …; CORAL, arXiv 1901.07884.

    The order of the biases holds by construction: each is the one before it less a softplus.
    """

    def __init__(self, hidden, levels):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, hidden))
        self.first = nn.Parameter(torch.zeros(1))
        self.gaps = nn.Parameter(torch.zeros(levels - 2))

    def bias(self):
        return torch.cat((self.first, self.first - F.softplus(self.gaps).cumsum(0)))

    @torch.no_grad()
    def set_bias(self, bias):
        """The inverse of `bias`; neighbours are kept a little apart."""
        self.first.copy_(bias[:1])
        self.gaps.copy_(torch.log(torch.expm1((bias[:-1] - bias[1:]).clamp_min(1e-6))))

    def forward(self, x):
        return x @ self.weight.T + self.bias()


class Guard(nn.Module):
    def __init__(self, config, frozen=0):
        """`frozen`: how many of the lowest layers (and always the embedding) are not trained."""
        super().__init__()
        self.config, self.frozen = config, frozen
        self.token_embd = nn.Embedding(config.vocab, config.hidden)
        self.blk = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.output_norm = RMSNorm(config.hidden, config.eps)
        self.head = nn.ModuleDict({name: OrdinalHead(config.hidden, k) for name, k in HEADS.items()})
        for part in (self.token_embd, *self.blk[:frozen]):
            part.requires_grad_(False)

    def run(self, x, blocks, lengths):
        """Windows of these lengths lie one after another in x (time, hidden); attention stays within each."""
        cos, sin = rope_tables(lengths, self.config.hidden // self.config.heads, self.config.rope_base)
        for block in blocks:
            x = block(x, cos, sin, lengths)
        return x

    @torch.no_grad()
    def lower(self, ids, lengths):
        """The hidden states under the trained layers."""
        return self.run(self.token_embd(ids), self.blk[: self.frozen], lengths)

    def upper(self, x, ends, lengths):
        """Head logits (messages, levels - 1) at the positions `ends` of x, from the output of `lower`."""
        h = self.output_norm(self.run(x, self.blk[self.frozen :], lengths)[ends])
        return {name: head(h) for name, head in self.head.items()}

    def forward(self, ids, ends):
        """One window."""
        lengths = [len(ids)]
        return self.upper(self.lower(ids, lengths), ends, lengths)


def level_probabilities(logits, temperature=1.0):
    """(…, K-1) cumulative logits -> (…, K) probabilities of the levels."""
    above = torch.sigmoid(logits / temperature)
    edge = torch.ones_like(above[..., :1])
    return (torch.cat((edge, above), -1) - torch.cat((above, 0 * edge), -1)).clamp_min(0)


def expected_level(logits, temperature=1.0):
    """E[y] = Σ_k P(y > k), from 0 to K-1."""
    return torch.sigmoid(logits / temperature).sum(-1)
