import pytest
import torch
from torch.nn import functional as F

from recognizer.encoder.decoder import DecoderInput, DecoderSettings, GroundingDecoder
from recognizer.encoder.grounded import GroundedFile, load_weights
from recognizer.encoder.residual import Residual, ResidualSettings
from training.starter_words import learn, main, with_residual

pytestmark = pytest.mark.usefixtures("one_thread")
NAMES, TOKEN_DIM, DIM = 12, 32, 16
SETTINGS = ResidualSettings(dim=DIM, hidden=64, heads=2, gain=1.5, dropout=0.1)


@pytest.fixture
def objects():
    """2,400 features around the middles of 12 names, and texts of the names."""
    generator = torch.Generator().manual_seed(0)
    middles = torch.randn(NAMES, TOKEN_DIM, generator=generator)
    texts = F.normalize(torch.randn(NAMES, DIM, generator=generator), dim=-1)
    rows = torch.arange(2400) % NAMES
    features = middles[rows] + 0.3 * torch.randn(2400, TOKEN_DIM, generator=generator)
    return features, rows, texts


def taught(objects, seed=0, settings=SETTINGS):
    features, rows, texts = objects
    return learn(features, [f"thing {row}" for row in rows.tolist()], texts[rows], settings, seed=seed)


def test_a_residual_learns_which_name_a_feature_has(objects):
    features, rows, texts = objects
    residual = taught(objects)
    with torch.no_grad():
        found = residual(features) @ texts.T
        untaught = Residual(SETTINGS, TOKEN_DIM).eval()(features) @ texts.T
    assert (found.argmax(dim=1) == rows).float().mean() > 0.95
    assert (untaught.argmax(dim=1) == rows).float().mean() < 0.4


def test_the_same_seed_teaches_the_same_and_heads_differ(objects):
    first, again, other = taught(objects), taught(objects), taught(objects, seed=1)
    assert all(torch.equal(one, two) for one, two in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.heads[0][2].weight, other.heads[0][2].weight)
    assert not torch.equal(first.heads[0][2].weight, first.heads[1][2].weight)


def test_each_head_learns_by_itself(objects):
    features, rows, texts = objects
    residual = taught(objects)
    with torch.no_grad():
        for head in residual.heads:
            assert ((head(features) @ texts.T).argmax(dim=1) == rows).float().mean() > 0.9


def test_a_file_gets_the_residual_and_keeps_all_else(objects):
    old = DecoderSettings(layers=1, width=16, heads=2, feedforward=16, queries=2, residual=ResidualSettings(dim=DIM))
    decoder = GroundingDecoder(old, token_dim=TOKEN_DIM, dim=DIM + 4)
    tensors = {f"decoder.{name}": value.half() for name, value in decoder.state_dict().items()}
    file = GroundedFile({"kind": "starter"}, old, {"steps": 7}, tensors)
    residual = taught(objects)
    made = with_residual(file, residual, {"count": 3})
    assert made.card == {"steps": 7, "words": {"count": 3}}
    assert made.decoder == old.model_copy(update={"residual": SETTINGS})
    kept = {name for name in tensors if not name.startswith("decoder.residual.")}
    assert all(torch.equal(made.tensors[name], tensors[name]) for name in kept)
    again = GroundingDecoder(made.decoder, token_dim=TOKEN_DIM, dim=DIM + 4).eval()
    load_weights(again, made.part("decoder"), "decoder")
    tokens, own = torch.randn(2, 4, TOKEN_DIM), torch.randn(2, DIM + 4)
    given = DecoderInput(tokens, (2, 2), own, tokens.mean(dim=1))
    with torch.no_grad():
        image = again(given, lambda pooled: F.pad(pooled, (0, DIM + 4 - TOKEN_DIM))).image
        torch.testing.assert_close(image, residual.join_image(own, tokens.mean(dim=1)), atol=2e-3, rtol=0)


def test_an_encoder_without_a_residual_is_refused_before_any_work(tmp_path, monkeypatch, capsys):
    file = tmp_path / "towers.safetensors"
    file.write_bytes(GroundedFile({"kind": "starter"}, None, {}, {"image.weight": torch.zeros(1)}).to_bytes())
    monkeypatch.setattr("sys.argv", ["starter_words", str(tmp_path), str(file), str(tmp_path / "out.safetensors")])
    with pytest.raises(SystemExit):
        main()
    assert "has no residual to teach" in capsys.readouterr().err
