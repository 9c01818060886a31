"""Meta-learning algorithms, one a file, on one contract (`metaglot.learners.base.Learner`)."""

from metaglot.registry import Registry

LEARNERS = Registry(
    "learner",
    {
        "auto": "metaglot.learners.auto:Auto",
        "mixture": "metaglot.learners.mixture:Mixture",
        "ridge": "metaglot.learners.ridge:Ridge",
        "logistic": "metaglot.learners.logistic:Logistic",
        "laplace": "metaglot.learners.laplace:Laplace",
        "protonet": "metaglot.learners.protonet:ProtoNet",
        "matching": "metaglot.learners.matching:Matching",
        "memory": "metaglot.learners.memory:Memory",
        "maml": "metaglot.learners.maml:MAML",
        "fomaml": "metaglot.learners.fomaml:fomaml",
        "anil": "metaglot.learners.anil:anil",
        "boil": "metaglot.learners.boil:BOIL",
        "meta-sgd": "metaglot.learners.meta_sgd:meta_sgd",
        "maml++": "metaglot.learners.maml_plus_plus:MAMLPlusPlus",
        "imaml": "metaglot.learners.imaml:IMAML",
        "protomaml": "metaglot.learners.protomaml:ProtoMAML",
        "cavia": "metaglot.learners.cavia:CAVIA",
        "reptile": "metaglot.learners.reptile:Reptile",
        "multitask": "metaglot.learners.multitask:Multitask",
        "hierarchical": "metaglot.learners.hierarchical:Hierarchical",
    },
)

DEFAULT_LEARNER = "auto"
