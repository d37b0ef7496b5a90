"""Every recipe from beginning to end: it ends with the very figures of its README."""

from pathlib import Path

import pytest

from recipes import catalogue
from recipes.playing import Run


def published(name: str) -> str:
    readme = (catalogue.recipes()[name].folder / "README.md").read_text()
    return readme.partition("<!-- figures -->")[2].partition("<!-- /figures -->")[0].strip()


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(catalogue.recipes()))
def test_a_recipe_ends_with_the_figures_of_its_readme(name: str, tmp_path: Path) -> None:
    recipe = catalogue.recipes()[name]
    (tmp_path / "trimtab.toml").write_bytes((recipe.folder / "trimtab.toml").read_bytes())
    run = Run(name, tmp_path, print)
    recipe.play(run)
    run.finish()
    assert run.markdown() == published(name)
    assert sum(run.seconds.values()) < 300
