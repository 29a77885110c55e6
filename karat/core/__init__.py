"""Units, conventions, errors, components, catalogues: what every floor stands on."""
