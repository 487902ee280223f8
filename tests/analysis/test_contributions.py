"""Why a token: parts worked out by hand, sums that leave nothing out, differences of two, tokens by text or id."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from golden import EXPONENTS, golden_inside, golden_trace, large_inside
from toy import toy_model

import manako
from manako.analysis.contributions import Contributed, Why, contributions
from manako.errors import CapabilityError, UsageError
from manako.trace.file import open as open_trace
from manako.trace.record import Vocabulary

LN2 = 0.6931471805599453
PARTS = ("embed", "pos_embed", "head:0.0", "head:0.1", "attn_bias:0", "mlp:0")
PARTS += ("head:1.0", "head:1.1", "attn_bias:1", "mlp:1", "final_bias")


def by_hand(step: int, token: int) -> list[float]:
    """What the golden model's parts add to the logit of a token, see FakeInside."""
    far, near, here = (EXPONENTS[(step + ahead) % 12][token] for ahead in (4, 2, 0))
    special = float(token == 0)
    first, second = near - far, here - near
    found = [far, special, first / 2, first / 4, special, first / 4]
    found += [second / 2, second / 4, -special, second / 4, -special]
    return [n * LN2 for n in found]


def values(found: Why) -> list[float]:
    return [part.value for part in found.parts]


def test_parts_by_hand() -> None:
    trace = golden_inside()
    for index in range(12):
        on_record = contributions(trace, index)
        assert on_record.names == PARTS and on_record.tokens[0] == trace.steps[index].chosen
        for token in on_record.tokens:
            found = on_record.why(token)
            assert values(found) == pytest.approx(by_hand(index, token.id), abs=1e-5)
            assert found.total == pytest.approx(EXPONENTS[index][token.id] * LN2, abs=1e-5)
            assert abs(found.remainder) < 1e-5


def test_kinds_layers_and_groups() -> None:
    on_record = contributions(golden_inside(), 0)
    found = on_record.why(on_record.step.chosen)
    part = {p.name: p for p in found.parts}
    assert [part[name].kind for name in ("embed", "pos_embed")] == ["embedding"] * 2
    assert [part[name].kind for name in ("attn_bias:1", "final_bias")] == ["bias"] * 2
    assert (part["head:1.0"].layer, part["head:1.0"].head, part["mlp:1"].layer) == (1, 0, 1)
    hand = dict(zip(PARTS, by_hand(0, found.token.id), strict=True))
    assert found.groups["head"] == pytest.approx(sum(v for n, v in hand.items() if n.startswith("head")), abs=1e-5)
    assert found.groups["bias"] == pytest.approx(sum(v for n, v in hand.items() if "bias" in n), abs=1e-5)
    assert sum(found.groups.values()) == pytest.approx(found.total)
    assert [i.layer for i in found.layers] == [0, 1]
    mean = dict(zip(PARTS, np.mean([by_hand(0, token) for token in range(12)], axis=0), strict=True))
    over = {name: hand[name] - mean[name] for name in PARTS}
    assert {p.name: p.over_mean for p in found.parts} == pytest.approx(over, abs=1e-5)
    assert found.layers[1].attention == pytest.approx(over["head:1.0"] + over["head:1.1"], abs=1e-5)
    assert found.layers[0].mlp == pytest.approx(over["mlp:0"], abs=1e-5)


def test_the_effect_is_free_of_what_all_get() -> None:
    trace = golden_inside()
    plain, more = contributions(trace, 2), np.where(np.arange(len(PARTS)) == 5, 3.0, 0.0)  # mlp:0 raises every token
    assert plain.mean is not None
    shifted = replace(plain, value=plain.value + more[:, None], mean=plain.mean + more)
    chosen = plain.step.chosen
    before, after = plain.why(chosen), shifted.why(chosen)
    assert after.parts[5].value == pytest.approx(before.parts[5].value + 3)
    assert after.parts[5].effect == after.parts[5].over_mean == pytest.approx(before.parts[5].over_mean)
    difference = values(plain.why(chosen, plain.tokens[1]))
    assert values(shifted.why(chosen, plain.tokens[1])) == pytest.approx(difference)


@pytest.mark.parametrize("tied", [True, False])
def test_the_effect_is_the_contribution_with_the_unembedding_centred(tied: bool) -> None:
    """What TransformerLens shows by default: the mean of the output matrix over the vocabulary taken from each row."""
    model, centred = (toy_model(tie_word_embeddings=tied) for _ in range(2))
    readout = centred.engine.readout
    assert readout is not None
    centred.engine.readout = replace(readout, head=readout.head - readout.head.mean(axis=0))  # type: ignore[misc]
    text = "私は猫である。名前はまだ無い。"
    ours, theirs = (m.score(text, capture=["contributions"]) for m in (model, centred))
    for index in range(len(ours)):
        mine, his = contributions(ours, index), contributions(theirs, index)
        for token in mine.tokens:
            other = next((c for c in his.tokens if c.id == token.id), None)
            if other is not None:
                found = [part.over_mean for part in mine.why(token).parts]
                assert found == pytest.approx(values(his.why(other)), abs=1e-5)
                assert sum(part.effect for part in mine.why(token).parts) == pytest.approx(
                    token.logit - float(ours.logits[index].mean(dtype=np.float64)), abs=1e-4
                )


def test_a_record_without_the_mean_goes_by_the_raw_logit(tmp_path: Path) -> None:
    trace = open_trace(Path(__file__).parents[1] / "fixtures" / "trace-4.manako")
    found = contributions(trace, 3).why(trace.steps[3].chosen)
    assert {part.over_mean for part in found.parts} == {None}
    assert [part.effect for part in found.parts] == values(found)
    trace.save(tmp_path / "again.manako")  # as the newest version, which may lack it
    assert contributions(open_trace(tmp_path / "again.manako"), 3).mean is None


def test_one_rather_than_another() -> None:
    on_record = contributions(golden_inside(), 3)
    a, b = on_record.tokens[:2]
    found, back = on_record.why(a, b), on_record.why(b, a)
    both = zip(values(on_record.why(a)), values(on_record.why(b)), strict=True)
    assert values(found) == pytest.approx([x - y for x, y in both])
    assert values(back) == pytest.approx([-v for v in values(found)])
    assert found.logit == pytest.approx(a.logit - b.logit) and abs(found.remainder) < 1e-5
    assert {part.over_mean for part in found.parts} == {None}
    with pytest.raises(UsageError, match="is the explained token itself"):
        on_record.why(a, a)


@pytest.mark.parametrize(
    "changes", [{}, {"tie_word_embeddings": False}, {"attention": False}, {"n_layer": 5, "n_head": 3}]
)
def test_sums_of_real_models_are_their_logits(changes: dict[str, object]) -> None:
    trace = toy_model(**changes).trace("私は", max_new_tokens=20, seed=1, capture=["contributions"])  # past the context
    for index in range(len(trace)):
        on_record = contributions(trace, index)
        for token in on_record.tokens:
            assert abs(on_record.why(token).remainder) < 1e-4
        found = on_record.why(on_record.step.chosen)
        assert all((i.attention is None) == (changes.get("attention") is False) for i in found.layers)


def test_strongest_and_the_rest_make_the_total() -> None:
    on_record = contributions(golden_inside(), 4)
    for rival in (None, on_record.tokens[2]):
        found = on_record.why(on_record.step.chosen, rival)
        for n in (0, 1, 4, 11, 99):
            shown, rest = found.strongest(n)
            assert len(shown) + rest.count == len(PARTS)
            assert sum(p.value for p in shown) + rest.value == pytest.approx(found.total)
            rounded = [round(p.effect, 4) for p in shown]
            assert rounded == sorted(rounded, reverse=True)
            weakest = min(map(abs, rounded), default=float("inf"))
            assert all(abs(round(p.effect, 4)) <= weakest for p in found.parts if p not in shown)
            if rival is None:
                over = sum(p.over_mean or 0.0 for p in shown) + (rest.over_mean or 0.0)
                assert over == pytest.approx(sum(p.over_mean or 0.0 for p in found.parts))


def test_parts_that_differ_by_rounding_stay_in_the_order_of_the_stream() -> None:
    """Else a list would look otherwise on another machine."""
    on_record = contributions(golden_inside(), 0)
    value = on_record.value.copy()
    value[:, 0] = [1e-7, 0, 2e-7, -1e-7, 3, 0, 3.000004, 0, -2, -2.000004, 1e-6]
    on_record = replace(on_record, value=value, mean=np.zeros(len(PARTS)))
    found = on_record.why(on_record.step.chosen)
    places = [PARTS.index(p.name) for p in found.ordered]
    assert places == [4, 6, 0, 1, 2, 3, 5, 7, 10, 8, 9]
    assert [PARTS.index(p.name) for p in found.strongest(5)[0]] == [4, 6, 0, 8, 9]


def test_switchable_is_a_head_or_an_mlp() -> None:
    for index in range(12):
        on_record = contributions(golden_inside(), index)
        found = on_record.why(on_record.step.chosen)
        part = found.switchable
        assert part is not None and part.kind in ("head", "mlp")
        assert abs(part.effect) > max(abs(p.effect) for p in found.parts if p.kind in ("head", "mlp")) - 1e-4
    assert replace(found, parts=found.parts[:2]).switchable is None


def test_next_best() -> None:
    for trace in (golden_inside(), large_inside()):
        for index in range(len(trace)):
            on_record = contributions(trace, index)
            expected = [c for c in trace.steps[index].candidates[:2] if c.id != on_record.step.token_id][0]
            assert on_record.next_best(on_record.step.chosen) == expected


def test_each_token_once_and_all_of_them_known() -> None:
    for trace in (golden_inside(), large_inside(), toy_model().score("私は猫が", capture=["contributions"])):
        for index in range(len(trace)):
            step, tokens = trace.steps[index], contributions(trace, index).tokens
            assert tokens[0] == step.chosen
            assert {c.id for c in tokens} == {step.token_id, *(c.id for c in step.candidates[:10])}
            assert len(tokens) == len({c.id for c in tokens}) in (10, 11)


# --- a token by its name ----------------------------------------------------------------------------------------------


def test_find_by_text_or_id() -> None:
    on_record = contributions(golden_inside(), 0)
    for token in on_record.tokens:
        assert on_record.find(f"id:{token.id}") == token
        assert on_record.find(token.text) == token
        assert on_record.find(on_record.spelling(token)) == token


@pytest.mark.parametrize("named", ["猫猫", "id:0", "id:99999", "id:1234567890", "id:", "id:１", "いい", " い", "-"])
def test_not_on_record_lists_what_is(named: str) -> None:
    on_record = contributions(golden_inside(), 0)
    assert 0 not in {c.id for c in on_record.tokens}
    with pytest.raises(UsageError) as raised:
        on_record.find(named)
    known = raised.value.text("en").partition("choose one of these: ")[2].split(", ")
    assert known == [on_record.spelling(c) for c in on_record.tokens]


def test_a_token_nobody_can_type_is_listed_by_id() -> None:
    on_record = contributions(golden_inside(), 5)
    spelled = {c.id: on_record.spelling(c) for c in on_record.tokens}
    assert spelled[1] == "</script>" and spelled[9] == "あ"
    assert all(spelled[i] == f"id:{i}" for i in (0, 3, 4, 7, 8) if i in spelled)  # special, ESC, RLO, empty, U+3000


def test_two_that_read_alike_need_their_ids() -> None:
    trace = golden_inside()
    trace = replace(trace, vocabulary=Vocabulary([b"x", b"x", *[b"y%d" % i for i in range(10)]], 12, frozenset()))
    on_record = contributions(trace, 11)
    assert {0, 1} <= {c.id for c in on_record.tokens}
    assert on_record.find("id:1").id == 1 and on_record.spelling(on_record.find("id:1")) == "id:1"
    with pytest.raises(UsageError, match="id:0, id:1|id:1, id:0|id:0.*id:1"):
        on_record.find("x")


def test_texts_that_would_break_a_list_are_named_by_id() -> None:
    trace = golden_inside()
    names = [b",", b"id:3", b" a", b"a ", b"a,b", b"\n", b"ok", *[b"z%d" % i for i in range(5)]]
    on_record = contributions(replace(trace, vocabulary=Vocabulary(names, 12, frozenset())), 2)
    spelled = {c.id: on_record.spelling(c) for c in on_record.tokens}
    assert all(spelled[i] == f"id:{i}" for i in range(6) if i in spelled) and spelled[6] == "ok"
    assert on_record.find("id:3").id == 3  # the form means the id, whatever a token reads


# --- odd records ------------------------------------------------------------------------------------------------------


def test_a_saved_record_reads_the_same(tmp_path: Path) -> None:
    for trace in (golden_inside(), large_inside()):
        trace.save(tmp_path / "t.manako", force=True)
        opened = manako.open(tmp_path / "t.manako")
        for index in range(len(trace)):
            ours, theirs = contributions(trace, index), contributions(opened, index)
            assert ours.why(ours.step.chosen) == theirs.why(theirs.step.chosen)


def test_part_names_that_a_file_made_up_count_as_biases() -> None:
    trace = golden_inside()
    odd = (
        "",
        "head",
        "head:x.y",
        "mlp:99999",
        "layer:1",
        "mlp:1.2",
        "EMBED",
        "head:1.2.3",
        "mlp:-1",
        "head:1",
        "mlp:1",
    )
    found = contributions(replace(trace, header=replace(trace.header, parts=odd)), 0)
    why = found.why(found.step.chosen)
    assert [p.kind for p in why.parts] == ["bias"] * 10 + ["mlp"]
    assert sum(why.groups.values()) == pytest.approx(why.total)
    assert [(i.layer, i.attention) for i in why.layers] == [(1, None)]


def test_not_on_record() -> None:
    with pytest.raises(CapabilityError, match="this trace has no contributions"):
        contributions(golden_trace(), 0)


def test_negative_control_a_wrong_number_is_missing_from_the_sum() -> None:
    on_record: Contributed = contributions(golden_inside(), random.Random(1).randrange(12))
    wrong = np.zeros_like(on_record.value)
    wrong[3, 0] = 0.5
    on_record = replace(on_record, value=on_record.value + wrong)
    assert on_record.why(on_record.step.chosen).remainder == pytest.approx(-0.5, abs=1e-4)
