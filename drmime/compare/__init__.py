"""How alike two images are at given points; larger is better, always."""
