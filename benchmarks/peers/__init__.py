"""Other services, each written as its own documentation shows, and baselines of Python servers without a framework."""
