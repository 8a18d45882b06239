"""Images on a grid: file formats, input checks (`door`), pyramids, and masks for frames and outliers."""
