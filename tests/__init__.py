"""The tests; a package, so that what they share has a full name (`tests.support`)."""
