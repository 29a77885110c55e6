"""Properties of many structures by one potential, each case kept as soon as it is done."""
