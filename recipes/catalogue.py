"""The recipes that there are: folders with a manifest and a `run.py`, found where they lie."""

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import ModuleType

from recipes.playing import Run

MANIFEST, PLAY, README = "trimtab.toml", "run.py", "README.md"


class UnknownRecipeError(LookupError):
    """No recipe has this name; the message lists those there are."""


@dataclass(frozen=True)
class Recipe:
    """One recipe: its name on the command line, the folder that holds it, and whether it came along."""

    name: str
    folder: Path
    shipped: bool = True

    @property
    def title(self) -> str:
        """The first line of its README."""
        return (self.folder / README).read_text(encoding="utf-8").splitlines()[0].lstrip("# ")

    @property
    def module(self) -> ModuleType:
        """Its own `run.py`."""
        path = self.folder / PLAY
        spec = importlib.util.spec_from_file_location(f"recipe_{path.parent.name}", path)
        if spec is None or spec.loader is None:
            raise UnknownRecipeError(f"{path} cannot be loaded")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    @property
    def play(self) -> Callable[[Run], None]:
        """What plays it."""
        play: Callable[[Run], None] = self.module.play
        return play

    def copy(self, into: Path) -> None:
        """Copy what is there to be changed. Raises `FileExistsError` where one is there already."""
        into.mkdir(parents=True, exist_ok=True)
        files = (MANIFEST, PLAY, README)
        taken = [file for file in files if (into / file).exists()]
        if taken:
            raise FileExistsError(f"{into} has {', '.join(taken)} already: name another folder")
        for file in files:
            shutil.copyfile(self.folder / file, into / file)


def recipes() -> dict[str, Recipe]:
    """Those that come along, by name."""
    home = Path(str(resources.files("recipes")))
    folders = sorted(path.parent for path in home.glob(f"*/{PLAY}"))
    return {name: Recipe(name, folder) for folder in folders for name in (folder.name.replace("_", "-"),)}


def find(name: str) -> Recipe:
    """The recipe of this name, or in the folder of this path. Raises `UnknownRecipeError`."""
    known = recipes()
    if name in known:
        return known[name]
    folder = Path(name)
    if (folder / PLAY).is_file() and (folder / MANIFEST).is_file():
        return Recipe(folder.resolve().name, folder, shipped=False)
    raise UnknownRecipeError(f"there is no recipe {name!r}: give one of {', '.join(known)}, or a folder with one")
