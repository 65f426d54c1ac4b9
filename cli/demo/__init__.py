"""`treadle demo`: the loop on BANKING77, from a dirty start to a better model."""
