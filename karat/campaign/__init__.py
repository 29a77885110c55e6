"""YAML → plan of hashed steps → runner."""
