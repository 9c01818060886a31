"""Meta-learning algorithms, one a file, on one contract (`metaglot.learners.base.Learner`)."""

from metaglot.registry import Registry

LEARNERS = Registry(
    "learner",
    {
        "auto": "metaglot.learners.auto:Auto",
        "ridge": "metaglot.learners.ridge:Ridge",
        "protonet": "metaglot.learners.protonet:ProtoNet",
        "maml": "metaglot.learners.maml:MAML",
        "fomaml": "metaglot.learners.maml:fomaml",
    },
)

DEFAULT_LEARNER = "auto"
