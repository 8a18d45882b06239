"""The search for a start: transforms are proposed, refined, scored, and one of them is chosen."""
