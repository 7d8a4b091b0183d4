import math

import numpy as np
import torch

from recognizer.encoder.decoder_layer import DecoderLayer, grid_centres, sine_positions


def test_sine_positions_equal_their_formula():
    points, width = torch.tensor([[0.25, 0.7], [0.0, 1.0]]), 8
    encoded = sine_positions(points, width)
    for row, (x, y) in enumerate(points.tolist()):
        expected = []
        for value in (x, y):
            angles = [2 * math.pi * value / 10_000 ** (i / 2) for i in range(2)]
            expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        assert np.allclose(encoded[row].numpy(), expected, atol=1e-6)


def test_cell_centres_run_row_by_row():
    centres = grid_centres((2, 3), torch.device("cpu"))
    assert np.allclose(centres.numpy(), [[x, y] for y in (0.25, 0.75) for x in (1 / 6, 0.5, 5 / 6)])


def test_layer_equals_torchs_own_without_positions():
    torch.manual_seed(0)
    layer = DecoderLayer(16, 2, 32, 0.0).eval()
    theirs = torch.nn.TransformerDecoderLayer(16, 2, 32, 0.0, batch_first=True, norm_first=True).eval()
    names = {
        "self_attn": "self_attention",
        "multihead_attn": "cross_attention",
        "linear1": "feedforward.0",
        "linear2": "feedforward.3",
        "norm1": "norm_self",
        "norm2": "norm_cross",
        "norm3": "norm_feedforward",
    }
    own = layer.state_dict()
    theirs.load_state_dict(
        {key: own[names[key.split(".")[0]] + "." + key.split(".", 1)[1]] for key in theirs.state_dict()}
    )
    queries, tokens, nothing = torch.randn(2, 3, 16), torch.randn(2, 5, 16), torch.zeros(1, 1)
    assert torch.allclose(layer(queries, nothing, tokens, nothing), theirs(queries, tokens), atol=1e-5)
