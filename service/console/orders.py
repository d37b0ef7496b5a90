"""What an operator can order: each order says what will happen and what is sent to the service. Pure."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from service.console.markup import path, short

MODES = ("off", "apprentice", "shadow", "canary", "live")


@dataclass(frozen=True)
class Order:
    """One button.

    Attributes:
        happens: What will happen, in a sentence.
        fields: Names of what else must be chosen, with the possible values.
        body: What is sent besides reason and actor, from what was chosen; raises `ValueError` where it makes no sense.
        texts: Names of what may be written, with what stands there.
    """

    name: str
    happens: str
    path: str
    fields: Mapping[str, Mapping[str, str]]
    body: Callable[[Mapping[str, Any]], dict[str, Any]]
    tone: str = ""
    texts: Mapping[str, str] = field(default_factory=dict)


def orders_of(point: str, policies: Mapping[str, Any]) -> list[Order]:
    """What can be ordered at a point as it stands."""
    base = path("v1", "policies", point)
    release = policies["release"]
    serving = short(release["incumbent"]) or "the rule"
    servable = {
        one["digest"]: f"{short(one['digest'])} · {one['algo'] or one['kind']} {one['role']}"
        for one in policies["policies"]
    }
    servable |= {name: f"{name} · {rewards} rewards" for name, rewards in policies["bandits"].items()}
    held = policies["held"]
    modes = sorted(MODES, key=lambda name: name != release["mode"])
    nothing: Mapping[str, Mapping[str, str]] = {}
    hold = Order(
        "Release hold" if held else "Hold",
        "The service may release by itself again."
        if held
        else "The service releases nothing by itself until the hold ends; what serves goes on.",
        f"{base}/{'release' if held else 'hold'}",
        nothing,
        dict,
    )
    found = [
        Order(
            "Stop",
            "The rule serves every request at once, without exploration. Nothing is lost: Mode brings the policy back.",
            f"{base}/mode",
            nothing,
            lambda _: {"mode": "off"},
            "stop",
        ),
        Order(
            "Roll back",
            "The candidate is dropped; where there is none, what served before serves again.",
            f"{base}/rollback",
            nothing,
            dict,
        ),
        Order(
            "Mode",
            f"The point is served in another mode; {serving} is the incumbent now.",
            f"{base}/mode",
            {"mode": {name: name for name in modes}, "digest": {"": "as it is", **servable}},
            _chosen,
        ),
        Order(
            "Promote",
            f"It serves every request, live, instead of {serving}.",
            f"{base}/promote",
            {"digest": servable},
            _chosen,
        ),
        Order(
            "Train now",
            "A job is queued: a candidate is trained for the declared ranges. It does not serve until it is released.",
            f"{base}/train",
            nothing,
            dict,
        ),
        hold,
    ]
    return [order for order in found if all(order.fields.values())]


def _chosen(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


def champions(model: str, description: Mapping[str, Any]) -> list[Order]:
    """Each challenger that learns well can be made the champion."""
    where = path("v1", "models", model, "champion")
    return [
        Order(
            f"Serve {one['name']}",
            f"The challenger {one['name']} answers from the next entry on; the champion learns on beside it.",
            where,
            {},
            lambda _, name=one["name"]: {"champion": name},  # type: ignore[misc]  # the name is bound now
        )
        for one in description.get("challengers") or ()
        if one["trouble"] is None and one["name"] != description["champion"]
    ]


def resumed(model: str, description: Mapping[str, Any]) -> list[Order]:
    """A model that a drift stopped, or a challenger of it, can learn again."""
    candidates = [description, *(description.get("challengers") or ())]
    if description.get("halted") == "ceiling" or all(one.get("halted") != "drift" for one in candidates):
        return []
    words = "It learns from the next label on; what came while it stood still stays unlearned."
    return [Order("Learn again", words, path("v1", "models", model, "resume"), {}, lambda _: {})]


def replay(model: str, reject: Mapping[str, Any]) -> Order:
    """An entry that was set aside comes back, as it was or mended."""
    held = reject["event"] or {}
    mendable = {name: held[name] for name in ("features", "label") if name in held}
    before = json.dumps(mendable, indent=1) if mendable else ""

    def body(values: Mapping[str, Any]) -> dict[str, Any]:
        written = values.get("event", before)
        if written.strip() == before.strip():
            return {}
        try:
            return {"event": json.loads(written)}
        except json.JSONDecodeError as error:
            raise ValueError(f"This is no JSON: {error}") from None

    return Order(
        "Replay",
        f"The learner takes {reject['id']} as if it came now, as it was or mended here.",
        path("v1", "models", model, "rejects", reject["entry"], "replay"),
        {},
        body,
        texts={"event": before} if before else {},
    )
