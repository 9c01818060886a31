from pathlib import Path

import metaglot as mg

languages = ["deu", "eng", "hin", "kor", "rus", "spa", "tha"]
recipe = mg.Recipe(corpus="home-assistant", corpus_options={"languages": languages}, held_out=("tha",))
corpus = mg.load_corpus(recipe.corpus, options=recipe.corpus_options)
artifact = mg.train(corpus, recipe)  # six languages teach how to learn another one
mg.save(artifact, Path("assistant"))
adapted = mg.adapt(artifact, "tha", corpus.select("tha", "train")[::6])  # some four examples a label
mg.save_adaptation(adapted.adaptation, Path("assistant"))
for found in mg.predict(mg.load("assistant"), ["ปิดไฟในห้องนอน", "พรุ่งนี้ฝนจะตกไหม"], "tha"):
    print(found.text, found.labels[0])
