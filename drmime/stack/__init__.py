"""Many images of one scene or of neighbouring sections, aligned together."""
