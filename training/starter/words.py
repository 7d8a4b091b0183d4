"""Teach the starter encoder words: write classifiers of any name from those of its classes and from pictures of names.

usage: python -m training.starter.words PICTURES ENCODER OUTPUT [--count 20000] [--share 0.8] [--seed 0]

PICTURES is the folder that `training/starter/fetch_pictures.sh` fills; ENCODER a file of `recognizer train` that
stands on the starter, whose boxes and weights stay as they are; OUTPUT the file to write. Minutes, nearly all of them
for looking at the pictures.

A residual that descends a contrastive loss on such pictures learned less. Over folds 1 to 4 of the stamps, each
untaught in its turn (352 photographs, 403 names), the untaught encoder reaches top-1 0.287 and top-5 0.489, and top-1
0.443 among the fold's names; with a residual of six averaged networks 0.284, 0.511 and 0.486; with written classifiers
0.375, 0.628 and 0.526. Of Noto's drawings they name 0.114, 0.174 and 0.217 among the fold's names.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.functional import pil_to_tensor

from memory.durable import replacing
from recognizer.console import note, progress_bar
from recognizer.encoder.encoder import load_parts, make_spec
from recognizer.encoder.parts import EncoderParts
from recognizer.encoder.starter.starter import CLASSES_FILE, CONSE, STARTER, WHOLE_SIZE
from recognizer.encoder.starter.text_classifiers import (
    TextClassifiers,
    TextClassifierSettings,
    centred_units,
    signed_root,
    text_kernel,
)
from recognizer.encoder.text_batches import encode_in_buckets
from recognizer.encoder.trained_file import TrainedFile
from training.starter.composer import Composer, GroundedSettings
from training.starter.pictures import TRAINING, in_folds
from training.starter.scene_shards import load_pictures, make_composer


def discriminants(features: Tensor, rows: Tensor, *, ridge: float) -> Tensor:
    """Return the linear discriminant of each name against all others.

    It is S^-1 (mean of the name - mean of the names), with S the covariance within names (Fisher 1936; for objects:
    Hariharan, Malik and Ramanan, "Discriminative Decorrelation", ECCV 2012). What pictures of one name differ by, such
    as grounds, styles and light, weighs little in it.

    Args:
        features: (P, C) of pictures.
        rows: (P,) int64, the name of each, from 0 to R - 1, every name at least once.
        ridge: added to the diagonal of S, in shares of its mean.

    Returns:
        (R, C) unit rows.
    """
    counts = torch.bincount(rows).to(features)
    means = features.new_zeros(len(counts), features.shape[1]).index_add_(0, rows, features) / counts[:, None]
    within = features - means[rows]
    covariance = within.T @ within / len(features)
    covariance += ridge * covariance.diagonal().mean() * torch.eye(len(covariance))
    return F.normalize(torch.linalg.solve(covariance, (means - means.mean(dim=0)).T).T, dim=-1)


def write(
    texts: Tensor,
    directions: Tensor,
    noise: Tensor,
    mean: Tensor,
    *,
    width: int,
    bandwidth: float,
    share: float,
    temperature: float,
) -> TextClassifiers:
    """Regress classifiers on texts.

    Kernel ridge regression, with the kernel of `TextClassifiers`, and the principal directions of what it answers for
    the known texts.

    Args:
        texts: (N, E) unit rows.
        directions: (N, C) unit rows, the classifiers of the texts.
        noise: (N,) how much the regression may miss each: the ridge, row by row.
        mean: (C,) of the features.
        width: W, at most the smaller of N and C.
        bandwidth: of the kernel.
        share: what the classifiers count, out of 1.
        temperature: divides cosines before a softmax over categories.
    """
    kernel = text_kernel(texts, texts, bandwidth)
    coefficients = torch.linalg.solve(kernel + torch.diag(noise), directions)
    answers = F.normalize(kernel @ coefficients, dim=-1)
    projection = torch.linalg.svd(answers, full_matrices=False).Vh[:width].T
    settings = TextClassifierSettings(
        dim=texts.shape[1],
        texts=len(texts),
        width=width,
        bandwidth=bandwidth,
        share=share,
        temperature=temperature,
    )
    written = TextClassifiers(settings, token_dim=len(mean))
    written.load_state_dict(
        {"texts": texts, "coefficients": coefficients @ projection, "projection": projection, "mean": mean}
    )
    return written.eval()


CPU = torch.device("cpu")
SCENES = GroundedSettings(size=WHOLE_SIZE, objects=(1, 1), longest_side=(0.55, 1.0), plain=0.7)
PHOTOGRAPHS = ("stamps", "qabcs")
WIDTH, BANDWIDTH = 512, 0.2
RIDGE, CLASS_NOISE, NAME_NOISE = 0.03, 0.3, 0.8
SHARE = 0.8  # more says more of drawings and less of photographs; 0.7 to 0.85 were compared on the development fold
TEMPERATURE = 0.05  # as `CONFIDENCE_TEMPERATURE` of the untaught starter was chosen


def make_composers(root: Path, *, seed: int) -> tuple[Composer, Composer]:
    """Make composers of single objects: of photographs, and of all sets, most of whose names are drawings."""
    pictures = load_pictures(root)
    photographs = set(load_pictures(root, PHOTOGRAPHS))
    usable = [picture for picture in in_folds(pictures, TRAINING) if picture in photographs]
    return (
        make_composer(root, usable, seed=seed, settings=SCENES),
        make_composer(root, pictures, seed=seed, settings=SCENES),
    )


def look(parts: EncoderParts, composers: Sequence[Composer], count: int) -> tuple[Tensor, list[str]]:
    """Compose single objects, by each composer in turn, and look at them.

    Args:
        parts: of the starter encoder.
        composers: of scenes as large as the tower sees whole images.
        count: of scenes; those of which nothing can be seen are left out.

    Returns:
        (N, C) pooled features and the N names.
    """
    tower, features, names = parts.image_tower, [], []
    with torch.inference_mode(), progress_bar(count, "img", "looking at objects") as advance:
        for start in range(0, count, 64):
            numbers = range(start, min(start + 64, count))
            scenes = [composers[number % len(composers)](number // len(composers)) for number in numbers]
            seen = [(image, record) for image, record in scenes if record.regions]
            pixels = torch.stack([pil_to_tensor(image) for image, _ in seen])
            pooled = tower.forward(tower.preprocessing.normalize(pixels)).pooled
            assert pooled is not None
            features.append(pooled)
            names += [record.regions[0].descriptions[0] for _, record in seen]
            advance(len(scenes))
    return torch.cat(features).clone(), names


def write_from(features: Tensor, names: Sequence[str], parts: EncoderParts, *, share: float) -> TextClassifiers:
    """Write classifiers from those of the 1,000 classes and from pictures of other names.

    Args:
        features: (N, C) pooled features of the pictures.
        names: the N names.
        parts: of the starter encoder.
        share: what the classifiers count, out of 1.
    """
    row_of = {name: row for row, name in enumerate(dict.fromkeys(names))}
    said = [parts.templates[0].format(name) for name in row_of]
    class_vectors = load_file(CLASSES_FILE)["class_vectors"]
    dim = class_vectors.shape[1]
    own = torch.from_numpy(encode_in_buckets(parts.text_tower, said, device=CPU))[:, :dim]
    texts = F.normalize(torch.cat([class_vectors - class_vectors.mean(dim=0), own]), dim=-1)

    rooted = signed_root(features)
    mean = rooted.mean(dim=0)
    rows = torch.tensor([row_of[name] for name in names])
    learned = discriminants(centred_units(rooted, mean), rows, ridge=RIDGE)
    weights = parts.image_tower.network.get_parameter("classifier.weight").detach()
    directions = torch.cat([F.normalize(weights - weights.mean(dim=0), dim=-1), learned])
    noise = torch.cat([torch.full((len(weights),), CLASS_NOISE), torch.full((len(learned),), NAME_NOISE)])
    return write(
        texts,
        directions,
        noise,
        mean,
        width=WIDTH,
        bandwidth=BANDWIDTH,
        share=share,
        temperature=TEMPERATURE,
    )


def main() -> None:
    """Write the file the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--count", type=int, default=20_000, help="pictures of single objects to learn from")
    parser.add_argument("--share", type=float, default=SHARE, help="what the classifiers count, out of 1")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    trained = TrainedFile.read(arguments.encoder)
    if trained.base["kind"] != STARTER:
        parser.error(f"{arguments.encoder} does not stand on the starter encoder, whose classifier this needs")
    parts = load_parts(make_spec(STARTER, CONSE), device=CPU, precision="bf16")
    composers = make_composers(arguments.pictures, seed=arguments.seed)
    features, names = look(parts, composers, arguments.count)
    written = write_from(features, names, parts, share=arguments.share)
    facts: dict[str, object] = {name: getattr(arguments, name) for name in ("count", "seed")}
    with replacing(arguments.output) as draft:
        draft.write_bytes(trained.with_text_classifiers(written, {**trained.card, "words": facts}).to_bytes())
    note(f"{len(features)} pictures of {len(set(names))} names; the encoder is {arguments.output}")


if __name__ == "__main__":
    main()
