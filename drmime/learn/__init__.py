"""Learned representations: encoders that make two modalities look alike (CoMIR, arXiv 2006.06325), and their training."""
