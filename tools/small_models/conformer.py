"""FBK's conformer encoder-decoder (`ConformerEncoderDecoderForConditionalGeneration`) in PyTorch.

The attribute names are the tensor names of a model folder, so `state_dict()` is what ships.
There are no padding masks: a batch holds utterances of one length. Dropout acts on the residual
branches only, where it is cheap.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

# Position tables of the decoder begin at padding index + 1.
FIRST_DECODER_POSITION = 2


@dataclass
class Config:
    d_model: int = 144
    encoder_layers: int = 6
    decoder_layers: int = 3
    encoder_attention_heads: int = 4
    decoder_attention_heads: int = 4
    decoder_ffn_dim: int = 576
    feed_forward_expansion_factor: int = 4
    conv_expansion_factor: int = 2
    conformer_conv_kernel_size: int = 15
    conformer_half_step_residual: bool = True
    conv_kernel_sizes: tuple = (5, 5)
    conv_channels: int = 288
    input_feat_per_channel: int = 80
    activation_function: str = "relu"
    max_source_positions: int = 3000
    max_target_positions: int = 256
    vocab_size: int = 256
    bos_token_id: int = 0
    pad_token_id: int = 1
    eos_token_id: int = 2
    decoder_start_token_id: int = 2
    scale_embedding: bool = True
    tie_word_embeddings: bool = True


class Dropout(nn.Module):
    """Dropout that draws eight bits an element: PyTorch's own takes a quarter of the training time.

    The probability is rounded to a multiple of 1/256.
    """

    def __init__(self, probability):
        super().__init__()
        self.threshold = round(256 * probability)

    def forward(self, x):
        if not self.training or self.threshold == 0:
            return x
        # One draw of 64 bits serves eight elements.
        draws = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = draws.view(torch.uint8)[: x.numel()].view(x.shape) >= self.threshold
        return x * kept * (256 / (256 - self.threshold))


class Subsampler(nn.Module):
    """Two strided convolutions with gates: four input frames become one."""

    def __init__(self, config):
        super().__init__()
        first, second = config.conv_kernel_sizes
        channels = config.conv_channels
        self.conv_layers = nn.ModuleList([
            nn.Conv1d(config.input_feat_per_channel, channels, first, stride=2, padding=first // 2),
            nn.Conv1d(channels // 2, 2 * config.d_model, second, stride=2, padding=second // 2),
        ])

    def forward(self, features):
        x = features.transpose(1, 2)
        for convolution in self.conv_layers:
            x = F.glu(convolution(x), dim=1)
        return x.transpose(1, 2)


class HalfFeedForward(nn.Module):
    def __init__(self, config, dropout):
        super().__init__()
        width = config.d_model * config.feed_forward_expansion_factor
        self.layernorm = nn.LayerNorm(config.d_model)
        self.first_linear = nn.Linear(config.d_model, width)
        self.second_linear = nn.Linear(width, config.d_model)
        self.dropout = Dropout(dropout)

    def forward(self, x):
        return self.dropout(self.second_linear(F.silu(self.first_linear(self.layernorm(x)))))


def outer_angles(positions, exponents):
    """positions / 10000^exponents, in float64: narrow types cannot hold large angles."""
    return positions.double()[:, None] * torch.exp(-math.log(10000.0) * exponents.double())


def interleaved_sinusoids(length, width, like):
    """Rows for positions 0..length-1: sine in the even columns, cosine in the odd ones."""
    angles = outer_angles(torch.arange(length), torch.arange(0, width, 2).double() / width)
    return torch.stack([torch.sin(angles), torch.cos(angles)], dim=-1).flatten(1).to(like)


def relative_shift(scores):
    """Transformer-XL's shift as FBK applies it to a square matrix.

    A zero column goes in front and the rows are read on in memory order, so what lies right of
    the diagonal comes from the query of the *next* row. Trained models depend on it.
    """
    batch, heads, rows, columns = scores.shape
    padded = F.pad(scores, (1, 0))
    return padded.reshape(batch, heads, columns + 1, rows)[:, :, 1:].reshape(batch, heads, rows, columns)


class RelativeAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, self.heads = config.d_model, config.encoder_attention_heads
        self.query_proj = nn.Linear(width, width)
        self.key_proj = nn.Linear(width, width)
        self.value_proj = nn.Linear(width, width)
        self.pos_proj = nn.Linear(width, width, bias=False)
        self.out_proj = nn.Linear(width, width)
        self.u_bias = nn.Parameter(torch.empty(self.heads, width // self.heads))
        self.v_bias = nn.Parameter(torch.empty(self.heads, width // self.heads))
        nn.init.xavier_uniform_(self.u_bias)
        nn.init.xavier_uniform_(self.v_bias)

    def forward(self, x):
        batch, length, width = x.shape

        def split(y):
            return y.view(y.shape[0], length, self.heads, -1).transpose(1, 2)

        query, key, value = (split(p(x)) for p in (self.query_proj, self.key_proj, self.value_proj))
        position = split(self.pos_proj(interleaved_sinusoids(length, width, x))[None])
        content_scores = (query + self.u_bias[:, None]) @ key.transpose(2, 3)
        position_scores = relative_shift((query + self.v_bias[:, None]) @ position.transpose(2, 3))
        # The published models divide by sqrt(D), not by sqrt(D / heads).
        weights = torch.softmax((content_scores + position_scores) / math.sqrt(width), dim=-1)
        context = (weights @ value).transpose(1, 2).reshape(batch, length, width)
        return self.out_proj(context)


class NormalisedRelativeAttention(nn.Module):
    def __init__(self, config, dropout):
        super().__init__()
        self.layer_norm = nn.LayerNorm(config.d_model)
        self.attention = RelativeAttention(config)
        self.dropout = Dropout(dropout)

    def forward(self, x):
        return self.dropout(self.attention(self.layer_norm(x)))


class ConvolutionModule(nn.Module):
    def __init__(self, config, dropout):
        super().__init__()
        width, kernel = config.d_model, config.conformer_conv_kernel_size
        self.layernorm = nn.LayerNorm(width)
        self.first_pointwise_conv1d = nn.Conv1d(width, config.conv_expansion_factor * width, 1)
        self.depthwise_conv1d = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
        self.batchnorm = nn.BatchNorm1d(width)
        self.second_pointwise_conv1d = nn.Conv1d(width, width, 1)
        self.dropout = Dropout(dropout)

    def forward(self, x):
        x = self.layernorm(x).transpose(1, 2)
        x = F.glu(self.first_pointwise_conv1d(x), dim=1)
        x = F.silu(self.batchnorm(self.depthwise_conv1d(x)))
        return self.dropout(self.second_pointwise_conv1d(x)).transpose(1, 2)


class ConformerLayer(nn.Module):
    def __init__(self, config, dropout):
        super().__init__()
        self.first_feed_forward = HalfFeedForward(config, dropout)
        self.attention = NormalisedRelativeAttention(config, dropout)
        self.conv_module = ConvolutionModule(config, dropout)
        self.second_feed_forward = HalfFeedForward(config, dropout)
        self.layernorm = nn.LayerNorm(config.d_model)

    def forward(self, x):
        x = x + 0.5 * self.first_feed_forward(x)
        x = x + self.attention(x)
        x = x + self.conv_module(x)
        x = x + 0.5 * self.second_feed_forward(x)
        return self.layernorm(x)


class Encoder(nn.Module):
    def __init__(self, config, dropout):
        super().__init__()
        self.scale = math.sqrt(config.d_model)
        self.subsample = Subsampler(config)
        self.dropout = Dropout(dropout)
        self.conformer_layers = nn.ModuleList(
            ConformerLayer(config, dropout) for _ in range(config.encoder_layers)
        )

    def forward(self, features):
        x = self.dropout(self.subsample(features) * self.scale)
        for layer in self.conformer_layers:
            x = layer(x)
        return x


class DecoderAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, self.heads = config.d_model, config.decoder_attention_heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x, memory, causal):
        """The output and the weights (batch, heads, queries, keys)."""

        def split(y):
            return y.view(*y.shape[:2], self.heads, -1).transpose(1, 2)

        query, key, value = split(self.q_proj(x)), split(self.k_proj(memory)), split(self.v_proj(memory))
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
        if causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
            scores = scores.masked_fill(later, -math.inf)
        weights = torch.softmax(scores, dim=-1)
        context = (weights @ value).transpose(1, 2).reshape(x.shape)
        return self.out_proj(context), weights


class DecoderLayer(nn.Module):
    def __init__(self, config, dropout):
        super().__init__()
        width = config.d_model
        self.self_attn = DecoderAttention(config)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.encoder_attn = DecoderAttention(config)
        self.encoder_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, config.decoder_ffn_dim)
        self.fc2 = nn.Linear(config.decoder_ffn_dim, width)
        self.final_layer_norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(self, x, memory):
        normed = self.self_attn_layer_norm(x)
        x = x + self.dropout(self.self_attn(normed, normed, causal=True)[0])
        attended, weights = self.encoder_attn(self.encoder_attn_layer_norm(x), memory, causal=False)
        x = x + self.dropout(attended)
        hidden = F.relu(self.fc1(self.final_layer_norm(x)))
        return x + self.dropout(self.fc2(hidden)), weights


def decoder_sinusoids(length, width, like):
    """Rows for the first `length` positions: all sines, then all cosines."""
    half = width // 2
    positions = torch.arange(FIRST_DECODER_POSITION, FIRST_DECODER_POSITION + length)
    angles = outer_angles(positions, torch.arange(half).double() / (half - 1))
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=1).to(like)


class Decoder(nn.Module):
    def __init__(self, config, dropout):
        super().__init__()
        width = config.d_model
        self.scale = math.sqrt(width) if config.scale_embedding else 1.0
        self.embed_tokens = nn.Embedding(config.vocab_size, width)
        nn.init.normal_(self.embed_tokens.weight, std=width**-0.5)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(DecoderLayer(config, dropout) for _ in range(config.decoder_layers))
        self.layer_norm = nn.LayerNorm(width)
        if not config.tie_word_embeddings:
            self.output_projection = nn.Linear(width, config.vocab_size, bias=False)

    def forward(self, tokens, memory):
        """Logits, and the cross-attention weights of every layer."""
        x = self.embed_tokens(tokens) * self.scale
        x = self.dropout(x + decoder_sinusoids(tokens.shape[1], x.shape[-1], x))
        cross_attention = []
        for layer in self.layers:
            x, weights = layer(x, memory)
            cross_attention.append(weights)
        projection = getattr(self, "output_projection", self.embed_tokens).weight
        return F.linear(self.layer_norm(x), projection), cross_attention


class Conformer(nn.Module):
    def __init__(self, config, dropout=0.0):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, dropout)
        self.decoder = Decoder(config, dropout)

    @torch.no_grad()
    def greedy(self, features, forced=(), max_length=80):
        """The token ids of one utterance, (frames, mel bins), after start and `forced`, before the end."""
        memory = self.encoder(features[None])
        tokens = torch.tensor([[self.config.decoder_start_token_id, *forced]])
        while tokens.shape[1] < max_length:
            best = self.decoder(tokens, memory)[0][:, -1].argmax(dim=-1, keepdim=True)
            if best.item() == self.config.eos_token_id:
                break
            tokens = torch.cat([tokens, best], dim=1)
        return tokens[0, 1 + len(forced) :].tolist()
