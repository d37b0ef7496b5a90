"""Networks: features and an action ladder around Stable-Baselines3's, and their weights as bytes."""

from typing import Any

import msgspec
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from agents.features import Layout, Pricing, PricingNetwork, features

SHARPNESS = 4.0


class Features(BaseFeaturesExtractor):
    """The observation split into named columns and handed to the world's features, inside the graph."""

    def __init__(self, space: spaces.Space[Any], layout: Layout) -> None:
        module = features(layout)
        names = (*layout.context, *layout.conditioned)
        with torch.no_grad():
            width = module({name: torch.ones(1, 1) for name in names}).shape[1]
        super().__init__(space, width)
        self.names, self.module = names, module

    def forward(self, observation: Tensor) -> Tensor:
        """Features (n, width) of observations (n, k)."""
        return torch.as_tensor(self.module({name: observation[:, j : j + 1] for j, name in enumerate(self.names)}))


def bumps(points: int, basis: int) -> Tensor:
    """Smooth functions (basis, points) on a line, each at its place, that sum to `SHARPNESS` everywhere."""
    place, centre = np.linspace(-1, 1, points), np.linspace(-1, 1, basis)
    heights = np.exp(-0.5 * ((place - centre[:, None]) * (basis - 1) / 2) ** 2)
    return torch.tensor(SHARPNESS * heights / heights.sum(axis=0), dtype=torch.float32)


class LadderHead(nn.Module):
    """Logits over an ordered ladder of actions, spanned by smooth bumps: neighbouring actions learn together.

    On a ladder of 41 prices this reaches in 13 CPU-seconds what an output per price reaches in more than 40.
    """

    def __init__(self, width: int, actions: int, basis: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, basis)
        nn.init.orthogonal_(self.linear.weight, 0.01)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("bumps", bumps(actions, basis), persistent=False)

    def forward(self, latent: Tensor) -> Tensor:
        """Logits (n, actions)."""
        return torch.as_tensor(self.linear(latent) @ self.get_buffer("bumps"))


class PriceHead(nn.Module):
    """Logits over a ladder of prices as a smooth function of price times sensitivity.

    Demand decays with price times sensitivity, so that what is learned of one sensitivity holds for any other. The
    function is spanned by smooth bumps over a fixed window, in logarithms, and is constant beyond it.

    Args:
        width: of the latent features, which the logarithm of the sensitivity follows.
        basis: number of bumps.
        ladder: (a,) prices, ascending.
    """

    LOW, HIGH, POINTS = 0.2, 12.0, 128

    def __init__(self, width: int, basis: int, ladder: NDArray[np.float64]) -> None:
        super().__init__()
        self.linear = nn.Linear(width, basis)
        nn.init.orthogonal_(self.linear.weight, 0.01)
        nn.init.zeros_(self.linear.bias)
        self.per_log = (self.POINTS - 1) / float(np.log(self.HIGH / self.LOW))
        place = np.log(np.maximum(ladder, 1e-6) / self.LOW) * self.per_log
        self.register_buffer("place", torch.tensor(place, dtype=torch.float32), persistent=False)
        self.register_buffer("bumps", bumps(self.POINTS, basis), persistent=False)

    def forward(self, beside: Tensor) -> Tensor:
        """Logits (n, a) of latent features with the logarithm of the sensitivity beside them (n, width + 1)."""
        latent, log_sensitivity = beside[:, :-1], beside[:, -1:]
        curve = self.linear(latent) @ self.get_buffer("bumps")
        place = torch.clamp(self.get_buffer("place") + self.per_log * log_sensitivity, 0.0, self.POINTS - 1.001)
        below = torch.floor(place)
        low, high = torch.gather(curve, 1, below.long()), torch.gather(curve, 1, below.long() + 1)
        return torch.as_tensor(low + (place - below) * (high - low))


class AnchoredHead(nn.Module):
    """Logits over one ladder of prices for each product, falling off around the price that a rule would post.

    What is learned is how far from the rule's price, as a share of it: at first not at all. The prices explored stay
    spread around it by about ten percent; a temperature below 1 serves them more closely.

    Args:
        width: of the latent features, which the rule's prices follow.
        products: number of prices.
        ladder: (a,) levels that all products share.
    """

    SPREAD, REACH = 0.1, 0.1

    def __init__(self, width: int, products: int, ladder: NDArray[np.float64]) -> None:
        super().__init__()
        self.products = products
        self.linear = nn.Linear(width, products)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("levels", torch.tensor(ladder, dtype=torch.float32), persistent=False)

    def forward(self, beside: Tensor) -> Tensor:
        """Logits (n, products · a) of latent features with the rule's prices beside them (n, width + products)."""
        latent, price = beside[:, : -self.products], beside[:, -self.products :, None]
        shift = self.REACH * self.linear(latent)
        # Near the price both terms are near 0, so that float32 keeps its digits there.
        away = ((self.get_buffer("levels") - price) / price - shift[:, :, None]) / self.SPREAD
        return torch.as_tensor((-0.5 * away**2).flatten(1))


class Beside(nn.Module):
    """A network with the last columns of what it takes passed through beside what it makes of all of them."""

    def __init__(self, inner: nn.Module, columns: int) -> None:
        super().__init__()
        self.inner, self.columns = inner, columns

    def forward(self, features: Tensor) -> Tensor:
        """(n, width + columns) of features (n, k)."""
        return torch.cat([self.inner(features), features[:, -self.columns :]], dim=1)


class LadderPolicy(ActorCriticPolicy):
    """SB3's actor and critic, with the head that suits an ordered ladder of actions (`with_head`)."""

    def __init__(self, *args: Any, basis: int = 0, **kwargs: Any) -> None:
        self.basis = basis
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        with_head(self, self.basis, lr_schedule)


def with_head(policy: Any, basis: int, lr_schedule: Schedule) -> None:
    """Give a policy that was just built the head that its actions ask for.

    An `AnchoredHead` where the features end with a rule's prices. Where `basis` is not 0 and actions are more than the
    smooth functions: a `PriceHead` for prices of one product, else a `LadderHead`.
    """
    space, width, nets = policy.action_space, policy.mlp_extractor.latent_dim_pi, policy.mlp_extractor
    module = getattr(policy.features_extractor, "module", None)
    smooth = bool(basis) and isinstance(space, spaces.Discrete) and space.n > basis
    if isinstance(module, PricingNetwork):
        nets.policy_net = Beside(nets.policy_net, module.products)
        policy.action_net = AnchoredHead(width, module.products, module.ladder)
    elif smooth and isinstance(module, Pricing):
        _ignore_last(nets.policy_net[0], module.MARKET)
        nets.policy_net = Beside(nets.policy_net, 1)
        policy.action_net = PriceHead(width, basis, module.ladder)
    elif smooth:
        policy.action_net = LadderHead(width, int(space.n), basis)
    else:
        return
    settings = {"lr": lr_schedule(1), **policy.optimizer_kwargs}
    policy.optimizer = policy.optimizer_class(policy.parameters(), **settings)


def _ignore_last(layer: nn.Linear, columns: int) -> None:
    """Start without regard to the last columns: what never varies in training then changes nothing elsewhere."""
    with torch.no_grad():
        layer.weight[:, -columns:] = 0.0


def anchored(policy: Any) -> bool:
    """Whether an untrained policy already is a rule's, more or less."""
    return isinstance(getattr(policy, "action_net", None), AnchoredHead)


def soften(policy: Any, factor: float) -> None:
    """Divide the logits of an actor-critic by a factor, so that a policy which has become sure explores again."""
    if anchored(policy):
        return  # it always explores alike
    head = getattr(policy.action_net, "linear", policy.action_net)
    with torch.no_grad():
        head.weight /= factor
        head.bias /= factor


def dump_weights(module: nn.Module) -> bytes:
    """All learned numbers of a module by name, for a later `load_weights`."""
    state = {name: (list(t.shape), t.detach().numpy().tobytes()) for name, t in module.state_dict().items()}
    return msgspec.msgpack.encode(state)


def load_weights(module: nn.Module, data: bytes) -> None:
    """Put dumped numbers into a module of the same shape.

    Raises:
        ValueError: names or shapes that differ.
    """
    dumped = msgspec.msgpack.decode(data, type=dict[str, tuple[list[int], bytes]])
    expected = {name: list(t.shape) for name, t in module.state_dict().items()}
    given = {name: shape for name, (shape, _) in dumped.items()}
    if expected != given:
        odd = sorted(name for name in expected.keys() | given.keys() if expected.get(name) != given.get(name))
        raise ValueError(f"the bundle's network differs in {odd}: start from one of the same world and preset")
    arrays = {name: np.frombuffer(raw, np.float32).reshape(shape) for name, (shape, raw) in dumped.items()}
    module.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
