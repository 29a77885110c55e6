"""Structures, labels, levels of theory, neighbour lists and builders."""
