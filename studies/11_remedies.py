"""Every single remedy and every pair of remedies on one sigmoid net of 20 layers, each with its own sweep over three
learning rates. 22 treatments x 30 nets x 150 steps take minutes; the chapter runs a few of them again."""

from itertools import combinations

from signalprop import data, diagnose

SICK = diagnose.Recipe(depth=20, activation="sigmoid", sigma_w2=1.0)
SEEDS = 10
CHOICES = [(), *((name,) for name in diagnose.REMEDIES), *combinations(diagnose.REMEDIES, 2)]
CONFIGURATIONS = [{"remedies": list(choice)} for choice in CHOICES]


def run(configuration, seeds):
    recipe = diagnose.treat(SICK, configuration["remedies"])
    runs = diagnose.trained(recipe, data.digits(), lrs=diagnose.RATES[recipe.optimiser], seeds=seeds)
    best = list(runs.lrs).index(runs.best_lr)
    return {"train": runs.train[best], "test": runs.test[best], "lr": [runs.best_lr] * seeds}
