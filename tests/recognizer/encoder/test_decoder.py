"""The grounding decoder of learned queries, on made-up tokens."""

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from recognizer.encoder.decoder import DecoderOutput, DecoderSettings, QueryDecoder
from recognizer.encoder.decoder_layer import grid_centres, sine_positions
from recognizer.encoder.towers import TowerOutput

GRID = (4, 5)
TOKEN_DIM, DIM = 24, 16
SMALL = {"layers": 2, "width": 32, "heads": 4, "feedforward": 48, "dropout": 0.0}
SETTINGS = DecoderSettings(**SMALL, queries=3)


def make(settings=SETTINGS):
    torch.manual_seed(0)
    return QueryDecoder(settings, token_dim=TOKEN_DIM, dim=DIM)


def tower_output(batch=3, *, prefix=0):
    torch.manual_seed(1)
    return TowerOutput(torch.randn(batch, prefix + GRID[0] * GRID[1], TOKEN_DIM), GRID)


def fields(output):
    return {name: getattr(output, name) for name in ("image", "regions", "boxes_cxcywh", "weight_logits")}


def test_shapes_units_and_ranges():
    decoder = make().eval()
    output = decoder(tower_output())
    assert decoder.queries == 3
    assert output.image.shape == (3, DIM)
    assert output.regions.shape == (3, 3, DIM)
    assert output.boxes_cxcywh.shape == (3, 3, 4)
    assert output.weight_logits.shape == (3, 3)
    assert torch.allclose(output.image.norm(dim=-1), torch.ones(3))
    assert torch.allclose(output.regions.norm(dim=-1), torch.ones(3, 3))
    assert ((output.boxes_cxcywh > 0) & (output.boxes_cxcywh < 1)).all()


def test_an_image_does_not_depend_on_its_neighbours():
    decoder, batch = make().eval(), tower_output()
    together, single = fields(decoder(batch)), fields(decoder(TowerOutput(batch.tokens[1:2], GRID)))
    for name, values in together.items():
        assert torch.allclose(values[1:2], single[name], atol=1e-5), name


def test_every_weight_is_used():
    decoder = make()
    torch.manual_seed(2)
    for parameter in decoder.parameters():
        if parameter.ndim == 1:  # queries and biases start at zero, where the first self-attention has no gradient
            torch.nn.init.normal_(parameter)
    output = fields(decoder(tower_output()))
    sum((values * torch.randn_like(values)).sum() for values in output.values()).backward()
    unused = [name for name, parameter in decoder.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert unused == ["layers.0.norm_self.weight"]  # it multiplies the queries, which start at zero


def test_the_image_vector_comes_from_the_image_query():
    decoder = make().eval()
    before = fields(decoder(tower_output()))
    with torch.no_grad():
        decoder.image_projection.weight.neg_()
    after = fields(decoder(tower_output()))
    assert torch.equal(after.pop("image"), -before.pop("image"))
    assert all(torch.equal(after[name], values) for name, values in before.items())


@pytest.mark.parametrize("prefix", [0, 1, 2])
def test_positions_are_those_of_the_grid_and_a_class_token_before_it_has_none(prefix):
    decoder = make(DecoderSettings(**SMALL, queries=3, positions=True)).eval()
    seen = []
    decoder.layers[0].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[3]))
    decoder(tower_output(prefix=prefix))
    (positions,) = seen
    assert not positions[:prefix].any()
    assert torch.equal(positions[prefix:], sine_positions(grid_centres(GRID, positions.device), SMALL["width"]))


def test_grain_has_the_size_of_the_paper():
    decoder = QueryDecoder(DecoderSettings(), token_dim=768, dim=512)
    # 26.67 million active weights by the released code, among them its tower's projection to the decoder's width.
    assert round(sum(p.numel() for p in decoder.parameters()) / 1e6, 2) == 26.67


def test_positions_tell_tokens_apart_that_look_alike():
    shuffled = torch.randperm(GRID[0] * GRID[1], generator=torch.Generator().manual_seed(0))
    tokens = tower_output(1).tokens
    for positions in (False, True):
        decoder = make(DecoderSettings(**SMALL, queries=3, positions=positions)).eval()
        straight, mixed = (decoder(TowerOutput(t, GRID)).image for t in (tokens, tokens[:, shuffled]))
        assert torch.allclose(straight, mixed, atol=1e-5) != positions


def test_a_class_token_before_the_grid_has_no_position():
    decoder = make(DecoderSettings(**SMALL, queries=3, positions=True)).eval()
    tokens = tower_output(1, prefix=1).tokens
    last = TowerOutput(torch.cat([tokens[:, 1:], tokens[:, :1]], dim=1), (1, GRID[0] * GRID[1] + 1))
    assert not torch.allclose(decoder(TowerOutput(tokens, GRID)).image, decoder(last).image, atol=1e-5)
    bare = make(DecoderSettings(**SMALL, queries=3)).eval()
    nowhere = TowerOutput(tokens[:, :1], (0, 0))
    torch.testing.assert_close(decoder(nowhere).image, bare(nowhere).image)


def test_settings_with_the_same_weights_differ_in_use_alone():
    use = SETTINGS.model_copy(update={"counts_from": 0.3, "vote_overlap": 0.4})
    assert SETTINGS.same_weights(use)
    assert not SETTINGS.same_weights(SETTINGS.model_copy(update={"width": 64}))
    assert not SETTINGS.same_weights(SETTINGS.model_copy(update={"positions": True}))


def test_unknown_settings_are_refused():
    with pytest.raises(ValidationError):
        DecoderSettings(layer=3)


def test_image_vectors_without_a_decoder_have_no_regions():
    output = DecoderOutput.of_images(torch.full((2, 4), 3.0))
    torch.testing.assert_close(output.image, F.normalize(torch.ones(2, 4), dim=-1))
    assert [len(values[0]) for values in fields(output).values()] == [4, 0, 0, 0]
