"""Tiles of one scene, put together to a mosaic."""
