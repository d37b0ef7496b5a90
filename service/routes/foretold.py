"""What a point's models foretell for a request, before it is decided."""

from service.deciding.decide import Ask
from service.deciding.foretelling import foretell
from service.deciding.points import Point
from service.http.api import Api


async def foretold(api: Api, point: Point, ask: Ask) -> Ask:
    """The request with what the models foretell for it; a `ProblemError` where they cannot and nothing stands in."""
    models, now, forecasts = api.serving.now.models, api.clock(), point.spec.forecasts
    keyed = any(spec.model in models and models[spec.model].spec.key is not None for spec in forecasts.values())
    if keyed:
        # The instance of a key may have to be fetched: not on the event loop.
        found = await api.store.ask(lambda store: foretell(store, point, models, ask.request, ask.key, now))
    else:
        found = foretell(None, point, models, ask.request, ask.key, now)
    values = {name: one.value for name, one in found.items() if forecasts[name].is_context and one.value is not None}
    return ask._replace(filled=point.filled(ask.request.context, values), forecasts=found)
