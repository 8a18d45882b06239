"""Which transform to start from: proposed, refined, scored, chosen."""
