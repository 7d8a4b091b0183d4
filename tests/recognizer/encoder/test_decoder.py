"""The grounding decoder on made-up tokens."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from recognizer.encoder.boxes import cxcywh_to_xyxy
from recognizer.encoder.decoder import DecoderInput, DecoderSettings, GroundingDecoder, Residual, ResidualSettings
from recognizer.encoder.decoder_layer import DecoderLayer, grid_centres, sine_positions
from recognizer.encoder.windows import WindowSettings, window_boxes, window_cells

GRID = (4, 5)
TOKEN_DIM, DIM = 24, 16
SMALL = {"layers": 2, "width": 32, "heads": 4, "feedforward": 48, "dropout": 0.0}
WINDOWS = WindowSettings(divisions=4, sizes=(2, 3))
MODES = {
    "learned": DecoderSettings(**SMALL, queries=3),
    "learned, residual": DecoderSettings(**SMALL, queries=3, residual=ResidualSettings(dim=10)),
    "anchored": DecoderSettings(**SMALL, anchors=WINDOWS, positions=True),
    "anchored, residual": DecoderSettings(
        **SMALL, anchors=WINDOWS, positions=True, residual=ResidualSettings(dim=10, hidden=8)
    ),
}


def make(settings: DecoderSettings) -> GroundingDecoder:
    torch.manual_seed(0)
    return GroundingDecoder(settings, token_dim=TOKEN_DIM, dim=DIM, grid_hw=GRID)


def given(batch: int = 3, *, prefix: int = 0) -> DecoderInput:
    torch.manual_seed(1)
    tokens = torch.randn(batch, prefix + GRID[0] * GRID[1], TOKEN_DIM)
    return DecoderInput(tokens, GRID, torch.randn(batch, DIM), torch.randn(batch, TOKEN_DIM))


def project(pooled: torch.Tensor) -> torch.Tensor:
    return pooled[:, :DIM] * 3


@pytest.mark.parametrize("mode", MODES)
def test_shapes_units_and_ranges(mode):
    decoder = make(MODES[mode]).eval()
    found = decoder(given(), project)
    count = len(window_cells(GRID, WINDOWS)) if MODES[mode].anchors else 3
    assert decoder.queries == count
    assert found.image.shape == (3, DIM)
    assert found.regions.shape == (3, count, DIM)
    assert found.boxes_cxcywh.shape == (3, count, 4)
    assert found.region_weight_logits.shape == (3, count)
    assert torch.allclose(found.image.norm(dim=-1), torch.ones(3))
    assert torch.allclose(found.regions.norm(dim=-1), torch.ones(3, count))
    assert ((found.boxes_cxcywh > 0) & (found.boxes_cxcywh < 1)).all()


@pytest.mark.parametrize("mode", MODES)
def test_an_image_does_not_depend_on_its_neighbours(mode):
    decoder, batch = make(MODES[mode]).eval(), given()
    alone = DecoderInput(batch.tokens[1:2], GRID, batch.image[1:2], batch.pooled[1:2])
    together, single = decoder(batch, project), decoder(alone, project)
    for name in ("image", "regions", "boxes_cxcywh", "region_weight_logits"):
        assert torch.allclose(getattr(together, name)[1:2], getattr(single, name), atol=1e-5), name


@pytest.mark.parametrize("mode", MODES)
def test_every_weight_is_used(mode):
    decoder = make(MODES[mode])
    for parameter in decoder.parameters():  # what starts at zero would hide what lies before it
        torch.nn.init.normal_(parameter, std=0.2)
    found = decoder(given(), project)
    torch.manual_seed(2)
    parts = (found.image, found.regions, found.boxes_cxcywh, found.region_weight_logits)
    sum((part * torch.randn_like(part)).sum() for part in parts).backward()
    unused = [name for name, parameter in decoder.named_parameters() if not parameter.grad.abs().sum() > 0]
    # Learned queries start at zero, of which the first norm's factor makes nothing.
    assert unused == ([] if MODES[mode].anchors else ["layers.0.norm_self.weight"])


def test_grain_has_the_size_of_the_paper():
    decoder = GroundingDecoder(DecoderSettings(), token_dim=768, dim=512)
    # 26.67 million active weights by the released code, among them its tower's projection to the decoder's width.
    assert round(sum(p.numel() for p in decoder.parameters()) / 1e6, 2) == 26.67


def test_untrained_anchors_lie_on_their_windows():
    decoder = make(MODES["anchored"])
    found = decoder(given(), project)
    expected = window_boxes(window_cells(GRID, WINDOWS), GRID, (1, 1))
    assert np.abs(cxcywh_to_xyxy(found.boxes_cxcywh).detach().numpy() - expected).max() < 0.031


def test_a_region_is_the_mean_of_the_tokens_in_its_box():
    settings = MODES["anchored, residual"].model_copy(update={"residual": ResidualSettings(dim=10, gain=0.0)})
    decoder, batch = make(settings), given(2)
    torch.nn.init.normal_(decoder.box_head[-1].weight, std=0.3)
    found = decoder(batch, project)
    for image, query in itertools.product(range(2), range(decoder.queries)):
        x0, y0, x1, y1 = cxcywh_to_xyxy(found.boxes_cxcywh[image, query]).tolist()
        weights = torch.zeros(GRID)
        for row, column in itertools.product(range(GRID[0]), range(GRID[1])):
            height = max(0.0, min(y1, (row + 1) / GRID[0]) - max(y0, row / GRID[0]))
            width = max(0.0, min(x1, (column + 1) / GRID[1]) - max(x0, column / GRID[1]))
            weights[row, column] = height * width
        seen = (batch.tokens[image].reshape(*GRID, -1) * weights[..., None]).sum((0, 1)) / weights.sum()
        assert torch.allclose(found.regions[image, query], F.normalize(project(seen[None]), dim=-1)[0], atol=1e-5)


def test_descriptions_do_not_move_boxes():
    decoder = make(MODES["anchored, residual"])
    decoder(given(), project).regions.sum().backward()
    assert decoder.box_head[-1].weight.grad is None


def test_without_gain_the_image_vector_is_the_towers_own():
    settings = MODES["anchored, residual"].model_copy(update={"residual": ResidualSettings(dim=10, gain=0.0)})
    batch = given()
    assert torch.allclose(make(settings)(batch, project).image, F.normalize(batch.image, dim=-1), atol=1e-6)


def test_a_residual_changes_the_first_dimensions_and_leaves_the_others():
    batch = given()
    found = make(MODES["learned, residual"])(batch, project).image
    own = F.normalize(batch.image, dim=-1)
    assert torch.allclose(found[:, 10:], own[:, 10:], atol=1e-6)
    assert torch.allclose(found[:, :10].norm(dim=-1), own[:, :10].norm(dim=-1), atol=1e-6)
    assert (found[:, :10] - own[:, :10]).abs().max() > 0.01


def test_without_a_network_nothing_is_added():
    bare = MODES["anchored, residual"].model_copy(update={"residual": ResidualSettings(dim=10, hidden=0)})
    without = MODES["anchored, residual"].model_copy(update={"residual": ResidualSettings(dim=10, hidden=8, gain=0.0)})
    assert not any(name.startswith("residual") for name in make(bare).state_dict())
    batch = given()
    torch.testing.assert_close(make(bare)(batch, project).image, make(without)(batch, project).image)


def test_the_residual_is_added_as_a_unit_vector():
    residual = Residual(ResidualSettings(dim=3, hidden=8, gain=0.5), TOKEN_DIM)
    own, pooled = torch.randn(2, 5, 3), torch.randn(2, 5, TOKEN_DIM)
    expected = F.normalize(own, dim=-1) + 0.5 * F.normalize(residual.network(pooled), dim=-1)
    torch.testing.assert_close(residual.join(own, pooled), F.normalize(expected, dim=-1))


def test_a_residual_needs_the_towers_own_vectors():
    bare = DecoderInput(given().tokens, GRID)
    with pytest.raises(ValueError, match="its own way to the joint space"):
        make(MODES["learned, residual"])(bare, project)
    assert make(MODES["learned"])(bare, project).image.shape == (3, DIM)


def test_tokens_before_the_grid_are_attended_to_and_have_no_place():
    decoder = make(MODES["anchored, residual"]).eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    batch = given(prefix=1)
    moved = batch.tokens.clone()
    moved[:, 0] += 1
    before, after = decoder(batch, project), decoder(DecoderInput(moved, GRID, batch.image, batch.pooled), project)
    assert (before.boxes_cxcywh - after.boxes_cxcywh).abs().max() > 1e-4
    assert torch.equal(before.image, after.image)


def test_positions_tell_tokens_apart_that_look_alike():
    tokens = torch.ones(1, GRID[0] * GRID[1], TOKEN_DIM)
    shuffled = torch.randperm(tokens.shape[1], generator=torch.Generator().manual_seed(0))
    varied = given(1).tokens
    for positions in (False, True):
        settings = DecoderSettings(**SMALL, queries=3, positions=positions)
        decoder = make(settings).eval()
        straight, mixed = (decoder(DecoderInput(t, GRID), project).image for t in (varied, varied[:, shuffled]))
        assert torch.allclose(straight, mixed, atol=1e-5) != positions
        assert decoder(DecoderInput(tokens, GRID), project).image.isfinite().all()


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


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="anchors need a token grid"):
        GroundingDecoder(MODES["anchored"], token_dim=4, dim=4)
    with pytest.raises(ValueError, match=r"residual.dim 10 exceeds the 4"):
        GroundingDecoder(MODES["learned, residual"], token_dim=4, dim=4)
    with pytest.raises(ValidationError):
        DecoderSettings(layer=3)
