"""Made-up pictures, scenes and words."""

from PIL import Image

from training.starter.composer import GroundedSettings
from training.starter.pictures import TRAINING, Picture, fold
from training.starter.scene_shards import make_composer
from training.starter.wordnet import WordNet

COLOURS = {"red": (230, 10, 10), "green": (10, 200, 10), "blue": (10, 10, 230), "white": (250, 250, 250)}


def names_of(folds, count):
    return [name for name in (f"thing {i}" for i in range(200)) if fold(name) in folds][:count]


def cut_out(path, colour, size_wh=(60, 40), margin=10):
    image = Image.new("RGBA", (size_wh[0] + 2 * margin, size_wh[1] + 2 * margin))
    image.paste((*colour, 255), (margin, margin, margin + size_wh[0], margin + size_wh[1]))
    image.save(path)


def write_pictures(root):
    """Four one-coloured rectangles with training names, and a black background where the fetched ones would be."""
    grounds = root / "scratch/usr/share/scratch/Media/Backgrounds"
    grounds.mkdir(parents=True)
    Image.new("RGB", (200, 150)).save(grounds / "black.jpg")
    pictures = []
    for (word, colour), name in zip(COLOURS.items(), names_of(TRAINING, 4), strict=True):
        cut_out(root / f"{word}.png", colour)
        pictures.append(Picture(root / f"{word}.png", name))
    return root, pictures


PLAIN = GroundedSettings(size=160, turn=0, brightness=(1, 1), objects=(1, 4), longest_side=(0.3, 0.9))


def plain_composer(made_up, **more):
    root, pictures = made_up
    return make_composer(root, pictures, seed=0, settings=PLAIN.model_copy(update=more))


def write_wordnet(root):
    """Write a WordNet of a lion, a king called Rex who comes before the grass of that name, and an idea."""
    folder = root / "wordnet-base/usr/share/wordnet"
    folder.mkdir(parents=True)
    lines = [
        "  1 licence",
        '{:08d} 05 n 03 lion 0 king_of_beasts 0 Leo_leo 0 001 @ 00000000 n 0000 | large (very) cat; "it roared"',
        "{:08d} 18 n 01 rex 0 001 @i 00000000 n 0000 | a king",
        "{:08d} 20 n 01 rex 0 001 @ 00000000 n 0000 | a grass",
        "{:08d} 09 n 01 idea 0 001 @ 00000000 n 0000 | a thought",
    ]
    data, offsets = "", []
    for text in lines:
        offsets.append(len(data))
        data += text.format(len(data)) + "\n"
    (folder / "data.noun").write_text(data)
    _, lion, king, grass, idea = (f"{offset:08d}" for offset in offsets)
    index = f"  1 licence\nlion n 1 1 @ 1 1 {lion}\nrex n 2 1 @ 2 0 {king} {grass}\nidea n 1 1 @ 1 1 {idea}\n"
    (folder / "index.noun").write_text(index)
    return WordNet(root)
