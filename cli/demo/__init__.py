"""`treadle demo`: run the loop on BANKING77, starting from data with many errors."""
