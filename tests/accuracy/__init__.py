"""Small programs with and without a known waste, and the count of what querywatch says about them."""
