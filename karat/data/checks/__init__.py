"""The data doctor's checks of one set, by subject."""
