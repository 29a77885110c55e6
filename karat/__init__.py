"""karat: measure interatomic potentials against ab initio references."""

__version__ = "0.1.0"
