"""Converts the names and shapes of tensors in the published files to timm's.

Pure functions on state dicts, whose tensors are called `layer/name`. Unknown tensors are kept, so
that the network lists them as unexpected keys.

The layers are named as in keras_cv_attention_models (LeViT, MaxViT, ConvNeXt), vit_keras, and
efficientnet, whose names `keras.applications` adopted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from math import isqrt

import torch
from torch import Tensor

from ...weights.state_dicts import StateDict

_Rows = tuple[tuple[str, str], ...]
"""Layers and modules. `#` is a number; in the module it counts from 0, and `%` is unchanged."""

_LEVIT: _Rows = (
    ("stem_#_conv", "stem.conv%.linear"),
    ("stem_#_bn", "stem.conv%.bn"),
    ("stack#_block#_qkv", "stages.#.blocks.#.attn.qkv.linear"),
    ("stack#_block#_qkv_bn", "stages.#.blocks.#.attn.qkv.bn"),
    ("stack#_block#_attn_pos", "stages.#.blocks.#.attn"),
    ("stack#_block#_out", "stages.#.blocks.#.attn.proj.ln.linear"),
    ("stack#_block#_out_bn", "stages.#.blocks.#.attn.proj.ln.bn"),
    ("stack#_block#_mlp_#_dense", "stages.#.blocks.#.mlp.ln%.linear"),
    ("stack#_block#_mlp_#_bn", "stages.#.blocks.#.mlp.ln%.bn"),
    ("stack#_downsample_kv", "stages.%.downsample.attn_downsample.kv.linear"),
    ("stack#_downsample_kv_bn", "stages.%.downsample.attn_downsample.kv.bn"),
    ("stack#_downsample_q", "stages.%.downsample.attn_downsample.q.ln.linear"),
    ("stack#_downsample_q_bn", "stages.%.downsample.attn_downsample.q.ln.bn"),
    ("stack#_downsample_attn_pos", "stages.%.downsample.attn_downsample"),
    ("stack#_downsample_out", "stages.%.downsample.attn_downsample.proj.ln.linear"),
    ("stack#_downsample_out_bn", "stages.%.downsample.attn_downsample.proj.ln.bn"),
    ("stack#_downsample_mlp_#_dense", "stages.%.downsample.mlp.ln%.linear"),
    ("stack#_downsample_mlp_#_bn", "stages.%.downsample.mlp.ln%.bn"),
    ("head_bn", "head.bn"),
    ("head", "head.linear"),
)
_MAXVIT: _Rows = (
    ("stem_#_conv", "stem.conv%"),
    ("stem_#_bn", "stem.norm%"),
    ("stack_#_block_#/mbconv/shortcut_conv", "stages.#.blocks.#.conv.shortcut.expand"),
    ("stack_#_block_#/mbconv/preact_bn", "stages.#.blocks.#.conv.pre_norm"),
    ("stack_#_block_#/mbconv/expand_conv", "stages.#.blocks.#.conv.conv1_1x1"),
    ("stack_#_block_#/mbconv/expand_bn", "stages.#.blocks.#.conv.norm1"),
    ("stack_#_block_#/mbconv/MB_dw_conv", "stages.#.blocks.#.conv.conv2_kxk"),
    ("stack_#_block_#/mbconv/MB_dw_bn", "stages.#.blocks.#.conv.norm2"),
    ("stack_#_block_#/mbconv/se/#_conv", "stages.#.blocks.#.conv.se.fc%"),
    ("stack_#_block_#/mbconv/MB_pw_conv", "stages.#.blocks.#.conv.conv3_1x1"),
    *(
        (f"stack_#_block_#/{layer.format(kind)}", f"stages.#.blocks.#.attn_{kind}.{module}")
        for kind in ("block", "grid")
        for layer, module in (
            ("{}_attn_preact_ln", "norm1"),
            ("{}_window_mhsa/qkv_conv", "attn.qkv"),
            ("{}_window_mhsa/pos_emb", "attn.rel_pos"),
            ("{}_window_mhsa/output", "attn.proj"),
            ("{}_ffn_preact_ln", "norm2"),
            ("{}_ffn/#_dense", "mlp.fc%"),
        )
    ),
    ("post_ln", "head.norm"),
    ("features", "head.pre_logits.fc"),
    ("predictions", "head.fc"),
)
_CONVNEXT: _Rows = (
    ("stem_conv", "stem.0"),
    ("stem_ln", "stem.1"),
    ("stack#_downsample_ln", "stages.#.downsample.0"),
    ("stack#_downsample_conv", "stages.#.downsample.1"),
    ("stack#_block#_dw_conv", "stages.#.blocks.#.conv_dw"),
    ("stack#_block#_ln", "stages.#.blocks.#.norm"),
    ("stack#_block#_up_dense", "stages.#.blocks.#.mlp.fc1"),
    ("stack#_block#_down_dense", "stages.#.blocks.#.mlp.fc2"),
    ("stack#_block#_gamma", "stages.#.blocks.#.gamma"),
    ("head_ln", "head.norm"),
    ("predictions", "head.fc"),
)
_ATTENTION = "Transformer/encoderblock_#/MultiHeadDotProductAttention_1"
_VIT: _Rows = (
    ("embedding", "patch_embed.proj"),
    ("Transformer/encoderblock_#/LayerNorm_0", "blocks.%.norm1"),
    *((f"{_ATTENTION}/{part}", f"blocks.%.attn.{part}") for part in ("query", "key", "value")),
    (f"{_ATTENTION}/out", "blocks.%.attn.proj"),
    ("Transformer/encoderblock_#/LayerNorm_2", "blocks.%.norm2"),
    ("Transformer/encoderblock_#/Dense_0", "blocks.%.mlp.fc1"),
    ("Transformer/encoderblock_#/Dense_1", "blocks.%.mlp.fc2"),
    ("Transformer/encoder_norm", "norm"),
    ("head", "head"),
)
_EFFICIENTNET: _Rows = (
    ("stem_conv", "conv_stem"),
    ("stem_bn", "bn1"),
    ("block1_#_dwconv", "blocks.0.#.conv_dw"),
    ("block1_#_bn", "blocks.0.#.bn1"),
    ("block1_#_project_conv", "blocks.0.#.conv_pw"),
    ("block1_#_project_bn", "blocks.0.#.bn2"),
    ("block#_#_expand_conv", "blocks.#.#.conv_pw"),
    ("block#_#_expand_bn", "blocks.#.#.bn1"),
    ("block#_#_dwconv", "blocks.#.#.conv_dw"),
    ("block#_#_bn", "blocks.#.#.bn2"),
    ("block#_#_se_reduce", "blocks.#.#.se.conv_reduce"),
    ("block#_#_se_expand", "blocks.#.#.se.conv_expand"),
    ("block#_#_project_conv", "blocks.#.#.conv_pwl"),
    ("block#_#_project_bn", "blocks.#.#.bn3"),
    ("top_conv", "conv_head"),
    ("top_bn", "bn2"),
    ("probs", "classifier"),
    ("predictions", "classifier"),
)
"""The very first block has no expansion. The first matching row applies."""


def levit(state: StateDict) -> StateDict:
    """Convert LeViT: its position biases get a row for each head."""
    named = _rename(_LEVIT, state)
    own = "positional_embedding"
    return {
        name.replace(own, "attention_biases"): tensor.T if name.endswith(own) else tensor
        for name, tensor in named.items()
    }


def maxvit(state: StateDict) -> StateDict:
    """Convert MaxViT: 1 x 1 convolutions become linear layers, position biases square tables."""
    converted: StateDict = {}
    for name, tensor in _rename(_MAXVIT, state).items():
        if name.endswith("attn.qkv.weight"):
            converted[name] = tensor.flatten(1)
        elif name.endswith("positional_embedding"):
            table = name.replace("positional_embedding", "relative_position_bias_table")
            converted[table] = _squares(tensor)
        else:
            converted[name] = tensor
    return converted


def _squares(biases: Tensor) -> Tensor:
    """Return [heads, side * side] as [heads, side, side] with both axes reversed.

    The files index by query minus key position, timm by key minus query position.
    """
    side = isqrt(biases.shape[-1])
    return biases.reshape(-1, side, side).flip(1, 2)


def convnext(state: StateDict) -> StateDict:
    """Convert ConvNeXt."""
    named = _rename(_CONVNEXT, state)
    return {name.replace(".gamma.weight", ".gamma"): tensor for name, tensor in named.items()}


def vit(state: StateDict) -> StateDict:
    """Convert a vision transformer: queries, keys and values come from one layer in timm."""
    named = _rename(_VIT, state)
    for query in [name for name in named if ".attn.query." in name]:
        names = [query.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if all(name in named for name in names):
            joint = torch.cat([named.pop(name) for name in names])
            named[query.replace(".query.", ".qkv.")] = joint
    others = {
        "class_token/cls": "cls_token",
        "Transformer/posembed_input/pos_embedding": "pos_embed",
    }
    return {others.get(name, name): tensor for name, tensor in named.items()}


def efficientnet(state: StateDict) -> StateDict:
    """Convert EfficientNet: the files label the blocks of a stage by letters."""
    numbered = {_LETTER.sub(_number, name): tensor for name, tensor in state.items()}
    return _rename(_EFFICIENTNET, numbered)


_LETTER = re.compile(r"(?<=^block\d)[a-z](?=_)")


def _number(letter: re.Match[str]) -> str:
    return f"_{ord(letter[0]) - ord('a') + 1}"


def _rename(rows: Iterable[tuple[str, str]], state: StateDict) -> StateDict:
    patterns = [(_pattern(layer), module) for layer, module in rows]
    return {_name(patterns, name): tensor for name, tensor in state.items()}


def _pattern(layer: str) -> re.Pattern[str]:
    return re.compile(re.escape(layer).replace(r"\#", r"(\d+)"))


def _name(patterns: list[tuple[re.Pattern[str], str]], name: str) -> str:
    layer, _, own = name.rpartition("/")
    for pattern, module in patterns:
        found = pattern.fullmatch(layer)
        if found:
            return f"{_fill_numbers(module, map(int, found.groups()))}.{own}"
    return name


def _fill_numbers(module: str, numbers: Iterator[int]) -> str:
    return re.sub("[#%]", lambda mark: str(next(numbers) - (mark[0] == "#")), module)
