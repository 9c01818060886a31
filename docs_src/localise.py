"""From an application's catalogues in other languages to drafts in one that they lack."""

from pathlib import Path

from rich import print

from metaglot.bitext import load_bitext
from metaglot.config import read_settings
from metaglot.generation import artifact
from metaglot.generation.adapting import adapt_to, material_of
from metaglot.generation.recipe import GenerationRecipe
from metaglot.generation.training import train
from metaglot.generation.using import fill_catalogue, translate

model = train(read_settings(GenerationRecipe, Path("localise.toml"), {}))
artifact.save(model, Path("drafts"))

examples, notices = material_of(model, load_bitext("ast.po"), "ast")  # what is translated already
adapted = adapt_to(model, examples, "ast")
print(*notices, f"{adapted.updates} updates", adapted.estimate)
artifact.save_adaptation(adapted, Path("drafts"))

model = artifact.load(Path("drafts"))
print(translate(model, ["Please log in again, %(name)s."], "ast"))
print(fill_catalogue(model, "ast.po", "ast", output="ast-drafts.po"))
