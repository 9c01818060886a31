"""Every fault of the data or the settings is a MetaglotError."""

import metaglot as mg

try:
    mg.load_examples("broken.csv", language="swh")
except mg.MetaglotError as error:
    print(error)
