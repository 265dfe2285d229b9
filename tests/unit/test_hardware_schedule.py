"""Ollama's scheduler: who is loaded where, and who has to go for whom."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mesh.hardware import GIB
from mesh.hardware.cards import cards
from mesh.hardware.footprint import Verdict
from mesh.hardware.models import known_models
from mesh.hardware.schedule import Place, Wanted, evict_each_other, loaded_with, occupied, simulate

ONE = (Place(cards()["rtx-3090"]),)
TWO = (Place(cards()["rtx-3060-12gb"]), Place(cards()["rtx-3060-12gb"], reserves=GIB))


def wanted(tag: str, context: int = 4096, keep_alive: int = 300, name: str = "") -> Wanted:
    return Wanted(name or tag, known_models()[tag], context, keep_alive)


SMALL, MIDDLE, LARGE = wanted("llama3.2:3b"), wanted("llama3.1:8b"), wanted("qwen2.5-coder:32b", 8192)


def test_the_first_model_is_loaded_whatever_its_size_and_spills() -> None:
    (step,) = simulate((wanted("qwen2.5-coder:32b", 32768),), ONE)
    assert step.loaded
    assert step.spills
    assert step.verdict is Verdict.SPILLS


def test_a_model_that_is_loaded_answers_without_loading() -> None:
    first, second = simulate((SMALL, SMALL), ONE)
    assert (first.loaded, second.loaded) == (True, False)


def test_another_context_of_the_same_model_loads_it_anew() -> None:
    *_, last = simulate((wanted("llama3.2:3b"), wanted("llama3.2:3b", 8192)), ONE)
    assert last.loaded
    assert last.evicted == ("llama3.2:3b",)


def test_a_further_model_joins_below_80_percent_of_what_is_free_and_evicts_above() -> None:
    joined = simulate((SMALL, MIDDLE), ONE)[-1]
    assert joined.evicted == ()
    assert joined.believed <= joined.free * 0.8
    assert simulate((MIDDLE, LARGE), ONE)[-1].evicted == (MIDDLE.name,)


def test_the_victim_has_the_shortest_keep_alive_whoever_was_used_last() -> None:
    old = wanted("llama3.2:3b", keep_alive=600)
    new = wanted("mistral:7b", keep_alive=60)
    assert simulate((old, new, MIDDLE), ONE, max_loaded=2)[-1].evicted == (new.name,)


def test_for_ever_is_last_in_line_and_not_pinned() -> None:
    forever, other = wanted("llama3.2:3b", keep_alive=-1), wanted("mistral:7b", keep_alive=86400)
    assert simulate((forever, other, LARGE), ONE)[-1].evicted == (other.name, forever.name)


def test_at_most_so_many_are_loaded_and_three_a_card_without_a_word() -> None:
    tags = ("llama3.2:3b", "qwen2.5-coder:7b", "mistral:7b", "nomic-embed-text")
    models = tuple(wanted(tag, 2048) for tag in tags)
    assert len(simulate(models, ONE)[-1].evicted) == 1
    assert simulate(models, ONE, max_loaded=4)[-1].evicted == ()


def test_one_card_holds_what_fits_it_and_two_what_does_not() -> None:
    assert simulate((MIDDLE,), TWO)[0].places == (0,)
    spread = simulate((wanted("mistral-small:24b"),), TWO)[0]
    assert spread.places == (0, 1)
    assert not spread.spills


def test_the_second_model_goes_to_the_card_with_more_left() -> None:
    steps = simulate((MIDDLE, wanted("mistral:7b")), TWO)
    assert [step.places for step in steps] == [(0,), (1,)]


def test_two_models_evict_each_other_only_where_they_do() -> None:
    assert evict_each_other(MIDDLE, LARGE, (), ONE, 2)
    assert not evict_each_other(MIDDLE, SMALL, (), ONE, 2)
    assert evict_each_other(MIDDLE, SMALL, (), ONE, 1)


@given(
    tags=st.lists(st.sampled_from(sorted(known_models())), min_size=1, max_size=6),
    context=st.integers(256, 100_000),
    keep=st.integers(-1, 3600),
    limit=st.integers(0, 4),
    places=st.sampled_from([ONE, TWO, ()]),
)
def test_any_requests_end_with_the_asked_model_loaded(
    tags: list[str], context: int, keep: int, limit: int, places: tuple[Place, ...]
) -> None:
    steps = simulate([wanted(tag, context, keep) for tag in tags], places, limit)
    assert [step.name for step in steps] == tags
    for step in steps:
        assert step.name not in step.evicted
        assert step.room >= 0


@given(reserve=st.integers(0, 2**36), more=st.integers(0, 2**35), tag=st.sampled_from(sorted(known_models())))
def test_a_larger_reserve_never_leaves_more_to_spare(reserve: int, more: int, tag: str) -> None:
    one, other = (loaded_with(wanted(tag), (0,), (Place(ONE[0].card, size),)).room for size in (reserve, reserve + more))
    assert other <= one


def test_what_is_loaded_takes_its_footprint_and_its_process() -> None:
    (taken,) = occupied((MIDDLE,), ONE)
    step = loaded_with(MIDDLE, (0,), ONE)
    assert step.need is not None
    assert taken == step.need.total + int(0.35 * GIB)
    assert occupied((replace(MIDDLE, parallel=2),), ONE)[0] > taken
