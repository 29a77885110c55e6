"""Ab initio and semi-empirical engines: structure → labels."""
