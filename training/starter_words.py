"""Teach the residual of the starter encoder words: several heads, each by itself, on pooled features of single objects.

usage: python -m training.starter_words PICTURES ENCODER OUTPUT [--count 15000] [--heads 6] [--gain 2]
                                       [--region-gain 0.5] [--seed 0]

PICTURES is the folder that `bash training/fetch_pictures.sh PICTURES` fills; ENCODER a file of `recognizer train`,
whose boxes and weights stay as they are and whose residual is made anew; OUTPUT the file to write.

The loop of `training.engine` learns the residual inside the whole vector, where the tower's own part already says most
of what is to be said of a name that is trained. Learned by itself and added afterwards, it says more about names that
are not. The heads see one vector per picture, so an epoch takes seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.functional import pil_to_tensor

from recognizer.console import note, progress_bar
from recognizer.encoder.encoder import load_parts, make_spec
from recognizer.encoder.grounded import GroundedFile
from recognizer.encoder.residual import Residual, ResidualSettings
from recognizer.encoder.starter import CONSE, STARTER, StarterSettings
from recognizer.encoder.text_batches import encode_in_buckets
from recognizer.encoder.towers import EncoderParts
from recognizer.results.atomic_file import replacing
from training.grounded_scenes import Composer, GroundedSettings
from training.scene_shards import load_pictures, make_composer

CPU = torch.device("cpu")
SCENES = GroundedSettings(size=StarterSettings().whole_size, objects=(1, 1), longest_side=(0.55, 1.0), plain=0.7)
HIDDEN, DROPOUT = 256, 0.2
EPOCHS, BATCH = 8, 256
LR, WEIGHT_DECAY = 1e-3, 0.05
LOGIT_SCALE, SMOOTHING = 10.0, 0.1


def look(parts: EncoderParts, composer: Composer, count: int) -> tuple[Tensor, list[str]]:
    """Compose single objects and look at them.

    Args:
        parts: of the starter encoder.
        composer: of scenes as large as the tower sees whole images.
        count: of scenes; those of which nothing can be seen are left out.

    Returns:
        (N, C) pooled features and the N names.
    """
    tower, features, names = parts.image_tower, [], []
    with torch.inference_mode(), progress_bar(count, "img", "looking at objects") as advance:
        for start in range(0, count, 64):
            scenes = [composer(number) for number in range(start, min(start + 64, count))]
            seen = [(image, record) for image, record in scenes if record.regions]
            pixels = torch.stack([pil_to_tensor(image) for image, _ in seen])
            pooled = tower.decoder_input(tower.preprocessing.normalize(pixels), dense=True).pooled
            assert pooled is not None
            features.append(pooled)
            names += [record.regions[0].descriptions[0] for _, record in seen]
            advance(len(scenes))
    return torch.cat(features).clone(), names


def learn(features: Tensor, names: Sequence[str], texts: Tensor, settings: ResidualSettings, *, seed: int) -> Residual:
    """Train a residual, each of its heads by itself.

    The loss is the cross-entropy of a picture over the names of its batch, each of them once, smoothed.

    Args:
        features: (N, C).
        names: the N names.
        texts: (N, dim) unit rows, of the same names.
        settings: of the residual.
        seed: of weights and order.
    """
    torch.manual_seed(seed)
    residual = Residual(settings, features.shape[1])
    row_of = {name: row for row, name in enumerate(dict.fromkeys(names))}
    rows = torch.tensor([row_of[name] for name in names])
    vectors = texts.new_zeros(len(row_of), texts.shape[1]).index_copy(0, rows, texts)
    for head in residual.heads:
        _learn_head(head, features, rows, vectors)
    return residual.eval()


def _learn_head(head: nn.Module, features: Tensor, rows: Tensor, vectors: Tensor) -> None:
    steps = EPOCHS * -(-len(features) // BATCH)
    optimizer = torch.optim.AdamW(head.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LR, total_steps=steps, pct_start=0.1)
    for _ in range(EPOCHS):
        for batch in torch.split(torch.randperm(len(features)), BATCH):
            present, own = torch.unique(rows[batch], return_inverse=True)
            logits = LOGIT_SCALE * F.normalize(head(features[batch]), dim=-1) @ vectors[present].T
            loss = F.cross_entropy(logits, own, label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()


def with_residual(trained: GroundedFile, residual: Residual, facts: dict[str, object]) -> GroundedFile:
    """Return the file with another residual, in float16, and `facts` as `words` in its card."""
    assert trained.decoder is not None
    kept = {name: tensor for name, tensor in trained.tensors.items() if not name.startswith("decoder.residual.")}
    learned = {f"decoder.residual.{name}": tensor.half() for name, tensor in residual.state_dict().items()}
    decoder = trained.decoder.model_copy(update={"residual": residual.settings})
    return replace(trained, decoder=decoder, card={**trained.card, "words": facts}, tensors=kept | learned)


def main() -> None:
    """Write the file the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--count", type=int, default=15_000, help="single objects to learn from")
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--gain", type=float, default=2.0, help="length of the residual beside the tower's part")
    parser.add_argument("--region-gain", type=float, default=0.5, help="the same for regions")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    trained = GroundedFile.read(arguments.encoder)
    if trained.decoder is None or trained.decoder.residual is None:
        parser.error(f"{arguments.encoder} has no residual to teach; train it with decoder.residual")
    parts = load_parts(make_spec(STARTER, CONSE), device=CPU, precision="bf16")
    pictures = load_pictures(arguments.pictures)
    composer = make_composer(arguments.pictures, pictures, seed=arguments.seed, settings=SCENES)
    features, names = look(parts, composer, arguments.count)
    settings = ResidualSettings(
        dim=trained.decoder.residual.dim,
        gain=arguments.gain,
        region_gain=arguments.region_gain,
        hidden=HIDDEN,
        heads=arguments.heads,
        dropout=DROPOUT,
    )
    said = [parts.templates[0].format(name) for name in names]
    texts = torch.from_numpy(encode_in_buckets(parts.text_tower, said, device=CPU))[:, : settings.dim]
    residual = learn(features, names, F.normalize(texts, dim=-1), settings, seed=arguments.seed)
    facts: dict[str, object] = {name: getattr(arguments, name) for name in ("count", "heads", "seed")}
    with replacing(arguments.output) as draft:
        draft.write_bytes(with_residual(trained, residual, facts).to_bytes())
    note(f"{len(features)} pictures of {len(set(names))} names; the encoder is {arguments.output}")


if __name__ == "__main__":
    main()
