"""The grounding decoder of anchors, on made-up tokens."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from recognizer.encoder.anchor_decoder import AnchorDecoder, box_coverage
from recognizer.encoder.boxes import cxcywh_to_xyxy
from recognizer.encoder.decoder import DecoderSettings
from recognizer.encoder.towers import TowerOutput
from recognizer.encoder.windows import WindowSettings, window_boxes, window_cells
from tests.recognizer.encoder.test_decoder import DIM, GRID, SMALL, TOKEN_DIM, fields

WINDOWS = WindowSettings(divisions=4, sizes=(2, 3))
SETTINGS = DecoderSettings(**SMALL, anchors=WINDOWS, positions=True)
COUNT = len(window_cells(GRID, WINDOWS))


def project(pooled):
    return pooled[:, :DIM] * 3


def make(*, random=False):
    torch.manual_seed(0)
    decoder = AnchorDecoder(SETTINGS, token_dim=TOKEN_DIM, grid_hw=GRID, project=project)
    if random:  # weights that start at zero would hide what lies before them
        for parameter in decoder.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return decoder


def tower_output(batch=3, *, prefix=0):
    torch.manual_seed(1)
    tokens = torch.randn(batch, prefix + GRID[0] * GRID[1], TOKEN_DIM)
    return TowerOutput(tokens, GRID, torch.randn(batch, DIM), torch.randn(batch, TOKEN_DIM))


def test_shapes_units_and_ranges():
    decoder = make(random=True).eval()
    output = decoder(tower_output())
    assert decoder.queries == COUNT
    assert output.regions.shape == (3, COUNT, DIM)
    assert output.boxes_cxcywh.shape == (3, COUNT, 4)
    assert output.weight_logits.shape == (3, COUNT)
    assert torch.allclose(output.regions.norm(dim=-1), torch.ones(3, COUNT))
    assert ((output.boxes_cxcywh > 0) & (output.boxes_cxcywh < 1)).all()


def test_an_image_does_not_depend_on_its_neighbours():
    decoder, batch = make(random=True).eval(), tower_output()
    alone = TowerOutput(batch.tokens[1:2], GRID, batch.image[1:2], batch.pooled[1:2])
    together, single = fields(decoder(batch)), fields(decoder(alone))
    for name, values in together.items():
        assert torch.allclose(values[1:2], single[name], atol=1e-5), name


def test_every_weight_is_used():
    decoder = make(random=True)
    output = decoder(tower_output())
    torch.manual_seed(2)
    parts = (output.boxes_cxcywh, output.weight_logits)
    sum((part * torch.randn_like(part)).sum() for part in parts).backward()
    assert [name for name, parameter in decoder.named_parameters() if not parameter.grad.abs().sum() > 0] == []


def test_untrained_anchors_are_their_windows_and_all_count():
    output = make()(tower_output())
    expected = window_boxes(window_cells(GRID, WINDOWS), GRID, (1, 1))
    assert np.abs(cxcywh_to_xyxy(output.boxes_cxcywh).detach().numpy() - expected).max() < 0.031
    assert (output.weight_logits == 2).all()


def test_a_query_starts_from_the_mean_token_of_its_window():
    decoder = AnchorDecoder(
        DecoderSettings(**SMALL | {"layers": 0}, anchors=WINDOWS), token_dim=TOKEN_DIM, grid_hw=GRID, project=project
    )
    torch.nn.init.normal_(decoder.weight_head.weight)
    batch = tower_output(1, prefix=1)
    tokens = decoder.project_tokens(batch.tokens[:, 1:]).reshape(*GRID, -1)
    means = [tokens[y0:y1, x0:x1].mean((0, 1)) for x0, y0, x1, y1 in window_cells(GRID, WINDOWS).tolist()]
    expected = decoder.weight_head(decoder.norm(torch.stack(means)))[:, 0]
    torch.testing.assert_close(decoder(batch).weight_logits[0], expected)


def test_windows_of_one_centre_differ_by_their_size_and_of_one_size_by_their_centre():
    windows = WindowSettings(divisions=4, sizes=(2, 4))
    torch.manual_seed(0)
    decoder = AnchorDecoder(
        DecoderSettings(**SMALL, anchors=windows), token_dim=TOKEN_DIM, grid_hw=(4, 4), project=project
    )
    torch.nn.init.normal_(decoder.weight_head.weight)
    decoder.averages.zero_()  # all queries start alike
    output = TowerOutput(torch.randn(1, 16, TOKEN_DIM), (4, 4), torch.ones(1, DIM), torch.ones(1, TOKEN_DIM))
    cells = window_cells((4, 4), windows).tolist()
    chosen = [cells.index(cell) for cell in ([1, 1, 3, 3], [0, 0, 4, 4], [0, 1, 2, 3])]
    centre, whole, left = decoder(output).weight_logits[0, chosen].tolist()
    assert abs(centre - whole) > 1e-3
    assert abs(centre - left) > 1e-3


def test_a_region_is_the_mean_of_the_tokens_in_its_box():
    decoder, batch = make(), tower_output(2)
    torch.nn.init.normal_(decoder.box_head[-1].weight, std=0.3)
    output = decoder(batch)
    for image, query in itertools.product(range(2), range(decoder.queries)):
        x0, y0, x1, y1 = cxcywh_to_xyxy(output.boxes_cxcywh[image, query]).tolist()
        weights = torch.zeros(GRID)
        for row, column in itertools.product(range(GRID[0]), range(GRID[1])):
            height = max(0.0, min(y1, (row + 1) / GRID[0]) - max(y0, row / GRID[0]))
            width = max(0.0, min(x1, (column + 1) / GRID[1]) - max(x0, column / GRID[1]))
            weights[row, column] = height * width
        seen = (batch.tokens[image].reshape(*GRID, -1) * weights[..., None]).sum((0, 1)) / weights.sum()
        assert torch.allclose(output.regions[image, query], F.normalize(project(seen[None]), dim=-1)[0], atol=1e-5)


def test_the_image_vector_is_the_towers():
    batch = tower_output()
    torch.testing.assert_close(make(random=True)(batch).image, F.normalize(batch.image, dim=-1))
    with pytest.raises(ValueError, match="the final tokens only"):
        make()(TowerOutput(batch.tokens, GRID))


def test_region_vectors_do_not_move_boxes():
    decoder = make()
    output = decoder(tower_output())
    assert output.boxes_cxcywh.requires_grad
    assert not output.regions.requires_grad


def test_tokens_before_the_grid_are_attended_to_and_are_in_no_region():
    decoder = make(random=True).eval()
    batch = tower_output(prefix=1)
    moved = batch.tokens.clone()
    moved[:, 0] += 1
    before, after = decoder(batch), decoder(TowerOutput(moved, GRID, batch.image, batch.pooled))
    assert (before.boxes_cxcywh - after.boxes_cxcywh).abs().max() > 1e-4
    inside = box_coverage(before.boxes_cxcywh, GRID) @ batch.tokens[:, 1:]
    torch.testing.assert_close(before.regions, F.normalize(project(inside.flatten(0, 1)), dim=-1).view(3, COUNT, DIM))


def test_a_box_outside_the_input_covers_no_cell():
    assert box_coverage(torch.tensor([2.0, 2.0, 0.1, 0.1]), GRID).abs().sum() == 0


def test_settings_without_anchors_are_refused():
    with pytest.raises(ValueError, match="no anchors"):
        AnchorDecoder(DecoderSettings(**SMALL), token_dim=4, grid_hw=GRID, project=project)
