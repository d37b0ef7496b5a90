"""Worlds: Gymnasium environments of business decisions that know their exact optimum.

Importing the package registers one id for each world, `trimtab/Pricing-v0` and so on.
"""

import gymnasium

_WORLDS = (
    "pricing",
    "pricing-replenished",
    "pricing-rival",
    "pricing-network",
    "replacement",
    "maintenance",
    "inventory",
)

for _name in _WORLDS:
    gymnasium.register(
        id=f"trimtab/{_name.title().replace('-', '')}-v0",
        entry_point="envs.env:WorldEnv",
        vector_entry_point="envs.env:WorldVectorEnv",
        kwargs={"world": _name},
    )
