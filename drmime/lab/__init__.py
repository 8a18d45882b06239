"""What compares methods: data sets, other programs, experiments, errors and tests, reports."""
