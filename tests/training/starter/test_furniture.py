import zipfile

from training.starter.furniture import furniture

CATALOGUE = r"""id=test
name#1=Bedside table
icon#1=/some/table.png
name#2 = Tr\u00e4ger
icon#2 = /some/beam.png
name#3=Young woman
icon#3=/some/woman.png
name#4=Left without a picture
"""


def test_furniture_is_unpacked_once_and_mannequins_left_out(tmp_path):
    folder = tmp_path / "sweethome3d-furniture/usr/share/sweethome3d/furniture"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "One.sh3f", "w") as library:
        library.writestr("PluginFurnitureCatalog.properties", CATALOGUE.encode("latin-1"))
        library.writestr("PluginFurnitureCatalog_de.properties", "name#1=Nachttisch")
        for name in ("table", "beam", "woman"):
            library.writestr(f"some/{name}.png", f"picture of a {name}")
    pictures = furniture(tmp_path)
    assert [picture.name for picture in pictures] == ["bedside table", "träger"]
    assert [picture.path.read_text() for picture in pictures] == ["picture of a table", "picture of a beam"]
    pictures[0].path.write_text("kept")
    assert furniture(tmp_path)[0].path.read_text() == "kept"
