"""From texts in many languages to a language model of one that they lack."""

from pathlib import Path

from metaglot.config import read_settings
from metaglot.generation import artifact
from metaglot.generation.adapting import adapt_to, material_of
from metaglot.generation.recipe import GenerationRecipe
from metaglot.generation.training import train
from metaglot.generation.using import generate

model = train(read_settings(GenerationRecipe, Path("language_model.toml"), {}))
artifact.save(model, Path("lm"))

page = Path("swahili.txt").read_text(encoding="utf-8")
blocks, _ = material_of(model, page, "swh")
adapted = adapt_to(model, blocks, "swh")
print(f"{blocks.n_bytes:,} bytes, {adapted.updates} updates, {adapted.estimate}")
artifact.save_adaptation(adapted, Path("lm"))

print(generate(artifact.load(Path("lm")), ["Habari "], "swh", tokens=40)[0])
