"""`treadle topology`: exchanges and queues, and the accounts that may use them."""
