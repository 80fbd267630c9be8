"""The user tower: what somebody did last becomes a vector in the space of the products, near to what comes next."""
