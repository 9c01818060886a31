"""The benchmark of one meta-gradient, in miniature: it runs, and what it compares agrees."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(FOLDER))
    import meta_step
    import meta_step_cases

    yield meta_step, meta_step_cases
    sys.path.remove(str(FOLDER))
    for name in ("meta_step", "meta_step_cases", "meta_step_peers"):
        sys.modules.pop(name)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("which", ["transformer", "product", "small"])
def test_every_way_makes_the_gradient_of_the_loop_by_hand(which, first_order, bench):
    module, cases = bench
    case = {
        "transformer": replace(cases.transformer(32, 1, 60, 6), tasks=3, shots=1, queries=2, steps=2),
        "product": cases.product(4, 1, 3),
        "small": replace(cases.small(), tasks=3, steps=2),
    }[which]
    expected = module.PEERS["hand-written loop"](case, first_order)()
    for name, make in module.metaglot_modes(2).items():
        error = module.error_of(make(case, first_order)(), expected)
        assert error < (0.1 if "bfloat16" in name else 1e-5), name


def test_vmap_of_grad_is_wrong_through_layer_norm_and_right_without(bench):
    module, cases = bench
    runner = module.PEERS["vmap of torch.func.grad"]
    sizes = {"tasks": 3, "shots": 1, "queries": 2, "steps": 2, "rate": 1.0}
    case = replace(cases.transformer(32, 1, 60, 6), **sizes)
    expected = module.PEERS["hand-written loop"](case, False)()
    assert module.error_of(runner(case, False)(), expected) > 1e-3
    plain = replace(cases.small(), **sizes)
    expected = module.PEERS["hand-written loop"](plain, False)()
    assert module.error_of(runner(plain, False)(), expected) < 1e-5


def test_results_go_on_and_the_fastest_exact_peer_is_what_counts(bench, capsys):
    module, cases = bench
    options = type("Options", (), {"rounds": 2, "runners": ["metaglot"]})
    rows, saved = {}, []
    case = cases.product(3, 1, 2)
    module.measure(case, False, options, rows, lambda: saved.append(1))
    assert {len(rows[name]["seconds"]) for name in ("metaglot", "hand-written loop")} == {2}
    assert len(saved) == 2
    first = list(rows["metaglot"]["seconds"])
    options.rounds = 3
    module.measure(case, False, options, rows, lambda: saved.append(1))
    assert rows["metaglot"]["seconds"][:2] == first
    assert (len(rows["metaglot"]["seconds"]), len(saved)) == (3, 3)
    assert module.slope([0.0, 1.0, 2.0], [1.0, 3.0, 5.0]) == pytest.approx(2.0)
    assert module.is_exact("higher")
    assert not module.is_exact("metaglot, bfloat16")
