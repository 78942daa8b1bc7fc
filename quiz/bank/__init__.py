"""All items, in the order of the chapters."""

import functools
import importlib
import pkgutil


@functools.cache
def load():
    """The bank as {"ch03": [item, …]}."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}").ITEMS for name in names}
