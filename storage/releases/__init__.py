"""Published versions: manifest, card, splits, statistics, and reading them back."""
