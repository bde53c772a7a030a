import math

import torch

from norface.models.merging import ExpressionMerging, MergingConfig


def build(heads: int = 2, width: int = 8, blocks: int = 2) -> ExpressionMerging:
    torch.manual_seed(0)
    return ExpressionMerging(
        MergingConfig(heads=heads, blocks=blocks, mlp_ratio=2.0), width=width, tokens=6
    )


def test_fused_tokens_follow_equation_2_head_by_head():
    module = build()
    original, target = torch.randn(3, 5, 8), torch.randn(3, 5, 8)
    query, key = module.query(target), module.key(original)
    value_original, value_target = module.value(original), module.value(target)
    heads = []
    for columns in (slice(0, 4), slice(4, 8)):
        scores = query[..., columns] @ key[..., columns].mT / math.sqrt(4)
        attention = torch.softmax(scores, dim=-1)
        heads.append(attention @ value_original[..., columns] + value_target[..., columns])
    expected = module.projection(torch.cat(heads, dim=-1))
    torch.testing.assert_close(module.fuse(original, target), expected)


def test_one_original_token_reaches_every_target_token_unchanged():
    # With a single key the softmax is 1, so V_fu = V_o + V_t whatever the queries are.
    module = build(heads=1)
    original, target = torch.randn(1, 1, 8), torch.randn(1, 6, 8)
    expected = module.projection(module.value(original) + module.value(target))
    torch.testing.assert_close(module.fuse(original, target), expected)


def test_order_of_original_tokens_does_not_matter_but_order_of_target_tokens_does():
    module = build()
    original, target = torch.randn(2, 6, 8), torch.randn(2, 6, 8)
    straight = module(original, target)
    torch.testing.assert_close(module(original.flip(1), target), straight)
    torch.testing.assert_close(module(original, target.flip(1)), straight.flip(1))


def test_both_faces_receive_gradient():
    module = build()
    original = torch.randn(2, 4, 8, requires_grad=True)
    target = torch.randn(2, 4, 8, requires_grad=True)
    module(original, target).square().sum().backward()
    assert original.grad.abs().sum() > 0
    assert target.grad.abs().sum() > 0


def test_an_aligned_start_passes_the_originals_tokens_on_place_by_place():
    from timm.layers import build_sincos2d_pos_embed

    place = build_sincos2d_pos_embed([8, 8], 128, temperature=100.0)
    merging = ExpressionMerging(
        MergingConfig(heads=4, blocks=0, start="aligned"), width=128, tokens=64
    )
    marks = torch.zeros(64, 128)
    marks[20] = 0.5
    with_mark, without = merging.fuse(
        torch.stack([place + marks, place]), torch.stack([place, place])
    )
    size = (with_mark - without).norm(dim=1)
    # The mark of token 20 (row 2, column 4) is strong there and around it, weak in the corners.
    near, far = size[[20, 12, 28, 19, 21]], size[[0, 7, 48, 56, 63]]
    assert near.min() > 1.3 * far.max() and near.mean() > 2.5 * far.mean()
