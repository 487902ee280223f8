"""The textbook GPT-2 in PyTorch: learned positions, pre-LN blocks, tied head; three ablation switches.

Special here: attention goes through `scaled_dot_product_attention` with is_causal, no mask tensor; weights are kept as
[in, out] matrices under GPT-2's names, so that saving is a plain copy. Shapes: B batch, T time, C = n_embd, nh heads,
hs = C / nh. Source: Radford et al. 2019 and openai/gpt-2; initialisation as in karpathy/nanoGPT.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from manako.families.gpt2 import ModelConfig

ACTIVATION = {"gelu_new": lambda x: F.gelu(x, approximate="tanh"), "gelu": F.gelu, "relu": F.relu}


class Conv1D(nn.Module):
    """x @ weight + bias with weight [in, out]: GPT-2's name and orientation for a linear layer."""

    def __init__(self, n_in: int, n_out: int, std: float = 0.02) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out).normal_(std=std))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.t(), self.bias)


class CausalSelfAttention(nn.Module):
    """Multi-head attention of each position over itself and the past."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = Conv1D(config.n_embd, 3 * config.n_embd)
        self.c_proj = Conv1D(config.n_embd, config.n_embd, _residual_std(config))

    def heads(self, x: Tensor) -> Tensor:
        """Queries, keys and values of each head: [3, B, nh, T, hs]."""
        B, T, _ = x.shape
        return self.c_attn(x).view(B, T, 3, self.n_head, -1).permute(2, 0, 3, 1, 4)

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        q, k, v = self.heads(x)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # [B, nh, T, hs]
        return self.c_proj(y.transpose(1, 2).reshape(B, T, C))


class MLP(nn.Module):
    """Two linear layers around the activation."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = ACTIVATION[config.activation_function]
        self.c_fc = Conv1D(config.n_embd, config.n_mlp)
        self.c_proj = Conv1D(config.n_mlp, config.n_embd, _residual_std(config))

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.activation(self.c_fc(x)))


class Block(nn.Module):
    """Attention, then MLP, each added to the stream; the switches change just that."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        if config.attention:
            self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
            self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        if self.config.attention:
            x = self._half(x, self.ln_1, self.attn)
        return self._half(x, self.ln_2, self.mlp)

    def _half(self, x: Tensor, norm: nn.Module, part: nn.Module) -> Tensor:
        if self.config.norm == "pre":
            out = part(norm(x))
            return x + out if self.config.residual else out
        out = part(x)
        return norm(x + out if self.config.residual else out)


class GPT(nn.Module):
    """ids [B, T] -> logits [B, T, V]. Parameter names are those of a model folder."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
            nn.init.normal_(self.lm_head.weight, std=0.02)
        nn.init.normal_(self.wte.weight, std=0.02)
        nn.init.normal_(self.wpe.weight, std=0.02)

    def embed(self, ids: Tensor) -> Tensor:
        """[B, T] -> [B, T, C], what the first block reads."""
        return self.wte(ids) + self.wpe.weight[: ids.shape[1]]

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)  # [B, T, C]
        for block in self.h:
            x = block(x)
        head = self.wte.weight if self.config.tie_word_embeddings else self.lm_head.weight
        return F.linear(self.ln_f(x), head)  # [B, T, V]

    def loss(self, ids: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        """Cross-entropy in nats of targets [B, T] given ids [B, T], their mean or "sum"."""
        logits = self(ids).flatten(0, 1)  # [B T, V]
        wide = logits.float() if logits.dtype == torch.bfloat16 else logits  # sums over V need the digits
        return F.cross_entropy(wide, targets.flatten(), reduction=reduction)


def _residual_std(config: ModelConfig) -> float:
    return 0.02 / math.sqrt(2 * config.n_layer)
