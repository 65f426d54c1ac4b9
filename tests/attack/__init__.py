"""`make attack`: what an outsider tries against a real stack, at a larger size than in the tests."""
