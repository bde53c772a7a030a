import torch
import torch.nn.functional as F

from norface.models.attention import FEW_TOKENS, attend, choose_attention
from norface.models.vit import FaceEncoder, VitConfig


def test_both_ways_give_the_same():
    torch.manual_seed(0)
    for tokens in (4, FEW_TOKENS + 1):
        query, key, value = torch.randn(3, 2, 2, tokens, 8)
        expected = F.scaled_dot_product_attention(query, key, value)
        torch.testing.assert_close(attend(query, key, value), expected)


def test_encoder_gives_the_same_either_way():
    encoder = FaceEncoder(VitConfig(side=16, patch=4, width=16, depth=2, heads=2)).eval()
    image = torch.rand(1, 3, 16, 16)
    plain = encoder(image)
    choose_attention(encoder, FEW_TOKENS + 1)
    torch.testing.assert_close(encoder(image), plain)
