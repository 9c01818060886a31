"""Six languages teach how to learn a seventh."""

from pathlib import Path

import metaglot as mg

languages = ["deu", "eng", "hin", "kor", "rus", "spa", "tha"]
recipe = mg.Recipe(corpus="home-assistant", corpus_options={"languages": languages}, held_out=("tha",))
corpus = mg.load_corpus(recipe.corpus, options=recipe.corpus_options)
artifact = mg.train(corpus, recipe)
mg.save(artifact, Path("thai"))
few = corpus.select("tha", "train")[::6]  # about four examples a label
mg.save_adaptation(mg.adapt(artifact, "tha", few).adaptation, Path("thai"))
for found in mg.predict(mg.load("thai"), ["ปิดไฟในห้องนอน", "พรุ่งนี้ฝนจะตกไหม"], "tha"):
    print(found.text, found.labels[0])
