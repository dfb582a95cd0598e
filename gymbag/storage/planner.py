"""Finding the plan that packs a step, and making one when a new kind of step repeats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from gymbag.info_kinds import describe
from gymbag.infos import InfoEncoder
from gymbag.storage.events import MOST_PLANS, Events
from gymbag.storage.info_table import InfoTable
from gymbag.storage.plans import Example, Plan, UnfitError, deep_signature_of, signature_of

# The first kinds of steps have a plan at once, so that a recording has columns from its first step on. After
# these, only a kind that comes twice has one: an env may give each step a key of its own.
_FIRST_PLANS = 32
# How many kinds of steps without a plan are remembered.
_MOST_SEEN = 1 << 12

#: A plan, and what it makes of the info and the annotation of a step.
Packed = tuple[Plan, Sequence[Any]]


class Planner:
    """Finds plans for steps.

    Args:
        events: Holds the plans.
        tables: Decide where infos and annotations go.
        encoders: Write infos and annotations as JSON.
        alone: Has no other thread take events for as long as the context lasts; gives what has all taken.
    """

    def __init__(
        self,
        events: Events,
        tables: tuple[InfoTable, InfoTable],
        encoders: tuple[InfoEncoder, InfoEncoder],
        alone: Callable[[], AbstractContextManager[Callable[[], None]]],
    ) -> None:
        self._events, self._tables, self._encoders, self._alone = events, tables, encoders, alone
        self._made: dict[Any, Plan] = {}  # by all that tells the kinds of info and annotation apart
        self._text_plan: Plan | None = None  # of steps whose info and annotation are given as text
        self._by_kind: dict[Any, Plan] = {}
        self._seen: set[Any] = set()
        # Hashes of signatures: of steps that can have no plan, and of those that may have one without what
        # cannot be stored.
        self._refused: set[int] = set()
        self._shortened: set[int] = set()

    def find(self, info: Mapping[str, Any], annotation: Mapping[str, Any]) -> Packed:
        """Return the plan of a step, and what it makes of its info and annotation."""
        if not info and not annotation:
            return self._events.plain, ()
        if type(info) is not dict:
            info = dict(info)  # of another Mapping, a plan could not get the values
        plan = self._events.known.get(_signature(info, annotation))
        if plan is not None:
            try:
                return _pack(plan, info, annotation)
            except UnfitError:
                pass
        return self.learn(info, annotation)

    def learn(self, info: Mapping[str, Any], annotation: Mapping[str, Any]) -> Packed:
        """Do as `find` for a step that no plan is known to fit."""
        signature = _signature(info, annotation)
        number = hash(signature)  # which is enough to choose what to try first
        if number in self._refused:
            return self._pack_text(info, annotation)
        shape = _shape(info, annotation)
        if number in self._shortened and _shape(*(storable := self._storable(info, annotation))) != shape:
            return self.find(*storable)
        forms = describe(info), describe(annotation)
        plan = self._made.get((forms, shape))
        if plan is not None:
            self._events.known[signature] = plan
            try:
                return _pack(plan, info, annotation)
            except UnfitError:  # something inside a value cannot be stored, though it could be before
                pass
        elif None not in forms and not self._is_worth_a_plan(signature):
            return self._pack_text(info, annotation)
        storable = self._storable(info, annotation)
        if _shape(*storable) != shape:
            _remember(number, self._shortened)
            return self.find(*storable)
        made = None if plan or None in forms else self._make_plan((info, annotation), forms, shape)
        if made is None:
            _remember(number, self._refused)
            return self._pack_text(info, annotation)
        self._events.known[signature] = self._made[forms, shape] = made
        return _pack(made, info, annotation)

    def _storable(self, *dicts: Mapping[str, Any]) -> tuple[dict[Any, Any], dict[Any, Any]]:
        info, annotation = (encoder.storable(own) for encoder, own in zip(self._encoders, dicts, strict=True))
        return info, annotation

    def _pack_text(self, info: Mapping[str, Any], annotation: Mapping[str, Any]) -> Packed:
        """Pack a step whose info and annotation are JSON as a whole."""
        encode_info, encode_annotation = self._encoders
        if not annotation:
            plan = self._events.plans[1]
            return plan, plan.values(encode_info(info))
        plan = self._text_plan or self._make_text_plan()
        texts = encode_info(info), encode_annotation(annotation)
        return plan, [*plan.values(texts[0]), *plan.annotation.values(texts[1])]

    def _is_worth_a_plan(self, signature: Any) -> bool:
        if len(self._made) < _FIRST_PLANS or signature in self._seen:
            return len(self._made) < MOST_PLANS
        _remember(signature, self._seen)
        return False

    def _make_plan(self, dicts: tuple[Any, Any], forms: tuple[Any, Any], shape: Any) -> Plan | None:
        """Make a plan, or find one of the same kinds; None if the table of kinds has no room for another."""
        with self._alone() as take_all:
            examples = []
            for table, given, own, encoder in zip(self._tables, dicts, forms, self._encoders, strict=True):
                bound = table.bind(own, not self._events.has_steps)
                if bound is None:
                    return None
                number, kind = bound
                examples.append(Example(given, number, own, kind, table.fits, encoder.warn))
            kinds = shape, *(example.number for example in examples)
            if kinds in self._by_kind:  # which differs in what becomes JSON
                return self._by_kind[kinds]
            info, annotation = examples
            plan = self._by_kind[kinds] = self._events.add_plan(info, annotation, take_all)
            self._events.limit_block(sum(table.row_bytes for table in self._tables))
            return plan

    def _make_text_plan(self) -> Plan:
        """Make the plan of steps whose info and annotation are given as JSON text."""
        with self._alone() as take_all:
            self._tables[1].begin()
            plan = self._text_plan = self._events.add_plan(None, None, take_all)
        return plan


def _remember(what: Any, remembered: set[Any]) -> None:
    if len(remembered) >= _MOST_SEEN:
        remembered.clear()
    remembered.add(what)


def _signature(info: Mapping[str, Any], annotation: Mapping[str, Any]) -> Any:
    return (signature_of(info), signature_of(annotation)) if annotation else signature_of(info)


def _shape(info: Mapping[str, Any], annotation: Mapping[str, Any]) -> Any:
    """Return the signatures of all dicts of a step."""
    return deep_signature_of(info), deep_signature_of(annotation)


def _pack(plan: Plan, info: Mapping[str, Any], annotation: Mapping[str, Any]) -> Packed:
    values = plan.values(info)
    return plan, [*values, *plan.annotation.values(annotation)] if annotation else values
