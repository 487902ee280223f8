"""A small tree of texts by the toy model, for what reads trees."""

from functools import cache

from toy import toy_model

from manako.trace.tree import Branch, Tree


@cache
def toy_tree() -> Tree:
    """Two texts: the first went on in two other ways, one of them in another way again.

    1 has 5 steps; 2 keeps 2 of them and puts a token in; 3 keeps none and puts text in; 2-1 keeps 1 step of 2 and puts
    nothing in. "b" is a text of its own.
    """
    model = toy_model()
    first = model.trace("私は", max_new_tokens=5, seed=3)
    second = model.fork(first, 2, token_id=260, max_new_tokens=3)
    third = model.fork(first, 0, text="猫、", max_new_tokens=2, seed=9)
    for run in (second, third):
        list(run)
    inner = model.fork(second.trace(), 1, max_new_tokens=2, temperature=2.0)
    list(inner)
    branches = (
        Branch("1", None, 0, first),
        Branch("2", "1", 2, second.trace()),
        Branch("3", "1", 0, third.trace()),
        Branch("2-1", "2", 1, inner.trace()),
        Branch("b", None, 0, model.trace("犬", max_new_tokens=1, seed=1)),
    )
    return Tree(branches, "2-1")
