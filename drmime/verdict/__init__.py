"""The verdict on a result: is it aligned, how sure, how far off, and where."""
